package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/doctor"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

func now() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// good is a set-up in which nothing is wrong.
func good() doctor.Facts {
	return doctor.Facts{
		Now: now(),
		Settings: doctor.Settings{
			File: "/home/u/.hf-cache-sync.yaml", Credentials: "b2_env",
			Remote: config.Remote{
				Kind: config.S3, Bucket: "bucket", Prefix: "team", Origin: "B2_BUCKET", Endpoint: "https://s3.us-west-004.backblazeb2.com", EndpointOrigin: "B2_ENDPOINT",
				Region: "us-west-004", RegionOrigin: "endpoint",
			},
		},
		Cache: doctor.Cache{
			Dir: "/home/u/.cache/huggingface/hub", Origin: config.Default, Free: 35e9,
			Abilities: hfcache.Abilities{Symlinks: true, Locks: true, Clones: true, AccessTimes: "at most daily"},
			Traces:    hfcache.Traces{Tag: true, Locks: true, Trees: true},
			Inventory: &hfcache.Inventory{Repos: []*hfcache.Repo{{ID: hub.Repo{Type: hub.Model, Name: "org/name"}}}},
		},
		Bucket: &doctor.Bucket{
			Probe: "_hf_cache_sync_doctor/probe-x", Conditions: &store.Error{Op: "put", Kind: store.ErrExists},
			Clock: now(), Local: now(), Refs: doctor.Sample{Followed: 2},
		},
	}
}

func folder(f *doctor.Facts) {
	f.Settings.Remote = config.Remote{Kind: config.Folder, Path: "/mnt/hf", Origin: "--remote"}
	f.Bucket.Clock = time.Time{}
}

// lines are the rows as one reads them.
func lines(r doctor.Report) []string {
	var out []string
	for _, row := range r {
		out = append(out, row.Status.Mark()+" "+row.Name+": "+row.Detail)
	}
	return out
}

func TestGood(t *testing.T) {
	report := doctor.Judge(good())
	want := []string{
		"✓ config file: /home/u/.hf-cache-sync.yaml",
		"✓ bucket: bucket (from B2_BUCKET)",
		"✓ endpoint: https://s3.us-west-004.backblazeb2.com (from B2_ENDPOINT)",
		"✓ region: us-west-004 (from endpoint)",
		"✓ prefix: team",
		"✓ credentials: source=b2_env",
		"✓ cache: /home/u/.cache/huggingface/hub (from default)",
		"✓ file system: symbolic links, locks, reflinks, access times at most daily",
		"✓ free space: 35.0G",
		"✓ cache written by: huggingface_hub 1.22 or newer, or a pull (it has file listings)",
		"✓ incomplete downloads: none",
		"✓ cache files: none is known to be damaged or missing",
		"✓ cache refs: all can be followed",
		"✓ cache problems: none in 1 repository",
		"✓ bucket reachable: it answers",
		"✓ read: what was written comes back",
		"✓ write: allowed; the probe is deleted again",
		"✓ conditional writes: supported",
		"✓ clock: the same as the store's",
		"✓ unfinished uploads: none",
		"✓ refs and manifests: 2 refs followed, all can be read",
	}
	if diff := cmp.Diff(want, lines(report)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !report.OK() || report.Count(doctor.OK) != len(want) {
		t.Error("it is not well")
	}
}

func TestFolderHasNoRowsOfServices(t *testing.T) {
	f := good()
	folder(&f)
	var names []string
	for _, row := range doctor.Judge(f) {
		names = append(names, row.Name)
	}
	want := []string{
		"config file", "bucket", "cache", "file system", "free space", "cache written by", "incomplete downloads", "cache files", "cache refs", "cache problems",
		"bucket reachable", "read", "write", "conditional writes", "unfinished uploads", "refs and manifests",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHub(t *testing.T) {
	for _, test := range []struct {
		hub    doctor.Hub
		status doctor.Status
		detail string
	}{
		{doctor.Hub{Account: "someone", TokenOrigin: "HF_TOKEN"}, doctor.OK, "https://hub.example (from HF_ENDPOINT), as someone with the token from HF_TOKEN"},
		{doctor.Hub{TokenOrigin: "HF_TOKEN"}, doctor.OK, "https://hub.example (from HF_ENDPOINT), with the token from HF_TOKEN"},
		{doctor.Hub{}, doctor.OK, "https://hub.example (from HF_ENDPOINT), without a token"},
		{doctor.Hub{Err: errors.New("it is on fire"), Hint: "water"}, doctor.Warn, "https://hub.example (from HF_ENDPOINT): it is on fire"},
		{doctor.Hub{Err: fmt.Errorf("get: %w", context.DeadlineExceeded)}, doctor.Warn, "https://hub.example (from HF_ENDPOINT): no answer in time"},
	} {
		f := good()
		f.Hub = &test.hub
		f.Hub.Endpoint, f.Hub.Origin = "https://hub.example", "HF_ENDPOINT"
		report := doctor.Judge(f)
		want := doctor.Row{Name: "Hub", Status: test.status, Detail: test.detail, Hint: test.hub.Hint}
		if diff := cmp.Diff(want, report[len(report)-1]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	f := good()
	f.Hub = &doctor.Hub{Err: errors.New("HF_ENDPOINT: it is no address of a Hub")}
	if got := lines(doctor.Judge(f)); got[len(got)-1] != "! Hub: HF_ENDPOINT: it is no address of a Hub" {
		t.Errorf("an endpoint that is none: %s", got[len(got)-1])
	}
}

func failure(kind error, code, text string) error {
	return &store.Error{Op: "list", Kind: kind, Code: code, Err: errors.New(text)}
}

type verdict struct {
	name   string
	change func(f *doctor.Facts)
	row    string
	status doctor.Status
	detail string // a part of it
	hint   string // a part of it; empty means that there is none
}

func check(t *testing.T, verdicts []verdict) {
	t.Helper()
	for _, tc := range verdicts {
		t.Run(tc.name, func(t *testing.T) {
			f := good()
			tc.change(&f)
			for _, row := range doctor.Judge(f) {
				if row.Name != tc.row {
					continue
				}
				if row.Status != tc.status || !strings.Contains(row.Detail, tc.detail) || !strings.Contains(row.Hint, tc.hint) || (tc.hint == "") != (row.Hint == "") {
					t.Errorf("%s %s: %s\nhint: %s\nwant %s, %q and %q", row.Status.Mark(), row.Name, row.Detail, row.Hint, tc.status.Mark(), tc.detail, tc.hint)
				}
				return
			}
			t.Error("there is no such row")
		})
	}
}

func TestSettings(t *testing.T) {
	check(t, []verdict{
		{"no file", func(f *doctor.Facts) { f.Settings.File = "" }, "config file", doctor.OK, "none", ""},
		{"broken file", func(f *doctor.Facts) { f.Settings.FileErr = errors.New(`x.yaml:3: unknown key "bukket"`) }, "config file", doctor.Fail, "x.yaml:3: unknown", "correct the file"},
		{"open file", func(f *doctor.Facts) { f.Settings.FileWarning = "others can read it" }, "config file", doctor.Warn, "others can read it", ""},
		{"no remote", func(f *doctor.Facts) { f.Settings.RemoteErr, f.Bucket = config.ErrNoRemote, nil }, "bucket", doctor.Fail, "nothing says", "hf-cache-sync init"},
		{"bad remote", func(f *doctor.Facts) { f.Settings.RemoteErr, f.Bucket = errors.New("--remote: bad"), nil }, "bucket", doctor.Fail, "--remote: bad", "help"},
		{"no remote, no region", func(f *doctor.Facts) { f.Settings.RemoteErr, f.Bucket = config.ErrNoRemote, nil }, "region", doctor.Skipped, "skipped", ""},
		{"no remote, credentials all the same", func(f *doctor.Facts) { f.Settings.RemoteErr, f.Bucket = config.ErrNoRemote, nil }, "credentials", doctor.OK, "source=b2_env", ""},
		{"AWS", func(f *doctor.Facts) { f.Settings.Remote.Endpoint = "" }, "endpoint", doctor.OK, "AWS", ""},
		{"in the clear", func(f *doctor.Facts) { f.Settings.Remote.Endpoint = "http://s3.example.com" }, "endpoint", doctor.Warn, "not encrypted", "https://"},
		{"in the clear at home", func(f *doctor.Facts) { f.Settings.Remote.Endpoint = "http://192.168.1.2:9000" }, "endpoint", doctor.OK, "http://192.168.1.2:9000", ""},
		{"in the clear in a cluster", func(f *doctor.Facts) { f.Settings.Remote.Endpoint = "http://minio:9000" }, "endpoint", doctor.OK, "http://minio", ""},
		{"no region", func(f *doctor.Facts) { f.Settings.Remote.Region = "" }, "region", doctor.OK, "us-east-1", ""},
		{"no region, no endpoint", func(f *doctor.Facts) { f.Settings.Remote.Region, f.Settings.Remote.Endpoint = "", "" }, "region", doctor.Fail, "not given", "AWS_REGION"},
		{"no prefix", func(f *doctor.Facts) { f.Settings.Remote.Prefix = "" }, "prefix", doctor.OK, "none", ""},
		{"half a pair", func(f *doctor.Facts) { f.Settings.HalfPairs = []string{"A is set but B is not"} }, "credentials", doctor.Warn, "source=b2_env; A is set but B is not", "both halves"},
		{"chain", func(f *doctor.Facts) { f.Settings.Credentials = "aws_chain" }, "credentials", doctor.OK, "source=aws_chain", ""},
		{"chain in vain", func(f *doctor.Facts) {
			f.Settings.Credentials, f.Bucket.ListErr = "aws_chain", failure(store.ErrNoCredentials, "", "none")
			f.Settings.HalfPairs = []string{"A is set but B is not"}
		}, "credentials", doctor.Fail, "source=none; A is set but B is not", "B2_APPLICATION_KEY_ID"},
	})
}

func TestCache(t *testing.T) {
	temps := func(ages ...time.Duration) func(f *doctor.Facts) {
		return func(f *doctor.Facts) {
			for _, age := range ages {
				f.Cache.Inventory.Repos[0].Temps = append(f.Cache.Inventory.Repos[0].Temps, hfcache.Temp{Size: 1e6, ModTime: now().Add(-age)})
			}
		}
	}
	check(t, []verdict{
		{"missing", func(f *doctor.Facts) { f.Cache.Err = fmt.Errorf("open: %w", fs.ErrNotExist) }, "cache", doctor.Warn, "(from default) does not exist yet", "--cache-dir"},
		{"missing, no space", func(f *doctor.Facts) { f.Cache.Err = fs.ErrNotExist }, "free space", doctor.Skipped, "skipped", ""},
		{"unreadable", func(f *doctor.Facts) { f.Cache.Err = fs.ErrPermission }, "cache", doctor.Fail, "permission", "--cache-dir"},
		{"not writable", func(f *doctor.Facts) { f.Cache.AbilitiesErr = syscall.EROFS }, "file system", doctor.Warn, "read-only", "pushing works"},
		{"no symlinks", func(f *doctor.Facts) { f.Cache.Abilities.Symlinks = false }, "file system", doctor.Warn, "locks, reflinks, no symbolic links", "hard links"},
		{"no locks", func(f *doctor.Facts) { f.Cache.Abilities.Locks = false }, "file system", doctor.Warn, "no locks", "twice"},
		{"neither", func(f *doctor.Facts) { f.Cache.Abilities = hfcache.Abilities{} }, "file system", doctor.Warn, "no symbolic links, no locks, no reflinks", "local disk"},
		{"no reflinks", func(f *doctor.Facts) { f.Cache.Abilities.Clones = false }, "file system", doctor.OK, "symbolic links, locks, no reflinks", ""},
		{"noatime", func(f *doctor.Facts) { f.Cache.Abilities.AccessTimes = "never" }, "file system", doctor.OK, "access times never", ""},
		{"one case", func(f *doctor.Facts) { f.Cache.Abilities.OneCase = true }, "file system", doctor.OK, "upper and lower case are one", ""},
		{"little space", func(f *doctor.Facts) { f.Cache.Free = 1_999_999_999 }, "free space", doctor.Warn, "2.0G", "prune"},
		{"enough space", func(f *doctor.Facts) { f.Cache.Free = 2e9 }, "free space", doctor.OK, "2.0G", ""},
		{"very little space", func(f *doctor.Facts) { f.Cache.Free = 999_960 }, "free space", doctor.Warn, "1.0M", "prune"},
		{"no space", func(f *doctor.Facts) { f.Cache.Free = 0 }, "free space", doctor.Warn, "0 bytes", "prune"},
		{"space unknown", func(f *doctor.Facts) { f.Cache.FreeErr = fmt.Errorf("x: %w", errors.ErrUnsupported) }, "free space", doctor.OK, "cannot be told", ""},
		{"shared store", func(f *doctor.Facts) { f.Cache.Traces.SharedStore = true }, "cache written by", doctor.OK, "1.32", "older clients"},
		{"tag", func(f *doctor.Facts) { f.Cache.Traces.Trees = false }, "cache written by", doctor.OK, "1.9", ""},
		{"locks only", func(f *doctor.Facts) { f.Cache.Traces = hfcache.Traces{Locks: true} }, "cache written by", doctor.OK, "0.19", ""},
		{"no traces", func(f *doctor.Facts) { f.Cache.Traces = hfcache.Traces{} }, "cache written by", doctor.OK, "cannot be told", ""},
		{"downloads", temps(time.Hour, 24*time.Hour), "incomplete downloads", doctor.OK, "2 files (2.0M)", ""},
		{"old downloads", temps(time.Hour, 25*time.Hour, 48*time.Hour), "incomplete downloads", doctor.Warn, "3 files (3.0M), 2 of them older", "prune"},
		{"problems", func(f *doctor.Facts) {
			f.Cache.Inventory.Problems = []hfcache.Problem{{Path: "junk", Why: "it is junk"}, {Path: "models--a--b", Why: "it is a link", Lost: true}}
		}, "cache problems", doctor.Warn, "2 problems, of which 1 cannot be pushed; first models--a--b: it is a link", "list"},
		{"harmless problem", func(f *doctor.Facts) {
			f.Cache.Inventory.Problems = []hfcache.Problem{{Path: "junk", Why: "it is junk"}}
		}, "cache problems", doctor.Warn, "1 problem; first junk: it is junk", "list"},
		{"damaged files first", broken(missing("a", false), missing("b", true), missing("c", true)), "cache files", doctor.Warn, "2 damaged, 1 missing; first b of org/name@aaaaaaaaaaaa: gone b", "hf download org/name --revision aaaa"},
		{"missing files, a bucket", func(f *doctor.Facts) {
			broken(missing("a", false))(f)
			f.Cache.Bucket = true
		}, "cache files", doctor.Warn, "1 missing; first a of org/name@aaaaaaaaaaaa: gone a", "hf-cache-sync verify org/name --repair"},
		{"missing files are said once", func(f *doctor.Facts) {
			broken(missing("a", false))(f)
			f.Cache.Inventory.Problems = []hfcache.Problem{{Path: f.Cache.Inventory.BrokenFiles()[0].Place(), Why: "gone a"}}
		}, "cache problems", doctor.OK, "none in 1 repository", ""},
		{"bad refs are said once", func(f *doctor.Facts) {
			f.Cache.Inventory.Repos[0].BadRefs = []hfcache.BadRef{{Name: "main", Why: "no commit"}}
			f.Cache.Inventory.Problems = []hfcache.Problem{{Path: "models--org--name/refs/main", Why: "no commit"}}
		}, "cache problems", doctor.OK, "none in 1 repository", ""},
		{"refs", func(f *doctor.Facts) {
			f.Cache.Bucket = true
			f.Cache.Inventory.Repos[0].BadRefs = []hfcache.BadRef{{Name: "v1", Why: "no commit"}}
			f.Cache.Inventory.Repos[0].Refs = []hfcache.Ref{{Name: "main", Commit: commitA, Unclean: true}}
		}, "cache refs", doctor.Warn, "2 refs cannot be followed; first models--org--name/refs/main: it holds more", "hf-cache-sync pull org/name writes it again"},
		{"no scan, no files", func(f *doctor.Facts) { f.Cache.Inventory, f.Cache.ScanErr = nil, errors.New("cannot read") }, "cache files", doctor.Skipped, "skipped", ""},
		{"no scan, no refs", func(f *doctor.Facts) { f.Cache.Inventory, f.Cache.ScanErr = nil, errors.New("cannot read") }, "cache refs", doctor.Skipped, "skipped", ""},
		{"no scan", func(f *doctor.Facts) { f.Cache.Inventory, f.Cache.ScanErr = nil, errors.New("cannot read") }, "cache problems", doctor.Fail, "cannot read", ""},
		{"no scan, no downloads", func(f *doctor.Facts) { f.Cache.Inventory, f.Cache.ScanErr = nil, errors.New("cannot read") }, "incomplete downloads", doctor.Skipped, "skipped", ""},
	})
}

const commitA = hub.Commit("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")

func missing(path hub.Path, damaged bool) hfcache.MissingFile {
	return hfcache.MissingFile{Path: path, Damaged: damaged, Why: "gone " + string(path)}
}

func broken(files ...hfcache.MissingFile) func(*doctor.Facts) {
	return func(f *doctor.Facts) {
		f.Cache.Inventory.Repos[0].Revisions = []*hfcache.Revision{{Commit: commitA, Missing: files}}
	}
}

// TestRefHint has a command for each fault, with and without a bucket.
func TestRefHint(t *testing.T) {
	data := hub.Repo{Type: hub.Dataset, Name: "org/data"}
	for _, test := range []struct {
		ref    hfcache.BrokenRef
		bucket bool
		want   string
	}{
		{hfcache.BrokenRef{Name: "main"}, true, "hf-cache-sync pull org/name writes it again; if the bucket does not have it, hf-cache-sync verify org/name --repair does"},
		{hfcache.BrokenRef{Name: "main"}, false, "hf download org/name writes it again"},
		{hfcache.BrokenRef{Name: "refs/pr/1", Repo: data}, true, "hf-cache-sync pull datasets/org/data -r refs/pr/1 writes it again; if the bucket does not have it, hf-cache-sync verify datasets/org/data --repair does"},
		{hfcache.BrokenRef{Name: "v1", Repo: data}, false, "hf download org/data --repo-type dataset --revision v1 writes it again"},
		{hfcache.BrokenRef{Name: "it's", Fault: hfcache.RefGarbage}, true, `hf-cache-sync pull org/name -r 'it'\''s' writes it again; if there is no such branch or tag, delete the file`},
		{hfcache.BrokenRef{Name: `a\b`, Fault: hfcache.RefGarbage}, true, "delete the file: no branch or tag has such a name"},
		{hfcache.BrokenRef{Name: "main", Fault: hfcache.RefNowhere}, true, "hf-cache-sync pull org/name makes it name what the bucket has; if the bucket does not have it, delete the file"},
		{hfcache.BrokenRef{Name: "main", Fault: hfcache.RefNowhere}, false, "hf download org/name downloads what it names"},
		{hfcache.BrokenRef{Name: "main.01234567.tmp", Fault: hfcache.RefLeftover}, true, "hf-cache-sync prune removes it"},
	} {
		if test.ref.Repo == (hub.Repo{}) {
			test.ref.Repo = hub.Repo{Type: hub.Model, Name: "org/name"}
		}
		if got := doctor.RefHint(test.ref, test.bucket); got != test.want {
			t.Errorf("%+v:\n%s, want\n%s", test.ref, got, test.want)
		}
	}
}

func TestReachable(t *testing.T) {
	list := func(err error) func(f *doctor.Facts) { return func(f *doctor.Facts) { f.Bucket.ListErr = err } }
	const row = "bucket reachable"
	check(t, []verdict{
		{"no such bucket", list(failure(store.ErrNoBucket, "NoSuchBucket", "there is no bucket")), row, doctor.Fail, "there is no bucket (NoSuchBucket)", "name"},
		{"region", list(failure(store.ErrWrongRegion, "", "it is elsewhere")), row, doctor.Fail, "wrong region: it is elsewhere", "B2_REGION"},
		{"not S3", list(failure(store.ErrWrongEndpoint, "", "a page")), row, doctor.Fail, "wrong endpoint: what answers is no S3 service", "B2_ENDPOINT"},
		{"no credentials", list(failure(store.ErrNoCredentials, "", "none")), row, doctor.Fail, "none", "row credentials"},
		{"key", list(failure(store.ErrUnknownKey, "", "who?")), row, doctor.Fail, "wrong key: ", "B2_APPLICATION_KEY_ID"},
		{"secret", list(failure(store.ErrWrongSecret, "", "no")), row, doctor.Fail, "wrong secret: ", "B2_APPLICATION_KEY"},
		{"secret of the chain", func(f *doctor.Facts) {
			f.Settings.Credentials, f.Bucket.ListErr = "aws_chain", failure(store.ErrWrongSecret, "", "no")
		}, row, doctor.Fail, "wrong secret: ", "AWS profile"},
		{"expired", list(failure(store.ErrExpired, "", "too late")), row, doctor.Fail, "expired: too late", "new ones"},
		{"clock", list(failure(store.ErrClockSkew, "RequestTimeTooSkewed", "too late")), row, doctor.Fail, "RequestTimeTooSkewed", "clock"},
		{"denied", list(failure(store.ErrDenied, "AccessDenied", "no")), row, doctor.Fail, "listing is denied: no", "listFiles"},
		{"folder denied", list(&store.Error{Op: "list", Kind: store.ErrDenied, Err: fs.ErrPermission}), row, doctor.Fail, "permission", "folder readable"},
		{"certificate", list(failure(store.ErrBadConfig, "", "unknown authority")), row, doctor.Fail, "unknown authority", "certificate"},
		{"options", list(&store.Error{Op: "open", Kind: store.ErrBadConfig, Err: errors.New("no endpoint")}), row, doctor.Fail, "no endpoint", "rows above"},
		{"no such host", list(&store.Error{Op: "list", Kind: store.ErrUnavailable, Err: &net.DNSError{Name: "host", Err: "no such host", IsNotFound: true}}), row, doctor.Fail, "no such host", "spelling"},
		{"refused", list(failure(store.ErrUnavailable, "", "connection refused")), row, doctor.Fail, "connection refused", "network"},
		{"silence", list(&store.Error{Op: "list", Err: context.DeadlineExceeded}), row, doctor.Fail, "no answer in time", "network"},
		{"something", list(failure(nil, "Curious", "a curious thing")), row, doctor.Fail, "a curious thing (Curious)", ""},
		{"no bucket", func(f *doctor.Facts) { f.Settings.RemoteErr, f.Bucket = config.ErrNoRemote, nil }, row, doctor.Skipped, "skipped", ""},
		{"folder missing", func(f *doctor.Facts) {
			folder(f)
			f.Bucket = &doctor.Bucket{ListErr: &store.Error{Op: "open", Kind: store.ErrNoFolder, Err: errors.New("/mnt/hf does not exist")}}
		}, row, doctor.Fail, "/mnt/hf does not exist", "mount"},
	})
	// What cannot be tried then is skipped; a key that may not list may still write.
	for _, tc := range []struct {
		err  error
		want doctor.Status
	}{
		{failure(store.ErrUnavailable, "", "x"), doctor.Skipped},
		{failure(store.ErrUnknownKey, "", "x"), doctor.Skipped},
		{failure(store.ErrNoBucket, "", "x"), doctor.Skipped},
		{failure(store.ErrDenied, "", "x"), doctor.OK},
	} {
		f := good()
		f.Bucket.ListErr = tc.err
		for _, row := range doctor.Judge(f) {
			if (row.Name == "write" || row.Name == "read" || row.Name == "conditional writes" || row.Name == "refs and manifests") && row.Status != tc.want {
				t.Errorf("%v: %s %s", tc.err, row.Status.Mark(), row.Name)
			}
		}
	}
}

func TestBucket(t *testing.T) {
	denied := failure(store.ErrDenied, "AccessDenied", "no")
	write := func(err error, must bool) func(f *doctor.Facts) {
		return func(f *doctor.Facts) { f.Bucket.Write, f.Write = err, must }
	}
	conditions := func(err error) func(f *doctor.Facts) { return func(f *doctor.Facts) { f.Bucket.Conditions = err } }
	clock := func(skew time.Duration) func(f *doctor.Facts) {
		return func(f *doctor.Facts) { f.Bucket.Local = f.Bucket.Clock.Add(skew) }
	}
	uploads := func(n int, age time.Duration) func(f *doctor.Facts) {
		return func(f *doctor.Facts) { f.Bucket.Uploads, f.Bucket.Oldest = n, now().Add(-age) }
	}
	refs := func(s doctor.Sample) func(f *doctor.Facts) { return func(f *doctor.Facts) { f.Bucket.Refs = s } }
	const week = 7 * 24 * time.Hour
	check(t, []verdict{
		{"read denied", func(f *doctor.Facts) { f.Bucket.Read = denied }, "read", doctor.Fail, "denied: no", "readFiles"},
		{"read fails", func(f *doctor.Facts) { f.Bucket.Read = failure(nil, "", "torn") }, "read", doctor.Fail, "torn", ""},
		{"nothing to read back", write(denied, false), "read", doctor.OK, "allowed", ""},
		{"read-only", write(denied, false), "write", doctor.Warn, "read-only, which is enough for pulling", "writeFiles"},
		{"read-only, to be written to", write(denied, true), "write", doctor.Fail, "denied", "writeFiles"},
		{"writable, to be written to", write(nil, true), "write", doctor.OK, "allowed", ""},
		{"read-only folder", func(f *doctor.Facts) {
			folder(f)
			f.Bucket.Write = &store.Error{Kind: store.ErrDenied, Err: syscall.EROFS}
		}, "write", doctor.Warn, "read-only", "folder writable"},
		{"read-only, conditions", write(denied, false), "conditional writes", doctor.Skipped, "skipped", ""},
		{"full", write(failure(store.ErrNoSpace, "", "full"), false), "write", doctor.Fail, "full", "quota"},
		{"write fails", write(failure(store.ErrUnavailable, "", "torn"), false), "write", doctor.Fail, "torn", ""},
		{"delete denied", func(f *doctor.Facts) { f.Bucket.Delete = denied }, "write", doctor.Warn, "_hf_cache_sync_doctor/probe-x is left", "deleteFiles"},
		{"delete fails", func(f *doctor.Facts) { f.Bucket.Delete = failure(nil, "", "torn") }, "write", doctor.Warn, "may be left: torn", ""},

		{"no conditions", conditions(failure(store.ErrUnsupported, "NotImplemented", "none")), "conditional writes", doctor.OK, "read, merged, written and read back instead", ""},
		{"conditions ignored", conditions(nil), "conditional writes", doctor.Warn, "ignored", "storage.conditional_writes to off"},
		{"conditions missed", conditions(failure(store.ErrBadConfig, "NotImplemented", "must")), "conditional writes", doctor.Fail, "must", "storage.conditional_writes to auto"},
		{"conditions fail", conditions(failure(store.ErrUnavailable, "", "torn")), "conditional writes", doctor.Warn, "torn", ""},

		{"one second", clock(time.Second), "clock", doctor.OK, "the same", ""},
		{"five minutes", clock(5 * time.Minute), "clock", doctor.OK, "5m0s ahead of", ""},
		{"over five minutes", clock(5*time.Minute + time.Second), "clock", doctor.Warn, "5m1s ahead of", "timedatectl"},
		{"behind", clock(-15 * time.Minute), "clock", doctor.Warn, "15m0s behind", "timedatectl"},
		{"over fifteen minutes", clock(-15*time.Minute - time.Second), "clock", doctor.Fail, "15m1s behind", "timedatectl"},
		{"no clock", func(f *doctor.Facts) { f.Bucket.ClockErr = failure(store.ErrUnsupported, "", "none") }, "clock", doctor.OK, "does not say", ""},
		{"clock unasked", func(f *doctor.Facts) { f.Bucket.Clock = time.Time{} }, "clock", doctor.Skipped, "skipped", ""},

		{"uploads", uploads(2, week), "unfinished uploads", doctor.OK, "2, the oldest from 2026-11-16; the next push", ""},
		{"old uploads", uploads(2, week+time.Minute), "unfinished uploads", doctor.Warn, "charged", "lifecycle"},
		{"uploads denied", func(f *doctor.Facts) { f.Bucket.UploadsErr = denied }, "unfinished uploads", doctor.Skipped, "may not", ""},
		{"no uploads", func(f *doctor.Facts) { f.Bucket.UploadsErr = store.ErrUnsupported }, "unfinished uploads", doctor.OK, "cannot be listed", ""},
		{"uploads fail", func(f *doctor.Facts) { f.Bucket.UploadsErr = failure(nil, "", "torn") }, "unfinished uploads", doctor.Warn, "torn", ""},

		{"empty", refs(doctor.Sample{}), "refs and manifests", doctor.OK, "nothing was pushed", ""},
		{"many", refs(doctor.Sample{Followed: 25, More: true}), "refs and manifests", doctor.OK, "the first 25 refs followed", ""},
		{"dangling", refs(doctor.Sample{Followed: 1, Dangling: []error{errors.New("r1")}}), "refs and manifests", doctor.Warn, "1 ref followed, 1 leading to nothing: r1", "push"},
		{
			"broken", refs(doctor.Sample{Followed: 9, Dangling: []error{errors.New("r0")}, Broken: []error{&remote.UnreadableError{ObjectKey: "refs/org__name/main", Err: errors.New("r1")}, errors.New("r2"), errors.New("r3"), errors.New("r4")}}),
			"refs and manifests", doctor.Fail, "9 refs followed, 4 broken: r1; r2; r3; and 1 more", "push",
		},
		{"refs denied", refs(doctor.Sample{Err: denied}), "refs and manifests", doctor.Warn, "denied", ""},
		{"refs fail", refs(doctor.Sample{Err: failure(nil, "", "torn")}), "refs and manifests", doctor.Warn, "torn", ""},
	})
}

func TestSkippedTogether(t *testing.T) {
	f := good()
	f.Settings.RemoteErr, f.Bucket = config.ErrNoRemote, nil
	report := doctor.Judge(f)
	if got := report.Skipped(); len(got) > 0 {
		t.Errorf("%q at the beginning", got)
	}
	if diff := cmp.Diff([]string{"endpoint", "region", "prefix"}, report[2:].Skipped()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if report.OK() || report.Count(doctor.Fail) != 1 {
		t.Errorf("%d failed", report.Count(doctor.Fail))
	}
}

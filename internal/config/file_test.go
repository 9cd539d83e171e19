package config_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

func parse(t *testing.T, text string) *config.File {
	t.Helper()
	f, err := config.ParseFile("c.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// python is a file as users of the Python tool have it.
const python = `# team settings
storage:
  endpoint: https://s3.us-west-000.backblazeb2.com
  bucket: team-hf-cache
  region: us-west-000
  access_key: 0041234567890000000000001 # not a number
  secret_key: "K004secret"
cache:
  max_local_gb: 12.5
  sync_xet: false
  hf_cache_dir: ~/hub
team:
  prefix: /teams/ml/
  allow_gated: yes
`

func TestParseFile(t *testing.T) {
	f := parse(t, python)
	where, err := config.ResolveRemote("", vars{}.lookup, f)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Remote{
		Kind: config.S3, Bucket: "team-hf-cache", Prefix: "teams/ml", Endpoint: "https://s3.us-west-000.backblazeb2.com", Region: "us-west-000",
		Origin: "storage.bucket in c.yaml:4", EndpointOrigin: "storage.endpoint in c.yaml:3", RegionOrigin: "storage.region in c.yaml:5",
	}
	if diff := cmp.Diff(want, where); diff != "" {
		t.Errorf("the remote (-want +got):\n%s", diff)
	}
	keys, warnings := config.ResolveCredentials(vars{}.lookup, f)
	if keys.AccessKey != "0041234567890000000000001" || keys.SecretKey != "K004secret" || keys.Origin != "config" || warnings != nil {
		t.Errorf("got %q from %s, %v", keys.AccessKey, keys.Origin, warnings)
	}
	dir, origin, err := config.CacheDir("", vars{"HF_HUB_CACHE": "/other"}.lookup, "/home/u", f)
	if filepath.ToSlash(dir) != "/home/u/hub" || origin != "cache.hf_cache_dir in c.yaml:11" || err != nil {
		t.Errorf("the cache is %q from %s, %v", dir, origin, err)
	}
	if size, origin := f.MaxLocal(); size != 12.5e9 || origin != "cache.max_local_gb in c.yaml:9" {
		t.Errorf("the budget is %d from %s", size, origin)
	}
	if gated, origin := f.AllowGated(); !gated || origin != "team.allow_gated in c.yaml:14" {
		t.Errorf("gated is %v from %s", gated, origin)
	}
	if !f.HoldsSecret() {
		t.Error("the secret was not noticed")
	}
}

func TestFilesThatSayNothing(t *testing.T) {
	none := []*config.File{nil, {}}
	for _, text := range []string{"", "# only a comment\n", "storage:\ncache:\nteam:\npush:\n", "storage: {bucket: '', region: null, secret_key: ~}\n", "---\n"} {
		none = append(none, parse(t, text))
	}
	for i, f := range none {
		if _, err := config.ResolveRemote("", vars{}.lookup, f); !errors.Is(err, config.ErrNoRemote) {
			t.Errorf("%d: got %v", i, err)
		}
		size, sizeOrigin := f.MaxLocal()
		gated, gatedOrigin := f.AllowGated()
		if size != 50e9 || gated || sizeOrigin != config.Default || gatedOrigin != config.Default || f.HoldsSecret() {
			t.Errorf("%d: got %d from %s, %v from %s", i, size, sizeOrigin, gated, gatedOrigin)
		}
		if f.Checksum() != "off" || f.ConditionalWrites() != "auto" || len(f.PushInclude())+len(f.PushExclude()) > 0 {
			t.Errorf("%d: got %s, %s, %v, %v", i, f.Checksum(), f.ConditionalWrites(), f.PushInclude(), f.PushExclude())
		}
	}
}

func TestOwnKeys(t *testing.T) {
	f := parse(t, `
storage: {url: "file:///mnt/nas/hf", checksum: SHA256, conditional_writes: off}
push:
  include: [org/*, "datasets/*"]
  exclude: org/private-*
cache: {keep: [org/pinned]}
`)
	where, err := config.ResolveRemote("", vars{}.lookup, f)
	if err != nil || where.Kind != config.Folder || filepath.ToSlash(where.Path) != "/mnt/nas/hf" || where.Origin != "storage.url in c.yaml:2" {
		t.Errorf("got %+v, %v", where, err)
	}
	got := []string{f.Checksum(), f.ConditionalWrites(), fmt.Sprint(f.PushInclude()), fmt.Sprint(f.PushExclude()), fmt.Sprint(f.Keep())}
	if diff := cmp.Diff([]string{"sha256", "off", "[org/* datasets/*]", "[org/private-*]", "[org/pinned]"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFileErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"key", "storage:\n  bucket: b\n  acces_key: x\n", `c.yaml:3: unknown key "acces_key", did you mean "access_key"?`},
		{"section", "storge:\n  bucket: b\n", `c.yaml:1: unknown key "storge", did you mean "storage"?`},
		{"wrong section", "team:\n  max_local_gb: 4\n", `c.yaml:2: unknown key "max_local_gb", it belongs below "cache"`},
		{"top level", "bucket: b\n", `c.yaml:1: unknown key "bucket", it belongs below "storage"`},
		{"nothing near", "storage:\n  colour: red\n", `c.yaml:2: unknown key "colour"`},
		{"twice", "storage:\n  bucket: a\n  bucket: b\n", `c.yaml:3: "bucket" is there twice`},
		{"section twice", "team: {}\nteam: {}\n", `c.yaml:2: "team" is there twice`},
		{"truth", "team:\n  allow_gated: maybe\n", "c.yaml:2: team.allow_gated must be true or false"},
		{"size", "cache:\n  max_local_gb: 50GB\n", "c.yaml:2: cache.max_local_gb must be a number of gigabytes"},
		{"negative size", "cache:\n  max_local_gb: -1\n", "c.yaml:2: cache.max_local_gb must be a number"},
		{"no number", "cache:\n  max_local_gb: .nan\n", "c.yaml:2: cache.max_local_gb must be a number"},
		{"choice", "storage:\n  conditional_writes: sometimes\n", "c.yaml:2: storage.conditional_writes must be one of auto, on, off"},
		{"checksum", "storage:\n  checksum: crc64\n", "c.yaml:2: storage.checksum must be one of off, sha256"},
		{"list for a value", "storage:\n  bucket: [a]\n", "c.yaml:2: storage.bucket must be a single value"},
		{"map for a list", "push:\n  include: {a: b}\n", "c.yaml:2: push.include must be a list of globs"},
		{"text for a section", "storage: s3://b\n", `c.yaml:1: "storage" must be a list of`},
		{"no mapping", "- a\n", "c.yaml:1: the configuration must be a list of"},
		{"two lines", "storage:\n  bucket: \"a\\nb\"\n", "c.yaml:2: storage.bucket must be one line"},
		{"syntax", "storage:\n\tbucket: b\n", "c.yaml:2: it is not YAML: found character that cannot start any token"},
		{"two documents", "team: {}\n---\nteam: {}\n", "c.yaml: it holds more than one document"},
		{"alias", "team: &t {}\npush: *t\n", "c.yaml:2: an alias is not supported here"},
		{"size of the file", strings.Repeat("#", config.MaxFileSize+1), "c.yaml: it has 1048577 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := config.ParseFile("c.yaml", []byte(c.text))
			fileErr, ok := errors.AsType[*config.FileError](err)
			if f != nil || !ok || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("got %v, %v; want an error that begins with %q", f, err, c.want)
			}
			if fileErr.Path != "c.yaml" {
				t.Errorf("the path is %q", fileErr.Path)
			}
		})
	}
}

func TestFileErrorsHoldNoSecret(t *testing.T) {
	const secret = "K004hunter2"
	for _, text := range []string{
		"storage:\n  secret_key:K004hunter2\n", "storage: {secret_key:K004hunter2}\n", "storage:\n  secret_key: [K004hunter2]\n", "storage:\n  secret_key: 'K004hunter2\n",
		"K004hunter2\n", "K004hunter2: x\n", "storage:\n  K004hunter2: x\n", "storage:\n  secret_key: \"K004hunter2\\q\"\n", "storage: *K004hunter2\n",
		"storage:\n  endpoint: https://user:K004hunter2@host\n  bucket: bucket\n", "storage:\n  url: s3://id:K004hunter2@bucket\n", "storage: !K004hunter2 x\n",
		"storage:\n  secret_key: K004hunter2\n  secret_key: K004hunter2\n",
	} {
		f, err := config.ParseFile("c.yaml", []byte(text))
		if err == nil {
			_, err = config.ResolveRemote("", vars{}.lookup, f)
		}
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: got %v", text, err)
		}
	}
	if f := parse(t, python); strings.Contains(fmt.Sprintf("%v %+v %#v %s", f, f, f, f), "K004secret") {
		t.Error("printing a file shows the secret")
	}
}

func TestFileBesideEnvironment(t *testing.T) {
	f := parse(t, python)
	for _, c := range []struct {
		name, flag               string
		env                      vars
		bucket, endpoint, region string
	}{
		{"flag names another bucket", "s3://flagged", nil, "flagged", "https://s3.us-west-000.backblazeb2.com", "us-west-000"},
		{"B2 variables win", "", vars{"B2_BUCKET": "b2b", "B2_REGION": "r"}, "b2b", "https://s3.us-west-000.backblazeb2.com", "r"},
		{"an endpoint of the environment brings its region", "", vars{"B2_ENDPOINT": "https://s3.eu-central-003.backblazeb2.com"}, "team-hf-cache", "https://s3.eu-central-003.backblazeb2.com", "eu-central-003"},
		{"one that tells none leaves the file's", "", vars{"B2_ENDPOINT": "http://localhost:1"}, "team-hf-cache", "http://localhost:1", "us-west-000"},
		{"AWS variables are about other work", "", vars{"AWS_ENDPOINT_URL": "http://localhost:1", "AWS_REGION": "x"}, "team-hf-cache", "https://s3.us-west-000.backblazeb2.com", "us-west-000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := config.ResolveRemote(c.flag, c.env.lookup, f)
			if err != nil || got.Bucket != c.bucket || got.Endpoint != c.endpoint || got.Region != c.region || got.Prefix != "teams/ml" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	keys, _ := config.ResolveCredentials(vars{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.lookup, f)
	if keys.Origin != "aws_env" {
		t.Errorf("the keys are from %s", keys.Origin)
	}
	half := parse(t, "storage: {access_key: a}\n")
	keys, warnings := config.ResolveCredentials(vars{"B2_APPLICATION_KEY": "b"}.lookup, half)
	want := []string{
		"B2_APPLICATION_KEY is set but B2_APPLICATION_KEY_ID is not: skipped",
		"storage.access_key in c.yaml:1 is set but storage.secret_key is not: skipped",
	}
	if diff := cmp.Diff(want, warnings); diff != "" || !keys.Chain {
		t.Errorf("chain is %v (-want +got):\n%s", keys.Chain, diff)
	}
	if _, err := config.ResolveRemote("", vars{}.lookup, parse(t, "storage: {url: \"file:///a\", bucket: bbb}\n")); err == nil || !strings.Contains(err.Error(), "keep one of the two") {
		t.Errorf("two buckets: %v", err)
	}
}

func TestFilePaths(t *testing.T) {
	for _, c := range []struct {
		name, flag string
		env        vars
		home       string
		want       []string
		origin     config.Origin
	}{
		{"default", "", nil, "home", []string{".hf-cache-sync.yaml", filepath.Join("home", ".hf-cache-sync.yaml")}, config.Default},
		{"no home", "", nil, "", []string{".hf-cache-sync.yaml"}, config.Default},
		{"variable", "", vars{"HF_CACHE_SYNC_CONFIG": "x.yaml"}, "home", []string{"x.yaml"}, "HF_CACHE_SYNC_CONFIG"},
		{"flag", "y.yaml", vars{"HF_CACHE_SYNC_CONFIG": "x.yaml"}, "home", []string{"y.yaml"}, "--config"},
	} {
		got, origin := config.FilePaths(c.flag, c.env.lookup, c.home)
		if diff := cmp.Diff(c.want, got); diff != "" || origin != c.origin {
			t.Errorf("%s: from %s (-want +got):\n%s", c.name, origin, diff)
		}
	}
}

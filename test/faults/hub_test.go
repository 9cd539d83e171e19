package faults_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/faultproxy"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// origins are the Hub and the content network that it sends clients to, each
// behind a proxy.
type origins struct {
	hub, network *faultproxy.Proxy
	revision     testenv.Revision // As the Hub has it.
}

func newOrigins(t *testing.T, r testenv.Revision) *origins {
	t.Helper()
	hub := fakehub.New()
	api, network := httptest.NewServer(hub), httptest.NewServer(hub.CDNHandler())
	t.Cleanup(api.Close)
	t.Cleanup(network.Close)
	o := &origins{hub: faultproxy.New(t, api.URL), network: faultproxy.New(t, network.URL), revision: r}
	hub.CDN = o.network.URL
	files := make([]fakehub.File, 0, len(r.Files))
	for _, f := range r.Files {
		if f.LFS {
			files = append(files, fakehub.LFS(f.Path, f.Data))
		} else {
			files = append(files, fakehub.Git(f.Path, f.Data))
		}
	}
	o.revision.Commit = hub.Repo(fakehub.Model, r.Repo).Commit("main", files...).ID()
	o.revision.Refs = []string{"main"}
	return o
}

// use has both origins meet the plans that plan makes.
func (o *origins) use(plan func() faultproxy.Plan) {
	o.hub.Use(plan())
	o.network.Use(plan())
}

func (o *origins) count(f *faultproxy.Fault) int {
	return o.hub.Count(f.Name) + o.network.Count(f.Name)
}

// site is a machine that has a bucket and, for what that lacks, the Hub.
func (o *origins) site(t *testing.T, env []string) *site {
	t.Helper()
	return newSite(t, env).with("HF_ENDPOINT="+o.hub.URL, "HF_CACHE_SYNC_FALLBACK=hf-hub")
}

// isFile tells requests for the bytes of files, on either origin.
func isFile(r *faultproxy.Request) bool {
	return strings.Contains(r.URL.Path, "/resolve/") || strings.Contains(r.URL.Path, "/xet-bridge/")
}

// TestHubClasses has one kind of fault happen again and again between a pull and
// the Hub.
func TestHubClasses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault *faultproxy.Fault
		env   []string
	}{
		{faultproxy.Internal(), eager()},
		{faultproxy.BadGateway(), eager()},
		{faultproxy.SlowDown(0), eager()},
		{faultproxy.ResetFirst(), eager()},
		{faultproxy.ResetAnswering(), eager()},
		{faultproxy.Cut(), eager()},
		{faultproxy.Drip(), impatient()},
		{faultproxy.StallFirst(), impatient()},
		{faultproxy.StallAnswering(), impatient()},
		{faultproxy.Flip().Only(isFile).AtMostOnce(), eager()},
	} {
		t.Run(c.fault.Name, func(t *testing.T) {
			t.Parallel()
			o := newOrigins(t, model())
			s := o.site(t, c.env)
			o.use(func() faultproxy.Plan { return faultproxy.EveryOther(c.fault) })
			to := t.TempDir()
			s.must(t, 0, to, "pull", o.revision.Repo, "--backfill")
			checkCache(t, to, o.revision)
			s.checkBucket(t, o.revision)
			record(t, "the Hub: "+c.fault.Name+", in a pull with --fallback and --backfill", o.count(c.fault), figures(o.hub, o.network))
		})
	}
}

// TestHubRandom has three of ten requests to the Hub meet a fault.
func TestHubRandom(t *testing.T) {
	t.Parallel()
	const percent = 30
	faults := []*faultproxy.Fault{
		faultproxy.Internal(), faultproxy.BadGateway(), faultproxy.SlowDown(0), faultproxy.ResetFirst(), faultproxy.ResetAnswering(),
		faultproxy.Cut(), faultproxy.Flip().Only(isFile).AtMostOnce(),
	}
	var mu sync.Mutex
	requests, faulty, lost := 0, 0, 0
	seeds := proof.Times(4, 100)
	t.Run("seeds", func(t *testing.T) {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				o := newOrigins(t, model())
				s := o.site(t, eager())
				o.use(func() faultproxy.Plan { return faultproxy.Random(seed, percent, faults...) })
				to := t.TempDir()
				s.must(t, 0, to, "pull", o.revision.Repo)
				checkCache(t, to, o.revision)
				mu.Lock()
				defer mu.Unlock()
				for _, p := range []*faultproxy.Proxy{o.hub, o.network} {
					all, bad := p.Totals()
					requests, faulty = requests+all, faulty+bad
				}
				if t.Failed() {
					lost++
				}
			})
		}
	})
	if faulty == 0 {
		t.Error("nothing happened")
	}
	proof.Row{
		Class: proof.Faults, Tried: fmt.Sprintf("pulls from the Hub of which %d %% of the requests fail, in %d ways at random", percent, len(faults)),
		Times: seeds, Lost: lost, Figures: fmt.Sprintf("%d of %d requests failed", faulty, requests),
	}.Record(t)
}

// TestHubFlipped has every copy of a file arrive from the Hub with a flipped
// byte.
func TestHubFlipped(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"model-1.safetensors", "config.json"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			o := newOrigins(t, model())
			s := o.site(t, eager())
			id := o.revision.File(t, path).ID()
			f := faultproxy.Flip().Only(func(r *faultproxy.Request) bool {
				return isFile(r) && (strings.HasSuffix(r.URL.Path, id) || strings.HasSuffix(r.URL.Path, "/"+path))
			})
			o.use(func() faultproxy.Plan { return faultproxy.Always(f) })
			to := t.TempDir()
			got := s.must(t, 6, to, "pull", o.revision.Repo, "--backfill")
			if !strings.Contains(got.Stderr, path) || !strings.Contains(got.Stderr, "on the Hub is damaged") {
				t.Errorf("it does not name the file: %s", got)
			}
			s.audit.Cache(t, hub(to))
			s.audit.Bucket(t, s.bucket)
			for _, name := range []string{"blobs/" + id, "refs/main", "snapshots/" + o.revision.Commit + "/" + path} {
				if _, err := os.Lstat(filepath.Join(hub(to), o.revision.Folder(), filepath.FromSlash(name))); err == nil {
					t.Errorf("%s is there", name)
				}
			}
			n := o.count(f)
			o.use(func() faultproxy.Plan { return nil })
			s.must(t, 0, to, "pull", o.revision.Repo)
			checkCache(t, to, o.revision)
			record(t, "the Hub: "+f.Name+", always: "+path, n, figures(o.hub, o.network))
		})
	}
}

// TestHubNothingWorks has every request to the Hub fail, with a bucket that has
// nothing. A bucket that has the revision is enough.
func TestHubNothingWorks(t *testing.T) {
	t.Parallel()
	for _, f := range []*faultproxy.Fault{
		faultproxy.Internal(), faultproxy.ResetFirst(), faultproxy.StallFirst(), faultproxy.Refuse(http.StatusTooManyRequests, "TooManyRequests", ""),
		faultproxy.Cut(),
	} {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			o := newOrigins(t, small())
			s := o.site(t, resigned())
			o.use(func() faultproxy.Plan { return faultproxy.Always(f) })
			to := t.TempDir()
			got := s.must(t, 7, to, "pull", o.revision.Repo)
			if !strings.Contains(got.Stderr, "hint: ") {
				t.Errorf("no hint: %s", got)
			}
			s.audit.Cache(t, hub(to))
			n := o.count(f)
			testenv.Mkdir(t, s.bucket)
			o.revision.WriteBucket(t, s.bucket)
			s.must(t, 0, to, "pull", o.revision.Repo)
			checkCache(t, to, o.revision)
			record(t, "the Hub: every request: "+f.Name, n, figures(o.hub, o.network))
		})
	}
}

// TestBucketDownHubUp has the bucket fail, at once or in the middle of a pull,
// and the Hub stand in.
func TestBucketDownHubUp(t *testing.T) {
	t.Parallel()
	// Of a bucket that hangs, a pull learns only by waiting; so it is asked little.
	for _, f := range []*faultproxy.Fault{faultproxy.SlowDown(0), faultproxy.ResetFirst(), faultproxy.StallFirst()} {
		for _, passing := range []int{0, 6} {
			t.Run(fmt.Sprintf("%s after %d requests", f.Name, passing), func(t *testing.T) {
				t.Parallel()
				o := newOrigins(t, model())
				s := o.site(t, slices.Concat(resigned(), []string{"HF_CACHE_SYNC_STALL_TIME=" + time.Second.String()}))
				testenv.Mkdir(t, s.bucket)
				o.revision.WriteBucket(t, s.bucket)
				s.Use(faultproxy.After(passing, f))
				to := t.TempDir()
				s.must(t, 0, to, "pull", o.revision.Repo)
				checkCache(t, to, o.revision)
				record(t, fmt.Sprintf("the bucket away after %d requests of a pull, the Hub there: %s", passing, f.Name), s.Count(f.Name), figures(s.Proxy))
			})
		}
	}
}

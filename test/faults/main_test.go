// Package faults_test puts networks and servers on their bad days between the
// binary and its stores, by way of test/faultproxy, and looks at what is left:
// what can be survived must be, with nothing lost or wrong in bucket and cache;
// what cannot must end in bounded time, with the right exit code and with
// nothing wrong under a final name.
//
// No test measures time. What would hang ends with the test's own limit.
package faults_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/faultproxy"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// server is the S3 server of all tests in this package; TestMain sets it.
var server *testenv.S3

func TestMain(m *testing.M) {
	// These tests wait more than they work. A flag on the command line wins.
	const atOnce = "8"
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	os.Exit(testenv.MainWithS3(m, func(s *testenv.S3) { server = s }))
}

// model has a blob that goes up in three parts and comes down in five, and small
// files, some of them of one blob. It is made once: it takes a while.
var model = sync.OnceValue(func() testenv.Revision {
	const large, odd = 33 << 20, 12345
	r := testenv.Revision{
		Repo: "acme/model", Commit: testenv.Commit("faults"), Refs: []string{"main", "v1"},
		Files: []testenv.Content{
			{Path: "config.json", Data: []byte(`{"hidden_size": 4096}` + "\n")},
			{Path: "empty.txt"},
			{Path: "model-1.safetensors", Data: testenv.Noise(11, large+odd), LFS: true},
			{Path: "copy/of/config.json", Data: []byte(`{"hidden_size": 4096}` + "\n")},
		},
	}
	for i := range uint64(8) {
		r.Files = append(r.Files, testenv.Content{
			Path: fmt.Sprintf("shards/%d.bin", i), Data: testenv.Noise(100+i, int(i)*30_000+17), LFS: i%2 == 0,
		})
	}
	return r
})

// small is a model that is over quickly.
func small() testenv.Revision { return testenv.Sample() }

// eager are the variables that make the binary wait as little as it can, and try
// so often that three of ten requests may fail.
func eager() []string {
	return []string{"HF_CACHE_SYNC_TRIES=15", "HF_CACHE_SYNC_RETRY_WAIT=2ms", "HF_CACHE_SYNC_NO_PROGRESS=true"}
}

// resigned are the variables that make it give up soon, and not so soon that a
// busy machine looks like a connection that stalls.
func resigned() []string {
	return []string{"HF_CACHE_SYNC_TRIES=3", "HF_CACHE_SYNC_RETRY_WAIT=2ms", "HF_CACHE_SYNC_STALL_TIME=1s", "HF_CACHE_SYNC_NO_PROGRESS=true"}
}

// patchy are the variables for a mix of everything, in which little may be cut
// that is only slow because the machine is busy.
func patchy() []string { return append(eager(), "HF_CACHE_SYNC_STALL_TIME=1s") }

// impatient are the variables that make it cut connections that stall.
func impatient() []string { return append(eager(), "HF_CACHE_SYNC_STALL_TIME=250ms") }

// site is an empty bucket on the S3 server behind a proxy, and machines that use
// it.
type site struct {
	*faultproxy.Proxy
	bucket string // Where the objects are files.
	remote testenv.Remote
	audit  *testenv.Auditor
}

func newSite(t *testing.T, env []string) *site {
	t.Helper()
	name := server.Bucket(t)
	t.Cleanup(func() {
		if err := os.RemoveAll(server.Path(name)); err != nil {
			t.Error(err)
		}
	})
	s := &site{
		Proxy: faultproxy.New(t, server.Endpoint), bucket: filepath.Join(server.Path(name), "team", "prefix"), audit: &testenv.Auditor{},
	}
	// Later variables win.
	s.remote = testenv.Remote{Name: "proxy", URL: "s3://" + name + "/team/prefix", Env: slices.Concat(server.Env(), []string{"B2_ENDPOINT=" + s.URL}, env)}
	return s
}

// with is the same bucket for a machine with more variables.
func (s *site) with(env ...string) *site {
	other := *s
	other.remote.Env = slices.Concat(s.remote.Env, env)
	return &other
}

// holding is newSite with a model that is in the bucket.
func holding(t *testing.T, env []string, r testenv.Revision) *site {
	t.Helper()
	s := newSite(t, env)
	testenv.Mkdir(t, s.bucket)
	r.WriteBucket(t, s.bucket)
	return s
}

// home is an HF_HOME whose cache holds the revisions.
func home(t *testing.T, revisions ...testenv.Revision) string {
	t.Helper()
	dir := t.TempDir()
	for _, r := range revisions {
		r.WriteCache(t, hub(dir))
	}
	return dir
}

// hub is the cache below an HF_HOME.
func hub(home string) string { return filepath.Join(home, "hub") }

// run runs the binary to its end, which must be one that it has chosen.
func (s *site) run(t *testing.T, home string, args ...string) testenv.Result {
	t.Helper()
	p := testenv.Binary(t, slices.Concat(s.remote.Env, []string{"HF_CACHE_SYNC_REMOTE=" + s.remote.URL})...)
	p.Dir = t.TempDir() // Without a configuration file.
	got := p.Run(t, nil, append(args, "--cache-dir", hub(home))...)
	for _, text := range []string{"panic:", "goroutine ", "fatal error:", "DATA RACE"} {
		if strings.Contains(got.Stderr, text) || got.Code < 0 {
			t.Errorf("hf-cache-sync %q crashed: %s", args, got)
			break
		}
	}
	return got
}

// must is run that must end with the exit code.
func (s *site) must(t *testing.T, code int, home string, args ...string) testenv.Result {
	t.Helper()
	got := s.run(t, home, args...)
	if got.Code != code {
		t.Errorf("hf-cache-sync %q: want exit code %d: %s\nfaults: %v", args, code, got, s.Counts())
	}
	return got
}

// checkBucket fails unless the bucket has the revisions, all of them, and
// nothing else.
func (s *site) checkBucket(t *testing.T, revisions ...testenv.Revision) {
	t.Helper()
	s.audit.Bucket(t, s.bucket)
	if got, want := testenv.Keys(t, s.bucket), testenv.ObjectKeys(revisions...); !slices.Equal(got, want) {
		t.Errorf("the bucket has\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// checkCache fails unless the cache has the revision as clients would, and
// nothing besides.
func checkCache(t *testing.T, home string, r testenv.Revision) {
	t.Helper()
	testenv.AuditCache(t, hub(home))
	r.Compare(t, hub(home))
}

// record tells what was tried. That a fault never happened fails the test.
func record(t *testing.T, tried string, times int, figures string) {
	t.Helper()
	lost := 0
	if t.Failed() {
		lost = 1
	}
	proof.Row{Class: proof.Faults, Tried: tried, Times: times, Lost: lost, Figures: figures}.Record(t)
}

// figures are how many requests there were, and how many met a fault.
func figures(proxies ...*faultproxy.Proxy) string {
	requests, faulty := 0, 0
	for _, p := range proxies {
		all, bad := p.Totals()
		requests, faulty = requests+all, faulty+bad
	}
	return fmt.Sprintf("%d of %d requests", faulty, requests)
}

// size is how many bytes the blobs of a revision have, each counted once.
func size(r testenv.Revision) int64 {
	seen := map[string]int{}
	for _, f := range r.Files {
		seen[f.ID()] = len(f.Data)
	}
	n := 0
	for _, bytes := range seen {
		n += bytes
	}
	return int64(n)
}

// again are bytes of blobs that went a second time, of those that had to go.
type again struct{ needed, wasted int64 }

// add counts one push or pull of a revision, during which so much has moved.
func (a *again) add(t *testing.T, r testenv.Revision, moved int64) {
	t.Helper()
	a.needed += size(r)
	if moved < size(r) {
		t.Errorf("%d bytes moved, though the blobs have %d", moved, size(r))
		return
	}
	a.wasted += moved - size(r)
}

// String is the figure for the proof.
func (a *again) String() string {
	const mib = 1 << 20
	return fmt.Sprintf("at least %.1f MiB sent again or in vain, beside %.1f MiB", float64(a.wasted)/mib, float64(a.needed)/mib)
}

// list are counted kinds as prose, in order of their names.
func list(kinds map[string]int) string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		all = append(all, fmt.Sprintf("%d × %s", kinds[kind], kind))
	}
	return strings.Join(all, ", ")
}

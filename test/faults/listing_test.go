package faults_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/faultproxy"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// many are small repositories, some of which share files.
func many(n int) []testenv.Revision {
	var all []testenv.Revision
	for i := range n {
		name := fmt.Sprintf("acme/model-%02d", i)
		all = append(all, testenv.Revision{
			Repo: name, Commit: testenv.Commit(name), Refs: []string{"main", "v1"},
			Files: []testenv.Content{
				{Path: "config.json", Data: fmt.Appendf(nil, `{"model": %d}`, i)},
				{Path: "shared.bin", Data: testenv.Noise(uint64(i/2), 1000), LFS: true},
			},
		})
	}
	return all
}

// TestListingOrder has listings come in small pages that are not in order, as no
// bucket of S3's usual kind lists, but directory buckets and gateways do. Nothing
// that is there may be taken for missing.
func TestListingOrder(t *testing.T) {
	t.Parallel()
	const pageSize = 4
	for _, d := range []faultproxy.Disorder{
		faultproxy.PagesTwice, faultproxy.PagesOverlap, faultproxy.PagesSwapped, faultproxy.KeysBackwards,
	} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			all := many(12)
			s := newSite(t, eager())
			from := home(t, all...)
			s.must(t, 0, from, "push")
			s.checkBucket(t, all...)
			commands := [][]string{{"list", "--remote", "--revisions", "--json"}, {"diff", "--json"}, {"verify", "--remote", "--json"}}
			var want []string
			for _, args := range commands {
				want = append(want, timeless(t, s.must(t, 0, from, args...)))
			}

			f := faultproxy.Disordered(d, pageSize)
			s.Use(faultproxy.Always(f))
			for i, args := range commands {
				if diff := cmp.Diff(want[i], timeless(t, s.must(t, 0, from, args...))); diff != "" {
					t.Errorf("%q (-in order +out of order):\n%s", args, diff)
				}
			}
			for _, args := range [][]string{{"pull-all"}, {"pull-all", "--all-refs"}} {
				to := t.TempDir()
				s.must(t, 0, to, args...)
				testenv.AuditCache(t, hub(to))
				for _, r := range all {
					r.Compare(t, hub(to))
				}
			}
			to := t.TempDir()
			s.must(t, 0, to, "pull", all[3].Repo, "-r", all[3].Commit[:10])
			checkCache(t, to, all[3])
			if got := s.must(t, 0, from, "push"); !regexp.MustCompile(`nothing|0 blobs|up to date`).MatchString(got.Stdout) {
				t.Errorf("push: %s", got)
			}
			s.checkBucket(t, all...)
			s.must(t, 0, from, "prune", "--max-size", "0", "--grace", "0s", "--evict-active")
			for _, r := range all {
				if _, err := os.Stat(filepath.Join(hub(from), r.Folder(), "snapshots", r.Commit)); err == nil {
					t.Errorf("prune takes %s for one that the bucket lacks", r.Repo)
				}
			}
			s.checkBucket(t, all...)
			record(t, string(d), s.Count(f.Name), figures(s.Proxy))
		})
	}
}

// timeless is a result in JSON without what differs from run to run: how long it
// took, what it cost, when it was.
func timeless(t *testing.T, got testenv.Result) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(got.Stdout), &v); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	var strip func(v any)
	strip = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, name := range []string{"elapsed_seconds", "requests", "planned_requests"} {
				delete(v, name)
			}
			for _, inner := range v {
				strip(inner)
			}
		case []any:
			for _, inner := range v {
				strip(inner)
			}
		}
	}
	strip(v)
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestListingLag has listings lack what was written lately, while several
// machines push, pull and prune. They may do too much, and never too little.
func TestListingLag(t *testing.T) {
	t.Parallel()
	all := many(12)
	s := newSite(t, eager())
	f := faultproxy.Lag(2)
	s.Use(faultproxy.Always(f))
	first, second := home(t, all[:8]...), home(t, all[4:]...)
	s.must(t, 0, first, "push")
	s.must(t, 0, second, "push")
	s.checkBucket(t, all...)
	to := t.TempDir()
	// By name and by commit a revision is found at once: no listing is asked.
	s.must(t, 0, to, "pull", all[11].Repo, "-r", all[11].Commit)
	s.must(t, 0, to, "pull", all[10].Repo)
	for _, r := range all[10:] {
		r.CompareFiles(t, hub(to), "config.json", "shared.bin")
	}
	testenv.AuditCache(t, hub(to))
	// What the listing lacks is not evicted, or it is asked for by name.
	s.must(t, 0, first, "prune", "--max-size", "0", "--grace", "0s", "--evict-active")
	s.audit.Cache(t, hub(first))
	s.must(t, 0, first, "pull-all")
	s.must(t, 0, first, "pull-all")
	s.must(t, 0, first, "pull-all")
	for _, r := range all {
		r.CompareFiles(t, hub(first), "config.json", "shared.bin")
	}
	s.checkBucket(t, all...)
	record(t, "listings that lack new keys while machines push, pull and prune", s.Count(f.Name), figures(s.Proxy))
}

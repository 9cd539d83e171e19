package faults_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/faultproxy"
)

// TestAwayInTheMiddle has the store go away in the middle of a transfer, for
// good. That ends with 7, with nothing wrong under a final name; when the store
// is back, the same command ends what was begun.
func TestAwayInTheMiddle(t *testing.T) {
	t.Parallel()
	faults := []*faultproxy.Fault{
		faultproxy.Internal(), faultproxy.SlowDown(0), faultproxy.ResetFirst(), faultproxy.StallFirst(),
	}
	for _, f := range faults {
		// The second falls among the parts of the large blob.
		for _, passing := range []int{2, 9} {
			t.Run(fmt.Sprintf("%s after %d requests", f.Name, passing), func(t *testing.T) {
				t.Parallel()
				t.Run("push", func(t *testing.T) {
					t.Parallel()
					s, r := newSite(t, resigned()), model()
					from := home(t, r)
					s.Use(faultproxy.After(passing, f))
					if got := s.must(t, 7, from, "push"); !strings.Contains(got.Stderr, "hint: ") {
						t.Errorf("no hint: %s", got)
					}
					s.audit.Bucket(t, s.bucket)
					if _, err := os.Stat(filepath.Join(s.bucket, filepath.FromSlash(r.ManifestKey()))); err == nil {
						t.Error("a manifest names what is not all there")
					}
					n := s.Count(f.Name)
					s.Use(nil)
					s.must(t, 0, from, "push")
					s.checkBucket(t, r)
					var waste again
					up, _ := s.Moved()
					waste.add(t, r, up)
					record(t, fmt.Sprintf("the bucket away after %d requests of a push, later back: %s", passing, f.Name), n, waste.String())
				})
				t.Run("pull", func(t *testing.T) {
					t.Parallel()
					r := model()
					s := holding(t, resigned(), r)
					to := t.TempDir()
					s.Use(faultproxy.After(passing, f))
					if got := s.must(t, 7, to, "pull", r.Repo); !strings.Contains(got.Stderr, "hint: ") {
						t.Errorf("no hint: %s", got)
					}
					s.audit.Cache(t, hub(to))
					if _, err := os.Stat(filepath.Join(hub(to), r.Folder(), "refs", "main")); err == nil {
						t.Error("a ref names what is not all there")
					}
					n := s.Count(f.Name)
					s.Use(nil)
					s.must(t, 0, to, "pull", r.Repo)
					checkCache(t, to, r)
					var waste again
					_, down := s.Moved()
					waste.add(t, r, down)
					record(t, fmt.Sprintf("the bucket away after %d requests of a pull, later back: %s", passing, f.Name), n, waste.String())
				})
			})
		}
	}
}

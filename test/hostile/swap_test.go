package hostile_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// swapper exchanges a folder and a link out of the cache, over and over, as
// somebody would who wants to hit the moment between a look and an act.
type swapper struct {
	path, aside, target string

	stop chan struct{}
	done sync.WaitGroup
	n    int // How often; to be read after the end.
}

// startSwapping begins. The folder waits in aside, which is out of the way. It is
// in its place for up to rest at a time, which is most of the time: a command that
// finds the link at once looks no further.
func startSwapping(t *testing.T, path, aside, target string, rest time.Duration) *swapper {
	t.Helper()
	s := &swapper{path: path, aside: aside, target: target, stop: make(chan struct{})}
	s.done.Go(func() {
		for {
			select {
			case <-s.stop:
				return
			case <-time.After(rand.N(rest)):
			}
			// Whatever does not work, because a command has made or removed something
			// meanwhile, works the next time.
			if os.Rename(s.path, s.aside) == nil {
				if os.Symlink(s.target, s.path) == nil {
					s.n++
					time.Sleep(rand.N(400 * time.Microsecond))
					_ = os.Remove(s.path)
				}
				_ = os.Rename(s.aside, s.path)
			}
		}
	})
	return s
}

func (s *swapper) end() int {
	close(s.stop)
	s.done.Wait()
	return s.n
}

// TestSwappedFolders runs commands while folders of the cache turn into links to
// a folder outside and back. They may fail; nothing outside changes, and nothing
// from there gets into the bucket.
func TestSwappedFolders(t *testing.T) {
	// So many that some are moved at every moment.
	r := testenv.Sample()
	for i := range 200 {
		r.Files = append(r.Files, testenv.Content{Path: fmt.Sprintf("many/%03d.json", i), Data: fmt.Append(nil, i)})
	}
	for _, folder := range []string{"blobs", "snapshots", "refs", "."} {
		for _, command := range []string{"pull", "push", "prune"} {
			t.Run(command+"/"+folder, func(t *testing.T) {
				s := newSandbox(t)
				inside := filepath.Join(s.cache, r.Folder())
				// A round counts if the command has got at its work. Some do not: they find
				// the link when they open the folder, so that it rests for longer each time.
				swaps, worked := 0, 0
				for round := 0; worked < proof.Times(2, 20) && round < proof.Times(20, 100); round++ {
					if err := errors.Join(os.RemoveAll(s.cache), os.RemoveAll(s.bucket)); err != nil {
						t.Fatal(err)
					}
					testenv.Mkdir(t, s.bucket)
					r.WriteCache(t, s.cache)
					args := []string{"prune", "--max-size", "0", "--evict-active", "--unsafe", "--yes", "--grace", "0s"}
					switch command {
					case "pull":
						r.WriteBucket(t, s.bucket)
						for _, f := range r.Files[1:] {
							if err := os.RemoveAll(filepath.Join(inside, "blobs", f.ID())); err != nil {
								t.Fatal(err)
							}
						}
						args = []string{"pull", r.Repo}
					case "push":
						args = []string{"push", "--yes"}
					}
					path := filepath.Join(inside, folder)
					// What is outside looks like what is inside, with a secret in it.
					outside := filepath.Join(s.outside, "twin")
					for _, f := range r.Files {
						testenv.WriteFile(t, filepath.Join(outside, f.ID()), []byte(secret))
						testenv.WriteFile(t, filepath.Join(outside, "blobs", f.ID()), []byte(secret))
					}
					before := fmt.Sprint(testenv.Tree(t, s.outside))
					moves := func() int { return len(testenv.Tree(t, in(inside, "blobs"))) + len(testenv.Keys(t, s.bucket)) }
					untouched := moves()
					swap := startSwapping(t, path, filepath.Join(s.dir, "aside"), outside, time.Duration(3+2*round)*time.Millisecond)
					result := s.remote.TrySync(t, filepath.Dir(s.cache), args...)
					swaps += swap.end()
					if moves() != untouched {
						worked++
					}
					if strings.Contains(result.Stderr, "panic:") || result.Code < 0 {
						t.Errorf("it crashed: %s", result)
					}
					if after := fmt.Sprint(testenv.Tree(t, s.outside)); after != before {
						t.Errorf("what is outside was changed: before\n%s\nafter\n%s\n%s", before, after, result)
					}
					for _, key := range testenv.Keys(t, s.bucket) {
						if data, err := os.ReadFile(filepath.Join(s.bucket, filepath.FromSlash(key))); err != nil || strings.Contains(string(data), secret) {
							t.Errorf("%s in the bucket: %.100q, %v", key, data, err)
						}
					}
				}
				if swaps == 0 || worked == 0 {
					t.Errorf("%d swaps, and the command got at its work %d times", swaps, worked)
				}
			})
		}
	}
}

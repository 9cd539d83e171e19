package engine_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/faultstore"
)

// ledger is a sink that adds up the progress of each item.
type ledger struct {
	mu      sync.Mutex
	moved   map[string]int64
	reports map[string]int
	paths   map[string]string
}

func (l *ledger) Event(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Kind {
	case event.ItemStarted:
		l.paths[e.Item] = e.Path
	case event.ItemProgress:
		l.moved[e.Item] += e.Bytes
		l.reports[e.Item]++
	default:
	}
}

// TestProgressOfUploads compares what is reported of uploads with their sizes. One small upload and one part fail after they were sent: what was said of them has
// to be taken back.
func TestProgressOfUploads(t *testing.T) {
	for _, watched := range []bool{true, false} {
		t.Run(fmt.Sprintf("watched=%v", watched), func(t *testing.T) {
			files := append(sample(), file{"second.bin", noise(3, 40<<20), true}, file{"third.bin", noise(4, 400<<10), true})
			whole, cut, lost := files[2], files[5], files[6]
			e := site(t, t.TempDir(), t.TempDir())
			write(t, e.Cache, model, first, "main", files)
			script := &faultstore.Script{}
			odd := errors.New("odd")
			script.Add(
				faultstore.Fault{Op: "put part", Key: manifest.BlobKey(cut.id()), Done: true, Err: odd, Times: -1},
				faultstore.Fault{Op: "put", Key: manifest.BlobKey(lost.id()), Done: true, Err: odd},
			)
			e.Catalog.Store = faultstore.New(e.Catalog.Store, script)
			e.Options.WatchSent = watched
			seen := &ledger{moved: map[string]int64{}, reports: map[string]int{}, paths: map[string]string{}}
			e.Events = seen
			inv, err := e.Cache.Scan(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := e.PreparePush(t.Context(), inv, plan.PushPolicy{})
			if err != nil {
				t.Fatal(err)
			}
			result, err := e.Push(t.Context(), p, plan.PushPolicy{})
			if err != nil || len(result.Failures) != 2 {
				t.Fatalf("push: %v, %+v", err, result)
			}
			for _, f := range files {
				id := string(f.id())
				want := int64(len(f.data))
				if f.path == cut.path || f.path == lost.path {
					want = 0
				}
				if seen.moved[id] != want {
					t.Errorf("%s: %d bytes were reported, want %d", f.path, seen.moved[id], want)
				}
				if seen.paths[id] != string(f.path) {
					t.Errorf("%s was announced as %q", f.path, seen.paths[id])
				}
			}
			const parts = 3
			if n := seen.reports[string(whole.id())]; watched && n < 100 || !watched && n != parts {
				t.Errorf("%s was reported %d times", whole.path, n)
			}
		})
	}
}

package engine_test

import (
	"context"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/faultstore"
)

// tellingHub closes opened when it is first asked for the bytes of a file.
type tellingHub struct {
	*fakeHub
	once   sync.Once
	opened chan struct{}
}

func (h *tellingHub) Open(ctx context.Context, r hub.Repo, c hub.Commit, path hub.Path, rng store.Range) (io.ReadCloser, int64, error) {
	h.once.Do(func() { close(h.opened) })
	return h.fakeHub.Open(ctx, r, c, path, rng)
}

// The bucket goes away while several blobs are under way. The one that is the first to find out turns to the Hub, and so do those that find out later.
func TestBucketGoesAwayInTheMiddle(t *testing.T) {
	early, later, large := file{"early.bin", noise(5, 100<<10), true}, file{"later.bin", noise(6, 100<<10), true}, file{"large.bin", noise(7, 20<<20), true}
	all := []file{early, later, large}
	bucketDir := filepath.Join(t.TempDir(), "bucket")
	pusher := site(t, filepath.Join(t.TempDir(), "hub"), bucketDir)
	write(t, pusher.Cache, model, first, "main", all)
	push(t, pusher)

	cacheDir := filepath.Join(t.TempDir(), "hub")
	e := site(t, cacheDir, bucketDir)
	h := &tellingHub{fakeHub: &fakeHub{commit: first, files: all, served: map[hub.Path]int64{}}, opened: make(chan struct{})}
	e.Upstream = h
	script := &faultstore.Script{}
	script.Add(
		faultstore.Fault{Op: "get", Key: manifest.BlobKey(early.id()), Times: -1, Err: store.ErrUnavailable},
		faultstore.Fault{Op: "get", Key: "blobs/*", Times: -1, Err: store.ErrUnavailable, Before: func(ctx context.Context, _ faultstore.Call) error {
			select {
			case <-h.opened:
			case <-ctx.Done():
			}
			return nil
		}},
	)
	e.Catalog.Store = faultstore.New(e.Catalog.Store, script)
	p, err := e.PreparePull(t.Context(), model, "", plan.PullPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	var result *engine.Result
	if result, err = e.Pull(t.Context(), p); err != nil || len(result.Failures) != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	wantFiles(t, cacheDir, model, first, all)
}

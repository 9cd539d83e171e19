package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// model of a dozen blobs, small and large.
func herdFiles() []file {
	files := []file{{"config.json", []byte("{}"), false}, {"large.bin", noise(200, 17<<20), true}}
	for i := range 10 {
		files = append(files, file{hub.Path(fmt.Sprintf("parts/%d.bin", i)), noise(byte(100+i), 1<<20), true})
	}
	return files
}

// member is one machine of a herd.
func member(t *testing.T, bucket string, h *fakeHub, name string) (*engine.Engine, string) {
	t.Helper()
	dir := t.TempDir()
	e := site(t, dir, bucket)
	e.Upstream = h
	e.Herd = &engine.Herd{
		Who: remote.Lease{Holder: name, Host: "host", PID: 1, Lasts: time.Minute}, Poll: 10 * time.Millisecond, Share: func(hub.Repo) bool { return true },
	}
	return e, dir
}

func pullOne(ctx context.Context, e *engine.Engine) error {
	p, err := e.PreparePull(ctx, model, "", plan.PullPolicy{})
	if err != nil {
		return err
	}
	result, err := e.Pull(ctx, p)
	if err == nil && result.Failed() {
		err = errors.New(result.Failures[0].String())
	}
	return err
}

func leases(t *testing.T, bucket string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(bucket, "leases", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Machines that pull the same at once fetch each byte once, and the lease is gone afterwards.
func TestHerd(t *testing.T) {
	bucket, files := t.TempDir(), herdFiles()
	h := &fakeHub{commit: first, files: files, served: map[hub.Path]int64{}}
	var all sync.WaitGroup
	for i := range 3 {
		e, dir := member(t, bucket, h, fmt.Sprint("machine", i))
		all.Go(func() {
			if err := pullOne(t.Context(), e); err != nil {
				t.Errorf("machine %d: %v", i, err)
				return
			}
			wantFiles(t, dir, model, first, files)
		})
	}
	all.Wait()
	for _, f := range files {
		if got := h.served[f.path]; got != int64(len(f.data)) {
			t.Errorf("the Hub gave %d bytes of %s, which has %d", got, f.path, len(f.data))
		}
	}
	if left := leases(t, bucket); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A holder that has died is replaced, and what it had given on is not fetched again.
func TestHerdReplacesTheDead(t *testing.T) {
	bucket, files := t.TempDir(), herdFiles()
	h := &fakeHub{commit: first, files: files, served: map[hub.Path]int64{}}
	other := site(t, t.TempDir(), bucket)
	write(t, other.Cache, model, first, "main", files[:2])
	push(t, other)
	for _, dir := range []string{"manifests", "refs"} { // it had come to its first blobs
		if err := os.RemoveAll(filepath.Join(bucket, dir)); err != nil {
			t.Fatal(err)
		}
	}
	dead, _ := member(t, bucket, h, "dead")
	p, err := dead.PreparePull(t.Context(), model, "", plan.PullPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dead.Catalog.TakeLease(t.Context(), p.Manifest.Key(), dead.Herd.Who); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-2 * time.Minute)
	for _, lease := range leases(t, bucket) {
		if err := os.Chtimes(lease, then, then); err != nil {
			t.Fatal(err)
		}
	}
	e, dir := member(t, bucket, h, "alive")
	if err := pullOne(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, model, first, files)
	if len(h.served) != len(files)-2 || h.served[files[1].path] > 0 {
		t.Errorf("the Hub gave %v", h.served)
	}
}

// deniedStore refuses writes.
type deniedStore struct{ store.Store }

func (s *deniedStore) Put(_ context.Context, key string, _ *io.SectionReader, _ store.PutOptions) (store.Info, error) {
	return store.Info{}, &store.Error{Op: "put", Key: key, Kind: store.ErrDenied}
}

// Where there can be no lease everybody fetches for himself, and nothing is left in the bucket.
func TestHerdWithoutALease(t *testing.T) {
	for name, change := range map[string]func(*engine.Engine){
		"a key that may only read": func(e *engine.Engine) { e.Catalog.Store = &deniedStore{e.Catalog.Store} },
		"not to be shared":         func(e *engine.Engine) { e.Herd.Share = func(hub.Repo) bool { return false } },
		"not wanted":               func(e *engine.Engine) { e.Herd = nil },
	} {
		t.Run(name, func(t *testing.T) {
			bucket, files := t.TempDir(), herdFiles()
			h := &fakeHub{commit: first, files: files, served: map[hub.Path]int64{}}
			e, dir := member(t, bucket, h, "one")
			change(e)
			if err := pullOne(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			wantFiles(t, dir, model, first, files)
			if left, err := os.ReadDir(bucket); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// Who waits for another machine can be interrupted.
func TestHerdInterrupted(t *testing.T) {
	bucket, files := t.TempDir(), herdFiles()
	h := &fakeHub{commit: first, files: files, served: map[hub.Path]int64{}}
	holder, _ := member(t, bucket, h, "holder")
	p, err := holder.PreparePull(t.Context(), model, "", plan.PullPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Catalog.TakeLease(t.Context(), p.Manifest.Key(), holder.Herd.Who); err != nil {
		t.Fatal(err)
	}
	e, _ := member(t, bucket, h, "waiting")
	ctx, cancel := context.WithCancel(t.Context())
	e.Events = sinkFunc(func(ev event.Event) {
		if strings.Contains(ev.Text, "fetches") {
			cancel()
		}
	})
	if err := pullOne(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if len(h.served) > 0 {
		t.Errorf("the Hub gave %v", h.served)
	}
	if left := leases(t, bucket); len(left) != 1 {
		t.Errorf("the holder's lease: %v", left)
	}
}

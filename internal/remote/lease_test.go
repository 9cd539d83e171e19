package remote_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
)

// leaseBucket is a folder as a bucket, with a lease that can be made to look old.
type leaseBucket struct {
	*remote.Catalog
	t   *testing.T
	dir string
	key manifest.Key
}

func newLeaseBucket(t *testing.T) *leaseBucket {
	t.Helper()
	dir := t.TempDir()
	s, err := filestore.Open(dir, filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &leaseBucket{&remote.Catalog{Store: s, Now: time.Now}, t, dir, manifest.Key{Repo: model, Commit: commit("a")}}
}

func (b *leaseBucket) path() string {
	return filepath.Join(b.dir, "leases", "org__name@"+strings.Repeat("a", 40))
}

func (b *leaseBucket) take(holder string) (*remote.HeldLease, error) {
	return b.TakeLease(b.t.Context(), b.key, remote.Lease{Holder: holder, Host: "host-of-" + holder, PID: 7, Lasts: time.Minute})
}

func (b *leaseBucket) must(holder string) *remote.HeldLease {
	b.t.Helper()
	h, err := b.take(holder)
	if err != nil {
		b.t.Fatal(err)
	}
	return h
}

func (b *leaseBucket) age(d time.Duration) {
	b.t.Helper()
	then := time.Now().Add(-d)
	if err := os.Chtimes(b.path(), then, then); err != nil {
		b.t.Fatal(err)
	}
}

func (b *leaseBucket) holder() string {
	b.t.Helper()
	l, err := b.Lease(b.t.Context(), b.key)
	if errors.Is(err, store.ErrNotFound) {
		return ""
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return l.Holder
}

func TestLease(t *testing.T) {
	b := newLeaseBucket(t)
	one := b.must("one")
	_, err := b.take("two")
	held, ok := errors.AsType[*remote.LeasedError](err)
	if !ok || held.Lease.Host != "host-of-one" || held.Lease.PID != 7 || !strings.Contains(err.Error(), "process 7 on host-of-one") {
		t.Fatalf("taken twice: %v", err)
	}
	b.age(50 * time.Second)
	if _, err := b.take("two"); err == nil {
		t.Error("taken before it has run out")
	}
	b.age(time.Hour)
	if err := one.Renew(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := b.take("two"); err == nil {
		t.Error("taken although it was renewed")
	}
	if err := one.Release(t.Context()); err != nil || b.holder() != "" {
		t.Errorf("released: %v, held by %q", err, b.holder())
	}
	b.must("two")
	b.age(2 * time.Minute)
	three := b.must("three")
	if b.holder() != "three" {
		t.Errorf("held by %q", b.holder())
	}
	// The one who was taken for dead finds out, and leaves the other's alone.
	if err := one.Renew(t.Context()); !errors.Is(err, remote.ErrLeaseLost) {
		t.Errorf("renewed what is another's: %v", err)
	}
	if err := one.Release(t.Context()); err != nil || b.holder() != "three" {
		t.Errorf("released what is another's: %v, held by %q", err, b.holder())
	}
	if err := three.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if err := three.Renew(t.Context()); !errors.Is(err, remote.ErrLeaseLost) || b.holder() != "" {
		t.Errorf("renewed what was given back: %v", err)
	}
}

// What makes no sense keeps nobody waiting.
func TestLeaseNonsense(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON": "x", "empty": "", "another version": `{"version":2,"holder":"x","lasts_seconds":60}`, "for ever": `{"version":1,"holder":"x","lasts_seconds":1e9}`,
		"for no time": `{"version":1,"holder":"x","lasts_seconds":0}`, "large": strings.Repeat(" ", 10<<10), "a long host": `{"version":1,"lasts_seconds":60,"host":"` + strings.Repeat("x", 300) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newLeaseBucket(t)
			key := manifest.LeaseKey(manifest.RepoKey(model), commit("a"))
			if _, err := b.Store.Put(t.Context(), key, io.NewSectionReader(bytes.NewReader([]byte(body)), 0, int64(len(body))), store.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			b.must("one")
			if b.holder() != "one" {
				t.Errorf("held by %q", b.holder())
			}
		})
	}
}

// Of many who want it at once one gets it, with a store that checks conditions; without, at least one does, and the others hear of it.
func TestLeaseContended(t *testing.T) {
	for name, wrap := range map[string]func(store.Store) store.Store{
		"conditional": func(s store.Store) store.Store { return s }, "unconditional": func(s store.Store) store.Store { return unconditional{s} },
	} {
		t.Run(name, func(t *testing.T) {
			b := newLeaseBucket(t)
			b.Store = wrap(b.Store)
			var all sync.WaitGroup
			var mu sync.Mutex
			got := 0
			for i := range 8 {
				all.Go(func() {
					_, err := b.take(string(rune('a' + i)))
					mu.Lock()
					defer mu.Unlock()
					if _, leased := errors.AsType[*remote.LeasedError](err); err != nil && !leased {
						t.Error(err)
					}
					if err == nil {
						got++
					}
				})
			}
			all.Wait()
			if got == 0 || name == "conditional" && got != 1 {
				t.Errorf("%d have it", got)
			}
		})
	}
}

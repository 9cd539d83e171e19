package remote_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// slow is a store whose first write takes a while to get there.
type slow struct {
	store.Store
	by   time.Duration
	once *sync.Once
}

func (s slow) Put(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions) (store.Info, error) {
	if !o.IfAbsent && o.IfMatch == "" {
		s.once.Do(func() { time.Sleep(s.by) })
	}
	return s.Store.Put(ctx, key, body, o)
}

// twoMachines are catalogues of one bucket without conditional writes. The second one's first write arrives long after the first one's, and so after that could be read back:
// neither has seen the other when it looked.
func twoMachines(t *testing.T) (first, second *remote.Catalog) {
	t.Helper()
	first = newCatalog(t)
	first.Store, first.Settle = unconditional{first.Store}, 0
	late := unconditional{slow{first.Store.(unconditional).Store, time.Second / 2, &sync.Once{}}}
	return first, &remote.Catalog{Store: late, Now: first.Now}
}

func TestSlowWriterWithoutConditionalWritesTakesNothingAway(t *testing.T) {
	first, second := twoMachines(t)
	synctest.Test(t, func(t *testing.T) {
		var both sync.WaitGroup
		for text, c := range map[string]*remote.Catalog{"one": first, "two": second} {
			both.Go(func() {
				if _, _, err := c.PutManifest(t.Context(), manifestOf(model, commit("a"), text), nil, trustAll); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
	})
	entry, err := first.Manifest(t.Context(), manifest.Key{Repo: model, Commit: commit("a")})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]manifest.File{blobOf("one"), blobOf("two")}, entry.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestSlowWriterWithoutConditionalWritesMovesNoRefBack(t *testing.T) {
	first, second := twoMachines(t)
	for _, digit := range []string{"a", "b"} {
		if _, _, err := newCatalogOn(first.Store).PutManifest(t.Context(), manifestOf(model, commit(digit), "one"), nil, trustAll); err != nil {
			t.Fatal(err)
		}
	}
	learned := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) // The clock of synctest starts a year later.
	synctest.Test(t, func(t *testing.T) {
		var both sync.WaitGroup
		move := func(c *remote.Catalog, to hub.Commit, at time.Time) {
			if _, err := c.PutRef(t.Context(), update(model, "main", to, at)); err != nil {
				t.Error(err)
			}
		}
		both.Go(func() { move(first, commit("b"), learned.Add(time.Hour)) })
		both.Go(func() { move(second, commit("a"), learned) })
		both.Wait()
	})
	if ref, err := first.Ref(t.Context(), model, "main"); err != nil || ref.Commit != commit("b") {
		t.Errorf("the ref ends at %v, %v; want %s", ref, err, commit("b"))
	}
}

// newCatalogOn is a catalogue that does not wait.
func newCatalogOn(s store.Store) *remote.Catalog {
	return &remote.Catalog{Store: s, Now: time.Now, Settle: time.Nanosecond}
}

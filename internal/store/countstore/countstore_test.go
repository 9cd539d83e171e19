package countstore_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/countstore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/storetest"
)

func openFiles(t *testing.T) store.Store {
	t.Helper()
	s, err := filestore.Open(t.TempDir(), filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, storetest.Options{FlatFolders: true}, func(t *testing.T) store.Store {
		t.Helper()
		return countstore.New(openFiles(t))
	})
}

func section(text string) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader([]byte(text)), 0, int64(len(text)))
}

func TestCounts(t *testing.T) {
	ctx := t.Context()
	s := countstore.New(openFiles(t))
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Put(ctx, "one", section("x"), store.PutOptions{})
	check(err)
	rc, _, err := s.Get(ctx, "one", store.Range{})
	check(err)
	check(rc.Close())
	_, err = s.Stat(ctx, "one")
	check(err)
	parts, ok := store.As[store.Multipart](s)
	if !ok {
		t.Fatal("it takes no parts")
	}
	u, err := parts.StartUpload(ctx, "parts", store.PutOptions{})
	check(err)
	part, err := parts.PutPart(ctx, u, 1, section("x"))
	check(err)
	_, err = parts.Parts(ctx, u)
	check(err)
	for _, err := range parts.Uploads(ctx, "") {
		check(err)
	}
	_, err = parts.Complete(ctx, u, []store.Part{part})
	check(err)
	check(parts.Abort(ctx, u))
	check(s.Delete(ctx, "parts"))
	want := countstore.Counts{Put: 4, Get: 1, Head: 1, List: 2, Delete: 2}
	if diff := cmp.Diff(want, countstore.Of(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := countstore.Of(openFiles(t)); got != (countstore.Counts{}) {
		t.Errorf("a store that nobody counts: %v", got)
	}
}

// listing is a store that has so many objects, whatever the prefix.
type listing struct {
	store.Store
	objects int
}

func (l listing) List(context.Context, string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for i := range l.objects {
			if !yield(store.Info{Key: fmt.Sprintf("%06d", i)}, nil) {
				return
			}
		}
	}
}

// TestListings counts pages of a thousand, also of a listing that nobody reads to its end.
func TestListings(t *testing.T) {
	for _, tc := range []struct{ objects, read, want int }{
		{0, 9999, 1},
		{1, 9999, 1},
		{1000, 9999, 1},
		{1001, 9999, 2},
		{2001, 9999, 3},
		{2001, 1000, 1},
		{2001, 1001, 2},
	} {
		s := countstore.New(listing{objects: tc.objects})
		n := 0
		for _, err := range s.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == tc.read {
				break
			}
		}
		if got := countstore.Of(s).List; got != tc.want {
			t.Errorf("reading %d of %d objects: %d requests, want %d", tc.read, tc.objects, got, tc.want)
		}
	}
}

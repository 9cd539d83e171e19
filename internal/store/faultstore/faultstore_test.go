package faultstore_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/faultstore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/storetest"
)

func openWith(t *testing.T, faults ...faultstore.Fault) (store.Store, *faultstore.Script) {
	t.Helper()
	inner, err := filestore.Open(t.TempDir(), filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	script := new(faultstore.Script)
	script.Add(faults...)
	return faultstore.New(inner, script), script
}

func section(data string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(data), 0, int64(len(data)))
}

func TestContract(t *testing.T) {
	storetest.Run(t, storetest.Options{FlatFolders: true}, func(t *testing.T) store.Store {
		t.Helper()
		s, _ := openWith(t)
		return s
	})
}

func TestFaultsAreDealtInTurn(t *testing.T) {
	s, script := openWith(
		t,
		faultstore.Fault{Op: "stat", Key: "blobs/*", Skip: 1, Times: 2, Err: store.ErrUnavailable},
		faultstore.Fault{Op: "stat", Err: &store.Error{Kind: store.ErrDenied, Code: "AccessDenied"}},
		faultstore.Fault{Op: "delete", Times: -1, Err: store.ErrNoSpace},
		faultstore.Fault{Op: "get", Err: store.ErrUnavailable},
	)
	var got []string
	note := func(err error) {
		var se *store.Error
		if !errors.As(err, &se) || se.Kind == nil {
			t.Fatalf("%v is no error of a kind", err)
		}
		got = append(got, se.Op+" "+se.Key+": "+se.Kind.Error()+" "+se.Code)
	}
	for _, key := range []string{"blobs/a", "blobs/b", "refs/c", "blobs/c", "blobs/d", "refs/d"} {
		_, err := s.Stat(t.Context(), key)
		note(err)
	}
	note(s.Delete(t.Context(), "x"))
	note(s.Delete(t.Context(), "x"))
	want := []string{
		"stat blobs/a: access denied AccessDenied", "stat blobs/b: unavailable ", "stat refs/c: not found ", "stat blobs/c: unavailable ",
		"stat blobs/d: not found ", "stat refs/d: not found ", "delete x: no space left ", "delete x: no space left ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	if calls := script.Calls("stat"); len(calls) != 6 || calls[2].Key != "refs/c" {
		t.Errorf("calls: %+v", calls)
	}
	if left := script.Left(); len(left) != 1 || left[0].Op != "get" {
		t.Errorf("left: %+v", left)
	}
}

func TestLostAnswer(t *testing.T) {
	s, _ := openWith(
		t, faultstore.Fault{Op: "put", Done: true, Err: store.ErrUnavailable}, faultstore.Fault{Op: "put", Err: store.ErrUnavailable},
	)
	if _, err := s.Put(t.Context(), "done", section("x"), store.PutOptions{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Put(t.Context(), "not-done", section("x"), store.PutOptions{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Stat(t.Context(), "done"); err != nil {
		t.Error(err)
	}
	if _, err := s.Stat(t.Context(), "not-done"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func TestBodies(t *testing.T) {
	s, script := openWith(t)
	if _, err := s.Put(t.Context(), "k", section("0123456789"), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		fault faultstore.Fault
		rng   store.Range
		want  string
		err   error
	}{
		{"whole", faultstore.Fault{Op: "stat"}, store.Range{}, "0123456789", nil},
		{"cut", faultstore.Fault{Op: "get", Cut: true, CutAfter: 4}, store.Range{}, "0123", store.ErrUnavailable},
		{"cut at once", faultstore.Fault{Op: "get", Cut: true}, store.Range{}, "", store.ErrUnavailable},
		{"cut a range otherwise", faultstore.Fault{Op: "get", Cut: true, CutAfter: 2, Err: store.ErrDenied}, store.Range{Offset: 5}, "56", store.ErrDenied},
		{"flip", faultstore.Fault{Op: "get", Flip: true, FlipAt: 3}, store.Range{}, "012\xcc456789", nil},
		{"flip in a range", faultstore.Fault{Op: "get", Flip: true, FlipAt: 6}, store.Range{Offset: 5, Length: 3}, "5\xc97", nil},
		{"flip out of the range", faultstore.Fault{Op: "get", Flip: true, FlipAt: 1}, store.Range{Offset: 5}, "56789", nil},
	} {
		script.Add(tc.fault)
		rc, _, err := s.Get(t.Context(), "k", tc.rng)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		got, err := io.ReadAll(rc)
		if string(got) != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %q, %v, want %q, %v", tc.name, got, err, tc.want, tc.err)
		}
		if err = rc.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestListingCut(t *testing.T) {
	s, script := openWith(t)
	for _, key := range []string{"a", "b", "c"} {
		if _, err := s.Put(t.Context(), key, section("x"), store.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []int64{0, 2, 3} {
		script.Add(faultstore.Fault{Op: "list", Cut: true, CutAfter: after})
		var count int64
		var last error
		for _, err := range s.List(t.Context(), "") {
			if last = err; err == nil {
				count++
			}
		}
		if count != after || !errors.Is(last, store.ErrUnavailable) {
			t.Errorf("cut after %d: %d elements, then %v", after, count, last)
		}
	}
}

func TestBlockAndBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen []faultstore.Call
	s, _ := openWith(
		t,
		faultstore.Fault{Op: "get", Before: func(_ context.Context, c faultstore.Call) error {
			seen = append(seen, c)
			return nil
		}},
		faultstore.Fault{Op: "stat", Block: true, Before: func(context.Context, faultstore.Call) error {
			cancel()
			return nil
		}},
	)
	if _, _, err := s.Get(ctx, "k", store.Range{Offset: 3}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.Stat(ctx, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("stat: %v", err)
	}
	want := []faultstore.Call{{Op: "get", Key: "k", Range: store.Range{Offset: 3}}}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

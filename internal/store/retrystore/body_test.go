package retrystore_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/faultstore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/retrystore"
)

// readAll reads a range of k to its end or its error.
func readAll(t *testing.T, r *rig, rng store.Range) (string, error) {
	t.Helper()
	rc, _, err := r.Get(t.Context(), "k", rng)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(rc)
	if closeErr := rc.Close(); closeErr != nil {
		t.Errorf("close: %v", closeErr)
	}
	return string(data), err
}

func cut(after int64) faultstore.Fault {
	return faultstore.Fault{Op: "get", Cut: true, CutAfter: after}
}

func TestBodyGoesOn(t *testing.T) {
	const data = "0123456789"
	for _, tc := range []struct {
		name   string
		rng    store.Range
		faults []faultstore.Fault
		want   string
		asked  []store.Range // offset and length of the requests after the first
	}{
		{"once", store.Range{}, []faultstore.Fault{cut(4)}, data, []store.Range{{Offset: 4, Length: 6}}},
		{"before its first byte", store.Range{}, []faultstore.Fault{cut(0)}, data, []store.Range{{Offset: 0, Length: 10}}},
		{"twice", store.Range{}, []faultstore.Fault{cut(4), cut(3)}, data, []store.Range{{Offset: 4, Length: 6}, {Offset: 7, Length: 3}}},
		{"after its last byte", store.Range{}, []faultstore.Fault{cut(10)}, data, nil},
		{
			"in a range",
			store.Range{Offset: 2, Length: 5},
			[]faultstore.Fault{cut(1), cut(1)},
			"23456",
			[]store.Range{{Offset: 3, Length: 4}, {Offset: 4, Length: 3}},
		},
		{"in an open range", store.Range{Offset: 8}, []faultstore.Fault{cut(1)}, "89", []store.Range{{Offset: 9, Length: 1}}},
		{"in a range beyond the end", store.Range{Offset: 8, Length: 99}, []faultstore.Fault{cut(1)}, "89", []store.Range{{Offset: 9, Length: 1}}},
		{
			"with a failure to open",
			store.Range{},
			[]faultstore.Fault{cut(4), fault("get", 2)},
			data,
			[]store.Range{{Offset: 4, Length: 6}, {Offset: 4, Length: 6}, {Offset: 4, Length: 6}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, retrystore.Options{}, tc.faults...)
				r.put(t, "k", data)
				got, err := readAll(t, r, tc.rng)
				if err != nil || got != tc.want {
					t.Errorf("%q, %v, want %q", got, err, tc.want)
				}
				var asked []store.Range
				for _, c := range r.script.Calls("get")[1:] {
					if c.Range.ETag == "" {
						t.Errorf("%+v is not pinned", c.Range)
					}
					asked = append(asked, store.Range{Offset: c.Range.Offset, Length: c.Range.Length})
				}
				if diff := cmp.Diff(tc.asked, asked); diff != "" {
					t.Errorf("requests after the first (-want +got):\n%s", diff)
				}
				r.spent(t, "get", 1+len(tc.asked))
			})
		})
	}
}

func TestBodyOfAReplacedObject(t *testing.T) {
	for name, change := range map[string]struct {
		change func(t *testing.T, r *rig)
		kind   error
	}{
		"replaced": {func(t *testing.T, r *rig) {
			t.Helper()
			r.put(t, "k", "abcdefghij")
		}, store.ErrExists},
		"deleted": {func(t *testing.T, r *rig) {
			t.Helper()
			if err := r.plain.Delete(t.Context(), "k"); err != nil {
				t.Fatal(err)
			}
		}, store.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, retrystore.Options{}, cut(4))
				r.put(t, "k", "0123456789")
				rc, _, err := r.Get(t.Context(), "k", store.Range{})
				if err != nil {
					t.Fatal(err)
				}
				change.change(t, r)
				got, err := io.ReadAll(rc)
				if string(got) != "0123" || !errors.Is(err, change.kind) {
					t.Errorf("%q, %v, want what was read before and %v", got, err, change.kind)
				}
				if _, again := rc.Read(make([]byte, 1)); !errors.Is(again, change.kind) {
					t.Errorf("read after the error: %v", again)
				}
				if err = rc.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestBodyGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, retrystore.Options{MaxTries: 4}, faultstore.Fault{Op: "get", Times: -1, Cut: true, CutAfter: 1})
		r.put(t, "k", "0123456789")
		got, err := readAll(t, r, store.Range{})
		// A byte now and then is no progress.
		if got != "0123" || !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%q, %v", got, err)
		}
		r.spent(t, "get", 4)
	})
}

func TestBodyEarnsItsPatienceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const piece = 64 << 10
		data := strings.Repeat("0123456789abcdef", 20*piece/16)
		r := newRig(t, retrystore.Options{MaxTries: 3}, faultstore.Fault{Op: "get", Times: -1, Cut: true, CutAfter: piece})
		r.put(t, "k", data)
		got, err := readAll(t, r, store.Range{})
		if err != nil || got != data {
			t.Errorf("%d bytes, %v, want %d", len(got), err, len(data))
		}
		r.spent(t, "get", 20)
		for _, retry := range r.retries {
			if retry.Attempt != 1 {
				t.Errorf("attempt %d, though the one before brought %d bytes", retry.Attempt, piece)
			}
		}
	})
}

func TestBodyIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, retrystore.Options{}, cut(4), fault("get", -1))
		r.put(t, "k", "0123456789")
		ctx, cancel := context.WithCancel(t.Context())
		rc, _, err := r.Get(ctx, "k", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, err := io.Copy(io.Discard, rc)
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err = <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("read: %v", err)
		}
		if err = rc.Close(); err != nil {
			t.Error(err)
		}
	})
}

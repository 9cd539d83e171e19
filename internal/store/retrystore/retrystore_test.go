package retrystore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/faultstore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/retrystore"
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

func section(data string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(data), 0, int64(len(data)))
}

func TestContract(t *testing.T) {
	storetest.Run(t, storetest.Options{FlatFolders: true}, func(t *testing.T) store.Store {
		t.Helper()
		return retrystore.New(openFiles(t), retrystore.Options{})
	})
}

// rig is a retrying store above a failing one.
type rig struct {
	store.Store
	plain   store.Store // without faults
	script  *faultstore.Script
	retries []retrystore.Retry
}

func newRig(t *testing.T, o retrystore.Options, faults ...faultstore.Fault) *rig {
	t.Helper()
	r := &rig{plain: openFiles(t), script: new(faultstore.Script)}
	r.script.Add(faults...)
	o.OnRetry = func(retry retrystore.Retry) { r.retries = append(r.retries, retry) }
	r.Store = retrystore.New(faultstore.New(r.plain, r.script), o)
	return r
}

func (r *rig) put(t *testing.T, key, data string) {
	t.Helper()
	if _, err := r.plain.Put(t.Context(), key, section(data), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// spent checks that every fault happened, and nothing but what was asked for.
func (r *rig) spent(t *testing.T, op string, calls int) {
	t.Helper()
	if left := r.script.Left(); left != nil {
		t.Errorf("faults that did not happen: %+v", left)
	}
	if got := r.script.Calls(op); len(got) != calls {
		t.Errorf("%d calls of %s, want %d: %+v", len(got), op, calls, got)
	}
}

func fault(op string, times int) faultstore.Fault {
	return faultstore.Fault{Op: op, Times: times, Err: store.ErrUnavailable}
}

// operations is every method as an operation on the key "k" that succeeds.
func operations(t *testing.T, r *rig) map[string]func(ctx context.Context) error {
	t.Helper()
	m, ok := r.Store.(store.Multipart)
	if !ok {
		t.Fatalf("%T hides Multipart", r.Store)
	}
	below := r.plain.(store.Multipart)
	start := func() store.Upload {
		u, err := below.StartUpload(t.Context(), "k", store.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	started := start()
	part, err := below.PutPart(t.Context(), started, 1, section("0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]func(ctx context.Context) error{
		"get": func(ctx context.Context) error {
			rc, _, err := r.Get(ctx, "k", store.Range{})
			if err != nil {
				return err
			}
			return rc.Close()
		},
		"stat": func(ctx context.Context) error {
			_, err := r.Stat(ctx, "k")
			return err
		},
		"list": func(ctx context.Context) error {
			for _, err := range r.List(ctx, "k") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"put": func(ctx context.Context) error {
			_, err := r.Put(ctx, "k", section("new"), store.PutOptions{})
			return err
		},
		"delete": func(ctx context.Context) error { return r.Delete(ctx, "k") },
		"start upload": func(ctx context.Context) error {
			_, err := m.StartUpload(ctx, "k", store.PutOptions{})
			return err
		},
		"put part": func(ctx context.Context) error {
			_, err := m.PutPart(ctx, start(), 1, section("new"))
			return err
		},
		"complete upload": func(ctx context.Context) error {
			_, err := m.Complete(ctx, started, []store.Part{part})
			return err
		},
		"abort upload": func(ctx context.Context) error { return m.Abort(ctx, start()) },
		"list uploads": func(ctx context.Context) error {
			for _, err := range m.Uploads(ctx, "k") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"list parts": func(ctx context.Context) error {
			_, err := m.Parts(ctx, start())
			return err
		},
	}
}

// each runs a test for every method.
func each(t *testing.T, o retrystore.Options, test func(t *testing.T, r *rig, op string, run func(ctx context.Context) error)) {
	t.Helper()
	blank := newRig(t, o)
	blank.put(t, "k", "0123456789")
	for op := range operations(t, blank) {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, o)
				r.put(t, "k", "0123456789")
				test(t, r, op, operations(t, r)[op])
			})
		})
	}
}

func TestTriesAgain(t *testing.T) {
	each(t, retrystore.Options{}, func(t *testing.T, r *rig, op string, run func(ctx context.Context) error) {
		r.script.Add(fault(op, 3))
		if err := run(t.Context()); err != nil {
			t.Error(err)
		}
		r.spent(t, op, 4)
		if len(r.retries) != 3 {
			t.Fatalf("told of %d retries, want 3: %+v", len(r.retries), r.retries)
		}
		for i, retry := range r.retries {
			if retry.Op != op || retry.Key != "k" || retry.Attempt != i+1 || !errors.Is(retry.Err, store.ErrUnavailable) || retry.Wait <= 0 {
				t.Errorf("retry %d: %+v", i, retry)
			}
		}
	})
}

func TestGivesUp(t *testing.T) {
	each(t, retrystore.Options{MaxTries: 4}, func(t *testing.T, r *rig, op string, run func(ctx context.Context) error) {
		r.script.Add(fault(op, 4))
		err := run(t.Context())
		var se *store.Error
		if !errors.As(err, &se) || !errors.Is(err, store.ErrUnavailable) || se.Op != op {
			t.Errorf("%v, want the store's own error", err)
		}
		r.spent(t, op, 4)
		if len(r.retries) != 3 {
			t.Errorf("told of %d retries, want 3", len(r.retries))
		}
	})
}

func TestTriesNothingElseAgain(t *testing.T) {
	kinds := []error{
		store.ErrExists, store.ErrDenied, store.ErrBadConfig, store.ErrUnsupported, store.ErrNoSpace, store.ErrBadRange, store.ErrBadDigest,
		store.ErrNotObject,
		store.ErrNotFound, store.ErrNoFolder, errors.New("none of these"),
	}
	each(t, retrystore.Options{}, func(t *testing.T, r *rig, op string, run func(ctx context.Context) error) {
		for _, kind := range kinds {
			r.script.Add(faultstore.Fault{Op: op, Err: kind})
			if err := run(t.Context()); !errors.Is(err, kind) {
				t.Errorf("%v, want %v", err, kind)
			}
		}
		r.spent(t, op, len(kinds))
		if r.retries != nil {
			t.Errorf("retries: %+v", r.retries)
		}
	})
}

func TestCancelledWhileWaiting(t *testing.T) {
	each(t, retrystore.Options{}, func(t *testing.T, r *rig, op string, run func(ctx context.Context) error) {
		r.script.Add(fault(op, -1))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- run(ctx) }()
		synctest.Wait() // The first attempt has failed, and the wait for the second has begun.
		began := time.Now()
		cancel()
		err := <-done
		var se *store.Error
		if !errors.As(err, &se) || !errors.Is(err, context.Canceled) || se.Op != op || se.Key != "k" {
			t.Errorf("%#v, want a cancelled %s", err, op)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("it waited %v after the cancellation", waited)
		}
		if calls := r.script.Calls(op); len(calls) != 1 {
			t.Errorf("%d calls, want 1", len(calls))
		}
	})
}

func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, retrystore.Options{MaxTries: 10, First: time.Second, Longest: 8 * time.Second}, fault("stat", 9))
		r.put(t, "k", "x")
		began := time.Now()
		if _, err := r.Stat(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		var sum time.Duration
		middle := time.Second
		for i, retry := range r.retries {
			if retry.Wait < middle/2 || retry.Wait > middle*3/2 {
				t.Errorf("wait %d is %v, want about %v", i, retry.Wait, middle)
			}
			sum += retry.Wait
			middle = min(2*middle, 8*time.Second)
		}
		if took := time.Since(began); took != sum || len(r.retries) != 9 {
			t.Errorf("%d waits took %v, and were said to be %v", len(r.retries), took, sum)
		}
	})
}

func TestWaitsAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &store.Error{Kind: store.ErrUnavailable, Code: "SlowDown", RetryAfter: 40}
		r := newRig(t, retrystore.Options{First: time.Millisecond, Longest: time.Second}, faultstore.Fault{Op: "stat", Times: 2, Err: slow})
		r.put(t, "k", "x")
		if _, err := r.Stat(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		for _, retry := range r.retries {
			if retry.Wait < 40*time.Second || retry.Wait > 50*time.Second {
				t.Errorf("waited %v, asked for 40 s", retry.Wait)
			}
		}
		r.spent(t, "stat", 3)
	})
}

func TestWaitsNoLongerThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &store.Error{Kind: store.ErrUnavailable, RetryAfter: 40}
		r := newRig(t, retrystore.Options{MaxWait: time.Minute}, faultstore.Fault{Op: "stat", Times: -1, Err: slow})
		if _, err := r.Stat(t.Context(), "k"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("stat: %v", err)
		}
		r.spent(t, "stat", 2)
	})
}

func TestListingGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, retrystore.Options{MaxTries: 2})
		var want []string
		for i := range 10 {
			key := fmt.Sprintf("k%d", i)
			want = append(want, key)
			r.put(t, key, "x")
		}
		// More breaks than tries, but each after more elements than the one before.
		for _, after := range []int64{0, 3, 4, 7, 10} {
			r.script.Add(faultstore.Fault{Op: "list", Cut: true, CutAfter: after})
		}
		var got []string
		for info, err := range r.List(t.Context(), "k") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, info.Key)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("list (-want +got):\n%s", diff)
		}
		r.spent(t, "list", 6)
	})
}

func TestUploadsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, retrystore.Options{MaxTries: 2})
		m := r.Store.(store.Multipart)
		want := map[string]int{}
		for range 5 {
			u, err := m.StartUpload(t.Context(), "k", store.PutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want[u.ID] = 1
		}
		for _, after := range []int64{1, 2, 5} {
			r.script.Add(faultstore.Fault{Op: "list uploads", Cut: true, CutAfter: after})
		}
		got := map[string]int{}
		for u, err := range m.Uploads(t.Context(), "k") {
			if err != nil {
				t.Fatal(err)
			}
			got[u.ID]++
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("uploads (-want +got):\n%s", diff)
		}
		r.spent(t, "list uploads", 4)
	})
}

func TestHidesNoMultipart(t *testing.T) {
	type simple struct{ store.Store }
	s := retrystore.New(simple{openFiles(t)}, retrystore.Options{})
	if _, ok := s.(store.Multipart); ok {
		t.Error("a store that takes no parts seems to")
	}
	if name := s.String(); !strings.HasPrefix(name, "file://") {
		t.Errorf("the name is %q, want that of the store below", name)
	}
}

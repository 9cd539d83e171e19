package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// unconditional checks that a conditional write is refused where the store has none, without writing anything.
func (e env) unconditional(t *testing.T, o store.PutOptions) {
	t.Helper()
	const key = "refs/unconditional"
	for range 2 { // Also once the store has learnt it.
		_, err := e.Put(t.Context(), key, section("x"), o)
		isError(t, "conditional put", err, store.ErrUnsupported, key)
		e.hasNot(t, key)
	}
}

func testIfAbsent(t *testing.T, e env) {
	if e.o.NoConditions {
		e.unconditional(t, store.PutOptions{IfAbsent: true})
		return
	}
	const key = "refs/absent"
	e.put(t, key, "first", store.PutOptions{IfAbsent: true})
	e.has(t, key, "first")
	_, err := e.Put(t.Context(), key, section("second"), store.PutOptions{IfAbsent: true})
	isError(t, "put over another", err, store.ErrExists, key)
	e.has(t, key, "first")
	if err = e.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	e.put(t, key, "third", store.PutOptions{IfAbsent: true, Metadata: map[string]string{"a": "b"}})
	e.has(t, key, "third")
}

func testIfMatch(t *testing.T, e env) {
	if e.o.NoConditions {
		e.unconditional(t, store.PutOptions{IfMatch: "0123456789abcdef0123456789abcdef"})
		return
	}
	const key = "refs/match"
	_, err := e.Put(t.Context(), key, section("x"), store.PutOptions{IfMatch: "0123456789abcdef0123456789abcdef"})
	isError(t, "put over nothing", err, store.ErrExists, key)
	e.hasNot(t, key)
	first := e.put(t, key, "first", store.PutOptions{})
	second := e.put(t, key, "second", store.PutOptions{IfMatch: first.ETag})
	e.has(t, key, "second")
	_, err = e.Put(t.Context(), key, section("third"), store.PutOptions{IfMatch: first.ETag})
	isError(t, "put over a newer one", err, store.ErrExists, key)
	e.has(t, key, "second")
	e.put(t, key, "fourth", store.PutOptions{IfMatch: second.ETag})
	if err = e.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	_, err = e.Put(t.Context(), key, section("fifth"), store.PutOptions{IfMatch: second.ETag})
	isError(t, "put over a deleted one", err, store.ErrExists, key)
	e.hasNot(t, key)
}

// contenders is how many goroutines fight for a key.
const contenders = 8

func testIfAbsentRace(t *testing.T, e env) {
	if e.o.NoConditions || e.o.RacyConditions {
		return
	}
	const key = "refs/race"
	var won atomic.Int32
	var winner atomic.Value
	var wg sync.WaitGroup
	for i := range contenders {
		wg.Go(func() {
			data := fmt.Sprintf("contender %d", i)
			_, err := e.Put(t.Context(), key, section(data), store.PutOptions{IfAbsent: true})
			if err == nil {
				won.Add(1)
				winner.Store(data)
			} else if !errors.Is(err, store.ErrExists) {
				t.Errorf("%s: %v", data, err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d of %d created the object", won.Load(), contenders)
	}
	e.has(t, key, winner.Load().(string))
}

func testIfMatchRace(t *testing.T, e env) {
	if e.o.NoConditions || e.o.RacyConditions {
		return
	}
	// Each adds its digit to what it read, and tries again when another was quicker: no digit may be lost.
	const key = "refs/counter"
	e.put(t, key, ".", store.PutOptions{})
	add := func(digit string) error {
		for {
			rc, info, err := e.Get(t.Context(), key, store.Range{})
			if err != nil {
				return err
			}
			data, err := io.ReadAll(rc)
			if err = errors.Join(err, rc.Close()); err != nil {
				return err
			}
			_, err = e.Put(t.Context(), key, section(string(data)+digit), store.PutOptions{IfMatch: info.ETag})
			if !errors.Is(err, store.ErrExists) {
				return err
			}
		}
	}
	var wg sync.WaitGroup
	for i := range contenders {
		wg.Go(func() {
			if err := add(letter(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, _ := e.get(t, key, store.Range{})
	for i := range contenders {
		if digit := letter(i); strings.Count(got, digit) != 1 {
			t.Errorf("%q has not one %s", got, digit)
		}
	}
}

func testCancelled(t *testing.T, e env) {
	const key = "blobs/cancelled"
	e.put(t, key, "there", store.PutOptions{})
	ctx := cancelled(t)
	_, _, err := e.Get(ctx, key, store.Range{})
	isError(t, "get", err, context.Canceled, key)
	_, err = e.Stat(ctx, key)
	isError(t, "stat", err, context.Canceled, key)
	_, err = e.Put(ctx, key, section("other"), store.PutOptions{})
	isError(t, "put", err, context.Canceled, key)
	isError(t, "delete", e.Delete(ctx, key), context.Canceled, key)
	last := errors.New("nothing was yielded")
	for _, err := range e.List(ctx, "blobs/") {
		last = err
	}
	isError(t, "list", last, context.Canceled, "blobs/")
	e.has(t, key, "there")

	// In the middle of a listing too, an incomplete one is never taken for a complete one.
	e.put(t, "blobs/cancelled2", "there", store.PutOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	last = nil
	for _, err := range e.List(ctx, "blobs/") {
		cancel()
		last = err
	}
	isError(t, "list", last, context.Canceled, "blobs/")
}

func testCancelledBody(t *testing.T, e env) {
	const key = "blobs/cancelled"
	e.put(t, key, string(noise(2, 8<<20)), store.PutOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rc, _, err := e.Get(ctx, key, store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close() //nolint:errcheck // Of no interest after the cancellation.
	if _, err = io.CopyN(io.Discard, rc, 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = io.Copy(io.Discard, rc)
	isError(t, "read", err, context.Canceled, key)
}

// cancelling is a body whose reading cancels what reads it.
type cancelling struct {
	io.ReaderAt
	cancel context.CancelFunc
}

func (c cancelling) ReadAt(p []byte, off int64) (int, error) {
	c.cancel()
	return c.ReaderAt.ReadAt(p, off)
}

func testConcurrentPuts(t *testing.T, e env) {
	const key = "blobs/contended"
	bodies := make(map[string]bool)
	var wg sync.WaitGroup
	for i := range contenders {
		data := string(noise(byte(i), 100_000+i))
		bodies[data] = true
		wg.Go(func() {
			for range 4 {
				if _, err := e.Put(t.Context(), key, section(data), store.PutOptions{SHA256: digest(data)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 16 {
				rc, _, err := e.Get(t.Context(), key, store.Range{})
				if errors.Is(err, store.ErrNotFound) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				data, err := io.ReadAll(rc)
				if err = errors.Join(err, rc.Close()); err != nil {
					t.Error(err)
				}
				if !bodies[string(data)] {
					t.Errorf("%s is none of the bodies", abridged(string(data)))
				}
			}
		})
	}
	wg.Wait()
	if got, _ := e.get(t, key, store.Range{}); !bodies[got] {
		t.Errorf("%s is none of the bodies", abridged(got))
	}
}

func testConcurrentDeletes(t *testing.T, e env) {
	// Folders come and go under those who write into them.
	want := contenders
	if e.o.RacyFolders {
		e.put(t, "deep/er/still/stays", "x", store.PutOptions{})
		want++
	}
	var wg sync.WaitGroup
	for i := range contenders {
		key := fmt.Sprintf("deep/er/still/%d", i)
		wg.Go(func() {
			for range 10 {
				if _, err := e.Put(t.Context(), key, section(key), store.PutOptions{}); err != nil {
					t.Error(err)
				}
				if err := e.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
			if _, err := e.Put(t.Context(), key, section(key), store.PutOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if keys := e.keys(t, "deep/"); len(keys) != want {
		t.Errorf("%d objects, want %d: %q", len(keys), want, keys)
	}
}

func testCloseEarly(t *testing.T, e env) {
	const key = "blobs/large"
	data := string(noise(3, 4<<20))
	e.put(t, key, data, store.PutOptions{})
	for range 20 { // More often than there are connections to lose.
		rc, _, err := e.Get(t.Context(), key, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.CopyN(io.Discard, rc, 10); err != nil {
			t.Fatal(err)
		}
		if err = rc.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	e.has(t, key, data)
}

func testReadBesideReplace(t *testing.T, e env) {
	const key = "blobs/open"
	old := string(noise(4, 100_000))
	e.put(t, key, old, store.PutOptions{})
	rc, _, err := e.Get(t.Context(), key, store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	e.put(t, key, string(noise(5, 100_000)), store.PutOptions{})
	got, err := io.ReadAll(rc)
	if err = errors.Join(err, rc.Close()); err != nil {
		t.Fatal(err)
	}
	if string(got) != old {
		t.Errorf("%s, want what was there when it was opened", abridged(string(got)))
	}
}

// letter is one of the alphabet, by its place.
func letter(i int) string { return "abcdefghijklmnopqrstuvwxyz"[i : i+1] }

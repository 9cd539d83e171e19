package limitstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/limitstore"
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
		return limitstore.New(openFiles(t), 1<<40)
	})
}

func TestNoLimit(t *testing.T) {
	inner := openFiles(t)
	for _, rate := range []int64{0, -1} {
		if s := limitstore.New(inner, rate); s != inner {
			t.Errorf("a rate of %d wraps the store", rate)
		}
	}
}

func noise(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(data)
	return data
}

func section(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}

// elapsed is how long f takes by the bubble's clock, on which nothing but waiting takes time.
func elapsed(t *testing.T, f func() error) time.Duration {
	t.Helper()
	start := time.Now()
	if err := f(); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

// want compares a time to what moving so many bytes must take, to the rounding of one wait for each piece.
func want(t *testing.T, what string, got time.Duration, size, rate int64) {
	t.Helper()
	exact := time.Duration(max(0, size)) * time.Second / time.Duration(rate) // what fits into what was saved up takes no time
	if diff := (got - exact).Abs(); diff > time.Millisecond {
		t.Errorf("%s: %d bytes at %d/s took %v, want %v", what, size, rate, got, exact)
	}
}

// TestRate moves bodies in every way that there is. A store that has been idle gives a twentieth of a second away; each case ends by using that up.
func TestRate(t *testing.T) {
	const size = 3 << 20
	for _, rate := range []int64{10_000, 1_000_000, 50_000_000} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			s := limitstore.New(openFiles(t), rate)
			burst := max(512, rate/20)
			data := noise(size)
			refill := func() { time.Sleep(time.Hour) } // the budget is full, whatever went before
			want(t, "put", elapsed(t, func() error {
				_, err := s.Put(ctx, "a", section(data), store.PutOptions{})
				return err
			}), size-burst, rate)
			refill()
			want(t, "put with metadata and condition", elapsed(t, func() error {
				_, err := s.Put(ctx, "b", section(data), store.PutOptions{IfAbsent: true, Metadata: map[string]string{"x": "y"}})
				return err
			}), size-burst, rate)
			refill()
			want(t, "get", elapsed(t, func() error { return fetch(ctx, s, "a", store.Range{}, data) }), size-burst, rate)
			refill()
			want(t, "get of a range", elapsed(t, func() error {
				return fetch(ctx, s, "a", store.Range{Offset: 100, Length: size / 2}, data[100:100+size/2])
			}), size/2-burst, rate)
			refill()
			parts, ok := store.As[store.Multipart](s)
			if !ok {
				t.Fatal("it takes no parts")
			}
			u, err := parts.StartUpload(ctx, "c", store.PutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want(t, "put part", elapsed(t, func() error {
				_, err := parts.PutPart(ctx, u, 1, section(data))
				return err
			}), size-burst, rate)
		})
	}
}

func fetch(ctx context.Context, s store.Store, key string, rng store.Range, want []byte) error {
	rc, _, err := s.Get(ctx, key, rng)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(rc)
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("other bytes")
	}
	return errors.Join(err, rc.Close())
}

// hashing is a store that reads a body a second time to find its digest, unless it is given, as one that signs its requests does.
type hashing struct{ store.Store }

func (h hashing) Put(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions) (store.Info, error) {
	if o.SHA256 == "" {
		if _, err := io.Copy(io.Discard, io.NewSectionReader(body, 0, body.Size())); err != nil {
			return store.Info{}, err
		}
	}
	return h.Store.Put(ctx, key, body, o)
}

// TestSentOnce counts what is sent, and not what is read.
func TestSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, rate = 1 << 20, 1_000_000
		s := limitstore.New(hashing{openFiles(t)}, rate)
		want(t, "put", elapsed(t, func() error {
			_, err := s.Put(t.Context(), "a", section(noise(size)), store.PutOptions{})
			return err
		}), size-rate/20, rate)
	})
}

// TestSharedByAll lets both directions move at once: together they keep to the rate, and none of them starves.
func TestSharedByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, rate, each = 1 << 20, 1_000_000, 8
		ctx := t.Context()
		plain := openFiles(t)
		data := noise(size)
		if _, err := plain.Put(ctx, "there", section(data), store.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		s := limitstore.New(plain, rate)
		start := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var first, last time.Duration
		for i := range each {
			move := func(f func() error) {
				wg.Go(func() {
					if err := f(); err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					last = time.Since(start)
					if first == 0 {
						first = last
					}
				})
			}
			move(func() error { return fetch(ctx, s, "there", store.Range{}, data) })
			move(func() error {
				_, err := s.Put(ctx, string(rune('a'+i)), section(data), store.PutOptions{})
				return err
			})
		}
		wg.Wait()
		want(t, "all", last, 2*each*size-rate/20, rate)
		if first < last*9/10 {
			t.Errorf("one was done after %v, the last after %v: they do not share", first, last)
		}
	})
}

// TestSmooth reads with a large buffer: bytes must come in small portions all the same, or the rate would be a matter of long pauses.
func TestSmooth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, rate = 4 << 20, 1_000_000
		ctx := t.Context()
		s := limitstore.New(openFiles(t), rate)
		if _, err := s.Put(ctx, "a", section(noise(size)), store.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		rc, _, err := s.Get(ctx, "a", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close() //nolint:errcheck // only read from
		buf := make([]byte, size)
		for last := time.Now(); ; last = time.Now() {
			n, err := rc.Read(buf)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if pause := time.Since(last); pause > 20*time.Millisecond {
				t.Fatalf("%d bytes came after %v", n, pause)
			}
		}
	})
}

// TestCancel ends waits that would last for hours.
func TestCancel(t *testing.T) {
	data := noise(1 << 20)
	for _, tc := range []struct {
		name string
		move func(ctx context.Context, s store.Store) error
	}{
		{"get", func(ctx context.Context, s store.Store) error { return fetch(ctx, s, "there", store.Range{}, data) }},
		{"put", func(ctx context.Context, s store.Store) error {
			_, err := s.Put(ctx, "a", section(data), store.PutOptions{})
			return err
		}},
		{"put part", func(ctx context.Context, s store.Store) error {
			parts, _ := store.As[store.Multipart](s)
			u, err := parts.StartUpload(ctx, "a", store.PutOptions{})
			if err != nil {
				return err
			}
			_, err = parts.PutPart(ctx, u, 1, section(data))
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plain := openFiles(t)
				if _, err := plain.Put(t.Context(), "there", section(data), store.PutOptions{}); err != nil {
					t.Fatal(err)
				}
				s := limitstore.New(plain, 100)
				for _, how := range []struct {
					done error
					with func() (context.Context, context.CancelFunc)
				}{
					{context.Canceled, func() (context.Context, context.CancelFunc) {
						ctx, cancel := context.WithCancel(t.Context())
						time.AfterFunc(time.Minute, cancel)
						return ctx, cancel
					}},
					{context.DeadlineExceeded, func() (context.Context, context.CancelFunc) {
						return context.WithTimeout(t.Context(), time.Minute)
					}},
				} {
					ctx, cancel := how.with()
					start := time.Now()
					err := tc.move(ctx, s)
					cancel()
					if took := time.Since(start); !errors.Is(err, how.done) || took != time.Minute {
						t.Errorf("after %v: %v, want %v after a minute", took, err, how.done)
					}
					if _, ok := errors.AsType[*store.Error](err); !ok {
						t.Errorf("%T is no error of a store", err)
					}
				}
			})
		})
	}
}

// TestUnwrap looks for what is below: the limit must not be gone round by an optional interface, and others must still be found.
func TestUnwrap(t *testing.T) {
	inner := &clocked{Store: openFiles(t)}
	s := limitstore.New(inner, 1000)
	parts, ok := store.As[store.Multipart](s)
	if !ok || any(parts) != any(s) {
		t.Errorf("Multipart is implemented by %T, not by %T", parts, s)
	}
	if _, ok := store.As[store.Clocked](s); !ok {
		t.Error("the clock below is not found")
	}
	if _, ok := store.As[store.Multipart](limitstore.New(plainStore{openFiles(t)}, 1000)); ok {
		t.Error("a store that takes no parts takes some")
	}
}

// clocked is a store with a clock above one that takes parts.
type clocked struct{ store.Store }

func (c *clocked) Unwrap() store.Store                    { return c.Store }
func (c *clocked) Now(context.Context) (time.Time, error) { return time.Time{}, nil }

// plainStore hides what a store can do beyond the contract.
type plainStore struct{ store.Store }

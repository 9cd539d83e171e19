// Package retrystore tries again what failed because a store was unavailable. It is the one layer that does: the stores below try once, and
// nothing above has a loop of its own.
//
// Only [store.ErrUnavailable] is tried again (but not a [store.ErrNoFolder], which no wait heals), after a wait that doubles from attempt to attempt, with jitter, or that the store asked for.
// A done context ends a wait at once. What an operation may spend counts anew whenever it has got somewhere.
//
// Callers see one operation. A body that breaks off is opened again where it broke, pinned to its ETag, so that its reader gets one unbroken
// stream of one object, or an error. A listing that breaks off is started over, and what was yielded already is passed over. A store that does not list in order, as it has to, loses
// nothing by that: its keys come as they come, after a break those from before once more.
//
// # Writes whose answer was lost
//
// An attempt that failed may have been carried out all the same. For most writes that makes no difference. Where it does:
//
//   - A conditional Put that is tried again may be refused because of itself. Then the object is read: if it has the bytes and the metadata
//     of this Put, the Put has succeeded. Writers that must know which of them came first need bodies that differ.
//   - A Complete that is tried again may find its upload gone. If the object is there with the size of the parts (and, where the store
//     names it as S3 does, their ETag), the upload has been completed.
//   - A StartUpload that is tried again may leave an upload without parts behind, for whoever sweeps the bucket.
package retrystore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Options say how patient a [Store] is. The zero value means the defaults.
type Options struct {
	MaxTries int           // attempts in a row that get nowhere; 0 means 8
	MaxWait  time.Duration // what these wait in all; 0 means 5 min
	First    time.Duration // the first wait; 0 means 500 ms
	Longest  time.Duration // what no wait exceeds, unless the store asks for it; 0 means 30 s

	// OnRetry is told of each failure that is followed by another attempt, before the wait. It may be called by many goroutines at once.
	OnRetry func(Retry)
}

// Retry is a failure that is not final.
type Retry struct {
	Op      string
	Key     string
	Attempt int           // which one failed, from 1
	Err     error         // a *store.Error
	Wait    time.Duration // until the next
}

// Store is a store that tries again. What [New] returns implements [store.Multipart] too if the store below does.
type Store struct {
	inner store.Store
	o     Options
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Unwrapper = (*Store)(nil)
	_ store.Store     = (*multipart)(nil)
	_ store.Multipart = (*multipart)(nil)
	_ store.Unwrapper = (*multipart)(nil)
	_ io.ReadCloser   = (*body)(nil)
)

// New wraps a store.
func New(inner store.Store, o Options) store.Store {
	if o.MaxTries <= 0 {
		o.MaxTries = 8
	}
	if o.MaxWait <= 0 {
		o.MaxWait = 5 * time.Minute
	}
	if o.First <= 0 {
		o.First = 500 * time.Millisecond
	}
	if o.Longest <= 0 {
		o.Longest = 30 * time.Second
	}
	s := &Store{inner: inner, o: o}
	if parts, ok := store.As[store.Multipart](inner); ok {
		return &multipart{Store: s, parts: parts}
	}
	return s
}

// Unwrap returns the store below.
func (s *Store) Unwrap() store.Store { return s.inner }

// String names the store below.
func (s *Store) String() string { return s.inner.String() }

// patience is what one operation has left to spend.
type patience struct {
	s       *Store
	op, key string
	attempt int
	waited  time.Duration
	backoff *backoff.ExponentialBackOff
}

func (s *Store) patience(op, key string) *patience {
	p := &patience{s: s, op: op, key: key}
	p.reset()
	return p
}

// reset is for an operation that has got somewhere.
func (p *patience) reset() {
	p.attempt, p.waited = 0, 0
	p.backoff = &backoff.ExponentialBackOff{
		InitialInterval: p.s.o.First, MaxInterval: p.s.o.Longest, Multiplier: 2, RandomizationFactor: backoff.DefaultRandomizationFactor,
	}
	p.backoff.Reset()
}

// wait waits after a failure and returns nil if the operation is to be tried again, else the error to end with.
func (p *patience) wait(ctx context.Context, failure error) error {
	p.attempt++
	if !errors.Is(failure, store.ErrUnavailable) || errors.Is(failure, store.ErrNoFolder) || p.attempt >= p.s.o.MaxTries {
		return failure
	}
	if ctx.Err() != nil {
		return p.cancelled(ctx)
	}
	wait := p.backoff.NextBackOff()
	var se *store.Error
	if errors.As(failure, &se) && se.RetryAfter > 0 {
		asked := time.Duration(se.RetryAfter) * time.Second
		wait = max(wait, asked+rand.N(asked/4+1)) //nolint:gosec // Jitter is no secret: all who were turned away together should not come back together.
	}
	if p.waited += wait; p.waited > p.s.o.MaxWait {
		return failure
	}
	if p.s.o.OnRetry != nil {
		p.s.o.OnRetry(Retry{Op: p.op, Key: p.key, Attempt: p.attempt, Err: failure, Wait: wait})
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return p.cancelled(ctx)
	}
}

func (p *patience) cancelled(ctx context.Context) error {
	return &store.Error{Op: p.op, Key: p.key, Err: ctx.Err()}
}

// retry carries an operation out until it succeeds or its patience ends. The number it is called with is how many attempts have failed.
func retry[T any](ctx context.Context, p *patience, operation func(failed int) (T, error)) (T, error) {
	for failed := 0; ; failed++ {
		v, err := operation(failed)
		if err == nil {
			return v, nil
		}
		if err = p.wait(ctx, err); err != nil {
			var zero T
			return zero, err
		}
	}
}

// retryErr is retry for an operation without a result.
func retryErr(ctx context.Context, p *patience, operation func() error) error {
	_, err := retry(ctx, p, func(int) (struct{}, error) { return struct{}{}, operation() })
	return err
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	return retry(ctx, s.patience("stat", key), func(int) (store.Info, error) { return s.inner.Stat(ctx, key) })
}

// List yields the objects whose keys start with prefix.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		p := s.patience("list", prefix)
		last, ordered := "", true
		for {
			var failure error
			before, here := last, "" // what was yielded before this attempt, and where it is itself
			for info, err := range s.inner.List(ctx, prefix) {
				if err != nil {
					failure = err
					break
				}
				ordered = ordered && info.Key >= here
				here = info.Key
				if info.Key == last || ordered && info.Key <= before {
					continue // Yielded before.
				}
				further := info.Key > last
				last = max(last, info.Key)
				if !yield(info, nil) {
					return
				}
				if p.attempt > 0 && further {
					p.reset()
				}
			}
			if failure == nil {
				return
			}
			if failure = p.wait(ctx, failure); failure != nil {
				yield(store.Info{}, failure)
				return
			}
		}
	}
}

// Put writes an object.
func (s *Store) Put(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions) (store.Info, error) {
	return retry(ctx, s.patience("put", key), func(failed int) (store.Info, error) {
		info, err := s.inner.Put(ctx, key, body, o)
		if failed > 0 && errors.Is(err, store.ErrExists) {
			return s.ours(ctx, key, body, o, err)
		}
		return info, err
	})
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	return retryErr(ctx, s.patience("delete", key), func() error { return s.inner.Delete(ctx, key) })
}

// ours looks whether the object that a repeated conditional Put is refused for is its own, and returns the refusal if not.
func (s *Store) ours(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions, refusal error) (store.Info, error) {
	rc, info, err := s.Get(ctx, key, store.Range{})
	if errors.Is(err, store.ErrNotFound) {
		return store.Info{}, refusal
	}
	if err != nil {
		return store.Info{}, err
	}
	same := info.Size == body.Size() && holds(info.Metadata, o.Metadata)
	if same {
		same, err = equal(rc, io.NewSectionReader(body, 0, body.Size()))
	}
	_ = rc.Close() // Read to its end, or of no interest.
	switch {
	case err != nil:
		return store.Info{}, err
	case !same:
		return store.Info{}, refusal
	}
	return info, nil
}

// holds reports whether an object's metadata is what was put. A store that keeps none has none to compare.
func holds(got, want map[string]string) bool {
	if got == nil {
		return true
	}
	for name, value := range want {
		if got[name] != value {
			return false
		}
	}
	return true
}

// equal compares two streams of one length.
func equal(a, b io.Reader) (bool, error) {
	const size = 32 << 10
	bufA, bufB := make([]byte, size), make([]byte, size)
	for {
		n, err := io.ReadFull(a, bufA)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		if _, errB := io.ReadFull(b, bufB[:n]); errB != nil && n > 0 {
			return false, errB
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
		if err != nil { // both are at their end
			return true, nil //nolint:nilerr // the end is what was looked for
		}
	}
}

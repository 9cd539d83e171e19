// Package faultstore makes a store fail as a script says: the right call, the right number of times, in the way that networks and disks do.
// Without faults it is the store below, and remembers what it was asked. It is for tests.
package faultstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"sync"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Fault is what happens to some calls. Of several that match a call the first in the script happens. What a fault does happens in the order
// of its fields.
type Fault struct {
	Op    string // as in store.Error: "get", "put part", …; empty for any
	Key   string // a pattern of path.Match; empty for any
	Skip  int    // calls that pass before it happens
	Times int    // calls it happens to; 0 means 1, below 0 means all

	// Before is called first, and may wait; its error is the call's.
	Before func(ctx context.Context, call Call) error
	// Block waits until the call's context is done.
	Block bool
	// Err is the call's error. A kind of package store becomes a store.Error of that kind.
	Err error
	// Done has the call carried out before Err: the answer is lost, not the request.
	Done bool
	// Flip damages the byte at FlipAt, counted from the start of the object, in the body of a Get.
	Flip   bool
	FlipAt int64
	// Cut ends the body of a Get after CutAfter bytes, or a listing after as many elements, with Err, or ErrUnavailable if that is nil.
	Cut      bool
	CutAfter int64
}

// Call is one call of a method. The key of a listing is its prefix.
type Call struct {
	Op, Key string
	Range   store.Range // of a Get
	Number  int         // of a part
}

// Script is a queue of faults, and the calls that have been made. The zero value has none. It may be used by many goroutines at once.
type Script struct {
	mu     sync.Mutex
	faults []*Fault
	calls  []Call
}

// Add appends faults to the script.
func (s *Script) Add(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		if f.Times == 0 {
			f.Times = 1
		}
		s.faults = append(s.faults, &f)
	}
}

// Calls returns the calls of an operation, or all of them if op is empty, in order.
func (s *Script) Calls(op string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op == "" {
		return slices.Clone(s.calls)
	}
	var calls []Call
	for _, c := range s.calls {
		if c.Op == op {
			calls = append(calls, c)
		}
	}
	return calls
}

// Left returns the faults that have not happened as often as they should.
func (s *Script) Left() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []Fault
	for _, f := range s.faults {
		if f.Times > 0 {
			left = append(left, *f)
		}
	}
	return left
}

// next records a call and returns the fault that is due, nil if none is.
func (s *Script) next(c Call) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, c)
	for _, f := range s.faults {
		if f.Times == 0 || (f.Op != "" && f.Op != c.Op) {
			continue
		}
		if ok, err := path.Match(f.Key, c.Key); f.Key != "" && (err != nil || !ok) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		due := *f
		return &due
	}
	return nil
}

// Store is a store that fails as its script says. What [New] returns implements [store.Multipart] too if the store below does.
type Store struct {
	inner  store.Store
	script *Script
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Unwrapper = (*Store)(nil)
	_ store.Multipart = (*multipart)(nil)
)

// New wraps a store.
func New(inner store.Store, script *Script) store.Store {
	s := &Store{inner: inner, script: script}
	if parts, ok := store.As[store.Multipart](inner); ok {
		return &multipart{Store: s, parts: parts}
	}
	return s
}

// Unwrap returns the store below.
func (s *Store) Unwrap() store.Store { return s.inner }

// String names the store below.
func (s *Store) String() string { return s.inner.String() }

// run makes a call of the store below, unless a fault comes before.
func run[T any](ctx context.Context, s *Script, c Call, inner func() (T, error)) (T, error) {
	var none T
	f := s.next(c)
	if f == nil {
		return inner()
	}
	if err := f.before(ctx, c); err != nil {
		return none, err
	}
	if f.Err == nil {
		return inner()
	}
	if f.Done {
		if _, err := inner(); err != nil {
			return none, err
		}
	}
	return none, f.fail(c)
}

// before does what comes before a call.
func (f *Fault) before(ctx context.Context, c Call) error {
	if f.Before != nil {
		if err := f.Before(ctx, c); err != nil {
			return err
		}
	}
	if f.Block {
		<-ctx.Done()
		return &store.Error{Op: c.Op, Key: c.Key, Err: ctx.Err()}
	}
	return nil
}

// fail is the error of a call.
func (f *Fault) fail(c Call) error {
	kind := f.Err
	if kind == nil {
		kind = store.ErrUnavailable
	}
	if se, ok := errors.AsType[*store.Error](kind); ok {
		// A script's error may serve many calls.
		own := *se
		own.Op, own.Key = c.Op, c.Key
		return &own
	}
	for _, known := range []error{
		store.ErrNotFound, store.ErrExists, store.ErrDenied, store.ErrBadConfig, store.ErrUnavailable, store.ErrUnsupported, store.ErrNoSpace,
		store.ErrBadRange, store.ErrNotObject, store.ErrBadDigest,
	} {
		if errors.Is(kind, known) {
			return &store.Error{Op: c.Op, Key: c.Key, Kind: known, Err: fmt.Errorf("as scripted: %w", kind)}
		}
	}
	return &store.Error{Op: c.Op, Key: c.Key, Err: kind}
}

// Get opens an object.
func (s *Store) Get(ctx context.Context, key string, rng store.Range) (io.ReadCloser, store.Info, error) {
	c := Call{Op: "get", Key: key, Range: rng}
	f := s.script.next(c)
	if f == nil {
		return s.inner.Get(ctx, key, rng)
	}
	if err := f.before(ctx, c); err != nil {
		return nil, store.Info{}, err
	}
	if f.Err != nil && !f.Cut {
		return nil, store.Info{}, f.fail(c)
	}
	rc, info, err := s.inner.Get(ctx, key, rng)
	if err != nil {
		return nil, store.Info{}, err
	}
	return &body{ReadCloser: rc, fault: f, call: c, at: rng.Offset}, info, nil
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	return run(ctx, s.script, Call{Op: "stat", Key: key}, func() (store.Info, error) { return s.inner.Stat(ctx, key) })
}

// List yields the objects whose keys start with prefix.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return list(ctx, s.script, Call{Op: "list", Key: prefix}, s.inner.List(ctx, prefix))
}

// Put writes an object.
func (s *Store) Put(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions) (store.Info, error) {
	return run(ctx, s.script, Call{Op: "put", Key: key}, func() (store.Info, error) { return s.inner.Put(ctx, key, body, o) })
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	_, err := run(ctx, s.script, Call{Op: "delete", Key: key}, func() (struct{}, error) { return struct{}{}, s.inner.Delete(ctx, key) })
	return err
}

// list makes a listing that may break off.
func list[T any](ctx context.Context, s *Script, c Call, inner iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		f := s.next(c)
		if f != nil {
			err := f.before(ctx, c)
			if err == nil && f.Err != nil && !f.Cut {
				err = f.fail(c)
			}
			if err != nil {
				yield(none, err)
				return
			}
		}
		var count int64
		for v, err := range inner {
			if f != nil && f.Cut && count == f.CutAfter {
				yield(none, f.fail(c))
				return
			}
			if !yield(v, err) {
				return
			}
			count++
		}
		if f != nil && f.Cut && count == f.CutAfter {
			yield(none, f.fail(c))
		}
	}
}

// body is the body of a Get that is damaged or breaks off.
type body struct {
	io.ReadCloser
	fault *Fault
	call  Call
	at    int64 // offset in the object
	read  int64
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	if b.fault.Cut {
		if b.read >= b.fault.CutAfter {
			return 0, b.fault.fail(b.call)
		}
		p = p[:min(int64(len(p)), b.fault.CutAfter-b.read)]
	}
	n, err := b.ReadCloser.Read(p)
	if i := b.fault.FlipAt - b.at; b.fault.Flip && i >= 0 && i < int64(n) {
		p[i] ^= 0xff
	}
	b.at += int64(n)
	b.read += int64(n)
	return n, err
}

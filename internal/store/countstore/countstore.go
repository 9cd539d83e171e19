// Package countstore counts the requests that are made of a store, in the classes that services charge by.
//
// It counts what S3 would be asked, whatever the store below is: a listing takes one request for every thousand objects, starting and completing an upload in
// parts count as PUT. Below a layer that retries it counts every attempt. Requests that a store makes on its own account, to find out why another was refused, it
// does not see.
package countstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Counts are requests by class.
type Counts struct {
	Put    int // PUT, and the POST requests of uploads in parts
	Get    int
	Head   int
	List   int
	Delete int
}

// Of returns what has been asked of a store so far. It looks for the counting layer in the stores that it wraps; without one it is nothing.
func Of(s store.Store) Counts {
	layer, ok := store.As[interface{ made() Counts }](s)
	if !ok {
		return Counts{}
	}
	return layer.made()
}

// counter adds up.
type counter struct {
	mu     sync.Mutex
	counts Counts
}

func (c *counter) add(change func(*Counts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.counts)
}

func (c *counter) put()    { c.add(func(n *Counts) { n.Put++ }) }
func (c *counter) get()    { c.add(func(n *Counts) { n.Get++ }) }
func (c *counter) head()   { c.add(func(n *Counts) { n.Head++ }) }
func (c *counter) list()   { c.add(func(n *Counts) { n.List++ }) }
func (c *counter) delete() { c.add(func(n *Counts) { n.Delete++ }) }

// Store is a store whose requests are counted. What [New] returns implements [store.Multipart] too if the store below does.
type Store struct {
	inner store.Store
	count *counter
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Unwrapper = (*Store)(nil)
	_ store.Store     = (*multipart)(nil)
	_ store.Multipart = (*multipart)(nil)
	_ store.Unwrapper = (*multipart)(nil)
)

// New wraps a store. [Of] reads the numbers, at any time.
func New(inner store.Store) store.Store {
	s := &Store{inner: inner, count: &counter{}}
	if parts, ok := store.As[store.Multipart](inner); ok {
		return &multipart{Store: s, parts: parts}
	}
	return s
}

func (s *Store) made() Counts {
	s.count.mu.Lock()
	defer s.count.mu.Unlock()
	return s.count.counts
}

// Unwrap returns the store below.
func (s *Store) Unwrap() store.Store { return s.inner }

// String names the store below.
func (s *Store) String() string { return s.inner.String() }

// Get opens an object.
func (s *Store) Get(ctx context.Context, key string, rng store.Range) (io.ReadCloser, store.Info, error) {
	s.count.get()
	return s.inner.Get(ctx, key, rng)
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	s.count.head()
	return s.inner.Stat(ctx, key)
}

// page is how many objects one request lists (S3 API, ListObjectsV2).
const page = 1000

// pages passes a listing on and counts its requests: one at the start, and one whenever an element comes that did not fit into those before.
func pages[T any](count *counter, all iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		count.list()
		n := 0
		for element, err := range all {
			if n++; n > 1 && n%page == 1 {
				count.list()
			}
			if !yield(element, err) {
				return
			}
		}
	}
}

// List yields the objects whose keys start with prefix.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return pages(s.count, s.inner.List(ctx, prefix))
}

// Put writes an object. A store that knows by now that its service checks no conditions refuses them without a request.
func (s *Store) Put(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions) (store.Info, error) {
	info, err := s.inner.Put(ctx, key, body, o)
	if !errors.Is(err, store.ErrUnsupported) {
		s.count.put()
	}
	return info, err
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	s.count.delete()
	return s.inner.Delete(ctx, key)
}

// multipart is a Store above one that takes objects in parts.
type multipart struct {
	*Store
	parts store.Multipart
}

// StartUpload begins an upload.
func (m *multipart) StartUpload(ctx context.Context, key string, o store.PutOptions) (store.Upload, error) {
	m.count.put()
	return m.parts.StartUpload(ctx, key, o)
}

// PutPart stores one part.
func (m *multipart) PutPart(ctx context.Context, u store.Upload, number int, body *io.SectionReader) (store.Part, error) {
	m.count.put()
	return m.parts.PutPart(ctx, u, number, body)
}

// Complete makes the object of the parts.
func (m *multipart) Complete(ctx context.Context, u store.Upload, parts []store.Part) (store.Info, error) {
	m.count.put()
	return m.parts.Complete(ctx, u, parts)
}

// Abort throws the parts away.
func (m *multipart) Abort(ctx context.Context, u store.Upload) error {
	m.count.delete()
	return m.parts.Abort(ctx, u)
}

// Uploads yields the unfinished uploads whose keys start with prefix.
func (m *multipart) Uploads(ctx context.Context, prefix string) iter.Seq2[store.Upload, error] {
	return pages(m.count, m.parts.Uploads(ctx, prefix))
}

// Parts lists what an upload has.
func (m *multipart) Parts(ctx context.Context, u store.Upload) ([]store.Part, error) {
	m.count.list()
	return m.parts.Parts(ctx, u)
}

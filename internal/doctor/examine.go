package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// ProbePrefix is where the probe is written, below the bucket's prefix. The name is that of the Python tool 0.1.0.
const ProbePrefix = "_hf_cache_sync_doctor/"

// Bucket is what was found of the bucket.
type Bucket struct {
	// ListErr is why the bucket cannot be listed, or opened at all. Unless it is a plain refusal, nothing else was tried.
	ListErr error

	Probe      string // the key that was written, read and deleted
	Write      error
	Read       error // of the probe; if it could not be written, of a key that nobody has
	Delete     error
	Conditions error // what a second write of the probe on condition that it is absent came to; meaningless unless Write is nil

	Clock    time.Time // the store's; zero if it has none
	Local    time.Time // this machine's at the same moment
	ClockErr error

	Uploads    int // unfinished ones
	Oldest     time.Time
	UploadsErr error // wraps store.ErrUnsupported if there cannot be any, or none can be listed

	Refs Sample
}

// Sample is what became of some refs that were followed to their manifests.
type Sample struct {
	Followed int
	More     bool    // there are others, which were not followed
	Dangling []error // they lead to nothing
	Broken   []error // they, or their manifests, cannot be used
	Err      error   // why not all of them could be listed or asked for
}

// Exam says how a bucket is examined.
type Exam struct {
	Catalog *remote.Catalog // over a store that soon gives up
	Probe   string          // the last part of the probe's key: random, so that two doctors do not meet
	Now     func() time.Time
}

// sampleSize is how many refs are followed.
const sampleSize = 25

// cleanUp is how long deleting the probe may take when the time for everything is over.
const cleanUp = 5 * time.Second

// Examine asks the bucket what can be asked, until ctx is done; what is unanswered then has the context's error. It writes one small object and deletes it again, also if
// ctx ends meanwhile.
func (e Exam) Examine(ctx context.Context) *Bucket {
	b := &Bucket{Probe: ProbePrefix + "probe-" + e.Probe}
	for _, err := range e.Catalog.Store.List(ctx, ProbePrefix) {
		b.ListErr = err
		break
	}
	e.clock(ctx, b)
	if !b.Usable() {
		return b
	}
	var work sync.WaitGroup
	work.Go(func() { e.probe(ctx, b) })
	work.Go(func() { e.uploads(ctx, b) })
	work.Go(func() { b.Refs = e.refs(ctx) })
	work.Wait()
	return b
}

// Usable says whether it makes sense to try anything: a key may be refused a listing and still read and write.
func (b *Bucket) Usable() bool {
	err := b.ListErr
	if !errors.Is(err, store.ErrDenied) {
		return err == nil
	}
	for _, hopeless := range []error{store.ErrNoCredentials, store.ErrUnknownKey, store.ErrWrongSecret, store.ErrExpired, store.ErrClockSkew} {
		if errors.Is(err, hopeless) {
			return false
		}
	}
	return true
}

// clock asks for the time after a request was made, be it in vain: a refusal has a date too.
func (e Exam) clock(ctx context.Context, b *Bucket) {
	clocked, ok := store.As[store.Clocked](e.Catalog.Store)
	if !ok || errors.Is(b.ListErr, store.ErrUnavailable) || errors.Is(b.ListErr, store.ErrNoCredentials) || ctx.Err() != nil {
		return
	}
	b.Clock, b.ClockErr = clocked.Now(ctx)
	b.Local = e.Now()
}

func (e Exam) probe(ctx context.Context, b *Bucket) {
	s := e.Catalog.Store
	body := []byte("hf-cache-sync doctor " + e.Probe + "\n")
	put := func(body []byte, o store.PutOptions) error {
		_, err := s.Put(ctx, b.Probe, io.NewSectionReader(bytes.NewReader(body), 0, int64(len(body))), o)
		return err
	}
	if b.Write = put(body, store.PutOptions{ContentType: "text/plain"}); b.Write == nil {
		b.Read = readBack(ctx, s, b.Probe, body)
		b.Conditions = put(append(body, "once more\n"...), store.PutOptions{ContentType: "text/plain", IfAbsent: true})
	} else if b.Read = readBack(ctx, s, b.Probe, body); errors.Is(b.Read, store.ErrNotFound) {
		b.Read = nil // it was looked for
	}
	// Also after a write that failed: its answer may be all that was lost.
	if b.Write == nil || !errors.Is(b.Write, store.ErrDenied) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		b.Delete = s.Delete(ctx, b.Probe)
	}
}

func readBack(ctx context.Context, s store.Reader, key string, want []byte) (err error) {
	body, _, err := s.Get(ctx, key, store.Range{})
	if err != nil {
		return err
	}
	got, err := io.ReadAll(io.LimitReader(body, int64(len(want))+1))
	if err = errors.Join(err, body.Close()); err != nil {
		return fmt.Errorf("reading %s: %w", key, err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: %w", key, errOtherBytes)
	}
	return nil
}

var errOtherBytes = errors.New("what was read is not what was written")

func (e Exam) uploads(ctx context.Context, b *Bucket) {
	parts, ok := store.As[store.Multipart](e.Catalog.Store)
	if !ok {
		b.UploadsErr = store.ErrUnsupported
		return
	}
	if s, ok := store.As[store.WholeKeys](e.Catalog.Store); ok && s.WholeKeys() {
		b.UploadsErr = store.ErrUnsupported
		return
	}
	const most = 10_000
	for u, err := range parts.Uploads(ctx, "") {
		if err != nil {
			b.UploadsErr = err
			return
		}
		b.Uploads++
		if b.Oldest.IsZero() || u.Initiated.Before(b.Oldest) {
			b.Oldest = u.Initiated
		}
		if b.Uploads == most {
			return
		}
	}
}

func (e Exam) refs(ctx context.Context) (s Sample) {
	var objects []remote.RefObject
	for object, err := range e.Catalog.RefNames(ctx) {
		if err != nil {
			s.Err = err
			break
		}
		if s.More = len(objects) == sampleSize; s.More {
			break
		}
		objects = append(objects, object)
	}
	const atOnce = 8
	errs := make([]error, len(objects))
	var work errgroup.Group
	work.SetLimit(atOnce)
	for i, object := range objects {
		work.Go(func() error {
			_, errs[i] = e.Catalog.Follow(ctx, object)
			return nil
		})
	}
	_ = work.Wait() // it has no error of its own
	for _, err := range errs {
		_, dangling := errors.AsType[*remote.DanglingRefError](err)
		switch {
		case errors.Is(err, store.ErrNotFound): // gone since the listing
			continue
		case errors.Is(err, store.ErrUnavailable), isDenied(err), ctx.Err() != nil && err != nil: // this says nothing about the object
			s.Err = err
			continue
		case dangling:
			s.Dangling = append(s.Dangling, err)
		case err != nil:
			s.Broken = append(s.Broken, err)
		}
		s.Followed++
	}
	return s
}

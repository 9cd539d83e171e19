package retrystore

import (
	"context"
	"errors"
	"io"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Get opens an object.
func (s *Store) Get(ctx context.Context, key string, rng store.Range) (io.ReadCloser, store.Info, error) {
	p := s.patience("get", key)
	b := &body{ctx: ctx, p: p}
	info, err := retry(ctx, p, func(int) (info store.Info, err error) {
		b.rc, info, err = s.inner.Get(ctx, key, rng)
		return info, err
	})
	if err != nil {
		return nil, store.Info{}, err
	}
	b.next, b.end, b.etag = rng.Offset, info.Size, info.ETag
	if rng.Length > 0 {
		b.end = min(b.end, rng.Offset+rng.Length)
	}
	return b, info, nil
}

// goodProgress is how many bytes earn a body its patience back: fewer could keep it alive for ever.
const goodProgress = 64 << 10

// body is an object's bytes through any number of broken connections.
type body struct {
	ctx  context.Context //nolint:containedctx // io.Reader has no other way to be cancelled.
	p    *patience
	rc   io.ReadCloser // nil while broken
	next int64         // offset in the object
	end  int64
	etag string

	since  int64 // bytes since the last failure
	failed error // ends the body
}

// Read implements [io.Reader].
func (b *body) Read(buf []byte) (int, error) {
	for b.failed == nil {
		if b.rc == nil {
			b.reopen()
			continue
		}
		n, err := b.rc.Read(buf)
		b.next += int64(n)
		b.since += int64(n)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, io.EOF) && b.next >= b.end:
			b.failed = io.EOF
			return n, io.EOF
		case errors.Is(err, io.EOF):
			err = &store.Error{Op: "get", Key: b.p.key, Kind: store.ErrUnavailable, Err: io.ErrUnexpectedEOF}
		}
		b.broken(err)
		if n > 0 {
			return n, nil
		}
	}
	return 0, b.failed
}

// broken decides whether the body can go on after an error, and waits if so.
func (b *body) broken(err error) {
	_ = b.rc.Close() // It is broken already.
	b.rc = nil
	if b.etag == "" {
		b.failed = err // Nothing says whether what would follow belongs to what went before.
		return
	}
	if b.since >= goodProgress {
		b.p.reset()
	}
	b.since = 0
	b.failed = b.p.wait(b.ctx, err)
}

// reopen opens the rest of the object. Where nothing is missing but the end, there is none.
func (b *body) reopen() {
	if b.next >= b.end {
		b.failed = io.EOF
		return
	}
	rc, _, err := b.p.s.inner.Get(b.ctx, b.p.key, store.Range{Offset: b.next, Length: b.end - b.next, ETag: b.etag})
	if err != nil {
		b.failed = b.p.wait(b.ctx, err)
		return
	}
	b.rc = rc
}

// Close implements [io.Closer].
func (b *body) Close() error {
	if b.failed == nil {
		b.failed = errors.New("read after close")
	}
	if b.rc == nil {
		return nil
	}
	rc := b.rc
	b.rc = nil
	return rc.Close()
}

// Package limitstore caps the rate at which bytes go to and come from a store.
//
// All bodies share one budget, in both directions: what [store.Store.Get] reads and what Put and PutPart send. Requests without a body, such as listings, pass
// freely. Every byte of a body counts once for each time that it is sent: a Put whose digest is not known is hashed here first, without counting, because the stores
// below would otherwise read it twice and look as if they had sent it twice.
//
// A transfer gets its share in small pieces, first come, first served, so that many at once all move, and so that a connection is never silent for long. A done
// context ends a wait at once.
package limitstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"time"

	"golang.org/x/time/rate"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Store is a store with a limited rate. What [New] returns implements [store.Multipart] too if the store below does.
type Store struct {
	inner  store.Store
	budget *budget
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Unwrapper = (*Store)(nil)
	_ store.Store     = (*multipart)(nil)
	_ store.Multipart = (*multipart)(nil)
	_ store.Unwrapper = (*multipart)(nil)
	_ io.ReadCloser   = (*body)(nil)
	_ io.ReaderAt     = (*source)(nil)
)

// New wraps a store so that no more than bytesPerSecond move, over any span but for what an idle store has saved up, which is a twentieth of a second's worth.
// A rate of 0 or less is none, and gives the store itself.
func New(inner store.Store, bytesPerSecond int64) store.Store {
	if bytesPerSecond <= 0 {
		return inner
	}
	s := &Store{inner: inner, budget: newBudget(bytesPerSecond)}
	// Looked for here, and not left to store.As, which would find the one below and go round the limit.
	if parts, ok := store.As[store.Multipart](inner); ok {
		return &multipart{Store: s, parts: parts}
	}
	return s
}

// Unwrap returns the store below.
func (s *Store) Unwrap() store.Store { return s.inner }

// String names the store below.
func (s *Store) String() string { return s.inner.String() }

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	return s.inner.Stat(ctx, key)
}

// List yields the objects whose keys start with prefix.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return s.inner.List(ctx, prefix)
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error { return s.inner.Delete(ctx, key) }

// Get opens an object.
func (s *Store) Get(ctx context.Context, key string, rng store.Range) (io.ReadCloser, store.Info, error) {
	rc, info, err := s.inner.Get(ctx, key, rng)
	if err != nil {
		return nil, store.Info{}, err
	}
	return &body{ctx: ctx, budget: s.budget, key: key, rc: rc}, info, nil
}

// Put writes an object.
func (s *Store) Put(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions) (store.Info, error) {
	if o.SHA256 == "" {
		var err error
		if o.SHA256, err = digest(ctx, body); err != nil {
			return store.Info{}, &store.Error{Op: "put", Key: key, Err: err}
		}
	}
	return s.inner.Put(ctx, key, s.budget.section(ctx, body), o)
}

func digest(ctx context.Context, body *io.SectionReader) (string, error) {
	h := sha256.New()
	buf := make([]byte, min(body.Size(), 256<<10))
	for done := int64(0); done < body.Size(); {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := body.ReadAt(buf[:min(int64(len(buf)), body.Size()-done)], done)
		_, _ = h.Write(buf[:n]) // It cannot fail.
		if done += int64(n); done == body.Size() {
			break
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // a file that has become shorter
		}
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// budget is what all transfers share.
type budget struct {
	limiter *rate.Limiter
	piece   int // how many bytes are asked for at once, at most the limiter's burst
}

func newBudget(bytesPerSecond int64) *budget {
	const (
		least    = 512      // so that a tiny rate does not mean a system call for every few bytes
		most     = 64 << 10 // what the readers above and below deal in
		burst    = 20       // a twentieth of a second: what a timer that fires late may make up for
		perPiece = 100      // a hundredth of a second: 64 transfers at once all move within one
	)
	piece := max(least, min(most, bytesPerSecond/perPiece))
	return &budget{limiter: rate.NewLimiter(rate.Limit(bytesPerSecond), int(max(piece, bytesPerSecond/burst))), piece: int(piece)}
}

// spend waits until n bytes may move, at most a piece. The limiter's own Wait gives up before a deadline that it foresees, with an error that is not the context's.
func (b *budget) spend(ctx context.Context, n int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now()
	turn := b.limiter.ReserveN(now, n)
	wait := turn.DelayFrom(now)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		turn.Cancel()
		return ctx.Err()
	}
}

// section is a body whose reading is limited. What is below cannot see the file in it, and so cannot have the kernel copy it.
func (b *budget) section(ctx context.Context, body *io.SectionReader) *io.SectionReader {
	return io.NewSectionReader(&source{ctx: ctx, budget: b, r: body}, 0, body.Size())
}

// source is a body that is sent.
type source struct {
	ctx    context.Context //nolint:containedctx // io.ReaderAt has no other way to be cancelled.
	budget *budget
	r      io.ReaderAt
}

// ReadAt implements [io.ReaderAt].
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	for done := 0; ; {
		n, err := s.r.ReadAt(p[done:min(len(p), done+s.budget.piece)], off+int64(done))
		if n > 0 {
			if stopped := s.budget.spend(s.ctx, n); stopped != nil {
				return done, stopped
			}
		}
		if done += n; err != nil || done == len(p) {
			return done, err
		}
	}
}

// body is an object that is read.
type body struct {
	ctx    context.Context //nolint:containedctx // io.Reader has no other way to be cancelled.
	budget *budget
	key    string
	rc     io.ReadCloser
}

// Read implements [io.Reader]. The wait comes after the bytes, when their number is known, and before the caller asks for more.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.rc.Read(p[:min(len(p), b.budget.piece)])
	if n > 0 {
		if stopped := b.budget.spend(b.ctx, n); stopped != nil {
			return 0, &store.Error{Op: "get", Key: b.key, Err: stopped}
		}
	}
	return n, err
}

// Close implements [io.Closer].
func (b *body) Close() error { return b.rc.Close() }

// multipart is a Store above one that takes objects in parts.
type multipart struct {
	*Store
	parts store.Multipart
}

// StartUpload begins an upload.
func (m *multipart) StartUpload(ctx context.Context, key string, o store.PutOptions) (store.Upload, error) {
	return m.parts.StartUpload(ctx, key, o)
}

// PutPart stores one part.
func (m *multipart) PutPart(ctx context.Context, u store.Upload, number int, body *io.SectionReader) (store.Part, error) {
	return m.parts.PutPart(ctx, u, number, m.budget.section(ctx, body))
}

// Complete makes the object of the parts.
func (m *multipart) Complete(ctx context.Context, u store.Upload, parts []store.Part) (store.Info, error) {
	return m.parts.Complete(ctx, u, parts)
}

// Abort throws the parts away.
func (m *multipart) Abort(ctx context.Context, u store.Upload) error { return m.parts.Abort(ctx, u) }

// Uploads yields the unfinished uploads whose keys start with prefix.
func (m *multipart) Uploads(ctx context.Context, prefix string) iter.Seq2[store.Upload, error] {
	return m.parts.Uploads(ctx, prefix)
}

// Parts lists what an upload has.
func (m *multipart) Parts(ctx context.Context, u store.Upload) ([]store.Part, error) {
	return m.parts.Parts(ctx, u)
}

package filestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// copyAt copies the whole of body to f from the offset at. With a hash, the bytes go through it on the way; without one they need not come
// through this process at all.
func (s *Store) copyAt(ctx context.Context, f *os.File, at int64, body *io.SectionReader, h hash.Hash) error {
	var done int64
	if h == nil {
		var err error
		if done, err = copyInKernel(ctx, f, at, body); err != nil {
			return err
		}
	}
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	for done < body.Size() {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk := (*buf)[:min(int64(len(*buf)), body.Size()-done)]
		n, err := body.ReadAt(chunk, done)
		if n < len(chunk) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return &bodyError{fmt.Errorf("read the body at %d of %d: %w", done+int64(n), body.Size(), err)}
		}
		if h != nil {
			_, _ = h.Write(chunk) // It cannot fail.
		}
		if _, err = f.WriteAt(chunk, at+done); err != nil {
			return err
		}
		done += int64(n)
	}
	return nil
}

// copyChecked is copyAt to the start of f that insists on a digest, if one is given, and returns the one it computed for that or because
// the caller wants it.
func (s *Store) copyChecked(ctx context.Context, f *os.File, body *io.SectionReader, want string, wanted bool) (string, error) {
	if want == "" && !wanted {
		return "", s.copyAt(ctx, f, 0, body, nil)
	}
	h := sha256.New()
	if err := s.copyAt(ctx, f, 0, body, h); err != nil {
		return "", err
	}
	got := hex.EncodeToString(h.Sum(nil))
	if want != "" && got != want {
		return "", &store.Error{
			Op: "put", Kind: store.ErrBadDigest, Code: "BadDigest",
			Err: fmt.Errorf("the body has the SHA-256 %s, not %s", got, want),
		}
	}
	return got, nil
}

// bodyError is a failure of what is to be stored, not of the store: whatever it wraps, it is of no kind.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

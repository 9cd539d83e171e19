package s3store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	minio "github.com/minio/minio-go/v7"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Put writes an object in one request. A body whose digest is not given is read once to find it, because some servers take the part of
// an unsigned body that came before its connection broke for the whole.
func (s *Store) Put(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions) (store.Info, error) {
	ctx, c, err := s.begin(ctx, "put", key)
	if err != nil {
		return store.Info{}, err
	}
	c.answer = 2 * s.answer
	opts := putOptions(o)
	conditional := o.IfAbsent || o.IfMatch != ""
	switch {
	case conditional && s.noConditions.Load():
		return store.Info{}, &store.Error{Op: c.op, Key: key, Kind: store.ErrUnsupported, Err: errNoConditions}
	case o.IfAbsent:
		opts.SetMatchETagExcept("*")
	case conditional:
		opts.SetMatchETag(o.IfMatch)
	}
	if o.SHA256 == "" {
		if o.SHA256, err = digest(ctx, body); err != nil {
			return store.Info{}, s.fail(ctx, c, err)
		}
	}
	if s.checksum {
		opts.UserMetadata = withChecksum(opts.UserMetadata, o.SHA256)
	}
	src := newSource(body)
	up, err := s.core.PutObject(ctx, s.bucket, s.prefix+key, src, body.Size(), "", o.SHA256, opts)
	if bodyErr := src.end(); bodyErr != nil {
		err = bodyErr
	}
	if err != nil {
		return store.Info{}, s.failPut(ctx, c, o, err)
	}
	return store.Info{Key: key, Size: body.Size(), ETag: up.ETag, Modified: c.date, Metadata: o.Metadata}, nil
}

func digest(ctx context.Context, body *io.SectionReader) (string, error) {
	src := newSource(body)
	h := sha256.New()
	buf := make([]byte, min(256<<10, body.Size()+1))
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := src.Read(buf)
		_, _ = h.Write(buf[:n]) // It cannot fail.
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

var (
	errNoConditions     = errors.New("the service has no conditional writes")
	errMissesConditions = errors.New("the service has no conditional writes, and the configuration says that it must (storage.conditional_writes: on)")
)

// withChecksum adds the header by which a service keeps a digest beside an object (S3 API, PutObject, x-amz-checksum-sha256: base64 of the digest).
func withChecksum(headers map[string]string, digest string) map[string]string {
	raw, err := hex.DecodeString(digest)
	if err != nil {
		return headers // the service refuses the payload hash anyway
	}
	if headers == nil {
		headers = map[string]string{}
	}
	headers["x-amz-checksum-sha256"] = base64.StdEncoding.EncodeToString(raw)
	return headers
}

// failPut is fail with what a failure means for a condition, and for the checksum header.
func (s *Store) failPut(ctx context.Context, c *call, o store.PutOptions, err error) error {
	err = s.fail(ctx, c, err)
	var se *store.Error
	if !errors.As(err, &se) {
		return err
	}
	conditional := o.IfAbsent || o.IfMatch != ""
	if s.checksum && refusesChecksum(se, conditional) {
		se.Kind, se.Err = store.ErrSetting, fmt.Errorf("the service refuses checksum headers, and the configuration asks for them (storage.checksum: sha256): %w", se.Err)
		return se
	}
	if !conditional {
		return err
	}
	switch {
	case errors.Is(se.Kind, store.ErrUnsupported) && se.Code == minio.NotImplemented && s.mustCond:
		se.Kind, se.Err = store.ErrSetting, errMissesConditions
	case errors.Is(se.Kind, store.ErrUnsupported) && se.Code == minio.NotImplemented:
		s.noConditions.Store(true)
		se.Err = errNoConditions
	case errors.Is(se.Kind, store.ErrNotFound):
		se.Kind = store.ErrExists // If-Match on an object that is gone.
	}
	return se
}

// refusesChecksum says whether a service does not know the header, as against bytes that it does not fit. Services say so by 400 with many codes, and a message that names the
// header, or by 501 that names nothing.
func refusesChecksum(e *store.Error, conditional bool) bool {
	switch {
	case e.Kind != nil && !errors.Is(e.Kind, store.ErrUnsupported):
		return false
	case e.Err != nil && strings.Contains(strings.ToLower(e.Err.Error()), "checksum"):
		return true
	}
	return e.Code == minio.NotImplemented && !conditional
}

func putOptions(o store.PutOptions) minio.PutObjectOptions {
	// Over plain http the library would else sign the body chunk by chunk, ignore a digest that it is given, and spend a hash on it.
	opts := minio.PutObjectOptions{ContentType: o.ContentType, DisableContentSha256: true}
	for name, value := range o.Metadata {
		if opts.UserMetadata == nil {
			opts.UserMetadata = make(map[string]string, len(o.Metadata))
		}
		// In full, since the library would take some names for those of headers.
		opts.UserMetadata["x-amz-meta-"+name] = value
	}
	return opts
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string) error {
	ctx, c, err := s.begin(ctx, "delete", key)
	if err != nil {
		return err
	}
	err = s.core.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{})
	var resp minio.ErrorResponse
	if errors.As(err, &resp) && resp.StatusCode == http.StatusOK {
		return nil // Not the 204 that the library wants, and as good.
	}
	if err == nil {
		return nil
	}
	if err = s.fail(ctx, c, err); errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// source is a body while one request reads it. The HTTP client may go on reading after the request has failed; end stops it, so that
// the caller may reuse what is below.
type source struct {
	mu    sync.Mutex
	r     *io.SectionReader
	left  int64
	err   error
	ended bool
}

func newSource(body *io.SectionReader) *source {
	return &source{r: io.NewSectionReader(body, 0, body.Size()), left: body.Size()}
}

// Read implements [io.Reader].
func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return 0, io.ErrClosedPipe
	}
	n, err := s.r.Read(p)
	s.left -= int64(n)
	if errors.Is(err, io.EOF) && s.left > 0 {
		err = io.ErrUnexpectedEOF // A file that has become shorter.
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = &bodyError{err}
		s.err = err
	}
	return n, err
}

// end returns after the last read, with what went wrong with the body itself.
func (s *source) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return s.err
}

package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"

	minio "github.com/minio/minio-go/v7"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Get opens an object.
func (s *Store) Get(ctx context.Context, key string, rng store.Range) (io.ReadCloser, store.Info, error) {
	ctx, c, err := s.begin(ctx, "get", key)
	if err != nil {
		return nil, store.Info{}, err
	}
	var opts minio.GetObjectOptions
	ranged := rng.Offset != 0 || rng.Length != 0
	switch {
	case rng.Offset < 0 || rng.Length < 0:
		return nil, store.Info{}, &store.Error{
			Op: c.op, Key: key, Kind: store.ErrBadRange, Err: fmt.Errorf("%d bytes from %d", rng.Length, rng.Offset),
		}
	case ranged && rng.Length > 0:
		opts.Set("Range", fmt.Sprintf("bytes=%d-%d", rng.Offset, rng.Offset+rng.Length-1))
	case ranged:
		opts.Set("Range", fmt.Sprintf("bytes=%d-", rng.Offset))
	}
	var truth store.Info
	evasive := s.evasive.Load()
	switch {
	case rng.ETag != "":
		opts.Set("If-Match", `"`+rng.ETag+`"`)
	case evasive:
		// Asked before and not after: an ETag that is older than the bytes makes a write that builds on them fail, a newer one would let it undo another's.
		// A service that redirects a HEAD, too, is taken at its CDN's word.
		if truth, err = s.Stat(ctx, key); err != nil && !errors.Is(err, store.ErrWrongRegion) {
			return nil, store.Info{}, retold(err, c.op)
		}
	}
	rc, oi, header, err := s.core.GetObject(ctx, s.bucket, s.prefix+key, opts)
	if err != nil {
		return nil, store.Info{}, s.fail(ctx, c, err)
	}
	if c.redirected && !c.named && rng.ETag == "" && !evasive {
		_ = rc.Close() // Nothing is lost by it.
		s.evasive.Store(true)
		return s.Get(ctx, key, rng)
	}
	b := &body{ctx: ctx, s: s, c: c, rc: rc}
	info, err := s.openBody(ctx, b, rng, infoOf(key, oi), header)
	if err != nil {
		_ = rc.Close() // The error that matters is the first.
		return nil, store.Info{}, s.fail(ctx, c, err)
	}
	if c.redirected && truth.Key != "" {
		info.ETag, info.Modified, info.Metadata = truth.ETag, truth.Modified, truth.Metadata
	}
	return b, info, nil
}

// retold is an error of one operation as that of another that it is a part of.
func retold(err error, op string) error {
	if e, ok := errors.AsType[*store.Error](err); ok {
		other := *e
		other.Op = op
		return &other
	}
	return err
}

// openBody works out from an answer how large the object is and how much of it will come, and whether it is the object that was asked for.
func (s *Store) openBody(ctx context.Context, b *body, rng store.Range, info store.Info, header http.Header) (store.Info, error) {
	ranged := rng.Offset != 0 || rng.Length != 0
	text := header.Get("Content-Range")
	switch {
	case ranged && text != "":
		first, last, total, err := parseContentRange(text)
		if err != nil || first != rng.Offset || (rng.Length > 0 && last-first+1 > rng.Length) {
			return info, &store.Error{Op: b.c.op, Key: b.c.key, Kind: store.ErrUnsupported, Err: fmt.Errorf("the answer has the range %q", text)}
		}
		b.left, info.Size = last-first+1, total
	case rng.Offset != 0:
		return info, &store.Error{Op: b.c.op, Key: b.c.key, Kind: store.ErrUnsupported, Err: errors.New("the service ignores ranges")}
	default:
		b.left = info.Size
	}
	if info.Size < 0 || (rng.ETag != "" && info.ETag != rng.ETag && b.c.redirected) {
		// The answer does not say, or a CDN has answered with an ETag of its own: only the service knows.
		truth, err := s.Stat(ctx, b.c.key)
		if err != nil {
			return info, err
		}
		info.Size, info.ETag = truth.Size, truth.ETag
		if b.left < 0 {
			b.left = truth.Size
		}
	}
	if rng.Length > 0 {
		b.left = min(b.left, rng.Length)
	}
	if rng.ETag != "" && info.ETag != rng.ETag {
		return info, &store.Error{Op: b.c.op, Key: b.c.key, Kind: store.ErrExists, Err: errors.New("the object has been replaced")}
	}
	return info, nil
}

// parseContentRange reads "bytes first-last/total"; a total of * is -1.
func parseContentRange(text string) (first, last, total int64, err error) {
	span, size, ok := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	from, to, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, 0, errors.New("not a range")
	}
	first, err1 := parseCount(from)
	last, err2 := parseCount(to)
	total, err3 := int64(-1), error(nil)
	if size != "*" {
		total, err3 = parseCount(size)
	}
	if err = errors.Join(err1, err2, err3); err == nil && (last < first || (total >= 0 && last >= total)) {
		err = errors.New("not a range")
	}
	return first, last, total, err
}

// parseCount reads a number without a sign, which a count of bytes has not (RFC 9110, 14.4).
func parseCount(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err
}

// body is an object's bytes as they arrive. It ends without an error only after as many as were promised.
type body struct {
	ctx  context.Context //nolint:containedctx // io.Reader has no other way to tell a cancelled read from a broken one.
	s    *Store
	c    *call
	rc   io.ReadCloser
	left int64
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if err := b.ctx.Err(); err != nil { // the rest may lie in a buffer already, and would be read as if nothing had happened
		return 0, b.s.fail(b.ctx, b.c, err)
	}
	n, err := b.rc.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case err == nil || b.left == 0:
		return n, nil
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("the body ends %d bytes early: %w", b.left, io.ErrUnexpectedEOF)
	}
	return n, b.s.fail(b.ctx, b.c, err)
}

// Close implements [io.Closer].
func (b *body) Close() error { return b.rc.Close() }

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	ctx, c, err := s.begin(ctx, "stat", key)
	if err != nil {
		return store.Info{}, err
	}
	oi, err := s.core.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return store.Info{}, s.fail(ctx, c, s.why(ctx, key, err))
	}
	return infoOf(key, oi), nil
}

// why asks again, by a request whose refusal has a body, after a HEAD was refused without a reason.
func (s *Store) why(ctx context.Context, key string, head error) error {
	var resp minio.ErrorResponse
	if !errors.As(head, &resp) {
		return head
	}
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest, http.StatusForbidden:
	default:
		return head
	}
	var opts minio.GetObjectOptions
	opts.Set("Range", "bytes=0-0")
	rc, _, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+key, opts)
	var reason minio.ErrorResponse
	switch {
	case err == nil:
		_ = rc.Close() // One byte, and not what was asked for.
		return head
	case errors.As(err, &reason) && reason.StatusCode == resp.StatusCode:
		if reason.Region == "" {
			reason.Region = resp.Region
		}
		return reason
	}
	return head
}

func infoOf(key string, oi minio.ObjectInfo) store.Info {
	info := store.Info{Key: key, Size: oi.Size, ETag: oi.ETag, Modified: oi.LastModified}
	for name, value := range oi.UserMetadata {
		if info.Metadata == nil {
			info.Metadata = make(map[string]string, len(oi.UserMetadata))
		}
		info.Metadata[strings.ToLower(name)] = value
	}
	return info
}

// possible says whether a key can start with prefix. Some services (MinIO) answer an error where no key of theirs can.
func possible(op, prefix string) bool {
	folder := strings.LastIndexByte(prefix, '/')
	return folder < 0 || store.CheckKey(op, prefix[:folder]) == nil
}

// List yields the objects whose keys start with prefix, a page at a time. What a key of ours cannot name (the "folders" that some consoles
// make) is passed over.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		ctx, c, err := s.beginAny(ctx, "list", prefix)
		if err != nil {
			yield(store.Info{}, err)
			return
		}
		if !possible(c.op, prefix) {
			return
		}
		noOwner := false
		opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, FetchOwner: &noOwner}
		for oi := range s.core.ListObjectsIter(ctx, s.bucket, opts) {
			if oi.Err != nil {
				yield(store.Info{}, s.fail(ctx, c, oi.Err))
				return
			}
			key, ok := strings.CutPrefix(oi.Key, s.prefix)
			if !ok || !strings.HasPrefix(key, prefix) || store.CheckKey(c.op, key) != nil {
				continue
			}
			if !yield(store.Info{Key: key, Size: oi.Size, ETag: oi.ETag, Modified: oi.LastModified}, nil) {
				return
			}
		}
		// The library ends a cancelled listing as if it were complete.
		if err = ctx.Err(); err != nil {
			yield(store.Info{}, s.fail(ctx, c, err))
		}
	}
}

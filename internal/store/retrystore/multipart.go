package retrystore

import (
	"context"
	"crypto/md5" //nolint:gosec // The digest by which S3 names objects that were made of parts.
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// multipart is a Store above one that takes objects in parts.
type multipart struct {
	*Store
	parts store.Multipart
}

// StartUpload begins an upload.
func (m *multipart) StartUpload(ctx context.Context, key string, o store.PutOptions) (store.Upload, error) {
	return retry(ctx, m.patience("start upload", key), func(int) (store.Upload, error) { return m.parts.StartUpload(ctx, key, o) })
}

// PutPart stores one part.
func (m *multipart) PutPart(ctx context.Context, u store.Upload, number int, body *io.SectionReader) (store.Part, error) {
	return retry(ctx, m.patience("put part", u.Key), func(int) (store.Part, error) { return m.parts.PutPart(ctx, u, number, body) })
}

// Complete makes the object of the parts.
func (m *multipart) Complete(ctx context.Context, u store.Upload, parts []store.Part) (store.Info, error) {
	return retry(ctx, m.patience("complete upload", u.Key), func(failed int) (store.Info, error) {
		info, err := m.parts.Complete(ctx, u, parts)
		if failed > 0 && errors.Is(err, store.ErrNotFound) {
			return m.completed(ctx, u.Key, parts, err)
		}
		return info, err
	})
}

// completed looks whether an upload that is gone has become the object, and returns the refusal if not.
func (m *multipart) completed(ctx context.Context, key string, parts []store.Part, refusal error) (store.Info, error) {
	info, err := m.Stat(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return store.Info{}, refusal
	}
	if err != nil {
		return store.Info{}, err
	}
	var size int64
	for _, p := range parts {
		size += p.Size
	}
	want, known := etagOfParts(parts)
	digest, _, _ := strings.Cut(info.ETag, "-")
	if info.Size != size || (known && isMD5(digest) && info.ETag != want) {
		return store.Info{}, refusal
	}
	return info, nil
}

// etagOfParts is the ETag that S3 gives an object made of these parts (API reference, CompleteMultipartUpload), if theirs are MD5 digests.
func etagOfParts(parts []store.Part) (string, bool) {
	h := md5.New() //nolint:gosec // As above.
	for _, p := range parts {
		digest, err := hex.DecodeString(p.ETag)
		if err != nil || len(digest) != md5.Size {
			return "", false
		}
		_, _ = h.Write(digest) // It cannot fail.
	}
	return fmt.Sprintf("%x-%d", h.Sum(nil), len(parts)), true
}

func isMD5(text string) bool {
	digest, err := hex.DecodeString(text)
	return err == nil && len(digest) == md5.Size
}

// Abort throws the parts away.
func (m *multipart) Abort(ctx context.Context, u store.Upload) error {
	return retryErr(ctx, m.patience("abort upload", u.Key), func() error { return m.parts.Abort(ctx, u) })
}

// Uploads yields the unfinished uploads whose keys start with prefix.
func (m *multipart) Uploads(ctx context.Context, prefix string) iter.Seq2[store.Upload, error] {
	return func(yield func(store.Upload, error) bool) {
		p := m.patience("list uploads", prefix)
		seen := make(map[string]bool) // By id: uploads are few, and come in no order that all stores agree on.
		for {
			var failure error
			for u, err := range m.parts.Uploads(ctx, prefix) {
				if err != nil {
					failure = err
					break
				}
				if seen[u.ID] {
					continue
				}
				seen[u.ID] = true
				if !yield(u, nil) {
					return
				}
				if p.attempt > 0 {
					p.reset()
				}
			}
			if failure == nil {
				return
			}
			if failure = p.wait(ctx, failure); failure != nil {
				yield(store.Upload{}, failure)
				return
			}
		}
	}
}

// Parts lists what an upload has.
func (m *multipart) Parts(ctx context.Context, u store.Upload) ([]store.Part, error) {
	return retry(ctx, m.patience("list parts", u.Key), func(int) ([]store.Part, error) { return m.parts.Parts(ctx, u) })
}

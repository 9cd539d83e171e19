package s3store

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	minio "github.com/minio/minio-go/v7"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

const (
	// pageSize is the most that S3 lists at once.
	pageSize = 1000
	// mostParts is the most that S3 makes an object of.
	mostParts = 10_000
)

// StartUpload begins a multipart upload. A digest in o is not used: S3 has no word for that of a whole upload.
func (s *Store) StartUpload(ctx context.Context, key string, o store.PutOptions) (store.Upload, error) {
	ctx, c, err := s.begin(ctx, "start upload", key)
	if err != nil {
		return store.Upload{}, err
	}
	if o.IfAbsent || o.IfMatch != "" {
		return store.Upload{}, &store.Error{Op: c.op, Key: key, Kind: store.ErrUnsupported, Err: errors.New("uploads in parts take no conditions")}
	}
	id, err := s.core.NewMultipartUpload(ctx, s.bucket, s.prefix+key, putOptions(o))
	if err == nil && id == "" {
		err = &store.Error{Op: c.op, Key: key, Kind: store.ErrUnavailable, Err: errors.New("the service gave the upload no name")}
	}
	if err != nil {
		return store.Upload{}, s.fail(ctx, c, err)
	}
	return store.Upload{Key: key, ID: id, Initiated: c.date}, nil
}

// PutPart stores one part. Its payload is not signed: the caller holds the digest of the whole, and completes nothing that has another.
func (s *Store) PutPart(ctx context.Context, u store.Upload, number int, body *io.SectionReader) (store.Part, error) {
	ctx, c, err := s.begin(ctx, "put part", u.Key)
	if err != nil {
		return store.Part{}, err
	}
	if number < 1 || number > mostParts {
		return store.Part{}, &store.Error{Op: c.op, Key: u.Key, Kind: store.ErrBadConfig, Err: fmt.Errorf("there is no part %d", number)}
	}
	c.answer = 2 * s.answer
	src := newSource(body)
	p, err := s.core.PutObjectPart(ctx, s.bucket, s.prefix+u.Key, u.ID, number, src, body.Size(),
		minio.PutObjectPartOptions{DisableContentSha256: true})
	if bodyErr := src.end(); bodyErr != nil {
		err = bodyErr
	}
	if err != nil {
		return store.Part{}, s.fail(ctx, c, err)
	}
	return store.Part{Number: number, Size: body.Size(), ETag: p.ETag}, nil
}

// Complete makes the object of the parts.
func (s *Store) Complete(ctx context.Context, u store.Upload, parts []store.Part) (store.Info, error) {
	ctx, c, err := s.begin(ctx, "complete upload", u.Key)
	if err != nil {
		return store.Info{}, err
	}
	c.answer = 10 * s.answer // Some services copy the parts before they answer.
	info := store.Info{Key: u.Key}
	list := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		list[i] = minio.CompletePart{PartNumber: p.Number, ETag: p.ETag}
		info.Size += p.Size
	}
	up, err := s.core.CompleteMultipartUpload(ctx, s.bucket, s.prefix+u.Key, u.ID, list, minio.PutObjectOptions{})
	if saysNothing(err) {
		truth, statErr := s.Stat(ctx, u.Key)
		if statErr == nil && truth.Size == info.Size {
			return truth, nil
		}
		err = &store.Error{Op: c.op, Key: u.Key, Kind: store.ErrUnavailable, Err: errors.New("the service's answer says nothing")}
	}
	if err != nil {
		return store.Info{}, s.fail(ctx, c, err)
	}
	info.ETag, info.Modified = up.ETag, c.date
	return info, nil
}

// saysNothing tells an answer of status 200 that is neither the success nor the failure that the library can read, such as a success that
// does not name the bucket. The object tells what it was.
func saysNothing(err error) bool {
	if resp, ok := errors.AsType[minio.ErrorResponse](err); ok {
		return resp.Code == "" || strings.HasPrefix(resp.Code, "200")
	}
	var odd xml.UnmarshalError
	return errors.As(err, &odd)
}

// Abort throws an upload away.
func (s *Store) Abort(ctx context.Context, u store.Upload) error {
	ctx, c, err := s.begin(ctx, "abort upload", u.Key)
	if err != nil {
		return err
	}
	if err = s.core.AbortMultipartUpload(ctx, s.bucket, s.prefix+u.Key, u.ID); err == nil {
		return nil
	}
	if err = s.fail(ctx, c, err); errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// WholeKeys implements [store.WholeKeys].
func (s *Store) WholeKeys() bool { return s.wholeKeys.Load() }

// Uploads yields the unfinished uploads whose keys start with prefix.
func (s *Store) Uploads(ctx context.Context, prefix string) iter.Seq2[store.Upload, error] {
	return func(yield func(store.Upload, error) bool) {
		ctx, c, err := s.beginAny(ctx, "list uploads", prefix)
		var keyMarker, idMarker string
		for err == nil {
			var page minio.ListMultipartUploadsResult
			page, err = s.core.ListMultipartUploads(ctx, s.bucket, s.prefix+prefix, keyMarker, idMarker, "", pageSize)
			if err != nil {
				break
			}
			for _, u := range page.Uploads {
				key, ok := strings.CutPrefix(u.Key, s.prefix)
				if !ok || !strings.HasPrefix(key, prefix) || store.CheckKey(c.op, key) != nil {
					continue
				}
				if !yield(store.Upload{Key: key, ID: u.UploadID, Initiated: u.Initiated}, nil) {
					return
				}
			}
			if !page.IsTruncated || (page.NextKeyMarker == keyMarker && page.NextUploadIDMarker == idMarker) {
				return
			}
			keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker
		}
		if c != nil {
			err = s.fail(ctx, c, err)
		}
		yield(store.Upload{}, err)
	}
}

// Parts lists what an upload has.
func (s *Store) Parts(ctx context.Context, u store.Upload) ([]store.Part, error) {
	ctx, c, err := s.begin(ctx, "list parts", u.Key)
	if err != nil {
		return nil, err
	}
	var parts []store.Part
	for marker := 0; ; {
		page, err := s.core.ListObjectParts(ctx, s.bucket, s.prefix+u.Key, u.ID, marker, pageSize)
		if err != nil {
			return nil, s.fail(ctx, c, err)
		}
		if len(parts)+len(page.ObjectParts) > mostParts {
			return nil, s.fail(ctx, c, errTooMuch)
		}
		for _, p := range page.ObjectParts {
			parts = append(parts, store.Part{Number: p.PartNumber, Size: p.Size, ETag: strings.Trim(p.ETag, `"`)})
		}
		if !page.IsTruncated || page.NextPartNumberMarker <= marker {
			break
		}
		marker = page.NextPartNumberMarker
	}
	slices.SortFunc(parts, func(a, b store.Part) int { return cmp.Compare(a.Number, b.Number) })
	return parts, nil
}

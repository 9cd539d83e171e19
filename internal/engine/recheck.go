package engine

import (
	"context"
	"crypto/md5" //nolint:gosec // S3 names objects by MD5; the blob is checked by its own digest where it counts
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// errOtherETag says that a blob in the bucket is not what its key says, by the store's own word.
var errOtherETag = errors.New("the store's checksum (ETag) is that of other bytes")

// compare compares the blobs of a plan with what the store says of them. Only MD5 digests are of use, and a store whose ETags are something else says nothing. What is neither equal nor
// different stays [plan.Unproven].
func (e *Engine) compare(ctx context.Context, p *plan.Push, etags map[hub.BlobID]string) error {
	if !e.Catalog.TellsDigests() {
		return nil
	}
	e.phase("comparing blobs with the store's checksums")
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(e.workers())
	for i := range p.Blobs {
		b := &p.Blobs[i] // each goroutine has a blob of its own
		want := wantedETag(b.File.Size, etags[b.ID])
		if b.Known != plan.Unproven || want == nil {
			continue
		}
		work.Go(func() error {
			got, err := e.etag(ctx, *b, want.partSize)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				return nil //nolint:nilerr // reading it back says what is wrong with the file
			case got == want.etag:
				b.Known = plan.Present
			case want.partSize == 0:
				b.Known, b.Damage = plan.Missing, errOtherETag
			}
			return nil
		})
	}
	return work.Wait()
}

// parsedETag is an ETag that is a digest.
type parsedETag struct {
	etag     string
	partSize int64 // 0 if the object was put in one request
}

// wantedETag says how an ETag is computed from the bytes, or nil if nobody can tell. That of an object in parts is the digest of their digests, and the size of the parts has to be guessed:
// ours, and that of boto3, which the Python tool uses.
func wantedETag(size int64, etag string) *parsedETag {
	digest, count, inParts := strings.Cut(etag, "-")
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != md5.Size {
		return nil
	}
	if !inParts {
		return &parsedETag{etag: etag}
	}
	const boto3 = 8 << 20
	parts, err := strconv.ParseInt(count, 10, 32)
	for _, part := range []int64{plan.UploadPart(size), boto3} {
		if err == nil && size > 0 && (size-1)/part+1 == parts {
			return &parsedETag{etag, part}
		}
	}
	return nil
}

// etag computes the ETag that a local file has in the bucket.
func (e *Engine) etag(ctx context.Context, b plan.PushBlob, partSize int64) (string, error) {
	src, err := e.openUnchanged(b.File)
	if err != nil {
		return "", err
	}
	defer src.Close() //nolint:errcheck // only read from
	buf := e.shared().buffer()
	defer e.shared().giveBack(buf)
	sum := func(section *io.SectionReader) (hash.Hash, error) {
		h := md5.New() //nolint:gosec // see the import
		for {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			n, err := section.Read(*buf)
			_, _ = h.Write((*buf)[:n]) // never fails
			if errors.Is(err, io.EOF) {
				return h, nil
			}
			if err != nil {
				return nil, err
			}
		}
	}
	if partSize == 0 {
		h, err := sum(io.NewSectionReader(src, 0, b.File.Size))
		if err != nil {
			return "", err
		}
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	all, parts := md5.New(), 0 //nolint:gosec // see the import
	for at := int64(0); at < b.File.Size; at += partSize {
		h, err := sum(io.NewSectionReader(src, at, min(partSize, b.File.Size-at)))
		if err != nil {
			return "", err
		}
		_, _ = all.Write(h.Sum(nil)) // never fails
		parts++
	}
	return fmt.Sprintf("%x-%d", all.Sum(nil), parts), nil
}

// readBack reads the blobs of a plan of which nobody knows whether their bytes are right, and settles each: it is good, or it has to be uploaded again.
func (r *pushRun) readBack(ctx context.Context, p *plan.Push) error {
	var large, small []*plan.PushBlob
	doubtful, bytes := p.ReadBacks()
	if len(doubtful) == 0 {
		return nil
	}
	for _, b := range doubtful {
		if b.File.Size > largeBlob {
			large = append(large, b)
		} else {
			small = append(small, b)
		}
	}
	reader := &bucketRun{Engine: r.Engine, result: &BucketResult{}}
	r.emit(event.Event{Kind: event.TransferStarted, Items: len(doubtful), Bytes: bytes})
	defer r.emit(event.Event{Kind: event.TransferDone})
	both, bothCtx := errgroup.WithContext(ctx)
	each := func(blobs []*plan.PushBlob, limit int) error {
		work, ctx := errgroup.WithContext(bothCtx)
		work.SetLimit(limit)
		for _, b := range blobs {
			if ctx.Err() != nil {
				break
			}
			work.Go(func() error { return reader.settle(ctx, b) })
		}
		return work.Wait()
	}
	both.Go(func() error { return each(large, r.workers()) })
	both.Go(func() error { return each(small, r.shared().max) })
	err := both.Wait()
	if err == nil {
		err = ctx.Err()
	}
	r.count(func(res *Result) { res.ReadBack, res.ReadBackBytes = reader.result.Blobs, reader.result.Bytes })
	return err
}

// settle reads one blob back. The error is for what ends the run. A blob that cannot be read for another reason is no more use to a puller than a damaged one.
func (r *bucketRun) settle(ctx context.Context, b *plan.PushBlob) error {
	asked := plan.BucketBlob{ID: b.ID, Users: []plan.BucketUser{{Key: manifest.Key{Repo: b.Repo}, Path: b.File.Path, Size: b.File.Size}}}
	r.emit(event.Event{Kind: event.ItemStarted, Item: string(b.ID), Path: string(b.File.Path), Repo: b.Repo.String(), Bytes: b.File.Size})
	err := r.blob(ctx, asked)
	r.emit(event.Event{Kind: event.ItemDone, Item: string(b.ID), Path: string(b.File.Path), Repo: b.Repo.String(), Err: err})
	switch {
	case err == nil:
		b.Known = plan.Present
	case errors.Is(err, store.ErrNotFound):
		b.Known = plan.Missing
	case fatal(ctx, err):
		return err
	default:
		b.Known, b.Damage = plan.Missing, err
	}
	return nil
}

// alreadyThere is for an upload of a blob that vanished: somebody else may have finished it, unless the object is the one that was to be replaced.
func (r *pushRun) alreadyThere(ctx context.Context, b plan.PushBlob) bool {
	info, err := r.store().Stat(ctx, manifest.BlobKey(b.ID))
	return err == nil && info.Size == b.File.Size && b.Damage == nil
}

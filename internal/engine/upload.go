package engine

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // S3 names parts by MD5; the whole blob is checked by its own digest
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// staleUpload is the age from which on nobody will carry on with an unfinished upload. Stores charge for its parts.
const staleUpload = 7 * 24 * time.Hour

// openUnchanged opens a file of the inventory and makes sure that it is still the one that was scanned.
func (e *Engine) openUnchanged(f hfcache.File) (*os.File, error) {
	src, err := e.Cache.OpenBytes(f.Bytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", f.Bytes, ErrChanged)
	}
	if err != nil {
		return nil, err
	}
	if err := checkUnchanged(src, f); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return src, nil
}

func checkUnchanged(src *os.File, f hfcache.File) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if info.Size() != f.Size || !info.ModTime().Equal(f.ModTime) {
		return fmt.Errorf("%s: %w", f.Bytes, ErrChanged)
	}
	return nil
}

// uploadSmall moves a blob in one request. Its digest is checked before anything is sent, so nothing damaged is ever under way.
func (r *pushRun) uploadSmall(ctx context.Context, b plan.PushBlob) error {
	src, err := r.openUnchanged(b.File)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // only read from
	if err := r.shared().acquire(ctx); err != nil {
		return err
	}
	defer r.shared().release()
	buf := r.shared().buffer()
	defer r.shared().giveBack(buf)

	body := io.NewSectionReader(src, 0, b.File.Size)
	if b.File.Size <= int64(len(*buf)) {
		if _, err := io.ReadFull(src, (*buf)[:b.File.Size]); err != nil {
			return fmt.Errorf("%s: %w", b.File.Bytes, ErrChanged)
		}
		body = io.NewSectionReader(bytes.NewReader((*buf)[:b.File.Size]), 0, b.File.Size)
	}
	sum, err := r.digest(body, b, buf)
	if err != nil {
		if changed := checkUnchanged(src, b.File); changed != nil {
			return changed
		}
		return err
	}
	body, done := r.watch(b.ID, body)
	_, err = r.store().Put(ctx, manifest.BlobKey(b.ID), body, store.PutOptions{SHA256: string(sum)})
	done(err)
	failpoint.Hit("blob sent")
	return err
}

// digest checks the body against the blob's id and returns its SHA-256, by which the store checks what arrives.
func (r *pushRun) digest(body *io.SectionReader, b plan.PushBlob, buf *[]byte) (hub.BlobID, error) {
	scratch := buf
	if b.File.Size <= int64(len(*buf)) { // the buffer holds the body itself
		scratch = r.shared().buffer()
		defer r.shared().giveBack(scratch)
	}
	if b.ID.Algorithm() == hub.SHA256 {
		v := hub.NewVerifier(b.ID, b.File.Size)
		if _, err := io.CopyBuffer(v, io.NewSectionReader(body, 0, b.File.Size), *scratch); err != nil {
			return "", err
		}
		return b.ID, v.Verify()
	}
	digests, err := hub.DigestReader(io.NewSectionReader(body, 0, b.File.Size), b.File.Size, *scratch)
	if err != nil {
		return "", err
	}
	if digests.GitSHA1 != b.ID {
		return "", &hub.MismatchError{ID: b.ID, Got: string(digests.GitSHA1), WantSize: b.File.Size, GotSize: b.File.Size}
	}
	return digests.SHA256, nil
}

// unfinished finds the uploads that an earlier push left behind, by key, and throws away those that are too old to be anybody's.
func (r *pushRun) unfinished(ctx context.Context, large []plan.PushBlob) (map[string]store.Upload, error) {
	multipart, ok := store.As[store.Multipart](r.store())
	if !ok || len(large) == 0 {
		return nil, nil //nolint:nilnil // no uploads to resume is an empty map
	}
	wanted := make(map[string]bool, len(large))
	for _, b := range large {
		wanted[manifest.BlobKey(b.ID)] = true
	}
	found := map[string]store.Upload{}
	for u, err := range r.uploadsOf(ctx, multipart, wanted) {
		if errors.Is(err, store.ErrDenied) || errors.Is(err, store.ErrUnsupported) {
			return found, nil // a key that may write but not list uploads can still push, only not resume
		}
		if err != nil {
			return nil, err
		}
		switch {
		case wanted[u.Key] && u.Initiated.After(found[u.Key].Initiated):
			found[u.Key] = u
		case !wanted[u.Key] && r.Catalog.Now().Sub(u.Initiated) > staleUpload:
			if err := multipart.Abort(ctx, u); err != nil {
				r.emit(event.Event{Kind: event.Note, Text: fmt.Sprintf("an upload of %s that was never finished cannot be removed: %v", u.Key, err)})
			}
		}
	}
	return found, nil
}

// uploadsOf yields what the store tells of unfinished uploads: of all blobs, or where it tells no more, of those that are wanted.
func (r *pushRun) uploadsOf(ctx context.Context, multipart store.Multipart, wanted map[string]bool) iter.Seq2[store.Upload, error] {
	if s, ok := store.As[store.WholeKeys](r.store()); !ok || !s.WholeKeys() {
		return multipart.Uploads(ctx, manifest.BlobPrefix)
	}
	return func(yield func(store.Upload, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(wanted)) {
			for u, err := range multipart.Uploads(ctx, key) {
				if !yield(u, err) {
					return
				}
			}
		}
	}
}

// uploadLarge moves a blob in parts. What an earlier run stored is used if its digest agrees.
func (r *pushRun) uploadLarge(ctx context.Context, b plan.PushBlob, earlier store.Upload) error {
	src, err := r.openUnchanged(b.File)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // only read from
	multipart, ok := store.As[store.Multipart](r.store())
	if !ok {
		return fmt.Errorf("%s: %w: it takes no large objects", r.store(), store.ErrUnsupported)
	}
	u := &upload{pushRun: r, multipart: multipart, blob: b, src: src, partSize: plan.UploadPart(b.File.Size)}
	err = u.run(ctx, earlier)
	if errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
		// The upload vanished: somebody finished the same blob, or the store swept it. Nothing of it is lost, as the file is still here.
		if r.alreadyThere(ctx, b) {
			return nil
		}
		err = u.run(ctx, store.Upload{})
	}
	if err != nil {
		if changed := checkUnchanged(src, b.File); changed != nil {
			return changed
		}
	}
	return err
}

// upload is one large blob on its way.
type upload struct {
	*pushRun
	multipart store.Multipart
	blob      plan.PushBlob
	src       *os.File
	partSize  int64
}

func (u *upload) run(ctx context.Context, earlier store.Upload) error {
	key := manifest.BlobKey(u.blob.ID)
	target, have := earlier, map[int]store.Part{}
	if target.ID != "" {
		var err error
		if have, err = u.reusable(ctx, target); err != nil {
			return err
		}
	} else {
		var err error
		if target, err = u.multipart.StartUpload(ctx, key, store.PutOptions{}); err != nil {
			return err
		}
	}
	parts := make([]store.Part, (u.blob.File.Size+u.partSize-1)/u.partSize)
	work, workCtx := errgroup.WithContext(ctx)
	// The whole blob is hashed beside the upload, in order, out of the pages that the parts bring into memory.
	work.Go(func() error { return u.verify(workCtx) })
	work.Go(func() error { return u.parts(workCtx, target, have, parts) })
	if err := work.Wait(); err != nil {
		if _, damaged := errors.AsType[*hub.MismatchError](err); damaged {
			return errors.Join(err, u.multipart.Abort(ctx, target))
		}
		return err // the parts stay, for the next run
	}
	if err := checkUnchanged(u.src, u.blob.File); err != nil {
		return errors.Join(err, u.multipart.Abort(ctx, target))
	}
	failpoint.Hit("upload hashed")
	_, err := u.multipart.Complete(ctx, target, parts)
	failpoint.Hit("upload completed")
	return err
}

// parts stores what is missing, a few parts at once.
func (u *upload) parts(ctx context.Context, target store.Upload, have map[int]store.Part, parts []store.Part) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(u.ranges())
	for i := range parts {
		if ctx.Err() != nil {
			break
		}
		section := u.section(i)
		if part, ok := have[i+1]; ok {
			parts[i] = part
			u.emit(event.Event{Kind: event.ItemProgress, Item: string(u.blob.ID), Bytes: section.Size()})
			continue
		}
		work.Go(func() error {
			if err := u.shared().acquire(ctx); err != nil {
				return err
			}
			defer u.shared().release()
			body, done := u.watch(u.blob.ID, section)
			part, err := u.multipart.PutPart(ctx, target, i+1, body)
			parts[i] = part
			done(err)
			failpoint.Hit("part sent")
			return err
		})
	}
	return work.Wait()
}

func (u *upload) section(i int) *io.SectionReader {
	start := int64(i) * u.partSize
	return io.NewSectionReader(u.src, start, min(u.partSize, u.blob.File.Size-start))
}

func (u *upload) verify(ctx context.Context) error {
	buf := u.shared().buffer()
	defer u.shared().giveBack(buf)
	v := hub.NewVerifier(u.blob.ID, u.blob.File.Size)
	whole := io.NewSectionReader(u.src, 0, u.blob.File.Size)
	for {
		n, err := whole.Read(*buf)
		_, _ = v.Write((*buf)[:n]) // never fails
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return v.Verify()
		case err != nil:
			return err
		}
	}
}

// reusable are the parts of an earlier upload that hold what this file holds. Only stores whose part ETag is an MD5 can prove that; of others nothing is reused.
func (u *upload) reusable(ctx context.Context, target store.Upload) (map[int]store.Part, error) {
	stored, err := u.multipart.Parts(ctx, target)
	if err != nil {
		return nil, err
	}
	have := map[int]store.Part{}
	var resumed int64
	for _, part := range stored {
		i := part.Number - 1
		if i < 0 || int64(i)*u.partSize >= u.blob.File.Size {
			continue
		}
		section := u.section(i)
		if part.Size != section.Size() || ctx.Err() != nil {
			continue
		}
		sum := md5.New() //nolint:gosec // see the import
		buf := u.shared().buffer()
		_, err := io.CopyBuffer(sum, section, *buf)
		u.shared().giveBack(buf)
		if err != nil {
			return nil, err
		}
		if strings.Trim(part.ETag, `"`) == hex.EncodeToString(sum.Sum(nil)) {
			have[part.Number] = part
			resumed += part.Size
		}
	}
	u.count(func(res *Result) { res.Resumed += resumed })
	return have, ctx.Err()
}

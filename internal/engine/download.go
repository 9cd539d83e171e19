package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// tries is how often a blob is downloaded whose bytes turn out wrong: once more, as they may have been damaged on the way.
const tries = 2

// downloadSmall streams a blob through its digest into a staged file, and leaves that to be published with others.
func (r *pullRun) downloadSmall(ctx context.Context, f manifest.File) error {
	for try := 1; ; try++ {
		upstream := r.isUpstream(f)
		staged, err := r.stageSmall(ctx, f)
		switch {
		case err == nil:
			r.groups.add(pending{staged, f.Size, func(ctx context.Context, err error) error { return r.moved(ctx, f, err) }})
			return nil
		case isMismatch(err) && try < tries:
		case !upstream && r.turn(ctx, f, err):
			try = 0
		default:
			return r.finish(ctx, f, err)
		}
	}
}

func (r *pullRun) stageSmall(ctx context.Context, f manifest.File) (*hfcache.Staged, error) {
	staged, err := r.dir.Stage(f.Blob, f.Size)
	if err != nil {
		return nil, err
	}
	v := hub.NewVerifier(f.Blob, f.Size)
	if err := r.copyRange(ctx, f, store.Range{}, f.Size, func(p []byte, at int64) error {
		_, _ = v.Write(p) // never fails
		_, err := staged.WriteAt(p, at)
		return err
	}); err != nil {
		return nil, errors.Join(err, staged.Discard())
	}
	if err := v.Verify(); err != nil {
		r.emit(event.Event{Kind: event.ItemProgress, Item: string(f.Blob), Bytes: -f.Size})
		return nil, errors.Join(r.damaged(f, err), staged.Discard())
	}
	return staged, nil
}

func isMismatch(err error) bool {
	_, ok := errors.AsType[*hub.MismatchError](err)
	return ok
}

// copyRange fetches want bytes of a blob and hands them to write piece by piece, with their offsets in the blob.
func (r *pullRun) copyRange(ctx context.Context, f manifest.File, rng store.Range, want int64, write func(p []byte, at int64) error) (err error) {
	body, err := r.openRange(ctx, f, rng, want)
	if err != nil {
		return err
	}
	defer func() { err = body.close(err) }()
	buf := r.shared().buffer()
	defer r.shared().giveBack(buf)
	for body.left > 0 {
		n, err := body.read(*buf)
		if err != nil {
			return err
		}
		if err := write((*buf)[:n], body.at-int64(n)); err != nil {
			return err
		}
	}
	return nil
}

// rangeBody is a range of a blob on its way. It holds one of the requests that may be under way at once, until it is closed.
type rangeBody struct {
	run  *pullRun
	file manifest.File
	body io.ReadCloser
	at   int64 // where in the blob the next byte belongs
	got  int64 // bytes so far
	left int64 // bytes to come
}

func (r *pullRun) openRange(ctx context.Context, f manifest.File, rng store.Range, want int64) (*rangeBody, error) {
	if err := r.shared().acquire(ctx); err != nil {
		return nil, err
	}
	body, size, err := r.open(ctx, f, rng)
	if err != nil {
		r.shared().release()
		return nil, err
	}
	b := &rangeBody{run: r, file: f, body: body, at: rng.Offset, left: want}
	if size != f.Size {
		return nil, b.close(r.damaged(f, &hub.MismatchError{ID: f.Blob, WantSize: f.Size, GotSize: size}))
	}
	return b, nil
}

// read is for as long as something is left. It returns some bytes, or an error.
func (b *rangeBody) read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
		if n > 0 {
			b.at, b.got, b.left = b.at+int64(n), b.got+int64(n), b.left-int64(n)
			b.run.emit(event.Event{Kind: event.ItemProgress, Item: string(b.file.Blob), Bytes: int64(n)})
		}
		if err != nil && b.left > 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			b.run.emit(event.Event{Kind: event.ItemProgress, Item: string(b.file.Blob), Bytes: -b.got})
			return n, &store.Error{Op: "get", Key: b.run.place(b.file), Kind: store.ErrUnavailable, Err: err}
		}
		if n > 0 {
			return n, nil
		}
	}
}

// close ends the request. It returns err, or if that is nil what went wrong now.
func (b *rangeBody) close(err error) error {
	closeErr := b.body.Close()
	b.run.shared().release()
	if err == nil && closeErr != nil {
		return fmt.Errorf("%s: %w", b.run.place(b.file), closeErr)
	}
	return err
}

// downloadLarge fetches a blob in ranges at once and resumably, under the lock that other clients take for the same download.
func (r *pullRun) downloadLarge(ctx context.Context, f manifest.File) error {
	unlock, err := r.Cache.LockBlob(ctx, r.plan.Manifest.Repo, string(f.Blob), func() {
		r.emit(event.Event{
			Kind: event.Waiting, Item: string(f.Blob), Path: string(f.Path), Repo: r.plan.Manifest.Repo.String(),
			Text: fmt.Sprintf("another program is downloading %s (blob %s)", f.Path, f.Blob.Short()),
		})
	})
	if err != nil {
		return r.finish(ctx, f, err)
	}
	defer unlock()
	if r.dir.HasBlob(f.Blob, f.Size) {
		r.emit(event.Event{Kind: event.ItemProgress, Item: string(f.Blob), Bytes: f.Size})
		return r.finish(ctx, f, nil)
	}
	return r.moved(ctx, f, r.fetchLarge(ctx, f))
}

// fetchLarge brings a large blob to its final name.
func (r *pullRun) fetchLarge(ctx context.Context, f manifest.File) error {
	staged, err := r.stageLarge(ctx, f)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		upstream := r.isUpstream(f)
		err = r.tryLarge(ctx, f, staged)
		again := isMismatch(err) && try < tries
		if !again && err != nil && !upstream && r.turn(ctx, f, err) {
			again, try = true, 0 // what arrived from the bucket stays; the digest over all of it will tell
		}
		if !isMismatch(err) && !again {
			break
		}
		if isMismatch(err) {
			if resetErr := staged.Reset(); resetErr != nil {
				return errors.Join(err, resetErr, staged.Close())
			}
		}
		if !again {
			break
		}
	}
	switch {
	case isMismatch(err):
		return errors.Join(r.damaged(f, err), staged.Discard())
	case err != nil:
		return errors.Join(err, staged.Close()) // what is there stays for the next run
	}
	if err := staged.Sync(); err != nil {
		return errors.Join(err, staged.Close())
	}
	return staged.Publish()
}

// stageLarge waits while another process of ours has the staged file, which it can only where the Hub's locks do not work.
func (r *pullRun) stageLarge(ctx context.Context, f manifest.File) (*hfcache.Staged, error) {
	const poll = 200 * time.Millisecond
	for {
		staged, err := r.dir.StageResumable(f.Blob, f.Size, downloadPart, "")
		if !errors.Is(err, hfcache.ErrBusy) {
			return staged, err
		}
		timer := time.NewTimer(poll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

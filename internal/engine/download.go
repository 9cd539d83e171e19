package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
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
	if err := r.shared().acquire(ctx); err != nil {
		return err
	}
	defer r.shared().release()
	body, size, err := r.open(ctx, f, rng)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := body.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("%s: %w", r.place(f), closeErr)
		}
	}()
	if size != f.Size {
		return r.damaged(f, &hub.MismatchError{ID: f.Blob, WantSize: f.Size, GotSize: size})
	}
	buf := r.shared().buffer()
	defer r.shared().giveBack(buf)
	for done := int64(0); done < want; {
		n, err := body.Read((*buf)[:min(int64(len(*buf)), want-done)])
		if n > 0 {
			if err := write((*buf)[:n], rng.Offset+done); err != nil {
				return err
			}
			done += int64(n)
			r.emit(event.Event{Kind: event.ItemProgress, Item: string(f.Blob), Bytes: int64(n)})
		}
		if err != nil && done < want {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			r.emit(event.Event{Kind: event.ItemProgress, Item: string(f.Blob), Bytes: -done})
			return &store.Error{Op: "get", Key: r.place(f), Kind: store.ErrUnavailable, Err: err}
		}
	}
	return nil
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

// tryLarge fetches the parts that the staged file lacks and hashes all of it, in order, while they arrive.
func (r *pullRun) tryLarge(ctx context.Context, f manifest.File, staged *hfcache.Staged) error {
	parts := int((f.Size + downloadPart - 1) / downloadPart)
	arrived := make(chan int, parts)
	missing := make([]int, 0, parts)
	var resumed int64
	for i := range parts {
		if staged.Done(i) {
			arrived <- i
			resumed += partLength(f.Size, i)
		} else {
			missing = append(missing, i)
		}
	}
	if resumed > 0 {
		r.emit(event.Event{Kind: event.ItemProgress, Item: string(f.Blob), Bytes: resumed})
		r.count(func(res *Result) { res.Resumed += resumed })
	}
	hashed := make(chan int, parts)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return r.verifyLarge(ctx, f, staged, arrived, hashed) })
	work.Go(func() error { return r.fetchParts(ctx, f, staged, missing, arrived, hashed) })
	return work.Wait()
}

// fetchParts fetches the missing parts, a few at once. It gets no more than a few parts ahead of the hash: the hash is what takes longest where the network is fast, and whatever
// the downloads take from it they only have to wait for later.
func (r *pullRun) fetchParts(ctx context.Context, f manifest.File, staged *hfcache.Staged, missing []int, arrived chan<- int, hashed <-chan int) error {
	const ahead = 4
	window := r.ranges() + ahead
	ranges, ctx := errgroup.WithContext(ctx)
	ranges.SetLimit(r.ranges())
	front := 0 // parts that are hashed
	for _, i := range missing {
		for i >= front+window && ctx.Err() == nil {
			select {
			case <-hashed:
				front++
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			break
		}
		ranges.Go(func() error {
			if err := r.part(ctx, f, staged, i); err != nil {
				return err
			}
			arrived <- i // never blocks: it has room for every part
			return nil
		})
	}
	return ranges.Wait()
}

func partLength(size int64, i int) int64 { return min(downloadPart, size-int64(i)*downloadPart) }

func (r *pullRun) part(ctx context.Context, f manifest.File, staged *hfcache.Staged, i int) error {
	length := partLength(f.Size, i)
	rng := store.Range{Offset: int64(i) * downloadPart, Length: length}
	failpoint.Hit("part asked for")
	if err := r.copyRange(ctx, f, rng, length, func(p []byte, at int64) error {
		_, err := staged.WriteAt(p, at)
		return err
	}); err != nil {
		return err
	}
	return staged.MarkDone(i)
}

// verifyLarge reads the parts back in order as soon as they are there: they are still in memory, so this costs a copy and no disk. It says which it has hashed; both channels have
// room for every part.
func (r *pullRun) verifyLarge(ctx context.Context, f manifest.File, staged *hfcache.Staged, arrived <-chan int, hashed chan<- int) error {
	buf := r.shared().buffer()
	defer r.shared().giveBack(buf)
	v := hub.NewVerifier(f.Blob, f.Size)
	here := make([]bool, cap(hashed))
	for next := 0; next < len(here); {
		if !here[next] {
			select {
			case i := <-arrived:
				here[i] = true
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		section := io.NewSectionReader(staged, int64(next)*downloadPart, partLength(f.Size, next))
		if _, err := io.CopyBuffer(v, section, *buf); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		hashed <- next
		next++
	}
	err := v.Verify()
	if err != nil {
		r.emit(event.Event{Kind: event.ItemProgress, Item: string(f.Blob), Bytes: -f.Size})
	}
	return err
}

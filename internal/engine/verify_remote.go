package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// BucketFault says what is wrong with an object.
type BucketFault uint8

// What can be wrong with a blob that a manifest names.
const (
	BlobDamaged   BucketFault = iota + 1 // its bytes are not what its key says
	BlobWrongSize                        // it is not as long as a manifest says
	BlobMissing                          // it is not there
	BlobUnread                           // it could not be read
)

// String is the word for it, also in JSON.
func (f BucketFault) String() string {
	return [...]string{"", "damaged", "wrong size", "missing", "unreadable"}[f]
}

// BucketDamage is one blob of a bucket with which something is wrong.
type BucketDamage struct {
	plan.BucketBlob
	ObjectKey string
	Fault     BucketFault
	Err       error
	Repaired  bool  // a good copy was uploaded
	RepairErr error // why not; nil if it was not tried
}

// BucketResult is what reading a bucket has shown.
type BucketResult struct {
	Blobs   int   // read whole and compared
	Bytes   int64 // of them
	Damaged []BucketDamage
}

// VerifyRemote reads every blob of a plan, and says which are not what their keys and the manifests say. It changes nothing. The error is for what ends it
// early; the result is valid up to there even then.
func (e *Engine) VerifyRemote(ctx context.Context, p *plan.BucketVerify) (*BucketResult, error) {
	r := &bucketRun{Engine: e, result: &BucketResult{}}
	var large, small []plan.BucketBlob
	for _, b := range p.Blobs {
		if b.Size() > largeBlob {
			large = append(large, b)
		} else {
			small = append(small, b)
		}
	}
	e.emit(event.Event{Kind: event.TransferStarted, Items: len(p.Blobs), Bytes: p.Bytes()})
	defer e.emit(event.Event{Kind: event.TransferDone})
	work, workCtx := errgroup.WithContext(ctx)
	work.Go(func() error { return r.each(workCtx, large, e.workers()) })
	work.Go(func() error { return r.each(workCtx, small, e.shared().max) })
	err := work.Wait()
	if err == nil {
		err = ctx.Err()
	}
	slices.SortFunc(r.result.Damaged, func(a, b BucketDamage) int { return strings.Compare(a.ObjectKey, b.ObjectKey) })
	return r.result, err
}

// bucketRun is one call of VerifyRemote.
type bucketRun struct {
	*Engine

	mu     sync.Mutex // guards what follows
	result *BucketResult
}

func (r *bucketRun) each(ctx context.Context, blobs []plan.BucketBlob, limit int) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(limit)
	for _, b := range blobs {
		if ctx.Err() != nil {
			break
		}
		work.Go(func() error {
			repo, path := b.Users[0].Key.Repo.String(), string(b.Users[0].Path)
			r.emit(event.Event{Kind: event.ItemStarted, Item: string(b.ID), Path: path, Repo: repo, Bytes: b.Size()})
			err := r.blob(ctx, b)
			r.emit(event.Event{Kind: event.ItemDone, Item: string(b.ID), Path: path, Repo: repo, Err: err})
			return r.note(ctx, b, err)
		})
	}
	return work.Wait()
}

// note files what was found and returns only what ends the run.
func (r *bucketRun) note(ctx context.Context, b plan.BucketBlob, err error) error {
	d := BucketDamage{BucketBlob: b, ObjectKey: manifest.BlobKey(b.ID), Err: err}
	mismatch, isMismatch := errors.AsType[*hub.MismatchError](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotFound):
		d.Fault, d.Err = BlobMissing, errMissing
	case isMismatch && mismatch.GotSize != mismatch.WantSize:
		d.Fault = BlobWrongSize
	case isMismatch:
		d.Fault = BlobDamaged
	case fatal(ctx, err):
		return err
	default:
		d.Fault = BlobUnread
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Damaged = append(r.result.Damaged, d)
	return nil
}

// blob reads one blob, and one whose bytes are wrong once more: they may have been damaged on the way.
func (r *bucketRun) blob(ctx context.Context, b plan.BucketBlob) (err error) {
	for range tries {
		err = r.read(ctx, b)
		if mismatch, ok := errors.AsType[*hub.MismatchError](err); !ok || mismatch.GotSize != mismatch.WantSize {
			return err
		}
	}
	return err
}

// read reads a blob once. One whose size no manifest announces is known to be wrong without reading it, which would cost something.
func (r *bucketRun) read(ctx context.Context, b plan.BucketBlob) (err error) {
	if err := r.shared().acquire(ctx); err != nil {
		return err
	}
	defer r.shared().release()
	body, info, err := r.store().Get(ctx, manifest.BlobKey(b.ID), store.Range{})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := body.Close(); err == nil {
			err = closeErr
		}
	}()
	if !slices.ContainsFunc(b.Users, func(u plan.BucketUser) bool { return u.Size == info.Size }) {
		return &hub.MismatchError{ID: b.ID, WantSize: b.Size(), GotSize: info.Size}
	}
	v := hub.NewVerifier(b.ID, info.Size)
	buf := r.shared().buffer()
	defer r.shared().giveBack(buf)
	if err := r.stream(ctx, b, body, v, *buf); err != nil {
		return err
	}
	if err := v.Verify(); err != nil {
		r.emit(event.Event{Kind: event.ItemProgress, Item: string(b.ID), Bytes: -info.Size})
		return err
	}
	r.mu.Lock()
	r.result.Blobs++
	r.result.Bytes += info.Size
	r.mu.Unlock()
	for _, u := range b.Users {
		if u.Size != info.Size { // the blob is good, so this manifest is wrong
			return &hub.MismatchError{ID: b.ID, WantSize: u.Size, GotSize: info.Size}
		}
	}
	return nil
}

// Repairable says for how many of the damaged blobs the inventory may have a good copy, and where. The copies are not hashed yet.
func Repairable(found []BucketDamage, inv *hfcache.Inventory) map[hub.BlobID][]plan.PushBlob {
	copies := map[hub.BlobID][]plan.PushBlob{}
	wanted, damage := map[hub.BlobID]bool{}, map[hub.BlobID]error{}
	for _, d := range found {
		wanted[d.ID] = d.Fault != BlobUnread
		if d.Fault == BlobDamaged {
			damage[d.ID] = d.Err
		}
	}
	for _, repo := range inv.Repos {
		for _, rev := range repo.Revisions {
			for _, f := range rev.Files {
				known := slices.ContainsFunc(copies[f.ID], func(b plan.PushBlob) bool { return b.File.Bytes == f.Bytes })
				if wanted[f.ID] && !known {
					copies[f.ID] = append(copies[f.ID], plan.PushBlob{ID: f.ID, Repo: repo.ID, File: f, Known: plan.Missing, Damage: damage[f.ID]})
				}
			}
		}
	}
	return copies
}

// stream hashes a body.
func (r *bucketRun) stream(ctx context.Context, b plan.BucketBlob, body io.Reader, v *hub.Verifier, buf []byte) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := body.Read(buf)
		_, _ = v.Write(buf[:n]) // never fails
		if n > 0 {
			r.emit(event.Event{Kind: event.ItemProgress, Item: string(b.ID), Bytes: int64(n)})
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", manifest.BlobKey(b.ID), err)
		}
	}
}

// errMissing says that a blob is not there. Stores say it in many ways, and with its key.
var errMissing = fmt.Errorf("the manifest names a blob that is not in the bucket: %w", store.ErrNotFound)

// errNoCopy says that a bucket cannot be repaired from here.
var errNoCopy = errors.New("the cache has no copy of it")

// RepairRemote uploads a good copy from the cache of every blob that is damaged, of a wrong size or missing. A copy is hashed before it counts, so that nothing damaged
// replaces anything. The error is for what ends it early.
func (e *Engine) RepairRemote(ctx context.Context, found []BucketDamage, inv *hfcache.Inventory) (*Result, error) {
	copies := Repairable(found, inv)
	total := &Result{}
	for round := 0; ; round++ { // a copy can be damaged too; then the next one is tried
		p, at := &plan.Push{}, map[hub.BlobID]*BucketDamage{}
		for i := range found {
			d := &found[i]
			switch {
			case d.Repaired || d.Fault == BlobUnread:
			case round < len(copies[d.ID]):
				p.Blobs = append(p.Blobs, copies[d.ID][round])
				at[d.ID] = d
			case round == 0:
				d.RepairErr = errNoCopy
			}
		}
		if len(p.Blobs) == 0 {
			return total, nil
		}
		run := &pushRun{Engine: e, result: &Result{}, tasks: make(map[hub.BlobID]*task, len(p.Blobs))}
		for _, b := range p.Blobs {
			run.tasks[b.ID] = newTask()
		}
		uploads, bytes := p.Uploads()
		e.emit(event.Event{Kind: event.TransferStarted, Items: len(uploads), Bytes: bytes})
		err := run.upload(ctx, uploads)
		e.emit(event.Event{Kind: event.TransferDone})
		total.Blobs += run.result.Blobs
		total.Bytes += run.result.Bytes
		if err != nil {
			return total, err
		}
		for id, d := range at {
			d.RepairErr = run.tasks[id].wait(ctx)
			d.Repaired = d.RepairErr == nil
		}
	}
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

// PreparePush finds out what the bucket lacks of an inventory. It hashes only files that nothing identifies and asks the store only what the manifests
// do not tell. Files that cannot be read are taken out of the inventory and added to its problems.
func (e *Engine) PreparePush(ctx context.Context, inv *hfcache.Inventory, policy plan.PushPolicy) (*plan.Push, error) {
	buf := e.shared().buffer()
	defer e.shared().giveBack(buf)
	defer e.phase("")
	e.phase("hashing files whose digest is not known")
	var revisions []manifest.Key
	var refs []remote.RefKey
	for _, repo := range inv.Repos {
		wanted := map[hub.Commit]bool{}
		for _, rev := range repo.Revisions {
			problems, err := e.Cache.Identify(ctx, repo, rev, *buf)
			if err != nil {
				return nil, err
			}
			inv.Problems = append(inv.Problems, problems...)
			wanted[rev.Commit] = true
		}
		for _, ref := range repo.Refs {
			wanted[ref.Commit] = true // refs may name commits that only the bucket has
			refs = append(refs, remote.RefKey{Repo: repo.ID, Name: ref.Name})
		}
		for _, commit := range slices.Sorted(maps.Keys(wanted)) {
			revisions = append(revisions, manifest.Key{Repo: repo.ID, Commit: commit})
		}
	}
	e.phase("asking the bucket for manifests and refs")
	idx, err := e.Catalog.Lookup(ctx, revisions, refs)
	if err != nil {
		return nil, err
	}
	policy.Behind = e.behind(ctx)
	if keys := plan.RefsToJudge(inv, idx, policy); len(keys) > 0 {
		more, err := e.Catalog.Lookup(ctx, keys, nil)
		if err != nil {
			return nil, err
		}
		idx.Add(more)
	}
	for _, d := range plan.Disputes(inv, idx) {
		digests, err := e.Cache.Digests(ctx, *d.File, *buf)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil && d.Theirs.Matches(digests) {
			d.File.ID = d.Theirs
		}
	}
	p := plan.NewPush(inv, idx, policy)
	e.phase("asking the bucket which blobs it has")
	etags, err := e.Catalog.ETags(ctx, p.Unknown())
	if err != nil {
		return nil, err
	}
	present := make(map[hub.BlobID]bool, len(etags))
	for id := range etags {
		present[id] = true
	}
	p.Settle(present)
	if policy.Check == plan.CheckChecksums {
		return p, e.compare(ctx, p, etags)
	}
	return p, nil
}

// Push carries a plan out. With [plan.CheckBytes] it first settles in the plan which of the blobs that are there are good. The error is for what ends the whole push; the result is valid up to there even then.
func (e *Engine) Push(ctx context.Context, p *plan.Push, policy plan.PushPolicy) (*Result, error) {
	run := &pushRun{Engine: e, result: &Result{}, tasks: make(map[hub.BlobID]*task, len(p.Blobs)), merged: map[manifest.Key]*manifest.Manifest{}}
	if policy.Check == plan.CheckBytes {
		if err := run.readBack(ctx, p); err != nil {
			return run.result, err
		}
	}
	uploads, bytes := p.Uploads()
	for _, b := range p.Blobs {
		run.tasks[b.ID] = newTask()
		if b.Known != plan.Missing {
			run.tasks[b.ID].finish(nil)
		}
	}
	e.emit(event.Event{Kind: event.TransferStarted, Items: len(uploads), Bytes: bytes})
	defer e.emit(event.Event{Kind: event.TransferDone})
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return run.upload(ctx, uploads) })
	work.Go(func() error { return run.publish(ctx, p) })
	err := work.Wait()
	return run.result, err
}

// pushRun is one call of Push.
type pushRun struct {
	*Engine
	tasks map[hub.BlobID]*task

	mu     sync.Mutex // guards what follows
	result *Result
	merged map[manifest.Key]*manifest.Manifest // what the bucket has of revisions that were written
}

func (r *pushRun) count(change func(*Result)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r.result)
}

func (r *pushRun) fail(f Failure) {
	f.Harmless = f.Harmless || errors.Is(f.Err, ErrChanged)
	r.count(func(res *Result) { res.Failures = append(res.Failures, f) })
}

// upload moves the blobs: large ones by a few at once, each in several parts; small ones beside them, as many as requests are allowed.
func (r *pushRun) upload(ctx context.Context, blobs []plan.PushBlob) error {
	var large, small []plan.PushBlob
	for _, b := range blobs {
		if b.File.Size > largeBlob {
			large = append(large, b)
		} else {
			small = append(small, b)
		}
	}
	slices.SortStableFunc(large, plan.ComparePushBlobs)
	unfinished, err := r.unfinished(ctx, large)
	if err != nil {
		return err
	}
	each := func(ctx context.Context, blobs []plan.PushBlob, limit int, move func(context.Context, plan.PushBlob) error) error {
		work, ctx := errgroup.WithContext(ctx)
		work.SetLimit(limit)
		for _, b := range blobs {
			if ctx.Err() != nil {
				break
			}
			work.Go(func() error { return r.one(ctx, b, move) })
		}
		return work.Wait()
	}
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() error { return each(bothCtx, small, r.shared().max, r.uploadSmall) })
	both.Go(func() error {
		return each(bothCtx, large, r.workers(), func(ctx context.Context, b plan.PushBlob) error {
			return r.uploadLarge(ctx, b, unfinished[manifest.BlobKey(b.ID)])
		})
	})
	if err := both.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// one moves one blob, tells those who wait for it, and returns only errors that concern all.
func (r *pushRun) one(ctx context.Context, b plan.PushBlob, move func(context.Context, plan.PushBlob) error) error {
	r.emit(event.Event{Kind: event.ItemStarted, Item: string(b.ID), Path: string(b.File.Path), Repo: b.Repo.String(), Bytes: b.File.Size})
	err := move(ctx, b)
	r.emit(event.Event{Kind: event.ItemDone, Item: string(b.ID), Path: string(b.File.Path), Repo: b.Repo.String(), Err: err})
	r.tasks[b.ID].finish(err)
	if err == nil {
		r.count(func(res *Result) {
			res.Blobs++
			res.Bytes += b.File.Size
			if b.Damage != nil {
				res.Replaced++
			}
		})
		return nil
	}
	if fatal(ctx, err) {
		return err
	}
	return nil
}

// publish writes each revision's manifest as soon as its blobs are there, and each ref as soon as its revision's manifest is.
func (r *pushRun) publish(ctx context.Context, p *plan.Push) error {
	revisions := make(map[manifest.Key]*task, len(p.Revisions))
	for _, rev := range p.Revisions {
		revisions[rev.Manifest.Key()] = newTask()
	}
	work, ctx := errgroup.WithContext(ctx)
	for _, rev := range p.Revisions {
		work.Go(func() error {
			done := revisions[rev.Manifest.Key()]
			clean, err := r.revision(ctx, rev)
			switch {
			case err == nil && !clean:
				done.finish(errIncomplete)
			default:
				done.finish(err)
			}
			if err != nil && fatal(ctx, err) {
				return err
			}
			return nil
		})
	}
	for _, ref := range p.Refs {
		work.Go(func() error {
			if rev := revisions[manifest.Key{Repo: ref.Key.Repo, Commit: ref.Commit}]; rev != nil && rev.wait(ctx) != nil {
				return ctx.Err() // said about the revision already
			}
			if err := r.ref(ctx, ref); err != nil && fatal(ctx, err) {
				return err
			}
			return nil
		})
	}
	return work.Wait()
}

// errIncomplete says that a manifest was written without some of its files: good for whoever pulls the rest, but no ref may name it.
var errIncomplete = errors.New("some files are missing")

// revision waits for the blobs and writes the manifest of those that arrived. clean says that none is missing.
func (r *pushRun) revision(ctx context.Context, rev plan.PushRevision) (clean bool, err error) {
	ours := *rev.Manifest
	ours.Files = nil
	clean = true
	for _, f := range rev.Manifest.Files {
		err := r.tasks[f.Blob].wait(ctx)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			clean = false
			if !fatal(ctx, err) && !errors.Is(err, context.Canceled) { // what ends the whole push is said once, at its end
				r.fail(Failure{Key: ours.Key(), Path: f.Path, Err: err})
			}
			continue
		}
		ours.Files = append(ours.Files, f)
	}
	if len(ours.Files) == 0 && !clean {
		return false, nil
	}
	if err := r.shared().acquire(ctx); err != nil {
		return false, err
	}
	defer r.shared().release()
	if len(rev.Force) > 0 {
		known := *ours.Hub
		known.Forced, ours.Hub = map[hub.Ref]time.Time{}, &known
		for _, ref := range rev.Force {
			at := r.Catalog.StoreNow(ctx)
			if !at.After(ref.Above) {
				at = ref.Above.Add(time.Second)
			}
			known.Forced[ref.Name] = at
		}
	}
	failpoint.Hit("manifest due")
	merged, written, err := r.Catalog.PutManifest(ctx, &ours, rev.Base, r.proveBlobs)
	failpoint.Hit("manifest sent")
	if err != nil {
		r.fail(Failure{Key: ours.Key(), Err: err})
		return false, err
	}
	r.count(func(res *Result) {
		r.merged[ours.Key()] = merged
		if written {
			res.Manifests++
		}
	})
	return clean, nil
}

// proveBlobs keeps of another tool's manifest the files whose blobs really are in the bucket.
func (r *pushRun) proveBlobs(ctx context.Context, theirs *manifest.Manifest) (*manifest.Manifest, error) {
	sizes := map[hub.BlobID]int64{}
	for _, f := range theirs.Files {
		if _, ours := r.tasks[f.Blob]; !ours {
			sizes[f.Blob] = f.Size
		}
	}
	present, err := r.Catalog.Presence(ctx, sizes)
	if err != nil {
		return nil, err
	}
	proven := *theirs
	proven.Files = slices.DeleteFunc(slices.Clone(theirs.Files), func(f manifest.File) bool {
		_, asked := sizes[f.Blob]
		return asked && !present[f.Blob]
	})
	if dropped := len(theirs.Files) - len(proven.Files); dropped > 0 {
		r.emit(event.Event{Kind: event.Note, Repo: theirs.Repo.String(), Text: fmt.Sprintf(
			"%s: the bucket's manifest named %d files whose blobs were never uploaded; they are no longer listed", theirs.Key(), dropped)})
	}
	return &proven, nil
}

func (r *pushRun) ref(ctx context.Context, ref plan.PushRef) error {
	if err := r.shared().acquire(ctx); err != nil {
		return err
	}
	defer r.shared().release()
	update := remote.RefUpdate{
		Name: ref.Key.Name, Manifest: ref.Manifest, Learned: ref.Learned, Existing: ref.Existing, Old: ref.Old, Force: ref.Force, Holds: hfcache.CanHold,
	}
	key := ref.Manifest.Key()
	r.mu.Lock()
	if merged := r.merged[key]; merged != nil {
		update.Manifest = merged
	}
	r.mu.Unlock()
	put, err := r.Catalog.PutRef(ctx, update)
	failpoint.Hit("ref sent")
	switch {
	case err != nil:
		r.fail(Failure{Key: key, Ref: ref.Key.Name, Err: err})
	case put.Outcome == remote.RefWritten:
		r.count(func(res *Result) { res.Refs++ })
	case put.Outcome == remote.RefOlder || put.Outcome == remote.RefWorse:
		kept := plan.KeptRef{Key: ref.Key, Commit: ref.Commit, Kept: put.Existing.Commit, Loss: put.Loss}
		r.count(func(res *Result) { res.Kept = append(res.Kept, kept) })
	case put.Outcome == remote.RefForeign:
		r.fail(Failure{Key: key, Ref: ref.Key.Name, Err: errRefForeign})
	}
	return err
}

var errRefForeign = errors.New("its key holds the ref of another repository, written by the Python tool; --force-refs replaces it")

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// AmbiguousError reports a short commit that begins more than one.
type AmbiguousError struct {
	Prefix  string
	Commits []hub.Commit
}

// Error names the candidates.
func (e *AmbiguousError) Error() string {
	names := make([]string, len(e.Commits))
	for i, c := range e.Commits {
		names[i] = string(c)
	}
	return fmt.Sprintf("%s begins %d commits: %s", e.Prefix, len(names), strings.Join(names, ", "))
}

// CollisionError reports two paths of one commit that are one name on this file system, or of which one would be in a folder of the other's name.
type CollisionError struct {
	Key  manifest.Key
	A, B hub.Path
}

// Error names both paths.
func (e *CollisionError) Error() string {
	return fmt.Sprintf("%s: %q and %q cannot both be on this file system, which ignores case", e.Key, e.A, e.B)
}

// SpaceError says that the disk has no room for what is to be pulled.
type SpaceError struct {
	Dir        string
	Need, Free int64 // bytes
}

// Error gives both figures.
func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s has %d bytes free where %d are needed", e.Dir, e.Free, e.Need)
}

// EmptyError reports a revision of which the bucket has a manifest and not one file: somebody pushed a snapshot of which nothing could be read. It is a [remote.ErrNotFound].
type EmptyError struct{ Key manifest.Key }

// Error names the revision.
func (e *EmptyError) Error() string {
	return fmt.Sprintf("%s: the bucket has no file of revision %s", e.Key.Repo, e.Key.Commit)
}

// Unwrap is ErrNotFound.
func (*EmptyError) Unwrap() error { return remote.ErrNotFound }

// Resolve finds the commit that a revision means: nothing (the main branch), a full commit, a ref, or the beginning of one commit. The ref is set if
// the revision is one. A revision without files is an *[EmptyError].
func (e *Engine) Resolve(ctx context.Context, repo hub.Repo, revision string) (*remote.Entry, *remote.Ref, error) {
	entry, ref, err := e.resolve(ctx, repo, revision)
	if err == nil && len(entry.Files) == 0 {
		return nil, nil, &EmptyError{entry.Key()}
	}
	return entry, ref, err
}

func (e *Engine) resolve(ctx context.Context, repo hub.Repo, revision string) (*remote.Entry, *remote.Ref, error) {
	if revision == "" {
		revision = string(hub.Main)
	}
	if commit, err := hub.ParseCommit(revision); err == nil {
		entry, err := e.Catalog.Manifest(ctx, manifest.Key{Repo: repo, Commit: commit})
		return entry, nil, err
	}
	name, err := hub.ParseRef(revision)
	if err != nil {
		return nil, nil, err
	}
	ref, err := e.Catalog.Ref(ctx, repo, name)
	if err == nil {
		entry, err := e.Catalog.Manifest(ctx, manifest.Key{Repo: repo, Commit: ref.Commit})
		return entry, &ref, err
	}
	if !errors.Is(err, remote.ErrNotFound) || !hub.IsCommitPrefix(revision) {
		return nil, nil, err
	}
	commit, prefixErr := e.Catalog.FindCommit(ctx, repo, revision)
	switch {
	case prefixErr != nil:
		return nil, nil, prefixErr
	case len(commit) == 0:
		return nil, nil, err
	case len(commit) > 1:
		return nil, nil, &AmbiguousError{revision, commit}
	}
	entry, err := e.Catalog.Manifest(ctx, manifest.Key{Repo: repo, Commit: commit[0]})
	return entry, nil, err
}

// PreparePull finds out what the cache lacks of one revision of the bucket. It changes nothing. Without a cache everything is lacking.
func (e *Engine) PreparePull(ctx context.Context, repo hub.Repo, revision string, policy plan.PullPolicy) (*plan.Pull, error) {
	defer e.phase("")
	e.phase("asking the bucket for " + repo.String())
	t, err := e.find(ctx, repo, revision, policy)
	if err != nil {
		return nil, err
	}
	refs, err := e.refsTo(ctx, repo, t)
	if err != nil {
		return nil, err
	}
	var local *hfcache.Repo
	if e.Cache != nil {
		e.phase("scanning " + repo.String() + " in the cache")
		inv, err := e.Cache.Scan(ctx, func(r hub.Repo) bool { return r == repo })
		if err != nil {
			return nil, err
		}
		local = inv.Repo(repo)
	}
	known := map[hub.Commit]*manifest.Manifest{}
	if !t.alone {
		policy.Behind = e.behind(ctx)
		for _, commit := range plan.LocalRefsToJudge(t.manifest, refs, local, policy) {
			switch entry, err := e.Catalog.Manifest(ctx, manifest.Key{Repo: repo, Commit: commit}); {
			case err == nil:
				known[commit] = entry.Manifest
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case fatal(ctx, err) && e.Upstream == nil:
				return nil, err
			}
		}
	}
	p := plan.NewPull(t.manifest, refs, local, known, policy)
	p.Upstream, p.Alone = t.upstream, t.alone
	if t.asked != nil {
		p.Asked, p.AskedHub = t.asked.Name, t.asked.FromHub
	}
	return p, nil
}

// refsTo are the refs that the snapshot is to be found by: the one that was asked for, and every other of the bucket that names the commit. A snapshot without
// any would be the first that "hf cache prune" deletes.
func (e *Engine) refsTo(ctx context.Context, repo hub.Repo, t *target) ([]remote.Ref, error) {
	asked, commit := t.asked, t.manifest.Commit
	var all []remote.Ref
	if !t.alone {
		var known []remote.Ref
		if asked != nil {
			known = append(known, *asked)
		}
		var broken []error
		var err error
		all, broken, err = e.Catalog.Refs(ctx, repo, known...)
		if err != nil && (ctx.Err() != nil || !errors.Is(err, store.ErrDenied)) {
			return nil, err
		}
		e.noteBroken(repo, broken)
	}
	var refs []remote.Ref
	if asked != nil {
		refs = append(refs, *asked)
	}
	for _, ref := range all {
		if ref.Commit == commit && (asked == nil || ref.Name != asked.Name) {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

func (e *Engine) noteBroken(repo hub.Repo, broken []error) {
	for _, err := range broken {
		e.emit(event.Event{Kind: event.Note, Repo: repo.String(), Text: "a ref in the bucket is left out: " + err.Error()})
	}
}

// Pull carries a plan out. The error is for what ends the whole pull; the result is valid up to there even then.
func (e *Engine) Pull(ctx context.Context, p *plan.Pull) (result *Result, err error) {
	result = &Result{}
	if err := e.CheckPull(p, "", 0); err != nil {
		return result, err
	}
	if e.Cache.CaseInsensitive() {
		if a, b, collide := plan.CaseCollision(p.Files); collide {
			return result, &CollisionError{p.Manifest.Key(), a, b}
		}
	}
	dir, err := e.Cache.RepoDir(p.Manifest.Repo)
	if err != nil {
		return result, err
	}
	defer func() {
		if closeErr := dir.Close(); err == nil {
			err = closeErr
		}
	}()
	run := &pullRun{Engine: e, dir: dir, plan: p, result: result, failed: map[hub.BlobID]error{}, turned: map[hub.BlobID]bool{}}
	e.emit(event.Event{Kind: event.TransferStarted, Items: len(p.Blobs), Bytes: p.Bytes()})
	defer e.emit(event.Event{Kind: event.TransferDone})
	if err := run.fetch(ctx); err != nil {
		return result, err
	}
	return result, run.publish(ctx)
}

// pullRun is one call of Pull.
type pullRun struct {
	*Engine
	dir    *hfcache.RepoDir
	plan   *plan.Pull
	groups *grouper
	herd   *herd // nil if nobody is to be waited for
	places map[hub.BlobID][]string

	mu     sync.Mutex // guards what follows
	result *Result
	failed map[hub.BlobID]error
	turned map[hub.BlobID]bool // blobs that the bucket could not give, so that they come from the Hub
	down   bool                // the bucket does not answer, so that everything does
}

func (r *pullRun) count(change func(*Result)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r.result)
}

// fetch brings every missing blob into blobs/.
func (r *pullRun) fetch(ctx context.Context) error {
	if len(r.plan.Blobs) == 0 {
		return nil
	}
	places, err := r.Cache.BlobPlaces(ctx)
	if err != nil {
		return err
	}
	r.places = places
	if r.herd = r.join(ctx); r.herd != nil {
		defer r.herd.leave(ctx)
	}
	var large, small []manifest.File
	for _, f := range r.plan.Blobs {
		if f.Size > largeBlob {
			large = append(large, f)
		} else {
			small = append(small, f)
		}
	}
	slices.SortStableFunc(large, func(a, b manifest.File) int { return int(min(1, max(-1, b.Size-a.Size))) })
	work, workCtx := errgroup.WithContext(ctx)
	work.Go(func() error { return r.each(workCtx, large, r.workers(), r.downloadLarge) })
	work.Go(func() error { return r.fetchSmall(workCtx, small) })
	if err := work.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// fetchSmall downloads many blobs at once and publishes them in groups.
func (r *pullRun) fetchSmall(ctx context.Context, blobs []manifest.File) error {
	r.groups = newGrouper(r.dir)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return r.groups.run(ctx) })
	work.Go(func() error {
		defer r.groups.close()
		return r.each(ctx, blobs, r.shared().max, r.downloadSmall)
	})
	return work.Wait()
}

func (r *pullRun) each(ctx context.Context, blobs []manifest.File, limit int, move func(context.Context, manifest.File) error) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(limit)
	for _, f := range blobs {
		if ctx.Err() != nil {
			break
		}
		work.Go(func() error {
			r.emit(event.Event{Kind: event.ItemStarted, Item: string(f.Blob), Path: string(f.Path), Repo: r.plan.Manifest.Repo.String(), Bytes: f.Size})
			reused, err := r.reuse(ctx, f)
			if reused || err != nil {
				return r.finish(ctx, f, err)
			}
			if r.herd != nil {
				if err := r.herd.await(ctx, f); err != nil {
					return r.finish(ctx, f, err)
				}
			}
			return move(ctx, f)
		})
	}
	return work.Wait()
}

// finish says what became of a blob and returns only errors that concern all.
func (r *pullRun) finish(ctx context.Context, f manifest.File, err error) error {
	r.emit(event.Event{Kind: event.ItemDone, Item: string(f.Blob), Path: string(f.Path), Repo: r.plan.Manifest.Repo.String(), Err: err})
	if err == nil {
		return nil
	}
	if r.herd != nil {
		r.herd.given(f.Blob)
	}
	if fatalLocal(ctx, err) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed[f.Blob] = err
	return nil
}

// moved is finish for a blob that was downloaded.
func (r *pullRun) moved(ctx context.Context, f manifest.File, err error) error {
	if err == nil {
		upstream := r.isUpstream(f)
		r.count(func(res *Result) {
			res.Blobs++
			res.Bytes += f.Size
			if upstream {
				res.UpstreamBlobs++
				res.UpstreamBytes += f.Size
			}
		})
		if upstream && r.herd != nil {
			r.herd.share(f)
		}
	}
	return r.finish(ctx, f, err)
}

// reuse takes the blob from another repository of the cache, if one has it and its bytes are right.
func (r *pullRun) reuse(ctx context.Context, f manifest.File) (bool, error) {
	for _, place := range r.places[f.Blob] {
		source, size, err := r.Cache.Resolve(place)
		if err != nil || size != f.Size {
			continue
		}
		buf := r.shared().buffer()
		err = r.dir.CloneFrom(ctx, source, f.Blob, f.Size, *buf)
		r.shared().giveBack(buf)
		switch {
		case err == nil:
			r.emit(event.Event{Kind: event.ItemProgress, Item: string(f.Blob), Bytes: f.Size})
			r.count(func(res *Result) { res.Reused++ })
			return true, nil
		case fatalLocal(ctx, err):
			return false, err
		}
	}
	return false, nil
}

// publish makes the blobs visible as a snapshot. Refs come last, and only if nothing that they promise is missing.
func (r *pullRun) publish(ctx context.Context) error {
	m := r.plan.Manifest
	failpoint.Hit("blobs there")
	if err := r.dir.MakeSnapshot(m.Commit); err != nil {
		return err
	}
	for _, f := range r.plan.Files {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := r.link(f); err != nil {
			if fatalLocal(ctx, err) {
				return err
			}
			r.result.Failures = append(r.result.Failures, Failure{Key: m.Key(), Path: f.Path, Err: err})
		}
	}
	failpoint.Hit("links there")
	if m.Hub != nil {
		if m.Hub.Tree != nil {
			if err := r.dir.WriteTree(m.Commit, m.Hub.Tree); errors.Is(err, hfcache.ErrTreeConflict) {
				r.result.Failures = append(r.result.Failures, Failure{Key: m.Key(), Err: err})
			} else if err != nil {
				return err
			}
		}
		if err := r.dir.WriteNoExist(m.Commit, m.Hub.NoExist); err != nil {
			return err
		}
	}
	whole := len(r.result.Failures) == 0
	if err := r.cleanRefs(ctx); err != nil || !whole {
		return err
	}
	for _, ref := range r.plan.Refs {
		if err := r.dir.WriteRef(ref.Name, ref.Commit, ref.Learned); err != nil {
			if fatalLocal(ctx, err) {
				return err
			}
			r.result.Failures = append(r.result.Failures, Failure{Key: m.Key(), Ref: ref.Name, Err: err})
			continue
		}
		r.result.Refs++
	}
	return nil
}

// cleanRefs repairs local refs that name the right commit in a way that clients cannot read.
func (r *pullRun) cleanRefs(ctx context.Context) error {
	for _, name := range r.plan.Unclean {
		if err := r.dir.CleanRef(name); err != nil {
			if fatalLocal(ctx, err) {
				return err
			}
			r.result.Failures = append(r.result.Failures, Failure{Key: r.plan.Manifest.Key(), Ref: name, Err: err})
		}
	}
	return nil
}

func (r *pullRun) link(f manifest.File) error {
	if err := r.failed[f.Blob]; err != nil {
		return err
	}
	state, err := r.dir.Link(r.plan.Manifest.Commit, f.Path, f.Blob, f.Size)
	if err == nil && state == hfcache.Linked {
		r.result.Linked++
	}
	return err
}

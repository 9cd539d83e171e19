package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Upstream is where everything in the bucket comes from in the end: the Hub. All methods may be called concurrently.
type Upstream interface {
	// Revision finds the commit that a revision means, and lists all of its files.
	Revision(ctx context.Context, repo hub.Repo, revision string) (*UpstreamRevision, error)
	// Open streams a range of a file, and says how many bytes all of the file has. The bytes are not verified.
	Open(ctx context.Context, repo hub.Repo, commit hub.Commit, path hub.Path, rng store.Range) (body io.ReadCloser, size int64, err error)
}

// UpstreamDownError is what an [Upstream] returns when every other request would fail likewise.
type UpstreamDownError struct{ Err error }

// Error is the cause.
func (e *UpstreamDownError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *UpstreamDownError) Unwrap() error { return e.Err }

// UpstreamRevision is a commit as the Hub knows it.
type UpstreamRevision struct {
	Commit hub.Commit
	Ref    hub.Ref // what was asked for, if it is the name of a branch, a tag or a pull request
	Tree   manifest.Tree
}

// manifest is the commit in the bucket's words.
func (u *UpstreamRevision) manifest(repo hub.Repo) (*manifest.Manifest, error) {
	m := &manifest.Manifest{Repo: repo, Commit: u.Commit, Hub: &manifest.Hub{Tree: u.Tree}}
	for path, entry := range u.Tree {
		if id := entry.ID(); id != "" {
			m.Files = append(m.Files, manifest.File{Path: path, Blob: id, Size: entry.Size})
		}
	}
	return m, m.Check()
}

// target is a revision that is to be pulled.
type target struct {
	manifest *manifest.Manifest
	asked    *remote.Ref
	upstream map[hub.BlobID]bool // blobs that the bucket does not name
	alone    bool                // the bucket could not be asked for anything
}

// find looks for a revision in the bucket and, as far as the policy and the bucket's answers ask for it, upstream.
func (e *Engine) find(ctx context.Context, repo hub.Repo, revision string, policy plan.PullPolicy) (*target, error) {
	if e.Upstream == nil {
		entry, asked, err := e.Resolve(ctx, repo, revision)
		if err != nil {
			return nil, err
		}
		return &target{manifest: entry.Manifest, asked: asked}, nil
	}
	if policy.Refresh {
		t, err := e.newest(ctx, repo, revision)
		if err == nil || ctx.Err() != nil || deniedStore(err) {
			return t, err
		}
		e.note(repo, "the Hub does not tell which commit is the newest, the bucket does: "+err.Error())
	}
	entry, asked, err := e.Resolve(ctx, repo, revision)
	switch {
	case err == nil && entry.Completeness() == manifest.Complete:
		return &target{manifest: entry.Manifest, asked: asked}, nil
	case err == nil:
		return e.completed(ctx, repo, entry, asked)
	case ctx.Err() != nil || !upstreamMayHelp(err):
		return nil, err
	}
	e.phase("asking the Hub for " + repo.String())
	up, upErr := e.Upstream.Revision(ctx, repo, revision)
	if upErr != nil {
		return nil, errors.Join(upErr, err)
	}
	e.note(repo, "it comes from the Hub: "+err.Error())
	t, err2 := e.fromUpstream(repo, up, nil)
	if t != nil {
		t.alone = errors.Is(err, store.ErrUnavailable)
	}
	return t, err2
}

// newest asks the Hub for the commit, and then the bucket for what it has of it.
func (e *Engine) newest(ctx context.Context, repo hub.Repo, revision string) (*target, error) {
	e.phase("asking the Hub for the newest commit of " + repo.String())
	up, err := e.Upstream.Revision(ctx, repo, revision)
	if err != nil {
		return nil, err
	}
	entry, err := e.Catalog.Manifest(ctx, manifest.Key{Repo: repo, Commit: up.Commit})
	switch {
	case err == nil:
		return e.fromUpstream(repo, up, entry.Manifest)
	case ctx.Err() != nil || !upstreamMayHelp(err):
		return nil, err
	}
	t, err2 := e.fromUpstream(repo, up, nil)
	if t != nil {
		t.alone = errors.Is(err, store.ErrUnavailable)
	}
	return t, err2
}

// completed adds what the Hub knows to a manifest that does not cover its commit. Without the Hub the part has to do.
func (e *Engine) completed(ctx context.Context, repo hub.Repo, entry *remote.Entry, asked *remote.Ref) (*target, error) {
	e.phase("asking the Hub for the rest of " + repo.String())
	up, err := e.Upstream.Revision(ctx, repo, string(entry.Commit))
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e.note(repo, "the bucket has a part of it, and the Hub does not give the rest: "+err.Error())
		return &target{manifest: entry.Manifest, asked: asked}, nil
	}
	t, err := e.fromUpstream(repo, up, entry.Manifest)
	if err == nil {
		t.asked = asked
	}
	return t, err
}

// fromUpstream is a commit as the Hub lists it. held is what the bucket has of it, or nil. Where the two give a file by different digests, one of SHA-256 and one of git, the Hub's is
// taken; two digests of one kind that differ are a *[manifest.ConflictError].
func (e *Engine) fromUpstream(repo hub.Repo, up *UpstreamRevision, held *manifest.Manifest) (*target, error) {
	m, err := up.manifest(repo)
	if err != nil {
		return nil, fmt.Errorf("the Hub's listing of %s: %w", manifest.Key{Repo: repo, Commit: up.Commit}, err)
	}
	t := &target{manifest: m, upstream: make(map[hub.BlobID]bool, len(m.Files))}
	for _, f := range m.Files {
		t.upstream[f.Blob] = true
	}
	if held != nil {
		for _, f := range held.Files {
			listed, ok := m.File(f.Path)
			if ok && listed.Blob != f.Blob && listed.Blob.Algorithm() == f.Blob.Algorithm() {
				return nil, &manifest.ConflictError{Key: m.Key(), Path: f.Path, Ours: listed, Theirs: f}
			}
			delete(t.upstream, f.Blob)
		}
		if held.Hub != nil {
			m.Hub.NoExist = held.Hub.NoExist
		}
		if m, err = manifest.Merge(m, &manifest.Manifest{Repo: m.Repo, Commit: m.Commit, Hub: held.Hub}); err != nil {
			return nil, err
		}
		t.manifest = m
	}
	if up.Ref != "" {
		t.asked = &remote.Ref{Name: up.Ref, Commit: up.Commit, Resolved: e.Catalog.Now(), FromHub: true}
	}
	return t, nil
}

// PrepareCompletion finds out what a revision of the cache lacks of its commit, as the Hub lists it. It changes nothing.
func (e *Engine) PrepareCompletion(ctx context.Context, repo *hfcache.Repo, commit hub.Commit) (*plan.Pull, error) {
	e.phase("asking the Hub for all files of " + manifest.Key{Repo: repo.ID, Commit: commit}.String())
	up, err := e.Upstream.Revision(ctx, repo.ID, string(commit))
	if err != nil {
		return nil, err
	}
	t, err := e.fromUpstream(repo.ID, up, nil)
	if err != nil {
		return nil, err
	}
	p := plan.NewPull(t.manifest, nil, repo, nil, plan.PullPolicy{})
	p.Upstream, p.Alone = t.upstream, true
	return p, nil
}

func (e *Engine) note(repo hub.Repo, text string) {
	e.emit(event.Event{Kind: event.Note, Repo: repo.String(), Text: repo.String() + ": " + text})
}

// upstreamMayHelp says whether what the bucket lacks, or cannot give, can be had from the Hub. Wrong credentials are to be put right and not to be worked around.
func upstreamMayHelp(err error) bool {
	if deniedStore(err) {
		return false
	}
	_, damaged := errors.AsType[*DamagedError](err)
	_, otherBody := errors.AsType[*remote.WrongBodyError](err)
	return damaged || otherBody || isMismatch(err) || errors.Is(err, remote.ErrNotFound) || errors.Is(err, store.ErrNotFound) ||
		errors.Is(err, manifest.ErrInvalid) || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotObject)
}

func deniedStore(err error) bool {
	return errors.Is(err, store.ErrDenied) || errors.Is(err, store.ErrBadConfig)
}

// isUpstream says whether a blob is to be fetched from the Hub.
func (r *pullRun) isUpstream(f manifest.File) bool {
	if r.Upstream == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plan.Upstream[f.Blob] || r.turned[f.Blob] || r.down
}

// turn makes the Hub the source of a blob that the bucket could not give, and says whether that is worth trying. The caller has asked isUpstream before it began: another blob
// may have found the bucket gone since, while this one was still waiting for it.
func (r *pullRun) turn(ctx context.Context, f manifest.File, err error) bool {
	if r.Upstream == nil || ctx.Err() != nil || !upstreamMayHelp(err) {
		return false
	}
	r.mu.Lock()
	r.turned[f.Blob] = true
	first := !r.down && errors.Is(err, store.ErrUnavailable)
	r.down = r.down || first // all others would wait as long for the same answer
	r.mu.Unlock()
	switch {
	case first:
		r.note(r.plan.Manifest.Repo, "the rest comes from the Hub: "+err.Error())
	case !errors.Is(err, store.ErrUnavailable):
		r.note(r.plan.Manifest.Repo, string(f.Path)+" comes from the Hub: "+err.Error())
	}
	return true
}

// open starts to read a range of a blob, from wherever it is to be had, and says how large all of the blob is.
func (r *pullRun) open(ctx context.Context, f manifest.File, rng store.Range) (body io.ReadCloser, size int64, err error) {
	if r.isUpstream(f) {
		m := r.plan.Manifest
		return r.Upstream.Open(ctx, m.Repo, m.Commit, f.Path, rng)
	}
	body, info, err := r.store().Get(ctx, manifest.BlobKey(f.Blob), rng)
	if errors.Is(err, store.ErrBadRange) {
		err = r.damaged(f, fmt.Errorf("it is shorter than the %d bytes that were announced", f.Size))
	}
	return body, info.Size, err
}

// place is where a blob comes from, for messages.
func (r *pullRun) place(f manifest.File) string {
	if r.isUpstream(f) {
		return fmt.Sprintf("%s of %s on the Hub", f.Path, r.plan.Manifest.Key())
	}
	return manifest.BlobKey(f.Blob) + " in the bucket"
}

// damaged says where bytes came from that are not what they should be.
func (r *pullRun) damaged(f manifest.File, err error) error { return &DamagedError{r.place(f), err} }

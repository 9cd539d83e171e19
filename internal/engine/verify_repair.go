package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// errNoCommit says that a file cannot be asked for.
var errNoCommit = errors.New("its snapshot's folder is not named by a commit, so the bucket cannot be asked for it")

// Repair fetches from the bucket what a quarantine took away, and what was missing before, into the snapshots where it was. Every byte is verified on the way. Damage that is
// repaired says so; of other damage Err says why it is not. The result is that of all pulls; its failures are about what was missing before alone. The error is for what ends it
// early.
func (e *Engine) Repair(ctx context.Context, found []Damage, missing []hfcache.BrokenFile) (*Result, error) {
	r := &repair{Engine: e, wanted: map[manifest.Key]map[hub.Path]bool{}, failed: map[wantedFile]error{}, result: &Result{}}
	for _, f := range missing {
		r.want(f.Repo, []hfcache.SnapshotFile{{Commit: f.Commit, Path: f.Path}})
	}
	for _, d := range found {
		r.want(d.Repo, d.wanted)
	}
	keys := slices.SortedFunc(maps.Keys(r.wanted), func(a, b manifest.Key) int {
		if c := a.Repo.Compare(b.Repo); c != 0 {
			return c
		}
		return strings.Compare(string(a.Commit), string(b.Commit))
	})
	for _, key := range keys {
		if err := r.revision(ctx, key); err != nil {
			return r.result, err
		}
	}
	for i := range found {
		r.settle(&found[i])
	}
	for _, f := range missing {
		key := manifest.Key{Repo: f.Repo, Commit: f.Commit}
		if err := r.failed[wantedFile{key, f.Path}]; err != nil {
			r.result.Failures = append(r.result.Failures, Failure{Key: key, Path: f.Path, Err: err})
		}
	}
	return r.result, nil
}

// CleanRefs writes those of the refs again that hold more than their commit, and returns the others. For that nobody has to be asked.
func (e *Engine) CleanRefs(refs []hfcache.BrokenRef) (left []hfcache.BrokenRef, failures []Failure) {
	for _, ref := range refs {
		if ref.Fault != hfcache.RefUnclean {
			left = append(left, ref)
			continue
		}
		dir, err := e.Cache.RepoDir(ref.Repo)
		if err == nil {
			err = errors.Join(dir.CleanRef(hub.Ref(ref.Name)), dir.Close())
		}
		if err != nil {
			left = append(left, ref)
			failures = append(failures, Failure{Key: manifest.Key{Repo: ref.Repo, Commit: ref.Commit}, Ref: hub.Ref(ref.Name), Err: err})
		}
	}
	return left, failures
}

type wantedFile struct {
	key  manifest.Key
	path hub.Path
}

// repair is one call of Repair.
type repair struct {
	*Engine
	wanted map[manifest.Key]map[hub.Path]bool
	failed map[wantedFile]error
	result *Result
}

func (r *repair) want(repo hub.Repo, files []hfcache.SnapshotFile) {
	for _, f := range files {
		key := manifest.Key{Repo: repo, Commit: f.Commit}
		if r.wanted[key] == nil {
			r.wanted[key] = map[hub.Path]bool{}
		}
		r.wanted[key][f.Path] = true
	}
}

// revision fetches what one revision lacks. It returns only what ends the repair.
func (r *repair) revision(ctx context.Context, key manifest.Key) error {
	paths := r.wanted[key]
	entry, err := r.Catalog.Manifest(ctx, key)
	if err != nil {
		if ctx.Err() != nil || fatal(ctx, err) {
			return err
		}
		for p := range paths {
			r.failed[wantedFile{key, p}] = err
		}
		return nil
	}
	inv, err := r.Cache.Scan(ctx, func(repo hub.Repo) bool { return repo == key.Repo })
	if err != nil {
		return err
	}
	p := plan.NewPull(entry.Manifest, nil, inv.Repo(key.Repo), nil, plan.PullPolicy{})
	p.Only(func(path hub.Path) bool { return paths[path] })
	for path := range paths {
		if _, has := entry.File(path); !has {
			r.failed[wantedFile{key, path}] = fmt.Errorf("the bucket has no such file of this commit: %w", remote.ErrNotFound)
		}
	}
	if len(p.Files) == 0 {
		return nil
	}
	result, err := r.Pull(ctx, p)
	r.result.Blobs += result.Blobs
	r.result.Bytes += result.Bytes
	r.result.Reused += result.Reused
	r.result.Resumed += result.Resumed
	r.result.Linked += result.Linked
	for _, f := range result.Failures {
		if f.Path == "" {
			continue
		}
		if errors.Is(f.Err, store.ErrNotFound) {
			f.Err = errMissing
		}
		r.failed[wantedFile{key, f.Path}] = f.Err
	}
	return err
}

// settle says what became of one damage.
func (r *repair) settle(d *Damage) {
	if d.Quarantine == nil {
		return
	}
	if d.lost > 0 {
		d.Err = errNoCommit
		return
	}
	for _, f := range d.wanted {
		key := manifest.Key{Repo: d.Repo, Commit: f.Commit}
		if err := r.failed[wantedFile{key, f.Path}]; err != nil {
			d.Err = fmt.Errorf("%s cannot be repaired: %w", f.Path, err)
			return
		}
	}
	d.Repaired = true
}

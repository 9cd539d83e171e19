package histories_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

// machine is somebody with a cache.
type machine struct {
	name  string
	dir   string        // the cache
	skew  time.Duration // by which its clock is ahead
	clock *time.Time
	store *bucket
	// honest are the refs whose files have the time at which a client learned of them: not those of a copy, nor of a clock that is ahead. One that is behind is put right.
	honest map[hub.Ref]bool
}

func (m *machine) now() time.Time { return m.clock.Add(m.skew) }

func (m *machine) folder(elements ...string) string {
	return filepath.Join(append([]string{m.dir, repo.Folder()}, elements...)...)
}

// with opens the cache for one operation.
func (m *machine) with(f func(*engine.Engine) error) error {
	cache, err := hfcache.Create(m.dir, hfcache.Options{})
	if err != nil {
		return fmt.Errorf("opening the cache: %w", err)
	}
	e := &engine.Engine{Cache: cache, Catalog: &remote.Catalog{Store: m.store, Now: m.now}}
	return errors.Join(f(e), cache.Close())
}

// download does what a client of the Hub does: a listing if it is new enough, the ref, then files.
func (m *machine) download(ref hub.Ref, rev *revision, wants func(hub.Path) bool, listing bool) error {
	snapshot := m.folder("snapshots", string(rev.commit))
	err := errors.Join(os.MkdirAll(snapshot, 0o755), os.MkdirAll(m.folder("blobs"), 0o755), os.MkdirAll(m.folder("refs"), 0o755), os.MkdirAll(m.folder("trees"), 0o755))
	if err != nil {
		return err
	}
	if listing {
		data, err := manifest.EncodeTreeFile(rev.tree())
		if err = errors.Join(err, os.WriteFile(m.folder("trees", string(rev.commit)+".json"), data, 0o600)); err != nil {
			return err
		}
	}
	for p, c := range rev.files {
		if !wants(p) {
			continue
		}
		blob := m.folder("blobs", string(c.id()))
		if err := os.WriteFile(blob, c.data, 0o600); err != nil {
			return err
		}
		if err := os.Symlink("../../blobs/"+string(c.id()), filepath.Join(snapshot, string(p))); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	file := m.folder("refs", string(ref))
	if old, err := os.ReadFile(file); err == nil && string(old) == string(rev.commit) {
		return nil // newer clients leave it alone then
	}
	m.honest[ref] = m.skew <= 0
	return errors.Join(os.WriteFile(file, []byte(rev.commit), 0o600), os.Chtimes(file, m.now(), m.now()))
}

// probe does what a client does that asks for a file which is not there.
func (m *machine) probe(ref hub.Ref, rev *revision) error {
	mark := m.folder(".no_exist", string(rev.commit))
	if err := errors.Join(os.MkdirAll(mark, 0o755), os.MkdirAll(m.folder("refs"), 0o755), os.MkdirAll(m.folder("snapshots", string(rev.commit)), 0o755)); err != nil {
		return err
	}
	file := m.folder("refs", string(ref))
	m.honest[ref] = m.skew <= 0
	return errors.Join(os.WriteFile(filepath.Join(mark, "adapter_config.json"), nil, 0o600), os.WriteFile(file, []byte(rev.commit), 0o600), os.Chtimes(file, m.now(), m.now()))
}

// copyFrom replaces the cache by a copy of another, as cp -r makes it: all times are of today.
func (m *machine) copyFrom(from *machine) error {
	if err := os.RemoveAll(m.dir); err != nil {
		return err
	}
	if err := os.CopyFS(m.dir, os.DirFS(from.dir)); err != nil {
		return err
	}
	clear(m.honest)
	refs, err := filepath.Glob(m.folder("refs", "*"))
	for _, ref := range refs {
		err = errors.Join(err, os.Chtimes(ref, m.now(), m.now()))
	}
	return err
}

// prune removes a revision and the refs that name it.
func (m *machine) prune(r *rand.Rand) error {
	snapshots, err := filepath.Glob(m.folder("snapshots", "*"))
	if err != nil || len(snapshots) == 0 {
		return err
	}
	gone := snapshots[r.IntN(len(snapshots))]
	refs, err := filepath.Glob(m.folder("refs", "*"))
	for _, ref := range refs {
		if text, readErr := os.ReadFile(ref); readErr == nil && string(text) == filepath.Base(gone) {
			err = errors.Join(err, os.Remove(ref))
		}
	}
	return errors.Join(err, os.RemoveAll(gone))
}

func (m *machine) push(ctx context.Context, policy plan.PushPolicy) error {
	return m.with(func(e *engine.Engine) error {
		return m.pushWith(ctx, e, policy)
	})
}

func (*machine) pushWith(ctx context.Context, e *engine.Engine, policy plan.PushPolicy) error {
	inv, err := e.Cache.Scan(ctx, nil)
	if err != nil {
		return err
	}
	p, err := e.PreparePush(ctx, inv, policy)
	if err != nil {
		return err
	}
	result, err := e.Push(ctx, p, policy)
	if err == nil && result.Failed() {
		err = fmt.Errorf("push: %v", result.Failures)
	}
	return err
}

// pull is a pull as the command does it. It says whether there was anything to pull.
func (m *machine) pull(ctx context.Context, ref hub.Ref, policy plan.PullPolicy, upstream engine.Upstream, backfill bool) error {
	return m.with(func(e *engine.Engine) error {
		e.Upstream = upstream
		p, err := e.PreparePull(ctx, repo, string(ref), policy)
		if errors.Is(err, remote.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		result, err := e.Pull(ctx, p)
		if err == nil && result.Failed() {
			err = fmt.Errorf("pull: %v", result.Failures)
		}
		if err != nil || !backfill {
			return err
		}
		var push plan.PushPolicy
		if p.AskedHub {
			push.FromHub = map[remote.RefKey]hub.Commit{{Repo: repo, Name: p.Asked}: p.Manifest.Commit}
		}
		return m.pushWith(ctx, e, push)
	})
}

// state is what clients can load offline.
type state struct {
	refs map[hub.Ref]loadable
}

// loadable is what a ref leads to.
type loadable struct {
	commit   hub.Commit
	files    map[hub.Path]bool
	listed   bool // the cache knows the commit's listing
	complete bool // by that listing
}

// look reads the cache as a client does, without any code of ours but the decoder of listings.
func (m *machine) look() (state, error) {
	s := state{refs: map[hub.Ref]loadable{}}
	refs, err := filepath.Glob(m.folder("refs", "*"))
	if err != nil {
		return s, err
	}
	for _, ref := range refs {
		text, err := os.ReadFile(ref)
		if err != nil {
			return s, err
		}
		l := loadable{commit: hub.Commit(text), files: map[hub.Path]bool{}}
		entries, err := os.ReadDir(m.folder("snapshots", string(text)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return s, err
		}
		for _, entry := range entries {
			if _, err := os.ReadFile(m.folder("snapshots", string(text), entry.Name())); err == nil {
				l.files[hub.Path(entry.Name())] = true
			}
		}
		if data, err := os.ReadFile(m.folder("trees", string(text)+".json")); err == nil {
			tree, err := manifest.DecodeTreeFile(data)
			if err != nil {
				return s, err
			}
			l.listed, l.complete = true, true
			for p := range tree {
				l.complete = l.complete && l.files[p]
			}
		}
		s.refs[hub.Ref(filepath.Base(ref))] = l
	}
	return s, nil
}

func (s state) String() string {
	var b strings.Builder
	for ref, l := range s.refs {
		fmt.Fprintf(&b, "%s→%.6s %v complete=%v  ", ref, l.commit, sortedPaths(l.files), l.complete)
	}
	return b.String()
}

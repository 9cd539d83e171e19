package hfcache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Leftover removes something that a program has left behind, unless it turns out to be in use, or to have changed within the grace period.
func (r *Remover) Leftover(ctx context.Context, l Leftover) (Removed, error) {
	if err := ctx.Err(); err != nil {
		return Removed{}, err
	}
	if l.Repo == (hub.Repo{}) {
		return r.rootLeftover(ctx, l)
	}
	rel, inside := strings.CutPrefix(l.Place+"/", l.Repo.Folder()+"/")
	rel = strings.TrimSuffix(rel, "/")
	if !inside || (rel != "" && !isPlace(rel)) {
		return Removed{Skipped: []Skipped{{l.Place, whyUnknown}}}, nil
	}
	out, err := r.in(l.Repo, func(m *removal) error { return m.leftover(ctx, l.Kind, rel) })
	if l.Kind == LeftoverEmpty && err == nil && len(out.Skipped) == 0 {
		if _, statErr := r.cache.root.Lstat(l.Repo.Folder()); statErr == nil {
			out.Skipped = []Skipped{{l.Place, "it is not empty, or changed a short time ago"}}
		}
	}
	return out, err
}

// isPlace says whether rel is a clean slash-separated path that stays inside.
func isPlace(rel string) bool {
	return path.Clean(rel) == rel && !strings.Contains(rel, `\`) && filepath.IsLocal(filepath.FromSlash(rel))
}

func (m *removal) leftover(ctx context.Context, kind LeftoverKind, rel string) error {
	dir, name := path.Dir(rel), path.Base(rel)
	switch kind {
	case LeftoverEmpty:
		if rel == "" {
			return nil // removing it is what every request ends with
		}
	case LeftoverTemp:
		return m.strayTemp(ctx, dir, name)
	case LeftoverTree:
		if commit, err := hub.ParseCommit(strings.TrimSuffix(name, ".json")); err == nil && rel == treesDir+"/"+string(commit)+".json" {
			return m.strayTree(commit)
		}
	case LeftoverTrash:
		switch {
		case rel == trashDir:
			return m.emptyTrash(ctx)
		case dir == trashDir:
			return m.trashed(ctx, name)
		}
	case LeftoverQuarantine:
		if dir == quarantineDir {
			err := m.inFolder(dir, func(sub *os.Root) error { return m.unlink(sub, name, rel) })
			if err == nil {
				m.rmdirOurs(quarantineDir)
			}
			return err
		}
	}
	m.skip(rel, whyUnknown)
	return nil
}

// inFolder calls f with a folder that is there and no link.
func (m *removal) inFolder(rel string, f func(*os.Root) error) error {
	dir, err := m.folder(rel)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, ErrInTheWay):
		m.skip(rel, whyLink)
		return nil
	case err != nil:
		return m.fail("opening", rel, err)
	}
	defer dir.Close() //nolint:errcheck // only read from
	return f(dir)
}

// strayTemp removes a temporary file of a ref or of a listing, or a probe.
func (m *removal) strayTemp(ctx context.Context, dir, name string) error {
	rel := path.Join(dir, name)
	switch {
	case dir == refsDir || strings.HasPrefix(dir, refsDir+"/"):
		if !m.names.refTemp.MatchString(name) {
			m.skip(rel, whyUnknown)
			return nil
		}
	case dir == treesDir:
		if !strings.HasPrefix(name, "tmp") || !strings.HasSuffix(name, ".tmp") {
			m.skip(rel, whyUnknown)
			return nil
		}
	case dir == ".":
		if !m.names.nameOfTmp.MatchString(name) && !m.names.oldRootTmp.MatchString(name) {
			m.skip(rel, whyUnknown)
			return nil
		}
		return m.stray(ctx, m.root, name, rel)
	default:
		m.skip(rel, whyUnknown)
		return nil
	}
	return m.inFolder(dir, func(sub *os.Root) error { return m.stray(ctx, sub, name, rel) })
}

// stray removes an old file, or the folder of an old probe for links.
func (m *removal) stray(ctx context.Context, dir *os.Root, name, rel string) error {
	info, err := dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return m.fail("removing", rel, err)
	case m.young(info.ModTime()):
		m.skip(rel, whyYoung)
		return nil
	case !info.IsDir():
		return m.unlink(dir, name, rel)
	}
	sub, err := openFolder(dir, name)
	if err != nil {
		return m.fail("opening", rel, err)
	}
	entries, err := readNames(sub)
	_ = sub.Close() // only read from
	if err != nil {
		return m.fail("reading", rel, err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry, "dummy_file_") { // huggingface_hub file_download.py, are_symlinks_supported
			m.skip(rel, "it holds more than a probe for links does")
			return nil
		}
	}
	return m.clear(ctx, dir, name, rel, 0)
}

// strayTree removes the listing of a commit of which nothing else is there.
func (m *removal) strayTree(commit hub.Commit) error {
	rel := treesDir + "/" + string(commit) + ".json"
	for _, other := range []string{snapshotsDir, noExistDir} {
		if _, err := m.root.Lstat(filepath.FromSlash(other + "/" + string(commit))); !errors.Is(err, fs.ErrNotExist) {
			m.skip(rel, whyChanged)
			return nil
		}
	}
	e := &eviction{removal: m, commit: commit}
	named, why, err := e.refsNaming()
	if err != nil {
		return err
	}
	if len(named) > 0 {
		why = named[0] + " names its commit"
	}
	if why != "" {
		m.skip(rel, why)
		return nil
	}
	return m.inFolder(treesDir, func(dir *os.Root) error {
		name := path.Base(rel)
		if info, err := dir.Lstat(name); err == nil && m.young(info.ModTime()) {
			m.skip(rel, whyYoung)
			return nil
		}
		return m.unlink(dir, name, rel)
	})
}

// emptyTrash removes all that is in the trash.
func (m *removal) emptyTrash(ctx context.Context) error {
	var entries []string
	err := m.inFolder(trashDir, func(dir *os.Root) error {
		var err error
		if entries, err = readNames(dir); err != nil {
			return m.fail("reading", trashDir, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range entries {
		if err := m.trashed(ctx, name); err != nil {
			return err
		}
	}
	m.rmdirOurs(trashDir)
	return nil
}

// trashed removes one entry of the trash, unless a prune is at work on it.
func (m *removal) trashed(ctx context.Context, name string) error {
	rel := trashDir + "/" + name
	dir, err := m.folder(rel)
	if err == nil {
		defer dir.Close() //nolint:errcheck // only read from
		unlock, err := m.claim(dir)
		if errors.Is(err, ErrBusy) {
			m.skip(rel, "a prune is at work")
			return nil
		}
		defer unlock()
	}
	return m.discard(ctx, name)
}

// claim locks a folder of the trash. Where folders cannot be locked it does nothing.
func (m *removal) claim(dir *os.Root) (unlock func(), _ error) {
	f, err := dir.Open(".")
	if err != nil {
		return func() {}, nil //nolint:nilerr // likewise
	}
	if err := m.lock(f, 0); errors.Is(err, ErrBusy) {
		return func() {}, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// rootLeftover removes what lies outside of any repository.
func (r *Remover) rootLeftover(ctx context.Context, l Leftover) (Removed, error) {
	m := &removal{Remover: r, root: r.cache.root}
	dir, name := path.Dir(l.Place), path.Base(l.Place)
	if l.Kind != LeftoverTemp || !isPlace(l.Place) {
		return Removed{Skipped: []Skipped{{l.Place, whyUnknown}}}, nil
	}
	var err error
	switch {
	case dir == "." && r.names.oldRootTmp.MatchString(name):
		err = m.stray(ctx, r.cache.root, name, l.Place)
	case dir == blobsDir && strings.HasPrefix(name, sharedMarker+".") && r.names.refTemp.MatchString(name):
		err = m.inFolder(dir, func(sub *os.Root) error { return m.stray(ctx, sub, name, l.Place) })
	case r.cache.hasSharedStore() && r.names.isListTemp(l.Place):
		err = m.inFolder(dir, func(sub *os.Root) error { return m.listTemp(ctx, sub, l.Place) })
	default:
		m.skip(l.Place, whyUnknown)
	}
	return m.out, err
}

// isListTemp says whether a place below the cache folder is a list of a payload's users that was not finished.
func (n *names) isListTemp(place string) bool {
	payload, random, ok := strings.Cut(place, usersSuffix+".")
	return ok && n.isPayload(payload) && isListRandom(random)
}

// isListRandom says whether a name ends as it is made unique: by 8 hex digits in Python, by the number of a process in Rust.
func isListRandom(s string) bool {
	stem, ok := strings.CutSuffix(s, ".tmp")
	return ok && stem != "" && len(stem) <= 10 && strings.Trim(stem, "0123456789abcdef") == ""
}

// listTemp removes such a list under the lock under which they are written.
func (m *removal) listTemp(ctx context.Context, dir *os.Root, place string) error {
	payload, _, _ := strings.Cut(place, usersSuffix+".")
	s := sweeper{Remover: m.Remover, out: &m.out}
	unlock, err := s.lockPayload(ctx, dir, path.Base(payload))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrBusy):
		m.skip(place, whyLocked)
		return nil
	case err != nil:
		m.skip(place, "it cannot be locked: "+reason(err))
		return nil
	}
	defer unlock()
	return m.stray(ctx, dir, path.Base(place), place)
}

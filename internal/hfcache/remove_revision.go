package hfcache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Revision removes a commit: the refs that name it, its snapshot, marks and listing, and those of blobs that no snapshot of the repository links to any
// more, with what they lead to in the shared store. It is left alone as a whole if it changed within the grace period, if somebody downloads into it, or if a ref
// names it that is not among refs. A ref that names another commit by now stays.
func (r *Remover) Revision(ctx context.Context, repo hub.Repo, commit hub.Commit, refs []hub.Ref, blobs []string) (Removed, error) {
	if _, err := hub.ParseCommit(string(commit)); err != nil {
		return Removed{}, fmt.Errorf("removing a revision of %s: %w", repo, err)
	}
	for _, ref := range refs {
		if _, err := hub.ParseRef(string(ref)); err != nil {
			return Removed{}, fmt.Errorf("removing a revision of %s: %w", repo, err)
		}
	}
	if err := r.checkBlobNames(repo, blobs); err != nil {
		return Removed{}, err
	}
	return r.in(repo, func(m *removal) error {
		e := &eviction{removal: m, commit: commit, snapshot: snapshotsDir + "/" + string(commit), refs: refs}
		defer e.release()
		gone, err := e.takeNames(ctx)
		if !gone && e.trash != "" {
			err = errors.Join(err, e.putBack())
		}
		if err == nil && gone && len(blobs) > 0 {
			// Else a power cut could leave the refs and the links, and not the blobs.
			if err = settle(m.root, m.at); err == nil {
				err = m.blobs(ctx, blobs, false)
			}
		}
		if err == nil {
			err = m.sweep(ctx)
		}
		if err == nil {
			err = e.empty(ctx)
		}
		return err
	})
}

// eviction is one call of Revision.
type eviction struct {
	*removal
	commit   hub.Commit
	snapshot string // below the repository's folder
	refs     []hub.Ref
	trash    string            // the folder of this eviction in the trash, once it is made
	unlock   func()            // ends our claim on it
	taken    map[string]string // the refs in the trash: where they were, by where they are
}

// takeNames takes the revision's names away. It says false if it has to stay.
func (e *eviction) takeNames(ctx context.Context) (bool, error) {
	before, why, err := e.check()
	var naming []string
	if err == nil && why == "" {
		naming, why, err = e.naming()
	}
	if err == nil && why == "" {
		err = ctx.Err()
	}
	if err == nil && why == "" {
		why, err = e.makeTrash()
	}
	if err != nil || why != "" {
		e.skipIf(why)
		return false, err
	}
	e.step("checked")
	for _, rel := range naming {
		if err := e.takeRef(rel); err != nil {
			return false, err
		}
	}
	if err := e.take(e.snapshot, "snapshot"); err != nil {
		return false, err
	}
	if why, err := e.after(before); err != nil || why != "" {
		e.skipIf(why)
		return false, err
	}
	if err := e.take(noExistDir+"/"+string(e.commit), "no_exist"); err != nil {
		return true, err
	}
	return true, e.take(treesDir+"/"+string(e.commit)+".json", "tree.json")
}

func (e *eviction) skipIf(why string) {
	if why != "" {
		e.skip(e.snapshot, why)
	}
}

// check looks whether somebody is at work on the revision, and says so. It returns what is in the snapshot.
func (e *eviction) check() (_ footprint, why string, _ error) {
	before, err := e.footprint(e.snapshot)
	if err != nil {
		why, err = odd(err)
		return nil, why, err
	}
	marks, err := e.footprint(noExistDir + "/" + string(e.commit))
	if err != nil {
		why, err = odd(err)
		return nil, why, err
	}
	newest := before.newest()
	if t := marks.newest(); t.After(newest) {
		newest = t
	}
	tree := treesDir + "/" + string(e.commit) + ".json"
	if info, err := e.root.Lstat(filepath.FromSlash(tree)); err == nil && info.ModTime().After(newest) {
		newest = info.ModTime() // what a client writes before all else
	}
	if e.young(newest) {
		return nil, whyYoung, nil
	}
	temp, err := e.downloading()
	if err != nil {
		return nil, "", err
	}
	if temp != "" {
		return nil, "a client downloads " + temp, nil
	}
	place, err := e.linkedInto()
	if place != "" {
		why = place + " links into it"
	}
	return before, why, err
}

// linkedInto finds a link that leads into the snapshot from another one.
func (e *eviction) linkedInto() (string, error) {
	found, err := e.cache.readSnapshotLinks(e.root, e.at)
	if err != nil {
		return "", err
	}
	folder := e.at + "/" + e.snapshot
	for _, place := range slices.Sorted(maps.Keys(found.other)) {
		if target := found.other[place]; !strings.HasPrefix(place, e.snapshot+"/") && (target == folder || strings.HasPrefix(target, folder+"/")) {
			return place, nil
		}
	}
	return "", nil
}

// errDeep says that a folder has too many others in it to be looked into.
var errDeep = errors.New("it has too many folders inside each other")

// odd says why something that nobody should have made is left alone; other errors stop the work.
func odd(err error) (why string, _ error) {
	switch {
	case errors.Is(err, ErrInTheWay):
		return whyLink, nil
	case errors.Is(err, errDeep):
		return errDeep.Error(), nil
	}
	return "", err
}

// downloading finds an unfinished download that somebody works on and that may belong to this commit. The commit's listing tells if there is one. A download that
// goes on for hours makes its folders at the start, so that their times do not tell.
func (e *eviction) downloading() (string, error) {
	dir, err := e.folder(blobsDir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrInTheWay) {
		return "", nil
	}
	if err != nil {
		return "", e.fail("reading", blobsDir, err)
	}
	defer dir.Close() //nolint:errcheck // only read from
	entries, err := readNames(dir)
	if err != nil {
		return "", e.fail("reading", blobsDir, err)
	}
	var wanted map[string]bool
	for _, name := range entries {
		etag, is := unfinished(name)
		if !is {
			continue
		}
		info, err := dir.Lstat(name)
		if err != nil || !e.young(info.ModTime()) {
			continue
		}
		if wanted == nil {
			wanted = e.wanted()
		}
		if len(wanted) == 0 || wanted[etag] {
			return blobsDir + "/" + name, nil
		}
	}
	return "", nil
}

// wanted are the names that the commit's blobs can have, empty if there is no listing.
func (e *eviction) wanted() map[string]bool {
	wanted := map[string]bool{}
	tree, _ := readTreeFile(e.root, treesDir+"/"+string(e.commit)+".json")
	for _, entry := range tree {
		wanted[string(entry.ID())] = true
		wanted[entry.XetHash] = true
	}
	return wanted
}

// footprint is what is below a folder at one time, by path.
type footprint map[string]fs.FileInfo

// newest is when a name was last added or removed, or a real file written.
func (f footprint) newest() time.Time {
	var newest time.Time
	for _, info := range f {
		if info.Mode()&fs.ModeSymlink == 0 && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest
}

// grown says whether there is something in f that was not there before, or was another file.
func (f footprint) grown(before footprint) bool {
	for rel, info := range f {
		old, known := before[rel]
		if !known || old.Mode() != info.Mode() || (!info.IsDir() && (old.Size() != info.Size() || !old.ModTime().Equal(info.ModTime()))) {
			return true
		}
	}
	return false
}

// footprint looks at a folder below the repository's. One that is missing has none.
func (m *removal) footprint(rel string) (footprint, error) {
	found := footprint{}
	dir, err := m.folder(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil {
		return nil, m.fail("reading", rel, err)
	}
	defer dir.Close() //nolint:errcheck // only read from
	info, err := dir.Stat(".")
	if err != nil {
		return nil, m.fail("reading", rel, err)
	}
	found["."] = info
	var walk func(prefix string, depth int) error
	walk = func(prefix string, depth int) error {
		sub, err := openFolders(dir, prefix)
		if err != nil {
			return err
		}
		entries, err := readDir(sub)
		_ = sub.Close() // only read from
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(prefix, e.Name())
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			found[name] = info
			if info.IsDir() && depth > maxDepth {
				return errDeep
			}
			if info.IsDir() {
				if err := walk(name, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(".", 0); err != nil {
		return nil, m.fail("reading", rel, err)
	}
	return found, nil
}

// makeTrash makes the folder that takes the revision's names, and claims it, so that nobody takes it for a leftover.
func (e *eviction) makeTrash() (why string, _ error) {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	e.trash = trashDir + "/" + string(e.commit) + "." + hex.EncodeToString(random[:])
	for _, rel := range []string{path.Dir(trashDir), trashDir, e.trash} {
		err := e.root.Mkdir(filepath.FromSlash(rel), 0o777)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", e.fail("making", rel, err)
		}
		if info, err := e.root.Lstat(filepath.FromSlash(rel)); err != nil || !info.IsDir() {
			e.trash = ""
			return rel + " is no folder", nil
		}
	}
	dir, err := e.folder(e.trash)
	if err != nil {
		return "", e.fail("opening", e.trash, err)
	}
	defer dir.Close() //nolint:errcheck // only read from
	if e.unlock, err = e.claim(dir); errors.Is(err, ErrBusy) {
		return "a prune is at work", nil
	}
	return "", nil
}

// take moves a name into the trash. One that is missing is gone already.
func (e *eviction) take(rel, to string) error {
	err := e.root.Rename(filepath.FromSlash(rel), filepath.FromSlash(e.trash+"/"+to))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return e.fail("removing", rel, err)
	}
	e.step("took " + rel)
	return nil
}

// after looks whether somebody has come back to the revision while its names were taken away.
func (e *eviction) after(before footprint) (why string, _ error) {
	now, err := e.footprint(e.trash + "/snapshot")
	if err != nil {
		return odd(err)
	}
	if now.grown(before) {
		return whyChanged, nil
	}
	again, why, err := e.refsNaming()
	if err == nil && why == "" && len(again) > 0 {
		why = again[0] + " names it again"
	}
	return why, err
}

// release ends our claim on the trash.
func (e *eviction) release() {
	if e.unlock != nil {
		e.unlock()
	}
}

// putBack undoes what was done so far: first the snapshot, then the refs. What clients have put there meanwhile stays.
func (e *eviction) putBack() error {
	from := e.trash + "/snapshot"
	err := e.root.Rename(filepath.FromSlash(from), filepath.FromSlash(e.snapshot))
	switch {
	case errors.Is(err, fs.ErrNotExist): // there was none
	case err != nil: // there is a new one with something in it; since it is of the same commit, the two are one
		if err := e.merge(from, e.snapshot, 0); err != nil {
			return e.fail("putting back", e.snapshot, err)
		}
	}
	for _, from := range slices.Sorted(maps.Keys(e.taken)) {
		if err := e.restoreRef(from, e.taken[from]); err != nil {
			return err
		}
	}
	return nil
}

// merge moves what is below from to where it is missing below to.
func (e *eviction) merge(from, to string, depth int) error {
	dir, err := e.folder(from)
	if err != nil {
		return err
	}
	entries, err := readDir(dir)
	_ = dir.Close() // only read from
	if err != nil || depth > maxDepth {
		return err
	}
	if err := e.root.Mkdir(filepath.FromSlash(to), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := e.root.Lstat(filepath.FromSlash(to)); err != nil || !info.IsDir() {
		return errors.Join(ErrInTheWay, err)
	}
	for _, entry := range entries {
		a, b := from+"/"+entry.Name(), to+"/"+entry.Name()
		if entry.IsDir() {
			err = e.merge(a, b, depth+1)
		} else if _, statErr := e.root.Lstat(filepath.FromSlash(b)); errors.Is(statErr, fs.ErrNotExist) {
			err = e.root.Rename(filepath.FromSlash(a), filepath.FromSlash(b))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// empty removes what is in the trash. A ref that a client, which had it open for writing, has changed there goes back first.
func (e *eviction) empty(ctx context.Context) error {
	if e.trash == "" {
		return nil
	}
	for _, from := range slices.Sorted(maps.Keys(e.taken)) {
		if e.otherCommit(from) {
			if err := e.restoreRef(from, e.taken[from]); err != nil {
				return err
			}
		}
	}
	return e.discard(ctx, path.Base(e.trash))
}

// discard removes an entry of the trash, and the trash itself if it was the last.
func (m *removal) discard(ctx context.Context, name string) error {
	trash, err := m.folder(trashDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return m.fail("opening", trashDir, err)
	}
	err = m.clear(ctx, trash, name, trashDir+"/"+name, 0)
	_ = trash.Close() // only read from
	if err == nil {
		m.rmdirOurs(trashDir)
	}
	return err
}

// rmdirOurs removes a folder of ours, and the one that it is in, if they are empty. It does not matter if they stay.
func (m *removal) rmdirOurs(rel string) {
	if m.rmdir(rel) == nil {
		_ = m.rmdir(path.Dir(rel))
	}
}

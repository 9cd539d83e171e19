package hfcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// trashDir is where names are moved to be looked at and deleted, below the repository's folder. Like [quarantineDir] it is of no interest to any client.
const trashDir = ".hf-cache-sync/trash"

// Reasons to leave something alone.
const (
	whyLocked  = "a client holds its lock"
	whyChanged = "it changed since the cache was read"
	whyYoung   = "it changed a short time ago; a client may be at work on it"
	whyLinked  = "a snapshot links to it again"
	whyLink    = "a link stands where a folder should be"
	whyUnknown = "it is not a name that programs are known to leave behind"
)

// RemoveOptions say what a [Remover] leaves alone.
type RemoveOptions struct {
	Now func() time.Time
	// Grace: what changed less long ago is left alone, because a client may be at work on it.
	Grace time.Duration
}

// Removed is what became of one request to remove something.
type Removed struct {
	// Bytes is what the disk got back: what regular files took on it whose last name is gone.
	Bytes   int64
	Skipped []Skipped
}

// Skipped is something that was left alone after all.
type Skipped struct {
	Place string // below the cache folder, slash-separated
	Why   string // for people
}

// Remover takes things out of a cache while others use it. It works in the reverse order of publishing: refs, then the names in snapshots, then blobs, then payloads of
// the shared store, so that a kill at any instant leaves nothing that a client takes for whole. Whatever was decided on the strength of a scan is looked at once
// more before it goes, under the lock that clients hold where there is one.
//
// It follows no link, and removes only names that it knows, inside the folder of the repository that it was given, or in a marked shared store. What is gone already is
// no error, and neither is somebody at work: that is a [Skipped]. An error means that it stopped, with what [Removed] says done.
//
// One goroutine at a time may use a Remover. Use one for all of a prune: it remembers which repositories were quiet before it came.
type Remover struct {
	cache *Cache
	names *names
	now   func() time.Time
	grace time.Duration
	lock  func(f *os.File, offset int64) error // tryLock, except in tests
	step  func(what string)                    // called between any two changes; tests look, interfere, or stop there
	quiet map[hub.Repo]bool                    // whether no folder of a repository had changed within the grace period when we came
}

// Remover begins to take things out of the cache.
func (c *Cache) Remover(o RemoveOptions) *Remover {
	return &Remover{cache: c, names: newNames(), now: o.Now, grace: o.Grace, lock: tryLock, step: func(string) { failpoint.Hit("removal") }, quiet: map[hub.Repo]bool{}}
}

// young says whether a time lies within the grace period. One in the future does: clocks differ.
func (r *Remover) young(t time.Time) bool { return r.grace > 0 && r.now().Sub(t) < r.grace }

// removal is one request that concerns one repository.
type removal struct {
	*Remover
	id       hub.Repo
	at       string   // the repository's folder; empty if it is the cache's
	root     *os.Root // it, opened
	payloads []string // that links in blobs/ led to which are gone, below the cache folder
	out      Removed
}

// in opens the repository's folder, calls f, and removes the folder if nothing is left in it.
func (r *Remover) in(id hub.Repo, f func(*removal) error) (Removed, error) {
	folder := id.Folder()
	if parsed, err := hub.ParseFolder(folder); err != nil || parsed != id {
		return Removed{}, fmt.Errorf("removing from %q: it is no repository", folder)
	}
	root, err := openFolder(r.cache.root, folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Removed{}, nil
	case errors.Is(err, ErrInTheWay):
		return Removed{Skipped: []Skipped{{folder, whyLink}}}, nil
	case err != nil:
		return Removed{}, fmt.Errorf("opening %s: %w", folder, bare(err))
	}
	m := &removal{Remover: r, id: id, at: folder, root: root}
	if _, known := r.quiet[id]; !known {
		r.quiet[id] = m.isQuiet()
	}
	if err = f(m); err == nil {
		m.tidy()
	}
	return m.out, errors.Join(err, root.Close())
}

func (m *removal) skip(rel, why string) {
	m.out.Skipped = append(m.out.Skipped, Skipped{path.Join(m.at, rel), why})
}

// fail says what failed on which path below the cache folder.
func (m *removal) fail(doing, rel string, err error) error {
	return fmt.Errorf("%s %s: %w", doing, path.Join(m.at, rel), bare(err))
}

// folder opens a folder below the repository's and refuses links on the way.
func (m *removal) folder(rel string) (*os.Root, error) { return openFolders(m.root, rel) }

func openFolders(root *os.Root, rel string) (*os.Root, error) {
	dir, err := root.OpenRoot(".")
	for name := range strings.SplitSeq(rel, "/") {
		if err != nil {
			return nil, err
		}
		above := dir
		dir, err = openFolder(above, name)
		_ = above.Close() // only read from
	}
	return dir, err
}

// unlink removes a file or a link in dir and counts what the disk gets back. rel is its name for people, below the repository's folder.
func (m *removal) unlink(dir *os.Root, name, rel string) error {
	info, err := dir.Lstat(name)
	if err == nil && info.IsDir() {
		m.skip(rel, "it is a folder")
		return nil
	}
	if err == nil {
		err = dir.Remove(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return m.fail("removing", rel, err)
	}
	m.out.Bytes += freed(info)
	m.step("removed " + rel)
	return nil
}

// freed is what the disk gets back when the name goes that info was asked for.
func freed(info fs.FileInfo) int64 {
	bytes, inode := onDisk(info)
	if !info.Mode().IsRegular() || inode.Names > 1 {
		return 0
	}
	return bytes
}

// clear removes a file or a folder with all that is in it, following no link. It is for what we made, or moved aside.
func (m *removal) clear(ctx context.Context, parent *os.Root, name, rel string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := parent.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return m.fail("removing", rel, err)
	case !info.IsDir():
		return m.unlink(parent, name, rel)
	case depth > 2*maxDepth:
		return m.fail("removing", rel, fmt.Errorf("it is more than %d folders deep", 2*maxDepth))
	}
	dir, err := openFolder(parent, name)
	if err != nil {
		return m.fail("removing", rel, err)
	}
	defer dir.Close() //nolint:errcheck // only read from
	entries, err := readNames(dir)
	if err != nil {
		return m.fail("removing", rel, err)
	}
	for _, entry := range entries {
		if err := m.clear(ctx, dir, entry, rel+"/"+entry, depth+1); err != nil {
			return err
		}
	}
	if err := removeDir(parent, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m.fail("removing", rel, err)
	}
	return nil
}

// isQuiet says whether no folder of the repository has changed within the grace period. A client that downloads into a new repository makes its folders and only
// then a file in them, and must find them again.
func (m *removal) isQuiet() bool {
	info, err := m.root.Stat(".")
	if err != nil || m.young(info.ModTime()) {
		return false
	}
	entries, err := readDir(m.root)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == path.Dir(trashDir) {
			continue
		}
		if info, err := e.Info(); err != nil || m.young(info.ModTime()) {
			return false
		}
	}
	return true
}

// tidy removes the folders of a repository in which nothing is left. Folders go one by one, from the bottom up, and only empty ones, so that a file that a client
// makes in this instant stops it. snapshots/ goes last, because a scan of the clients warns about a repository without.
func (m *removal) tidy() {
	if !m.quiet[m.id] {
		return
	}
	folders, empty := hollow(m.root, "", 0)
	if !empty {
		return
	}
	for _, rel := range folders {
		if rel != snapshotsDir && m.rmdir(rel) != nil {
			return
		}
	}
	if err := m.rmdir(snapshotsDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := removeDir(m.cache.root, m.at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		_ = m.root.Mkdir(snapshotsDir, 0o777) // somebody is back; if it cannot be made, neither can what they are about to make
		return
	}
	m.step("removed the repository's folder")
}

func (m *removal) rmdir(rel string) error {
	parent, err := m.root.OpenRoot(filepath.FromSlash(path.Dir(rel)))
	if err != nil {
		return err
	}
	err = removeDir(parent, path.Base(rel))
	m.step("removed the folder " + rel)
	return errors.Join(err, parent.Close())
}

// hollow says whether there are only folders below dir, and none in snapshots/, and lists them, those inside others first.
func hollow(dir *os.Root, rel string, depth int) ([]string, bool) {
	entries, err := readDir(dir)
	if err != nil || depth > maxDepth || (rel == snapshotsDir && len(entries) > 0) {
		return nil, false
	}
	var folders []string
	for _, e := range entries {
		if !e.IsDir() {
			return nil, false
		}
		sub, err := openFolder(dir, e.Name())
		if err != nil {
			return nil, false
		}
		subRel := path.Join(rel, e.Name())
		below, empty := hollow(sub, subRel, depth+1)
		if err := sub.Close(); err != nil || !empty {
			return nil, false
		}
		folders = append(append(folders, below...), subRel)
	}
	return folders, true
}

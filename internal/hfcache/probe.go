package hfcache

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Abilities is what the file system below a cache can do, as found by trying.
type Abilities struct {
	Symlinks bool // without them, snapshots hold hard links or copies
	Locks    bool // a lock that one holds keeps out another; without them, nothing does
	Clones   bool // copies share their blocks until one is written to
	// OneCase says that names which differ only in case are one file.
	OneCase bool
	// AccessTimes says how reading a file changes its access time: "always", "at most daily" or "never"; empty where that cannot be asked.
	AccessTimes string
}

// Probe tries what the file system can do, in a folder of its own below .locks, which clients do not look into, and removes it again. The error says why nothing can be
// written there; it wraps [fs.ErrPermission] or the system's word for a read-only file system.
func (c *Cache) Probe() (a Abilities, err error) {
	fail := func(err error) error { return fmt.Errorf("writing to %s: %w", c.dir, bare(err)) }
	made := c.root.Mkdir(locksDir, 0o777)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return Abilities{}, fail(made)
	}
	if made == nil {
		defer func() { _ = c.root.Remove(locksDir) }() // unless somebody has put something there meanwhile
	}
	rel := locksDir + "/.hf-cache-sync-" + rand.Text()
	if err = c.root.Mkdir(filepath.FromSlash(rel), 0o700); err != nil {
		return Abilities{}, fail(err)
	}
	defer func() {
		if removeErr := c.root.RemoveAll(filepath.FromSlash(rel)); err == nil && removeErr != nil {
			a, err = Abilities{}, fail(removeErr)
		}
	}()
	dir, err := c.root.OpenRoot(filepath.FromSlash(rel))
	if err != nil {
		return Abilities{}, fail(err)
	}
	defer dir.Close() //nolint:errcheck // what was written in it does not matter
	if err = try(dir, &a); err != nil {
		return Abilities{}, fail(err)
	}
	a.AccessTimes = accessTimes(dir)
	return a, nil
}

// try finds out what can be done in an empty folder.
func try(dir *os.Root, a *Abilities) error {
	const name, block = "file", 4096 // blocks of this size can be shared everywhere
	if err := dir.WriteFile(name, make([]byte, block), 0o600); err != nil {
		return err
	}
	_, err := dir.Lstat("FILE")
	a.OneCase = err == nil
	a.Symlinks = dir.Symlink(name, "link") == nil

	one, err := dir.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer one.Close() //nolint:errcheck // it is removed
	other, err := dir.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer other.Close() //nolint:errcheck // it is removed
	if tryLock(one, 0) == nil {
		// Some network file systems let everybody have the lock.
		a.Locks = errors.Is(tryLock(other, 0), ErrBusy)
		_ = unlockFile(one)
	}
	clone, err := dir.Create("clone")
	if err != nil {
		return err
	}
	a.Clones = cloneFile(clone, other) == nil
	return clone.Close()
}

// Traces is what tells which clients have written a cache. A pull of ours leaves the locks and the trees as well.
type Traces struct {
	Tag         bool // CACHEDIR.TAG: huggingface_hub 1.9 or newer
	Locks       bool // .locks: 0.19 or newer
	Trees       bool // trees/ in some repository: 1.22 or newer
	SharedStore bool // the shared blob store: 1.32 or newer
}

// Traces looks for them.
func (c *Cache) Traces() (Traces, error) {
	entries, err := readDir(c.root)
	if err != nil {
		return Traces{}, fmt.Errorf("cache folder %s: %w", c.dir, bare(err))
	}
	t := Traces{SharedStore: c.hasSharedStore()}
	for _, entry := range entries {
		switch name := entry.Name(); name {
		case "CACHEDIR.TAG":
			t.Tag = true
		case locksDir:
			t.Locks = true
		}
	}
	t.Trees = slices.ContainsFunc(entries, func(entry fs.DirEntry) bool {
		if _, err := hub.ParseFolder(entry.Name()); err != nil || !entry.IsDir() {
			return false
		}
		info, err := c.root.Lstat(filepath.FromSlash(path.Join(entry.Name(), treesDir)))
		return err == nil && info.IsDir()
	})
	return t, nil
}

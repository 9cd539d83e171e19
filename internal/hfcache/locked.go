package hfcache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// LockedBlobs are the names of a repository's blobs whose lock somebody holds at this moment, of those that are not in its blobs/ yet. It makes no files, and holds each lock for no
// longer than it takes to find out. Where there are no locks there are none held.
func (c *Cache) LockedBlobs(repo *Repo) []string {
	dir, err := openFolders(c.root, locksDir+"/"+repo.ID.Folder())
	if err != nil {
		return nil
	}
	defer dir.Close() //nolint:errcheck // only read from
	files, err := readNames(dir)
	if err != nil {
		return nil
	}
	var locked []string
	for _, file := range files {
		name, is := strings.CutSuffix(file, lockSuffix)
		if _, there := repo.Blobs[name]; is && !there && isLocked(dir, file) {
			locked = append(locked, name)
		}
	}
	return locked
}

func isLocked(dir *os.Root, name string) bool {
	f, err := openRegular(dir, filepath.FromSlash(name), os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // nothing was written; closing gives the lock up
	return errors.Is(tryLock(f, 0), ErrBusy)
}

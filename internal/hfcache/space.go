package hfcache

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// FreeSpace is how many bytes this user can still write to the cache's file system. The error wraps [errors.ErrUnsupported] where that cannot be asked.
func (c *Cache) FreeSpace() (int64, error) {
	f, err := c.root.Open(".")
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", c.dir, bare(err))
	}
	free, err := freeSpace(f, c.real)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", c.dir, err)
	}
	return free, nil
}

// FreeSpace is how many bytes this user can still write to the file system on which a folder is, or will be once it is made.
func FreeSpace(dir string) (int64, error) {
	for {
		f, err := os.Open(dir)
		if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
			dir = above
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("free space of %s: %w", dir, bare(err))
		}
		free, err := freeSpace(f, dir)
		if err = errors.Join(err, f.Close()); err != nil {
			return 0, fmt.Errorf("free space of %s: %w", dir, err)
		}
		return free, nil
	}
}

// StagedBytes is how much of the disk an unfinished download of a large blob has already. A pull that carries it on needs no more for that.
func (c *Cache) StagedBytes(repo hub.Repo, id hub.BlobID) int64 {
	info, err := c.root.Lstat(filepath.Join(repo.Folder(), blobsDir, "."+string(id)+tempSuffix))
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	bytes, _ := onDisk(info)
	return bytes
}

// product multiplies blocks with their size and stops at the largest number: some network file systems claim to be endless.
func product(blocks, blockSize uint64) int64 {
	high, low := bits.Mul64(blocks, blockSize)
	if high != 0 || low > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(low)
}

// CaseInsensitive says whether names that differ only in case are one file in this cache, as on most macOS and Windows machines. It asks with the folder of
// locks, which clients make in every cache, and makes it if it is missing.
func (c *Cache) CaseInsensitive() bool {
	if err := c.root.Mkdir(locksDir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return false
	}
	plain, err := c.root.Lstat(locksDir)
	if err != nil {
		return false
	}
	shouted, err := c.root.Lstat(strings.ToUpper(locksDir))
	return err == nil && os.SameFile(plain, shouted)
}

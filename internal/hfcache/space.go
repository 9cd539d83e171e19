package hfcache

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"strings"
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

package hfcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names inside a cache folder.
const (
	blobsDir     = "blobs"
	snapshotsDir = "snapshots"
	refsDir      = "refs"
	noExistDir   = ".no_exist"
	treesDir     = "trees"
	locksDir     = ".locks"
)

// Options change how a cache is written. The zero value is right for most.
type Options struct {
	// NoSymlinks writes hard links or copies into snapshots, as on file systems without symbolic links. It is also found out by trying.
	NoSymlinks bool
}

// Cache is an open cache folder.
type Cache struct {
	root    *os.Root
	dir     string // absolute, as the user knows it
	real    string // dir with links resolved, for absolute links found inside
	options Options
}

// Open opens an existing cache folder. The error wraps [fs.ErrNotExist] if there is none.
func Open(dir string, o Options) (*Cache, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cache folder %s: %w", dir, err)
	}
	resolved, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return nil, fmt.Errorf("cache folder %s: %w", abs, err)
	}
	root, err := os.OpenRoot(resolved)
	if err != nil {
		return nil, fmt.Errorf("cache folder %s: %w", abs, err)
	}
	return &Cache{root: root, dir: abs, real: resolved, options: o}, nil
}

// Create opens a cache folder and makes it first if it is missing.
func Create(dir string, o Options) (*Cache, error) {
	// The Hub's clients create it with the umask's mode too.
	if err := os.MkdirAll(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // the umask decides who shares a cache
		return nil, fmt.Errorf("cache folder %s: %w", dir, err)
	}
	return Open(dir, o)
}

// Dir is the cache folder, absolute.
func (c *Cache) Dir() string { return c.dir }

// Close releases the folder. Files opened from it stay usable.
func (c *Cache) Close() error { return c.root.Close() }

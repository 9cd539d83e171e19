package hfcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// maxHops is how many links are followed to a file's bytes. The longest chain that clients make has two.
const maxHops = 8

var (
	errOutside   = errors.New("a link leads outside the cache folder")
	errNoContent = errors.New("it is neither a file nor a link to one")
)

// OpenBytes opens a regular file below the cache folder for reading, without counting as a use of it where the system allows that. rel is
// slash-separated, as in [File.Bytes]; its last element must not be a link.
func (c *Cache) OpenBytes(rel string) (*os.File, error) {
	f, err := openNoAtime(c.root, filepath.FromSlash(rel))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", rel, errNoContent)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// resolve follows links from rel, a path below the cache folder, to a regular file, and describes that. The links may be relative, or absolute if they lead
// back into the cache. The error wraps [fs.ErrNotExist] for a dangling link.
func (c *Cache) resolve(rel string) (string, fs.FileInfo, error) {
	for range maxHops {
		info, err := c.root.Lstat(filepath.FromSlash(rel))
		switch {
		case err != nil:
			return "", nil, err
		case info.Mode().IsRegular():
			return rel, info, nil
		case info.Mode()&fs.ModeSymlink == 0:
			return "", nil, errNoContent
		}
		text, err := c.root.Readlink(filepath.FromSlash(rel))
		if err != nil {
			return "", nil, err
		}
		if rel, err = c.target(path.Dir(rel), text); err != nil {
			return "", nil, err
		}
	}
	return "", nil, errors.New("too many links in a row")
}

// target is where a link in the folder dir points, as a path below the cache folder.
func (c *Cache) target(dir, text string) (string, error) {
	text = strings.TrimPrefix(filepath.ToSlash(text), "//?/") // Windows' prefix for long paths
	if filepath.IsAbs(filepath.FromSlash(text)) {
		for _, base := range []string{c.dir, c.real} {
			rel, err := filepath.Rel(base, filepath.FromSlash(text))
			if err == nil && filepath.IsLocal(rel) {
				return filepath.ToSlash(rel), nil
			}
		}
		return "", errOutside
	}
	joined := path.Join(dir, text)
	if !filepath.IsLocal(filepath.FromSlash(joined)) {
		return "", errOutside
	}
	return joined, nil
}

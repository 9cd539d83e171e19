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

// snapshotLinks are the links in a repository's snapshots, also in those that scans do not understand: clients look into these as well. Places are below the
// repository's folder.
type snapshotLinks struct {
	blobs map[string][]string // by name in blobs/
	// foreign are names in blobs/ that links outside of the cache seem to mean: absolute ones, as huggingface_hub 0.13 made them, where the
	// cache has another path elsewhere, such as in a container.
	foreign map[string]bool
	other   map[string]string // what leads to another place of the cache, by place
	deep    string            // a folder that was not looked into because it is too deep; "" if there is none
}

// leadsTo says whether a link of a snapshot needs the blob.
func (l *snapshotLinks) leadsTo(name string) bool { return len(l.blobs[name]) > 0 || l.foreign[name] }

// readSnapshotLinks reads all links of a repository's snapshots. root is the repository's folder, named folder.
func (c *Cache) readSnapshotLinks(root *os.Root, folder string) (*snapshotLinks, error) {
	r := linkReader{cache: c, folder: folder, found: &snapshotLinks{blobs: map[string][]string{}, foreign: map[string]bool{}, other: map[string]string{}}}
	dir, err := openFolder(root, snapshotsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return r.found, nil
	}
	if err == nil {
		err = r.read(dir, snapshotsDir, 0)
		_ = dir.Close() // only read from
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s/%s: %w", folder, snapshotsDir, bare(err))
	}
	return r.found, nil
}

// linkReader is one call of readSnapshotLinks.
type linkReader struct {
	cache  *Cache
	folder string
	found  *snapshotLinks
}

func (r *linkReader) read(dir *os.Root, rel string, depth int) error {
	entries, err := readDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := rel + "/" + e.Name()
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			if text, err := dir.Readlink(e.Name()); err == nil { // else it was taken away in this instant
				r.link(name, text)
			}
		case e.IsDir() && depth > maxDepth:
			r.found.deep = name
		case e.IsDir():
			if err := r.enter(dir, e.Name(), name, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *linkReader) enter(dir *os.Root, name, rel string, depth int) error {
	sub, err := openFolder(dir, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrInTheWay) {
		return nil // taken away, or replaced, in this instant
	}
	if err != nil {
		return err
	}
	defer sub.Close() //nolint:errcheck // only read from
	return r.read(sub, rel, depth+1)
}

func (r *linkReader) link(place, text string) {
	target, err := r.cache.target(path.Dir(r.folder+"/"+place), text)
	blobs := r.folder + "/" + blobsDir + "/"
	if err != nil {
		if _, name, ok := strings.Cut(filepath.ToSlash(text), "/"+blobs); ok {
			r.found.foreign[name] = true
		}
		return
	}
	if name, ok := strings.CutPrefix(target, blobs); ok {
		r.found.blobs[name] = append(r.found.blobs[name], place)
		return
	}
	r.found.other[place] = target
}

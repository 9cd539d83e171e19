package watch

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Folders inside a unit that are looked at, with all below them if true.
func parts() map[string]bool { return map[string]bool{"blobs": false, "snapshots": true, "refs": true} }

// maxDepth bounds the folders inside each other.
const maxDepth = 64

// tick is the coarsest clock of a file system: what changed less long ago may change once more without another time (two seconds on FAT; git's "racy" entries are the
// same matter).
const tick = 2 * time.Second

// folders is what is known about the folders below the root. Paths are slash-separated; the root is ".".
type folders struct {
	root   string
	wanted func(name string) bool
	known  map[string]*folder
	watch  func(path string) // asks for notifications of a folder that is new
}

// folder is one of them.
type folder struct {
	modified time.Time
	fresh    bool // it had just changed when it was read, so it has to be read again
	children []string
}

// visit looks at a folder and all below it, and calls changed with the units in which anything is different from what is known. now is the present.
func (f *folders) visit(rel string, now time.Time, changed func(unit string)) {
	info, err := os.Lstat(filepath.Join(f.root, filepath.FromSlash(rel)))
	if err != nil || !info.IsDir() || strings.Count(rel, "/") > maxDepth {
		f.forget(rel, changed)
		return
	}
	known := f.known[rel]
	if known == nil {
		known = &folder{fresh: true}
		f.known[rel] = known
		f.watch(rel) // before it is read, so that nothing is missed in between
	}
	if known.fresh || !info.ModTime().Equal(known.modified) {
		known.modified, known.fresh = info.ModTime(), now.Sub(info.ModTime()) < tick
		for _, gone := range f.list(rel, known) {
			f.forget(path.Join(rel, gone), changed)
		}
		if unit := unitOf(rel); unit != "" {
			changed(unit)
		}
	}
	for _, child := range known.children {
		f.visit(path.Join(rel, child), now, changed)
	}
}

// list reads the folders in a folder and returns those that are not there any more.
func (f *folders) list(rel string, known *folder) (gone []string) {
	entries, err := os.ReadDir(filepath.Join(f.root, filepath.FromSlash(rel)))
	if err != nil {
		known.fresh = true // to be tried again
		return nil
	}
	before := known.children
	known.children = nil
	for _, e := range entries {
		if e.IsDir() && f.interesting(rel, e.Name()) {
			known.children = append(known.children, e.Name())
		}
	}
	for _, name := range before {
		if _, there := slices.BinarySearch(known.children, name); !there { // a listing is sorted
			gone = append(gone, name)
		}
	}
	return gone
}

// interesting says whether a folder in another one is looked at.
func (f *folders) interesting(parent, name string) bool {
	if parent == "." {
		return f.wanted(name)
	}
	unit, below, deep := strings.Cut(parent, "/")
	if !deep {
		_, part := parts()[name]
		return part && unit != ""
	}
	top, _, _ := strings.Cut(below, "/")
	return parts()[top]
}

// forget drops a folder and all below it.
func (f *folders) forget(rel string, changed func(unit string)) {
	known := f.known[rel]
	if known == nil {
		return
	}
	for _, child := range known.children {
		f.forget(path.Join(rel, child), func(string) {})
	}
	delete(f.known, rel)
	if unit := unitOf(rel); unit != "" && rel != unit {
		changed(unit)
	}
}

// unitOf is the first element of a path, or nothing for the root.
func unitOf(rel string) string {
	if rel == "." {
		return ""
	}
	unit, _, _ := strings.Cut(rel, "/")
	return unit
}

// exists says whether the root is a folder.
func (f *folders) exists() error {
	info, err := os.Stat(f.root)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "watch", Path: f.root, Err: fs.ErrInvalid}
	}
	return err
}

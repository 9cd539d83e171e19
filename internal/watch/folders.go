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
	tick   time.Duration
	// readDir is os.ReadDir.
	readDir func(name string) ([]fs.DirEntry, error)
	known   map[string]*folder
	watch   func(path string) bool // asks for notifications of a folder, and says whether there will be any
	forgot  func(path string)      // takes that back
	blind   int                    // known folders without notifications
}

func newFolders(root string, wanted func(name string) bool) *folders {
	return &folders{
		root: root, wanted: wanted, tick: tick, readDir: os.ReadDir, known: map[string]*folder{}, watch: func(string) bool { return false }, forgot: func(string) {},
	}
}

// folder is one of them.
type folder struct {
	info     fs.FileInfo // which one it is, and its time
	since    time.Time   // when that time was seen first
	fresh    bool        // it had just changed when it was read, or could not be, so it has to be read again
	denied   bool        // it could not be read
	watched  bool        // there are notifications of it
	children []string
}

// changed is told of a unit in which something may be different. news says that it is, and that no notification told of it.
type changed func(unit string, news bool)

// visit looks at a folder and all below it, and calls tell with the units in which anything is different from what is known. now is the present.
func (f *folders) visit(rel string, now time.Time, tell changed) {
	info, err := f.look(rel)
	if err != nil || !info.IsDir() || strings.Count(rel, "/") > maxDepth {
		f.forget(rel, tell)
		return
	}
	known := f.known[rel]
	if known == nil {
		known = &folder{}
		f.known[rel] = known
		f.blind++
	}
	news := known.info == nil || !info.ModTime().Equal(known.info.ModTime())
	if known.info != nil && known.watched && !os.SameFile(info, known.info) {
		f.unwatch(rel, known) // another one of the same name. Some file systems number folders anew at any time, so that alone is no change.
	}
	if !known.watched && f.watch(rel) { // before it is read, so that nothing is missed in between
		known.watched = true
		f.blind--
	}
	if news {
		known.since = now
	}
	known.info = info
	if news || known.fresh {
		f.read(rel, known, now, news, tell)
	}
	for _, child := range known.children {
		f.visit(path.Join(rel, child), now, tell)
	}
}

// look asks for a folder's time. The root may be a link, nothing below it.
func (f *folders) look(rel string) (fs.FileInfo, error) {
	if rel == "." {
		return os.Stat(f.root)
	}
	return os.Lstat(filepath.Join(f.root, filepath.FromSlash(rel)))
}

// read finds out what is in a folder.
func (f *folders) read(rel string, known *folder, now time.Time, news bool, tell changed) {
	// Its clock need not be ours: a time that was seen a while ago cannot be that of a later change either.
	known.fresh = now.Sub(known.info.ModTime()) < f.tick && now.Sub(known.since) < f.tick
	gone, err := f.list(rel, known)
	if err != nil {
		known.fresh = true
	}
	for _, name := range gone {
		f.forget(path.Join(rel, name), tell)
	}
	stillDenied := err != nil && known.denied && !news
	known.denied = err != nil
	if unit := unitOf(rel); unit != "" && !stillDenied {
		tell(unit, news && !known.watched)
	}
}

// list notes the folders in a folder and returns those that are not there any more.
func (f *folders) list(rel string, known *folder) (gone []string, err error) {
	entries, err := f.readDir(filepath.Join(f.root, filepath.FromSlash(rel)))
	if err != nil {
		return nil, err
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
	return gone, nil
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
func (f *folders) forget(rel string, tell changed) {
	known := f.known[rel]
	if known == nil {
		return
	}
	for _, child := range known.children {
		f.forget(path.Join(rel, child), func(string, bool) {})
	}
	news := !known.watched
	if known.watched {
		f.unwatch(rel, known)
	}
	delete(f.known, rel)
	f.blind--
	if unit := unitOf(rel); unit != "" && rel != unit {
		tell(unit, news)
	}
}

// unwatch does without notifications of a folder. One that was moved away has to be let go before its new name is watched: the system takes both for the same
// watch, and tells of it by the old name.
func (f *folders) unwatch(rel string, known *folder) {
	f.forgot(rel)
	known.watched = false
	f.blind++
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

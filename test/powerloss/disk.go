//go:build linux && (amd64 || arm64)

package powerloss

import (
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// smallFile is up to which size the content of a file is kept as of each write.
const smallFile = 128 << 10

// never is the end of a call that has not come to its end.
const never = math.MaxInt

// span is a call, from its begin to its end, in steps of the record.
type span struct{ begin, end int }

// node is a file, a folder or a link: an inode.
type node struct {
	key     inode
	mode    fs.FileMode
	mtime   time.Time
	target  string // of a link
	data    []byte // of a small file, before the record begins
	size    int64  // of any file, then
	saved   string // where the bytes of a large file are that was there before
	initial map[string]*node
	entries map[string]*node // as the running system sees them; nil but for folders
	parent  *node            // of a folder
	name    string           // of a folder
	names   int
	writes  []*write
	syncs   []*span // of this inode alone
}

// inode is how the system tells files apart while they exist.
type inode struct{ dev, ino uint64 }

// write is a call that changes a file's content, its length included.
type write struct {
	span
	size int64  // afterwards
	data []byte // afterwards, of a small file
}

// place is an entry of a folder.
type place struct {
	dir  *node
	name string
}

func (p place) path() string {
	name := p.name
	for dir := p.dir; dir != nil && dir.parent != nil; dir = dir.parent {
		name = path.Join(dir.name, name)
	}
	return name
}

// change is a call that changes the entries of folders: what had the name from,
// if that is given, has the name to, if that is.
type change struct {
	span
	node     *node
	from, to place
	fromPath string // below the world, as they were at that moment
	toPath   string
}

// Disk is what was recorded of one folder, the world, in any number of runs.
type Disk struct {
	root     string
	base     string // a copy of the world as it was before
	top      *node
	byInode  map[inode]*node
	clock    int
	changes  []*change
	flushes  []*span // syncs of the whole file system
	problems []string
}

// NewDisk begins a record of the folder root. What it holds counts as durable.
// It is copied to the folder base, from which the dead are raised.
func NewDisk(root, base string) (*Disk, error) {
	d := &Disk{root: root, base: base, byInode: map[inode]*node{}}
	info, err := os.Lstat(root)
	if err != nil {
		return nil, fmt.Errorf("looking at the world: %w", err)
	}
	d.top, err = d.load("", info)
	return d, err
}

// inodeOf identifies a file.
func inodeOf(info fs.FileInfo) inode {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return inode{s.Dev, s.Ino}
	}
	return inode{}
}

// load reads what is at rel, with all below it.
func (d *Disk) load(rel string, info fs.FileInfo) (*node, error) {
	key := inodeOf(info)
	if n := d.byInode[key]; n != nil {
		return n, nil
	}
	at := filepath.Join(d.root, rel)
	n := &node{key: key, mode: info.Mode(), mtime: info.ModTime(), size: info.Size()}
	d.byInode[key] = n
	var err error
	switch {
	case info.IsDir():
		n.entries, n.initial = map[string]*node{}, map[string]*node{}
		err = d.loadEntries(n, rel)
	case info.Mode()&fs.ModeSymlink != 0:
		n.target, err = os.Readlink(at)
	case info.Size() <= smallFile:
		n.data, err = os.ReadFile(at)
	default:
		n.saved = filepath.Join(d.base, fmt.Sprintf("%d-%d", key.dev, key.ino))
		err = copyFile(n.saved, at)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the world: %w", err)
	}
	return n, nil
}

func (d *Disk) loadEntries(dir *node, rel string) error {
	entries, err := os.ReadDir(filepath.Join(d.root, rel))
	if err != nil {
		return err //nolint:wrapcheck // The caller does.
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err //nolint:wrapcheck // The caller does.
		}
		n, err := d.load(filepath.Join(rel, e.Name()), info)
		if err != nil {
			return err
		}
		d.put(place{dir, e.Name()}, n)
		dir.initial[e.Name()] = n
	}
	return nil
}

// put gives n a name, in the running system.
func (d *Disk) put(at place, n *node) {
	if old := at.dir.entries[at.name]; old != nil {
		d.drop(at, old)
	}
	at.dir.entries[at.name] = n
	n.names++
	if n.entries != nil {
		n.parent, n.name = at.dir, at.name
	}
}

// drop takes a name away from n, in the running system.
func (d *Disk) drop(at place, n *node) {
	delete(at.dir.entries, at.name)
	n.names--
	if n.names == 0 && d.byInode[n.key] == n {
		delete(d.byInode, n.key) // The number may be given to another file now.
	}
}

// step is the next moment of the record.
func (d *Disk) step() int {
	d.clock++
	return d.clock
}

// apply adds a change that has come to its end.
func (d *Disk) apply(c *change) {
	if c.from.dir != nil && c.to.dir != nil && c.to.dir.entries[c.to.name] == c.node {
		return // Renaming a file over another name of itself does nothing.
	}
	if c.to.dir != nil {
		c.toPath = c.to.path()
	}
	if c.from.dir != nil {
		c.fromPath = c.from.path()
	}
	c.node.names++ // It is not gone between the two.
	if c.from.dir != nil && c.from.dir.entries[c.from.name] == c.node {
		d.drop(c.from, c.node)
	}
	if c.to.dir != nil {
		d.put(c.to, c.node)
	}
	c.node.names--
	if c.node.names == 0 && d.byInode[c.node.key] == c.node {
		delete(d.byInode, c.node.key)
	}
	d.changes = append(d.changes, c)
}

// synced says whether a sync of n, or of everything, began after the moment
// since and had come to its end by the moment at.
func (d *Disk) synced(n *node, since, at int) bool {
	covers := func(s *span) bool { return s.begin > since && s.end <= at }
	return slices.ContainsFunc(n.syncs, covers) || slices.ContainsFunc(d.flushes, covers)
}

// durable says whether a change would be found after a power loss at the moment
// at, in any case.
func (d *Disk) durable(c *change, at int) bool {
	return c.end <= at && ((c.to.dir != nil && d.synced(c.to.dir, c.end, at)) || (c.from.dir != nil && d.synced(c.from.dir, c.end, at)))
}

// dirty says whether the content of n, at the moment at, is not all on the disk.
func (d *Disk) dirty(n *node, at int) bool {
	for _, w := range slices.Backward(n.writes) {
		if w.begin <= at {
			return w.end > at || !d.synced(n, w.end, at)
		}
	}
	return false
}

// last is the last write to n that had come to its end by the moment at, or nil.
func (n *node) last(at int) *write {
	for _, w := range slices.Backward(n.writes) {
		if w.end <= at {
			return w
		}
	}
	return nil
}

func (n *node) sizeAt(at int) int64 {
	if w := n.last(at); w != nil {
		return w.size
	}
	return n.size
}

// small is the content of a small file at the moment at.
func (n *node) small(at int) []byte {
	if w := n.last(at); w != nil {
		return w.data
	}
	return n.data
}

// tree is the entries of every folder.
type tree map[*node]map[string]*node

// at is what is in the folders after a power loss at the moment at, if of the
// changes that are not durable those are kept that keep says.
func (d *Disk) at(at int, keep func(*change) bool) tree {
	t := tree{}
	entries := func(dir *node) map[string]*node {
		if t[dir] == nil {
			t[dir] = maps.Clone(dir.initial)
			if t[dir] == nil {
				t[dir] = map[string]*node{}
			}
		}
		return t[dir]
	}
	entries(d.top)
	for _, c := range d.changes {
		if c.end > at || (!d.durable(c, at) && !keep(c)) {
			continue
		}
		if c.from.dir != nil && entries(c.from.dir)[c.from.name] == c.node {
			delete(entries(c.from.dir), c.from.name)
		}
		if c.to.dir != nil {
			entries(c.to.dir)[c.to.name] = c.node
		}
		if c.node.mode.IsDir() {
			entries(c.node)
		}
	}
	return t
}

// list is what is in dir.
func (t tree) list(dir *node) map[string]*node {
	if entries, ok := t[dir]; ok {
		return entries
	}
	return dir.initial
}

// find is what the slash-separated path names, following links of the world.
func (t tree) find(top *node, name string) *node { return t.resolve([]*node{top}, name, 0) }

func (t tree) resolve(way []*node, name string, depth int) *node {
	const most = 40
	for _, elem := range splitPath(name) {
		if elem == ".." {
			way = way[:max(1, len(way)-1)]
			continue
		}
		n := t.list(way[len(way)-1])[elem]
		if n == nil || depth > most {
			return nil
		}
		if n.mode&fs.ModeSymlink != 0 {
			if path.IsAbs(n.target) {
				return nil
			}
			if n = t.resolve(slices.Clone(way), n.target, depth+1); n == nil {
				return nil
			}
		}
		way = append(way, n)
	}
	return way[len(way)-1]
}

func splitPath(name string) []string {
	var elems []string
	for elem := range strings.SplitSeq(name, "/") {
		if elem != "" && elem != "." {
			elems = append(elems, elem)
		}
	}
	return elems
}

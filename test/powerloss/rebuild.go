//go:build linux && (amd64 || arm64)

package powerloss

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Damage is what becomes of a file's bytes that were not synced.
type Damage uint8

// What file systems are known to leave of a file whose entry is newer than its
// bytes.
const (
	Zeros Damage = iota // its full length, and nothing in it
	Empty               // no length
	Torn                // its full length, and every second block
	damages
)

// State is one way in which a disk can be found after a power loss.
type State struct {
	At     int // the moment of the record
	Keep   Keep
	Damage Damage
}

// Keep is which changes of folders are found that nothing has made durable.
type Keep uint8

// The ways of keeping.
const (
	All    Keep = iota // as where folders are journalled in order
	None               // nothing but what was synced
	Latest             // the last one alone, before all that it builds on
	Half               // every second one
	keeps
)

func (k Keep) String() string { return [...]string{"all", "none", "the latest", "half"}[k] }

func (d Damage) String() string { return [...]string{"zeros", "empty", "torn"}[d] }

func (s State) String() string {
	return fmt.Sprintf("power lost at moment %d, of unsynced entries %s kept, unsynced bytes %s", s.At, s.Keep, s.Damage)
}

// tree is the folders as the state has them.
func (d *Disk) tree(s State) tree {
	var latest *change
	for _, c := range d.changes {
		if c.end <= s.At && !d.durable(c, s.At) && d.matters(c) {
			latest = c
		}
	}
	odd := false
	return d.at(s.At, func(c *change) bool {
		odd = !odd
		return s.Keep == All || (s.Keep == Latest && c == latest) || (s.Keep == Half && odd)
	})
}

// matters says whether a change is one of names that somebody reads.
func (d *Disk) matters(c *change) bool {
	return (c.to.dir != nil && isFinal(c.toPath)) || (c.from.dir != nil && isFinal(c.fromPath))
}

// Moments are where a power loss makes a difference: the end of each change and
// of each sync, and of each run of writes to one file.
func (d *Disk) Moments() []int {
	set := map[int]bool{}
	add := func(s span) {
		if s.end <= d.clock {
			set[s.end] = true
		}
	}
	for _, c := range d.changes {
		add(c.span)
	}
	for _, s := range d.flushes {
		add(*s)
	}
	for _, n := range d.nodes() {
		for _, s := range n.syncs {
			add(*s)
		}
		if len(n.writes) > 0 {
			add(n.writes[len(n.writes)/2].span) // In the middle of a download.
			add(n.writes[len(n.writes)-1].span)
		}
	}
	var moments []int
	for at := range set {
		moments = append(moments, at)
	}
	slices.Sort(moments)
	return moments
}

// nodes is everything that was ever there.
func (d *Disk) nodes() []*node {
	seen := map[*node]bool{}
	var all []*node
	var walk func(n *node)
	walk = func(n *node) {
		if n == nil || seen[n] {
			return
		}
		seen[n] = true
		all = append(all, n)
		for _, below := range n.initial {
			walk(below)
		}
	}
	walk(d.top)
	for _, c := range d.changes {
		walk(c.node)
	}
	return all
}

// Rebuild makes the folder dir what the world is after a power loss. The world
// as it was at the end of the record is in the folder after.
func (d *Disk) Rebuild(s State, dir, after string) error {
	b := &builder{disk: d, state: s, tree: d.tree(s), after: after, last: d.lastPaths(), done: map[*node]string{}}
	if err := b.build(d.top, dir); err != nil {
		return fmt.Errorf("rebuilding the disk: %w", err)
	}
	return nil
}

// lastPaths is where each file is at the end of the record.
func (d *Disk) lastPaths() map[*node]string {
	paths := map[*node]string{}
	var walk func(dir *node, rel string)
	walk = func(dir *node, rel string) {
		for name, n := range dir.entries {
			paths[n] = filepath.Join(rel, name)
			if n.entries != nil {
				walk(n, paths[n])
			}
		}
	}
	walk(d.top, "")
	return paths
}

// builder is one call of Rebuild.
type builder struct {
	disk  *Disk
	state State
	tree  tree
	after string
	last  map[*node]string
	done  map[*node]string // files by the name that they were given first
}

func (b *builder) build(n *node, at string) error {
	if first, ok := b.done[n]; ok {
		return os.Link(first, at) //nolint:wrapcheck // Rebuild does.
	}
	switch {
	case n.mode.IsDir():
		if err := os.MkdirAll(at, 0o700); err != nil {
			return err //nolint:wrapcheck // Rebuild does.
		}
		for name, below := range b.tree.list(n) {
			if err := b.build(below, filepath.Join(at, name)); err != nil {
				return err
			}
		}
		if err := os.Chmod(at, n.mode.Perm()); err != nil {
			return err //nolint:wrapcheck // Rebuild does.
		}
	case n.mode&fs.ModeSymlink != 0:
		return os.Symlink(n.target, at) //nolint:wrapcheck // Rebuild does.
	default:
		b.done[n] = at
		if err := b.file(n, at); err != nil {
			return err
		}
	}
	return os.Chtimes(at, n.mtime, n.mtime) //nolint:wrapcheck // Rebuild does.
}

func (b *builder) file(n *node, at string) (err error) {
	size := n.sizeAt(b.state.At)
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, n.mode.Perm())
	if err != nil {
		return err //nolint:wrapcheck // Rebuild does.
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	dirty := b.disk.dirty(n, b.state.At)
	if dirty && b.state.Damage == Empty {
		return nil
	}
	if !dirty || b.state.Damage == Torn {
		if err = b.bytes(n, f, size, dirty); err != nil {
			return err
		}
	}
	return f.Truncate(size) //nolint:wrapcheck // Rebuild does.
}

// bytes writes what n holds, and of a torn file every second block.
func (b *builder) bytes(n *node, f *os.File, size int64, torn bool) error {
	data := n.small(b.state.At)
	var from io.ReaderAt
	switch w := n.last(b.state.At); {
	case size <= smallFile:
		const block = 4 << 10
		for i := 0; i < len(data); i += block {
			if part := data[i:min(i+block, len(data))]; !torn || i/block%2 == 0 && len(data) > block {
				if _, err := f.WriteAt(part, int64(i)); err != nil {
					return err //nolint:wrapcheck // Rebuild does.
				}
			}
		}
		return nil
	case w == nil && n.saved != "":
		file, err := os.Open(n.saved)
		if err != nil {
			return err //nolint:wrapcheck // Rebuild does.
		}
		defer file.Close() //nolint:errcheck // only read from
		from = file
	default:
		file, err := os.Open(filepath.Join(b.after, b.last[n]))
		if b.last[n] == "" || errors.Is(err, fs.ErrNotExist) {
			return nil // It was removed since: zeros are as good as any.
		}
		if err != nil {
			return err //nolint:wrapcheck // Rebuild does.
		}
		defer file.Close() //nolint:errcheck // only read from
		from = file
	}
	const block = 1 << 20
	buf := make([]byte, block)
	for i := int64(0); i < size; i += block {
		if torn && i/block%2 == 1 {
			continue
		}
		read, err := from.ReadAt(buf[:min(block, size-i)], i)
		if err != nil && !errors.Is(err, io.EOF) {
			return err //nolint:wrapcheck // Rebuild does.
		}
		if _, err = f.WriteAt(buf[:read], i); err != nil {
			return err //nolint:wrapcheck // Rebuild does.
		}
	}
	return nil
}

// copyFile copies a file.
func copyFile(to, from string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err //nolint:wrapcheck // The caller does.
	}
	defer src.Close() //nolint:errcheck // only read from
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // The caller does.
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// States are all moments, in order, each with one kind of loss, and all kinds in
// turn: the disks of neighbouring moments differ by little.
func (d *Disk) States() []State {
	moments := d.Moments()
	states := make([]State, len(moments))
	for i, at := range moments {
		states[i] = State{At: at, Keep: Keep(i % int(keeps)), Damage: Damage(i % int(damages))}
	}
	return states
}

// Wrote says whether a file whose name ends like that has been written to so
// many times.
func (d *Disk) Wrote(suffix string, times int) bool {
	for _, c := range d.changes {
		if strings.HasSuffix(c.toPath, suffix) && len(c.node.writes) >= times {
			return true
		}
	}
	return false
}

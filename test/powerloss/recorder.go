//go:build linux && (amd64 || arm64)

package powerloss

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// watched are the calls that a record is made of: all that make, change, sync or
// name files, and io_uring, by which that could be done unseen.
func watched() []int {
	calls := []int{
		unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_PWRITEV2,
		unix.SYS_COPY_FILE_RANGE, unix.SYS_SENDFILE, unix.SYS_SPLICE, unix.SYS_FTRUNCATE, unix.SYS_TRUNCATE, unix.SYS_FALLOCATE, unix.SYS_IOCTL,
		unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNCFS, unix.SYS_SYNC, unix.SYS_MKDIRAT,
		unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_UNLINKAT, unix.SYS_IO_URING_SETUP,
	}
	for old := range oldCalls() {
		calls = append(calls, old)
	}
	return calls
}

// recorder writes one run into a Disk.
type recorder struct {
	disk    *Disk
	pending map[int]*pending // by thread
	kill    func(*Disk) bool // nil for a run in peace
}

// pending is a call that has begun and not ended.
type pending struct {
	call
	begin    int
	write    *write
	node     *node // written to or synced; nil for all of the file system
	from, to place
	target   string
}

func (r *recorder) enough() bool { return r.kill != nil && r.kill(r.disk) }

func (r *recorder) problem(format string, args ...any) {
	r.disk.problems = append(r.disk.problems, fmt.Sprintf(format, args...))
}

// enter is the begin of a call.
func (r *recorder) enter(tid int, c call) bool {
	p := &pending{call: c.modern()}
	if !r.prepare(tid, p) {
		return false
	}
	p.begin = r.disk.step()
	if p.write != nil {
		p.write.span = span{p.begin, never}
		p.node.writes = append(p.node.writes, p.write)
	}
	r.pending[tid] = p
	return true
}

// alone is for calls that make, take or give names.
func (r *recorder) alone(tid int, c call) bool {
	switch p := (&pending{call: c.modern()}); p.nr {
	case unix.SYS_MKDIRAT, unix.SYS_SYMLINKAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT:
		return true
	case unix.SYS_OPENAT, unix.SYS_OPENAT2:
		return r.prepare(tid, p)
	default:
		return false
	}
}

// prepare finds out what a call is about, and says whether that concerns us.
func (r *recorder) prepare(tid int, p *pending) bool {
	a := p.args
	switch p.nr {
	case unix.SYS_OPENAT, unix.SYS_OPENAT2:
		how := a[2]
		if p.nr == unix.SYS_OPENAT2 {
			var err error
			if how, err = flags(tid, a[2]); err != nil {
				r.problem("openat2: %v", err)
			}
		}
		return how&(unix.O_CREAT|unix.O_TRUNC) != 0
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_PWRITEV2, unix.SYS_SENDFILE, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE:
		return r.writes(tid, p, a[0])
	case unix.SYS_COPY_FILE_RANGE, unix.SYS_SPLICE:
		return r.writes(tid, p, a[2])
	case unix.SYS_IOCTL:
		const clone, cloneRange = unix.FICLONE, 0x4020940d
		return (a[1] == clone || a[1] == cloneRange) && r.writes(tid, p, a[0])
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		p.node = r.disk.byInode[r.descriptor(tid, a[0])]
		return p.node != nil
	case unix.SYS_SYNC, unix.SYS_SYNCFS:
		return p.nr == unix.SYS_SYNC || r.descriptor(tid, a[0]).dev == r.disk.top.key.dev
	case unix.SYS_MKDIRAT:
		p.to = r.place(tid, a[0], a[1])
		return p.to.dir != nil
	case unix.SYS_SYMLINKAT:
		var err error
		if p.target, err = text(tid, a[0]); err != nil {
			r.problem("symlinkat: %v", err)
		}
		p.to = r.place(tid, a[1], a[2])
		return p.to.dir != nil
	case unix.SYS_UNLINKAT:
		p.from = r.place(tid, a[0], a[1])
		return p.from.dir != nil
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT:
		p.from, p.to = r.place(tid, a[0], a[1]), r.place(tid, a[2], a[3])
		if p.nr == unix.SYS_RENAMEAT2 && a[4]&^unix.RENAME_NOREPLACE != 0 {
			r.problem("renameat2 with the flags %#x is not understood", a[4])
		}
		return p.from.dir != nil || p.to.dir != nil
	default:
		r.problem("the call %d is not understood", p.nr)
		return false
	}
}

// writes says whether the descriptor is of a file of the world.
func (r *recorder) writes(tid int, p *pending, fd uint64) bool {
	n := r.disk.byInode[r.descriptor(tid, fd)]
	if n == nil || !n.mode.IsRegular() {
		return false
	}
	p.node, p.write = n, &write{}
	return true
}

func descriptorPath(tid int, fd uint64) string {
	if int32(fd) == unix.AT_FDCWD {
		return fmt.Sprintf("/proc/%d/cwd", tid)
	}
	return fmt.Sprintf("/proc/%d/fd/%d", tid, int32(fd))
}

// descriptor identifies an open file.
func (r *recorder) descriptor(tid int, fd uint64) inode {
	info, err := os.Stat(descriptorPath(tid, fd))
	if err != nil {
		return inode{}
	}
	return inodeOf(info)
}

// place finds the folder in which a path is, and its name there. The folder is
// nil if it is none of the world's.
func (r *recorder) place(tid int, fd, at uint64) place {
	name, err := text(tid, at)
	if err != nil {
		r.problem("a path: %v", err)
		return place{}
	}
	dir, name := filepath.Split(strings.TrimRight(name, "/"))
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(descriptorPath(tid, fd), dir)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return place{}
	}
	n := r.disk.byInode[inodeOf(info)]
	if n == nil || n.entries == nil {
		return place{}
	}
	return place{n, name}
}

// leave is the end of a call.
func (r *recorder) leave(tid int, result int64) {
	p := r.pending[tid]
	if p == nil {
		return
	}
	delete(r.pending, tid)
	end := r.disk.step()
	if result < 0 {
		if p.write != nil {
			p.node.writes = slices.DeleteFunc(p.node.writes, func(w *write) bool { return w == p.write })
		}
		return
	}
	r.done(tid, p, span{p.begin, end}, result)
}

// done takes down a call that went well.
func (r *recorder) done(tid int, p *pending, s span, result int64) {
	d := r.disk
	switch {
	case p.write != nil:
		p.write.end = s.end
		r.content(tid, p)
	case p.nr == unix.SYS_OPENAT || p.nr == unix.SYS_OPENAT2:
		r.opened(tid, s, uint64(result))
	case p.nr == unix.SYS_SYNC || p.nr == unix.SYS_SYNCFS:
		d.flushes = append(d.flushes, &s)
	case p.nr == unix.SYS_FSYNC || p.nr == unix.SYS_FDATASYNC:
		p.node.syncs = append(p.node.syncs, &s)
	case p.nr == unix.SYS_MKDIRAT, p.nr == unix.SYS_SYMLINKAT:
		r.made(p, s)
	case p.nr == unix.SYS_UNLINKAT:
		if n := p.from.dir.entries[p.from.name]; n != nil {
			d.apply(&change{span: s, node: n, from: p.from})
		} else {
			r.problem("%s was removed and is not known", p.from.path())
		}
	case p.from.dir == nil || p.to.dir == nil:
		r.problem("something was moved over the border of the world")
	default:
		r.moved(p, s)
	}
}

func (r *recorder) moved(p *pending, s span) {
	n := p.from.dir.entries[p.from.name]
	if n == nil {
		r.problem("%s was moved and is not known", p.from.path())
		return
	}
	c := &change{span: s, node: n, from: p.from, to: p.to}
	if p.nr == unix.SYS_LINKAT {
		c.from = place{}
	}
	r.disk.apply(c)
}

// made is a new folder or link.
func (r *recorder) made(p *pending, s span) {
	info, err := os.Lstat(filepath.Join(r.disk.root, p.to.path()))
	if err != nil {
		r.problem("looking at what was made: %v", err)
		return
	}
	r.disk.created(info, p.to, p.target, s)
}

// created adds a node that did not exist before.
func (d *Disk) created(info fs.FileInfo, at place, target string, s span) {
	n := &node{key: inodeOf(info), mode: info.Mode(), mtime: info.ModTime(), target: target}
	if info.IsDir() {
		n.entries, n.initial = map[string]*node{}, map[string]*node{}
	}
	d.byInode[n.key] = n
	d.apply(&change{span: s, node: n, to: at})
}

// opened is a file that was opened and may have been made, or cut to nothing.
func (r *recorder) opened(tid int, s span, fd uint64) {
	link := descriptorPath(tid, fd)
	name, err := os.Readlink(link)
	var info fs.FileInfo
	if err == nil {
		info, err = os.Stat(link)
	}
	if err != nil {
		r.problem("looking at what was opened: %v", err)
		return
	}
	if !info.Mode().IsRegular() {
		return
	}
	d := r.disk
	dirInfo, err := os.Stat(filepath.Dir(name))
	if err != nil {
		return
	}
	dir := d.byInode[inodeOf(dirInfo)]
	if dir == nil || dir.entries == nil {
		return
	}
	at := place{dir, filepath.Base(name)}
	if n := at.dir.entries[at.name]; n != nil && n.key == inodeOf(info) {
		if n.sizeAt(s.end) != info.Size() { // cut by O_TRUNC
			n.writes = append(n.writes, &write{span: s, size: info.Size(), data: []byte{}})
		}
		return
	}
	d.created(info, at, "", s)
}

// content keeps what a small file holds after a write.
func (r *recorder) content(tid int, p *pending) {
	fd := p.args[0]
	if p.nr == unix.SYS_COPY_FILE_RANGE || p.nr == unix.SYS_SPLICE {
		fd = p.args[2]
	}
	link := descriptorPath(tid, fd)
	info, err := os.Stat(link)
	if err != nil {
		r.problem("looking at what was written: %v", err)
		return
	}
	p.write.size = info.Size()
	if info.Size() > smallFile {
		return
	}
	if p.write.data, err = os.ReadFile(link); err != nil && !errors.Is(err, fs.ErrPermission) {
		r.problem("reading what was written: %v", err)
	}
	p.write.size = int64(len(p.write.data))
}

// gone is the end of a thread. What it was about to write may have been written.
func (r *recorder) gone(tid int) {
	p := r.pending[tid]
	if p == nil {
		return
	}
	delete(r.pending, tid)
	if p.write != nil {
		p.write.end = r.disk.step()
		last := p.node.last(p.write.begin)
		p.write.size, p.write.data = p.node.size, p.node.data
		if last != nil {
			p.write.size, p.write.data = last.size, last.data
		}
	}
}

// Record runs the program to its end, or until kill says that it is enough, and
// adds what it does to the record. It returns the exit code, -1 if it was killed.
func (d *Disk) Record(args, env []string, stdout, stderr *os.File, kill func(*Disk) bool) (int, error) {
	r := &recorder{disk: d, pending: map[int]*pending{}, kill: kill}
	code, err := run(r, args, env, filepath.Join(d.root, "work"), stdout, stderr)
	if err != nil {
		return 0, err
	}
	if err = d.reconcile(d.top, "", kill != nil); err != nil {
		return 0, err
	}
	if len(d.problems) > 0 {
		return 0, fmt.Errorf("the record is not to be trusted: %s", strings.Join(d.problems, "; "))
	}
	return code, nil
}

// reconcile compares the folder with the record of it: whatever has changed
// must have been seen. A kill hides the end of calls, whose outcome is taken over.
func (d *Disk) reconcile(dir *node, rel string, killed bool) error {
	entries, err := os.ReadDir(filepath.Join(d.root, rel))
	if err != nil {
		return fmt.Errorf("comparing the record with the disk: %w", err)
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name()] = true
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("comparing the record with the disk: %w", err)
		}
		n := dir.entries[e.Name()]
		at := filepath.Join(rel, e.Name())
		if n == nil || n.key != inodeOf(info) {
			if !killed {
				return fmt.Errorf("%s is there, and the record does not say so", at)
			}
			d.caughtUp(info, place{dir, e.Name()}, at)
			continue
		}
		n.mtime = info.ModTime()
		if info.Mode().IsRegular() && n.sizeAt(d.clock) != info.Size() {
			if !killed {
				return fmt.Errorf("%s has %s bytes, and %d by the record", at, strconv.FormatInt(info.Size(), 10), n.sizeAt(d.clock))
			}
			s := d.step()
			n.writes = append(n.writes, &write{span: span{s, s}, size: info.Size(), data: d.bytesOf(at, info.Size())})
		}
		if info.IsDir() {
			if err := d.reconcile(n, at, killed); err != nil {
				return err
			}
		}
	}
	for name, n := range dir.entries {
		if !there[name] {
			if !killed {
				return fmt.Errorf("%s is gone, and the record does not say so", filepath.Join(rel, name))
			}
			s := d.step()
			d.apply(&change{span: span{s, s}, node: n, from: place{dir, name}})
		}
	}
	return nil
}

// caughtUp takes over a name whose making was not seen to its end.
func (d *Disk) caughtUp(info fs.FileInfo, at place, rel string) {
	s := d.step()
	if n := d.byInode[inodeOf(info)]; n != nil {
		d.apply(&change{span: span{s, s}, node: n, to: at})
		return
	}
	target, _ := os.Readlink(filepath.Join(d.root, rel)) // Nothing for what is no link.
	d.created(info, at, target, span{s, s})
	if info.Mode().IsRegular() && info.Size() > 0 {
		n := at.dir.entries[at.name]
		n.writes = append(n.writes, &write{span: span{s, s}, size: info.Size(), data: d.bytesOf(rel, info.Size())})
	}
}

func (d *Disk) bytesOf(rel string, size int64) []byte {
	if size > smallFile {
		return nil
	}
	data, _ := os.ReadFile(filepath.Join(d.root, rel)) // A file that was left by a kill can be read by its owner.
	return data
}

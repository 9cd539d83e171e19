package hfcache

import (
	"bufio"
	"context"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// procRoot is where Linux tells about processes (proc(5)).
const procRoot = "/proc"

// openFiles finds out which files of the cache other processes have open or mapped.
func (c *Cache) openFiles(ctx context.Context) (map[string][]Process, error) {
	return c.openFilesOf(ctx, procRoot)
}

// openFilesOf reads a process file system. Processes that this user may not look at are passed over. Nothing that a process has open is asked for itself: it may lie on a
// server that does not answer. What is in the process file system is enough.
func (c *Cache) openFilesOf(ctx context.Context, proc string) (map[string][]Process, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return map[string][]Process{}, nil //nolint:nilerr // a container without it can tell nothing
	}
	var ids []int
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil && id != os.Getpid() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	found := map[string][]Process{}
	for _, id := range ids {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		p := process{cache: c, dir: filepath.Join(proc, strconv.Itoa(id)), places: map[string]bool{}}
		p.descriptors()
		p.mappings()
		if len(p.places) == 0 {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(p.dir, "comm")) // only for the message
		for place := range p.places {
			found[place] = append(found[place], Process{ID: id, Name: strings.ToValidUTF8(strings.TrimSpace(string(name)), "?")})
		}
	}
	return found, nil
}

// process is another process, as far as the cache is concerned.
type process struct {
	cache  *Cache
	dir    string          // its folder in the process file system
	places map[string]bool // the files that it uses, below the cache folder
}

// deletedMark is behind the path of a file that has lost the name under which it was opened.
const deletedMark = " (deleted)"

// uses takes down a path by which the process knows a file. Where the process sees the cache under the same path, that is enough. In a container of its own it does not, and then
// the path's end tells which file may be meant and the inode whether it is; likewise if the name was deleted, and then perhaps given to another file. Without an inode, "", which kernels before 5.14 do not
// tell, it counts if there is such a file: rather too much stays than too little.
func (p *process) uses(path string, inode func() string) {
	if rel, inside := strings.CutPrefix(path, p.cache.real+"/"); inside && !strings.HasSuffix(path, deletedMark) {
		p.places[rel] = true
		return
	}
	for place := range p.cache.likePlaces(path) {
		info, err := p.cache.root.Lstat(place)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if ino := inode(); ino == "" || ino == inodeText(info) {
			p.places[place] = true
		}
	}
}

// descriptors finds the open files.
func (p *process) descriptors() {
	links, err := os.ReadDir(filepath.Join(p.dir, "fd"))
	if err != nil {
		return
	}
	for _, link := range links {
		if text, err := os.Readlink(filepath.Join(p.dir, "fd", link.Name())); err == nil && strings.HasPrefix(text, "/") {
			p.uses(text, func() string { return p.inodeOf(link.Name()) })
		}
	}
}

// inodeOf is the inode of an open file, without touching the file.
func (p *process) inodeOf(descriptor string) string {
	text, err := os.ReadFile(filepath.Join(p.dir, "fdinfo", descriptor))
	if err != nil {
		return "0" // closed by now: no file has this number
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if inode, ok := strings.CutPrefix(line, "ino:"); ok {
			return strings.TrimSpace(inode)
		}
	}
	return ""
}

// mappings finds the mapped files: libraries for weights close the file and keep the mapping.
func (p *process) mappings() {
	f, err := os.Open(filepath.Join(p.dir, "maps"))
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // only read from
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// address perms offset dev inode path; the path begins with a slash if there is one.
		at := strings.IndexByte(lines.Text(), '/')
		if at < 0 {
			continue
		}
		const inodeField = 4
		inode := "0"
		if fields := strings.Fields(lines.Text()[:at]); len(fields) > inodeField {
			inode = fields[inodeField]
		}
		path := lines.Text()[at:]
		p.uses(path, func() string { return inode })
		if strings.Contains(path, `\012`) { // a newline looks like this, and so do these four characters
			p.uses(strings.ReplaceAll(path, `\012`, "\n"), func() string { return inode })
		}
	}
}

// likePlaces are the ends of a path that look like places in a Hub cache.
func (c *Cache) likePlaces(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for at := range len(path) {
			rest, found := strings.CutPrefix(path[at:], "/")
			if !found || !slices.ContainsFunc([]string{"models--", "datasets--", "spaces--", "kernels--", blobsDir + "/"}, func(s string) bool { return strings.HasPrefix(rest, s) }) {
				continue
			}
			trimmed, deleted := strings.CutSuffix(rest, deletedMark)
			for _, place := range []string{rest, trimmed} {
				if filepath.IsLocal(place) && !yield(place) {
					return
				}
				if !deleted {
					break
				}
			}
		}
	}
}

func inodeText(info fs.FileInfo) string {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return strconv.FormatUint(stat.Ino, 10)
	}
	return ""
}

package hfcache

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// procRoot is where Linux tells about processes.
const procRoot = "/proc"

// openFiles finds out which files of the cache other processes have open or mapped.
func (c *Cache) openFiles(ctx context.Context) (map[string][]Process, error) {
	return c.openFilesOf(ctx, procRoot)
}

// openFilesOf reads a process file system. Processes that this user may not look at are passed over. Nothing outside of the cache is touched: a file may lie on a
// server that does not answer.
func (c *Cache) openFilesOf(ctx context.Context, proc string) (map[string][]Process, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, nil //nolint:nilerr // a container without it can tell nothing
	}
	own, found := os.Getpid(), map[string][]Process{}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil || id == own {
			continue
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		dir := filepath.Join(proc, e.Name())
		places := map[string]bool{}
		c.descriptors(dir, places)
		c.mappings(dir, places)
		if len(places) == 0 {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(dir, "comm")) // only for the message
		for place := range places {
			found[place] = append(found[place], Process{ID: id, Name: strings.TrimSpace(string(name))})
		}
	}
	return found, nil
}

// descriptors finds the open files of a process. The text of the link is enough where the process sees the same path; in a container of its own it does not, and then the
// path's end tells which file may be meant and the inode whether it is.
func (c *Cache) descriptors(dir string, places map[string]bool) {
	links, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return
	}
	for _, link := range links {
		at := filepath.Join(dir, "fd", link.Name())
		text, err := os.Readlink(at)
		if err != nil {
			continue
		}
		if place, ok := c.placeOf(text); ok {
			places[place] = true
			continue
		}
		if place, ok := c.likePlace(text); ok && c.sameInode(place, at) {
			places[place] = true
		}
	}
}

// mappings finds the files that a process has mapped: libraries for weights close the file and keep the mapping.
func (c *Cache) mappings(dir string, places map[string]bool) {
	f, err := os.Open(filepath.Join(dir, "maps"))
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // only read from
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// address perms offset dev inode path (proc(5)); the path begins with a slash if there is one.
		at := strings.IndexByte(lines.Text(), '/')
		if at < 0 {
			continue
		}
		fields := strings.Fields(lines.Text()[:at])
		text := lines.Text()[at:]
		if place, ok := c.placeOf(text); ok {
			places[place] = true
			continue
		}
		const inode = 4
		if place, ok := c.likePlace(text); ok && len(fields) > inode && c.hasInode(place, fields[inode]) {
			places[place] = true
		}
	}
}

// placeOf is a path as a place in the cache, if it lies in it.
func (c *Cache) placeOf(text string) (string, bool) {
	rel, inside := strings.CutPrefix(strings.TrimSuffix(text, " (deleted)"), c.real+"/")
	return rel, inside
}

// likePlace is the end of a path that looks like one in a Hub cache.
func (c *Cache) likePlace(text string) (string, bool) {
	for _, prefix := range []string{"/models--", "/datasets--", "/spaces--", "/kernels--", "/" + blobsDir + "/"} {
		if at := strings.Index(text, prefix); at >= 0 {
			place := strings.TrimSuffix(text[at+1:], " (deleted)")
			if filepath.IsLocal(place) {
				return place, true
			}
		}
	}
	return "", false
}

func (c *Cache) sameInode(place, link string) bool {
	info, err := os.Stat(link)
	return err == nil && c.hasInode(place, inodeText(info))
}

func (c *Cache) hasInode(place, inode string) bool {
	info, err := c.root.Lstat(place)
	return err == nil && inodeText(info) == inode
}

func inodeText(info fs.FileInfo) string {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprint(stat.Ino)
	}
	return ""
}

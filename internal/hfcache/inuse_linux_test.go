package hfcache

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const inUseBlob = scanRepo + "blobs/" + scanSHA

// closeAll ends a Python program: its mappings keep descriptors of their own.
const closeAll = "\nimport os; os.closerange(3, 256)"

// holding starts a process that runs a Python program with the path as its argument, and waits until it has said that it is ready.
func holding(t *testing.T, program, path string) *other {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", "-c", program+"\nprint('ready', flush=True)\nsys.stdin.readline()\n", path)
	o := startCommand(t, cmd)
	if got := o.line(); got != "ready" {
		t.Fatalf("the process says %q", got)
	}
	return o
}

func openInCache(t *testing.T, c *Cache) map[string][]Process {
	t.Helper()
	found, err := c.openFiles(t.Context())
	finish(t, err)
	return found
}

func TestOpenFiles(t *testing.T) {
	for name, test := range map[string]struct {
		program string
		place   string
	}{
		"open":                          {"import sys; f = open(sys.argv[1], 'rb')", inUseBlob},
		"mapped, with the file closed":  {"import sys, mmap\nwith open(sys.argv[1], 'rb') as f: m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)" + closeAll, inUseBlob},
		"opened by a link":              {"import sys; f = open(sys.argv[1] + '/../../snapshots/" + scanCommit + "/model.bin', 'rb')", inUseBlob},
		"open, and closed":              {"import sys; f = open(sys.argv[1], 'rb'); f.close()", ""},
		"open, and removed":             {"import sys, os; f = open(sys.argv[1], 'rb'); os.unlink(sys.argv[1])", ""},
		"open, and replaced":            {"import sys, os; f = open(sys.argv[1], 'rb'); os.unlink(sys.argv[1]); open(sys.argv[1], 'wb').close()", ""},
		"open, and has another name":    {"import sys, os; f = open(sys.argv[1], 'rb'); os.rename(sys.argv[1], sys.argv[1] + '\\n2')", inUseBlob + "\n2"},
		"mapped, by a name of two rows": {"import sys, os, mmap\nos.rename(sys.argv[1], sys.argv[1] + '\\n2')\nwith open(sys.argv[1] + '\\n2', 'rb') as f: m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)" + closeAll, inUseBlob + "\n2"},
		"named like a removed one":      {"import sys, os; os.rename(sys.argv[1], sys.argv[1] + ' (deleted)'); f = open(sys.argv[1] + ' (deleted)', 'rb')", inUseBlob + " (deleted)"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := layout(t, map[string]string{inUseBlob: "hello\n", scanSnap + "model.bin": "->../../blobs/" + scanSHA})
			c, err := Open(dir, Options{})
			finish(t, err)
			defer c.Close() //nolint:errcheck // only read from
			own, err := c.OpenBytes(inUseBlob)
			finish(t, err)
			defer own.Close() //nolint:errcheck // only read from
			path := filepath.Join(dir, filepath.FromSlash(inUseBlob))
			if name == "opened by a link" {
				path = filepath.Dir(path)
				path += "/x"
				finish(t, os.Mkdir(path, 0o700))
			}
			o := holding(t, test.program, path)
			want := map[string][]Process{}
			if test.place != "" {
				want[test.place] = []Process{{ID: o.cmd.Process.Pid}}
			}
			got := openInCache(t, c)
			// What a name with a newline looks like is ambiguous: the other reading may be there, too.
			delete(got, inUseBlob+`\0122`)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Process{}, "Name")); diff != "" {
				t.Errorf("open (-want +got):\n%s", diff)
			}
			for _, p := range got[test.place] {
				if p.Name == "" {
					t.Error("the process has no name")
				}
			}
		})
	}
}

// In a container the cache has another path. The end of a path tells which file may be meant, and the inode whether it is.
func TestOpenFilesOfContainers(t *testing.T) {
	dir := layout(t, map[string]string{inUseBlob: "hello\n", sweepPlace: "payload", "models--a/x": "x"})
	c, err := Open(dir, Options{})
	finish(t, err)
	defer c.Close() //nolint:errcheck // only read from
	inode := func(place string) string { return inodeText(lstat(t, filepath.Join(dir, place))) }
	proc := t.TempDir()
	processes := 0
	fd := func(path, info string) {
		processes++
		id := strconv.Itoa(100 * processes)
		symlink(t, path, filepath.Join(proc, id, "fd/3"))
		if info != "" {
			put(t, filepath.Join(proc, id, "fdinfo/3"), info)
		}
		put(t, filepath.Join(proc, id, "comm"), "tool\n")
	}
	maps := func(line string) {
		processes++
		put(t, filepath.Join(proc, strconv.Itoa(100*processes), "maps"), "7f00-7f01 r--p 00000000 00:00 0 [stack]\n"+line+"\n")
	}
	info := "pos:\t0\nflags:\t0100000\nmnt_id:\t29\nino:\t"
	fd("/root/hub/"+inUseBlob, info+inode(inUseBlob)+"\n")                                   // 100
	fd("/root/hub/"+inUseBlob, info+"1\n")                                                   // another cache's
	fd("/root/hub/"+sweepPlace, info+inode(sweepPlace)+"\n")                                 // 300
	fd("/models--a/hub/"+inUseBlob, info+inode(inUseBlob)+"\n")                              // 400
	fd("/root/hub/"+inUseBlob+" (deleted)", info+inode(inUseBlob)+"\n")                      // 500: only that name is gone
	fd("/root/hub/"+inUseBlob, "pos:\t0\n")                                                  // 600: an old kernel
	fd("/root/hub/"+inUseBlob, "")                                                           // closed by now
	fd("/root/hub/models--a/../../etc", "pos:\t0\n")                                         // nonsense
	fd(dir+"x/"+inUseBlob, info+"1\n")                                                       // beside the cache
	fd("socket:[1]", "")                                                                     // no file
	fd(dir+"/"+inUseBlob, info+"1\n")                                                        // 1100: the same path
	maps("7f00-7f01 r--p 00000000 08:01 " + inode(inUseBlob) + "    /root/hub/" + inUseBlob) // 1200
	maps("7f00-7f01 r--p 00000000 08:01 1    /root/hub/" + inUseBlob)
	maps("/" + inUseBlob) // nonsense
	put(t, filepath.Join(proc, "self", "comm"), "no number")
	symlink(t, dir+"/"+inUseBlob, filepath.Join(proc, strconv.Itoa(os.Getpid()), "fd/3"))

	got, err := c.openFilesOf(t.Context(), proc)
	finish(t, err)
	want := map[string][]Process{
		inUseBlob:  {{100, "tool"}, {400, "tool"}, {500, "tool"}, {600, "tool"}, {1100, "tool"}, {1200, ""}},
		sweepPlace: {{300, "tool"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("open (-want +got):\n%s", diff)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.openFilesOf(ctx, proc); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got, err := c.openFilesOf(t.Context(), filepath.Join(proc, "nowhere")); err != nil || got == nil {
		t.Errorf("without a process file system: %v, %v", got, err)
	}
}

package e2e_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// smallDisk mounts a file system of so many MiB. It needs root.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(size)+"m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk writes until so many bytes are left in a folder.
func fillDisk(t *testing.T, dir string, left uint64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // every write is checked
	block := make([]byte, 64<<10)
	for {
		var stat syscall.Statfs_t
		if err := syscall.Statfs(dir, &stat); err != nil {
			t.Fatal(err)
		}
		if stat.Bavail*uint64(stat.Bsize) <= left {
			return
		}
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// moved waits until a pull has fetched so many bytes.
func (r *running) moved(t *testing.T, bytes int64) {
	t.Helper()
	var sum int64
	r.await(t, func(e happening) bool {
		if e.Kind == "item_progress" {
			sum += e.Bytes
		}
		return sum > bytes
	})
}

func staged(t *testing.T, home string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(home, "hub", "*", "blobs", ".*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestDiskFillsUp has another program take the rest of the disk while a large
// repository is pulled. What was fetched of it goes, so that the next one fits.
func TestDiskFillsUp(t *testing.T) {
	if os.Geteuid() != 0 {
		return // nobody else may mount
	}
	t.Parallel()
	remote, r := testenv.FileRemote(t), large()
	source, home := t.TempDir(), smallDisk(t, 60)
	small := testenv.Revision{
		Repo: "zeta/small", Commit: testenv.Commit("small"), Refs: []string{"main"},
		Files: []testenv.Content{{Path: "weights", Data: testenv.Noise(2, 2*mib), LFS: true}},
	}
	r.WriteCache(t, filepath.Join(source, "hub"))
	small.WriteCache(t, filepath.Join(source, "hub"))
	remote.Sync(t, source, "push", "--yes")

	run := start(t, remote, home, nil, "pull-all", "--bwlimit", "9MB")
	run.moved(t, 8*mib)
	fillDisk(t, home, 0)
	if status := run.end(t); status.ExitStatus() != 9 || !strings.Contains(run.stderr.String(), "no room for org/name@"+r.Commit[:12]) {
		t.Fatalf("it ended with %d:\n%s", status.ExitStatus(), &run.stderr)
	}
	small.Compare(t, filepath.Join(home, "hub"))
	if names := staged(t, home); len(names) > 0 {
		t.Errorf("it left %q", names)
	}

	if err := os.Remove(filepath.Join(home, "ballast")); err != nil {
		t.Fatal(err)
	}
	remote.Sync(t, home, "pull-all")
	r.Compare(t, filepath.Join(home, "hub"))
	testenv.AuditCache(t, filepath.Join(home, "hub"))
}

// TestDiskHoldsTheRest stops a pull and leaves room for the rest of it, but not
// for all of it once more. A pull of one repository keeps what it has.
func TestDiskHoldsTheRest(t *testing.T) {
	if os.Geteuid() != 0 {
		return // nobody else may mount
	}
	t.Parallel()
	remote, r := testenv.FileRemote(t), large()
	source, home := t.TempDir(), smallDisk(t, 60)
	r.WriteCache(t, filepath.Join(source, "hub"))
	remote.Sync(t, source, "push", "--yes")

	run := start(t, remote, home, nil, "pull", r.Repo, "--bwlimit", "9MB")
	run.moved(t, 20*mib)
	run.signal(t, os.Interrupt)
	run.end(t)
	fillDisk(t, home, 28*mib)
	remote.Sync(t, home, "pull", r.Repo, "--dry-run")
	remote.Sync(t, home, "pull", r.Repo)
	r.Compare(t, filepath.Join(home, "hub"))
}

package hfcache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody calls f as a user who owns nothing, also where the tests run as root. The thread ends with the goroutine, so that nothing else runs with its rights.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	var work sync.WaitGroup
	work.Go(func() {
		if os.Geteuid() == 0 {
			runtime.LockOSThread()
			const nobody = 65534
			if _, _, errno := unix.RawSyscall(unix.SYS_SETFSUID, nobody, 0, 0); errno != 0 {
				t.Error(errno)
				return
			}
		}
		f()
	})
	work.Wait()
}

// somebodyElses is a cache in which this user may only read, as far as the tests can make one: root's, or one without the right to write.
func somebodyElses(t *testing.T, c *Cache, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		path := filepath.Join(c.dir, dir)
		finish(t, os.Chmod(path, 0o555))
		t.Cleanup(func() { finish(t, os.Chmod(path, 0o755)) })
	}
}

// In a cache that is shared, others' folders of locks cannot be written to. That is no reason to wait, or to fail.
func TestLockNotAllowed(t *testing.T) {
	for name, dirs := range map[string][]string{
		"no folder for the repository": {".locks"},
		"no file in it":                {".locks/models--org--name"},
	} {
		for how, try := range map[string]func(*os.File, int64) error{"": tryLock, ", without flock": func(*os.File, int64) error { return syscall.ENOSYS }} {
			t.Run(name+how, func(t *testing.T) {
				c := writeCache(t)
				for _, dir := range dirs {
					finish(t, os.MkdirAll(filepath.Join(c.dir, dir), 0o755))
				}
				somebodyElses(t, c, dirs...)
				asNobody(t, func() {
					unlock, err := c.LockBlob(t.Context(), lockRepo, "blob", func() { t.Error("it waits") })
					if err != nil {
						t.Error(err)
						return
					}
					unlock()
					if _, err := os.Lstat(filepath.Join(c.dir, ".locks/models--org--name")); err != nil {
						return // the lock needs a folder
					}
					l := locker{root: c.root, rel: filepath.FromSlash(".locks/models--org--name/blob.lock"), try: try}
					if unlock, err = l.lock(t.Context()); err != nil {
						t.Error(err)
						return
					}
					unlock()
				})
			})
		}
	}
}

// A file that may only be read can be locked as well.
func TestLockOfOthersFile(t *testing.T) {
	c := writeCache(t)
	put(t, lockFilePath(c), "")
	finish(t, os.Chmod(lockFilePath(c), 0o444))
	somebodyElses(t, c, ".locks/models--org--name")
	asNobody(t, func() {
		unlock, err := c.LockBlob(t.Context(), lockRepo, "blob", nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer unlock()
		if _, err := c.tryLockBlob(t.Context(), lockRepo, "blob"); !errors.Is(err, ErrBusy) {
			t.Errorf("a second one: %v", err)
		}
	})
}

func TestLockProcessNotAllowed(t *testing.T) {
	for name, dirs := range map[string][]string{"no folder": {"."}, "no folder of ours": {".locks"}, "no file": {".locks/.hf-cache-sync"}} {
		t.Run(name, func(t *testing.T) {
			c := writeCache(t)
			finish(t, os.MkdirAll(filepath.Join(c.dir, dirs[0]), 0o755))
			somebodyElses(t, c, dirs...)
			asNobody(t, func() {
				if _, err := c.LockProcess("prune", holderForTest()); !errors.Is(err, fs.ErrPermission) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
	t.Run("a file that may only be read", func(t *testing.T) {
		c := writeCache(t)
		put(t, pruneLockPath(c), "")
		finish(t, os.Chmod(pruneLockPath(c), 0o444))
		somebodyElses(t, c, ".locks/.hf-cache-sync")
		asNobody(t, func() {
			unlock, err := c.LockProcess("prune", holderForTest())
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := c.LockProcess("prune", holderForTest()); !errors.Is(err, ErrBusy) {
				t.Errorf("a second one: %v", err)
			}
			if err := unlock(); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestLedgerNotAllowed(t *testing.T) {
	c := writeCache(t)
	finish(t, os.Chmod(c.dir, 0o775)) // so that it is shared
	l := c.Ledger(t.TempDir())
	remember(t, l, uses{ledgerKey(1): ledgerTime(1)})
	somebodyElses(t, c, ".locks/.hf-cache-sync")
	asNobody(t, func() {
		if err := l.Record(t.Context(), uses{ledgerKey(2): ledgerTime(1)}, nil); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("error %v", err)
		}
		if got, err := l.Uses(); err != nil || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
	})
}

// What cannot be read is nobody's leftover.
func TestSurveyUnreadable(t *testing.T) {
	dir := layout(t, map[string]string{
		scanRepo + "trees/" + surveyOther + ".json": "{}", scanSnap + "x": "x", "blobs/.huggingface-shared-blobs": "1\n", sweepPlace: "payload", sweepPlace + ".refs": "", "tmpab12cd/dummy_file_src": "",
	})
	finish(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return os.Chmod(name, 0o755)
	}))
	for _, name := range []string{scanRepo + "snapshots", sweepPlace + ".refs", "tmpab12cd"} {
		path := filepath.Join(dir, name)
		finish(t, os.Chmod(path, 0))
		t.Cleanup(func() { finish(t, os.Chmod(path, 0o700)) })
	}
	finish(t, os.Chmod(filepath.Join(dir, "blobs", sharedMarker), 0o644))
	c, err := Open(dir, Options{})
	finish(t, err)
	defer c.Close() //nolint:errcheck // only read from
	asNobody(t, func() {
		inv, err := c.Scan(t.Context(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		// A scan uses other threads, which are root's where the tests are.
		inv.Repos = []*Repo{{ID: quarantineRepo}}
		s, err := c.Survey(t.Context(), inv)
		if err != nil || len(s.Leftovers) > 0 || len(s.Payloads) != 1 || s.Payloads[0].Listed || s.Payloads[0].Users != nil {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// With the disk full, a prune has to get through.
func TestLockProcessOnFullDisk(t *testing.T) {
	for _, err := range []error{&fs.PathError{Op: "mkdir", Path: ".locks", Err: unix.ENOSPC}, unix.EDQUOT} {
		if !isDiskFull(err) {
			t.Errorf("%v is not said to be a full disk", err)
		}
	}
}

// A prune by root must not leave folders in which the owner of the cache cannot lock anything.
func TestLockProcessGivesAway(t *testing.T) {
	c := writeCache(t)
	owner, group := os.Geteuid(), os.Getegid()
	if owner == 0 {
		owner, group = 1234, 5678 // only root gives away
	}
	finish(t, os.Chown(c.dir, owner, group))
	unlock, err := c.LockProcess("prune", holderForTest())
	finish(t, err)
	finish(t, unlock())
	for _, name := range []string{".locks", ".locks/.hf-cache-sync"} {
		stat, ok := lstat(t, filepath.Join(c.dir, name)).Sys().(*syscall.Stat_t)
		if !ok || int(stat.Uid) != owner || int(stat.Gid) != group {
			t.Errorf("%s belongs to %d:%d", name, stat.Uid, stat.Gid)
		}
	}
}

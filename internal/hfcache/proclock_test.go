package hfcache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func holderForTest() Holder {
	return Holder{PID: 42, Host: "here", Command: "hf-cache-sync prune", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func pruneLockPath(c *Cache) string {
	return filepath.Join(c.dir, ".locks", ".hf-cache-sync", "prune.lock")
}

// wantBusy checks that somebody else has the lock, and says who.
func wantBusy(t *testing.T, c *Cache, holder Holder) {
	t.Helper()
	_, err := c.LockProcess("prune", Holder{})
	busy, ok := errors.AsType[*BusyError](err)
	if !ok || !errors.Is(err, ErrBusy) {
		t.Fatalf("error %v, want that it is busy", err)
	}
	if diff := cmp.Diff(&BusyError{"prune", holder}, busy); diff != "" {
		t.Errorf("busy (-want +got):\n%s", diff)
	}
}

func TestLockProcess(t *testing.T) {
	c := writeCache(t)
	for range 2 {
		unlock, err := c.LockProcess("prune", holderForTest())
		finish(t, err)
		wantBusy(t, c, holderForTest())
		other, err := c.LockProcess("watch", holderForTest())
		finish(t, err)
		finish(t, errors.Join(other(), unlock()))
	}
	info := lstat(t, pruneLockPath(c))
	if info.Size() != 0 || info.Mode().Perm() != 0o666 {
		t.Errorf("the file has %d bytes and mode %v", info.Size(), info.Mode())
	}
	wantListing(t, c.dir, ".locks/.hf-cache-sync/prune.lock", ".locks/.hf-cache-sync/watch.lock")
}

func TestBusyErrorSaysWho(t *testing.T) {
	for want, holder := range map[string]Holder{
		"another prune is at work on this cache: process 42 on here, since 2026-01-02": holderForTest(),
		"another prune is at work on this cache":                                       {},
		"another prune is at work on this cache: process 42 on here":                   {PID: 42, Host: "here"},
	} {
		got := (&BusyError{"prune", holder}).Error()
		if !strings.HasPrefix(got, want) || (holder.Since.IsZero() && got != want) {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
}

// The lock goes with its process, however that ends; what it said of itself does not.
func TestLockProcessAfterKill(t *testing.T) {
	c := writeCache(t)
	o := startOther(t, c.dir, "lock process")
	if got := o.line(); got != "locked" {
		t.Fatalf("the other process says %q", got)
	}
	wantBusy(t, c, Holder{PID: o.cmd.Process.Pid, Host: "there"})
	finish(t, o.cmd.Process.Kill())
	for o.line() != "" {
		t.Error("the other process goes on")
	}
	_ = o.cmd.Wait() // it was killed
	unlock, err := c.LockProcess("prune", holderForTest())
	finish(t, err)
	wantBusy(t, c, holderForTest())
	finish(t, unlock())
}

// Whoever comes between somebody else's opening the file and locking it can remove or replace it.
func TestLockProcessOfReplacedFile(t *testing.T) {
	for name, interfere := range map[string]func(c *Cache) error{
		"removed": func(c *Cache) error { return os.Remove(pruneLockPath(c)) },
		"replaced": func(c *Cache) error {
			return errors.Join(os.Rename(pruneLockPath(c), pruneLockPath(c)+".old"), os.WriteFile(pruneLockPath(c), nil, 0o600))
		},
		"with its folder": func(c *Cache) error { return os.RemoveAll(filepath.Join(c.dir, ".locks")) },
	} {
		t.Run(name, func(t *testing.T) {
			c := writeCache(t)
			tries := 0
			unlock, err := c.lockProcess("prune", holderForTest(), func(f *os.File, offset int64) error {
				if tries++; tries == 1 {
					finish(t, interfere(c))
				}
				return tryLock(f, offset)
			})
			finish(t, err)
			if tries != 2 {
				t.Errorf("%d tries", tries)
			}
			wantBusy(t, c, holderForTest())
			finish(t, unlock())
		})
	}
	c := writeCache(t)
	_, err := c.lockProcess("prune", holderForTest(), func(*os.File, int64) error { return os.Remove(pruneLockPath(c)) })
	wantError(t, err, "prune.lock", "again and again")
}

func TestLockProcessAndLinks(t *testing.T) {
	outside := t.TempDir()
	t.Run("locks elsewhere", func(t *testing.T) {
		c := writeCache(t)
		symlink(t, outside, filepath.Join(c.dir, ".locks"))
		unlock, err := c.LockProcess("prune", holderForTest())
		finish(t, err)
		finish(t, unlock())
	})
	for name, link := range map[string]string{"the folder": ".locks/.hf-cache-sync", "the folder, inside": ".locks/.hf-cache-sync", "the file": ".locks/.hf-cache-sync/prune.lock"} {
		t.Run(name, func(t *testing.T) {
			c := writeCache(t)
			target := outside
			switch name {
			case "the folder, inside":
				target = "elsewhere"
				finish(t, os.MkdirAll(filepath.Join(c.dir, ".locks", target), 0o700))
			case "the file":
				target = filepath.Join(outside, "file")
			}
			symlink(t, target, filepath.Join(c.dir, link))
			_, err := c.LockProcess("prune", holderForTest())
			wantError(t, err, ".locks/.hf-cache-sync/prune.lock")
			wantListing(t, c.dir, link+" -> "+target)
		})
	}
	wantListing(t, outside)
}

// What the file says is shown to people, and anybody who shares the cache can write it.
func TestLockProcessHolderThatLies(t *testing.T) {
	for _, text := range []string{
		"", "null", "[]", "{", `{"pid":0,"host":"h"}`, `{"pid":1,"host":"\u001b[31m"}`, `{"pid":1,"host":"h","command":"a\nb"}`, `{"pid":1,"host":"` + strings.Repeat("h", 256) + `"}`,
		strings.Repeat(" ", 5000) + `{"pid":1,"host":"h"}`,
	} {
		c := writeCache(t)
		put(t, pruneLockPath(c), text)
		hold(t, pruneLockPath(c))
		wantBusy(t, c, Holder{})
	}
}

// Where others write to the cache, they must be able to lock it.
func TestLockProcessFolderModes(t *testing.T) {
	for _, mode := range []fs.FileMode{0o700, 0o755, 0o775 | fs.ModeSetgid, 0o777 | fs.ModeSticky} {
		c := writeCache(t)
		finish(t, os.Chmod(c.dir, mode))
		unlock, err := c.LockProcess("prune", holderForTest())
		finish(t, err)
		finish(t, unlock())
		for _, dir := range []string{".locks", ".locks/.hf-cache-sync"} {
			if got := lstat(t, filepath.Join(c.dir, dir)).Mode(); got != fs.ModeDir|mode&^fs.ModeSticky {
				t.Errorf("in a cache with mode %v, %s has %v", mode, dir, got)
			}
		}
	}
}

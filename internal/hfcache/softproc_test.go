package hfcache

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lockSoftly takes the lock of a process where the file system answers err to any lock.
func lockSoftly(c *Cache, err error) (unlock func() error, _ error) {
	return c.lockProcess("prune", holderForTest(), func(*os.File, int64) error { return err })
}

func wantSoftBusy(t *testing.T, c *Cache, holder Holder) {
	t.Helper()
	_, err := lockSoftly(c, syscall.ENOLCK)
	busy, ok := errors.AsType[*BusyError](err)
	if !ok || !errors.Is(err, ErrBusy) {
		t.Fatalf("error %v, want that it is busy", err)
	}
	if diff := cmp.Diff(&BusyError{"prune", holder}, busy); diff != "" {
		t.Errorf("busy (-want +got):\n%s", diff)
	}
	wantError(t, err, "another prune", "remove .locks/.hf-cache-sync/prune.lock.soft")
}

func TestLockProcessSoftly(t *testing.T) {
	for _, err := range []error{syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.ENOLCK} {
		c := writeCache(t)
		for range 2 {
			unlock, err := lockSoftly(c, err)
			finish(t, err)
			wantSoftBusy(t, c, holderForTest())
			finish(t, unlock())
		}
		if text := content(t, pruneLockPath(c)); text != "" {
			t.Errorf("the file says %q", text)
		}
		wantListing(t, c.dir, ".locks/.hf-cache-sync/prune.lock")
	}
}

// The lock of a killed process is taken over, unless it ran where nobody can look from here.
func TestLockProcessSoftlyAfterKill(t *testing.T) {
	host := testSoftHost(t)
	dead := exec.CommandContext(t.Context(), "true")
	finish(t, dead.Run())
	gone := strconv.Itoa(dead.Process.Pid)
	// Ages count from when the holder tries.
	young, old := holderForTest().Since.Add(-9*time.Minute), holderForTest().Since.Add(-11*time.Minute)
	for _, test := range []struct {
		name, text string
		written    time.Time
		free       bool
	}{
		{"a dead process", gone + "\n" + host.name + "\n", young, true},
		{"a process that is alive", host.record(), old, false},
		{"a dead process of another machine", gone + "\n" + host.name + "x\n", old, false},
		{"nothing", "", young, false},
		{"nothing, for long", "", old, true},
		{"half of a record", gone, young, false},
		{"half of a record, for long", gone, old, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := writeCache(t)
			put(t, pruneLockPath(c), "{}")
			put(t, pruneLockPath(c)+".soft", test.text)
			finish(t, os.Chtimes(pruneLockPath(c)+".soft", time.Time{}, test.written))
			if !test.free {
				wantSoftBusy(t, c, Holder{})
				if got := content(t, pruneLockPath(c)+".soft"); got != test.text {
					t.Errorf("it says %q", got)
				}
				return
			}
			unlock, err := lockSoftly(c, syscall.EOPNOTSUPP)
			finish(t, err)
			if got := content(t, pruneLockPath(c)+".soft"); got != host.record() {
				t.Errorf("it says %q", got)
			}
			wantSoftBusy(t, c, holderForTest())
			finish(t, unlock())
			wantListing(t, c.dir, ".locks/.hf-cache-sync/prune.lock")
		})
	}
}

func TestLockProcessSoftlyFails(t *testing.T) {
	c := writeCache(t)
	finish(t, os.MkdirAll(pruneLockPath(c)+".soft", 0o700))
	_, err := lockSoftly(c, syscall.EOPNOTSUPP)
	wantError(t, err, "prune.lock", errNotRegular.Error())

	c = writeCache(t)
	symlink(t, "elsewhere", pruneLockPath(c)+".soft")
	_, err = lockSoftly(c, syscall.EOPNOTSUPP)
	wantError(t, err, "prune.lock")
	if errors.Is(err, ErrBusy) || strings.Contains(err.Error(), c.dir) {
		t.Errorf("error %v", err)
	}
	wantListing(t, c.dir, ".locks/.hf-cache-sync/prune.lock", ".locks/.hf-cache-sync/prune.lock.soft -> elsewhere")
}

package hfcache

import (
	"context"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// withoutFlock is a lock on a file system on which flock is not implemented.
func withoutFlock(t *testing.T, c *Cache) *locker {
	t.Helper()
	finish(t, os.MkdirAll(filepath.Dir(lockFilePath(c)), 0o777))
	return &locker{
		root: c.root, rel: filepath.FromSlash(".locks/models--org--name/blob.lock"),
		try: func(*os.File, int64) error { return syscall.ENOSYS },
	}
}

func testSoftHost(t *testing.T) *softHost {
	t.Helper()
	host, err := os.Hostname()
	finish(t, err)
	return newSoftHost("/proc", host)
}

func TestSoftLock(t *testing.T) {
	c := writeCache(t)
	unlock, err := withoutFlock(t, c).lock(t.Context())
	finish(t, err)
	text := content(t, lockFilePath(c))
	holder, ok := parseSoftHolder([]byte(text))
	if host := testSoftHost(t); !ok || holder.pid != os.Getpid() || holder.host != host.name || host.isGone(holder) {
		t.Errorf("the file says %q", text)
	}
	if mode := lstat(t, lockFilePath(c)).Mode().Perm(); mode != 0o644 {
		t.Errorf("its mode is %v", mode)
	}

	ctx, cancel := context.WithCancel(t.Context())
	second := withoutFlock(t, c)
	second.waiting = cancel
	if _, err := second.lock(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a second one: %v", err)
	}
	if got := content(t, lockFilePath(c)); got != text {
		t.Errorf("the second one made it %q", got)
	}

	third := withoutFlock(t, c)
	waits := 0
	third.waiting = func() { waits++; unlock() }
	unlock, err = third.lock(t.Context())
	finish(t, err)
	if waits != 1 {
		t.Errorf("waited %d times", waits)
	}
	unlock()
	wantListing(t, filepath.Join(c.dir, ".locks"))
}

// A lock that its holder cannot give back any more is taken over; one of somebody who may be alive is not.
func TestSoftLockOfOthers(t *testing.T) {
	host := testSoftHost(t)
	dead := exec.CommandContext(t.Context(), "true")
	finish(t, dead.Run())
	gone, self := strconv.Itoa(dead.Process.Pid), strconv.Itoa(os.Getpid())
	for _, test := range []struct {
		name, text string
		free       bool
	}{
		{"a dead process", gone + "\n" + host.name + "\n", true},
		{"a dead process, with its start", gone + "\n" + host.name + "\n12345\n", true},
		{"an earlier process with our number", self + "\n" + host.name + "\n12345\n", true},
		{"nonsense", "1234", true}, // after a while
		{"half of a record", gone + "\n" + host.name, true},
		{"what a released lock says", "filelock/released\n", true},
		{"too much", strings.Repeat("x", 2000), true},
		{"no process's number", "0\n" + host.name + "\n", true},
		{"a dead process of another machine", gone + "\n" + host.name + "x\n", false},
		{"a process that is alive", self + "\n" + host.name + "\n", false},
		{"a process that is alive, with its start", host.record(), false},
		{"the first process of all", "1\n" + host.name + "\n", false},
		{"nothing, as old versions write", "", false},
		{"a strict lock", "1\nfilelock-strict-v1\x00\n0\n", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := writeCache(t)
				put(t, lockFilePath(c), test.text)
				const patience = 100 * lockPoll
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				unlock, err := withoutFlock(t, c).lock(ctx)
				if !test.free {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("the lock is ours: %v", err)
					}
					if got := content(t, lockFilePath(c)); got != test.text {
						t.Errorf("it says %q", got)
					}
					return
				}
				finish(t, err)
				if got := content(t, lockFilePath(c)); got != host.record() {
					t.Errorf("it says %q", got)
				}
				unlock()
				wantListing(t, filepath.Join(c.dir, ".locks"))
			})
		})
	}
}

// A file that makes no sense is perhaps just being written.
func TestSoftLockWaitsForTheRecord(t *testing.T) {
	c := writeCache(t)
	withoutFlock(t, c)
	put(t, lockFilePath(c), "12")
	s := softLock{root: c.root, rel: filepath.FromSlash(".locks/models--org--name/blob.lock"), host: testSoftHost(t)}
	for i := range softPatience {
		if _, err := s.try(); !errors.Is(err, ErrBusy) {
			t.Fatalf("look %d: %v", i, err)
		}
	}
	put(t, lockFilePath(c), "123") // somebody is at it
	if _, err := s.try(); !errors.Is(err, ErrBusy) {
		t.Errorf("after a change: %v", err)
	}
}

// Of two that judged the same file one can have the lock already when the other moves it away.
func TestSoftLockGoesBack(t *testing.T) {
	c := writeCache(t)
	put(t, lockFilePath(c), "stale")
	judged := lstat(t, lockFilePath(c))
	finish(t, os.Rename(lockFilePath(c), lockFilePath(c)+".old"))
	s := softLock{root: c.root, rel: filepath.FromSlash(".locks/models--org--name/blob.lock"), host: testSoftHost(t)}
	unlock, err := s.create()
	finish(t, err)
	text := content(t, lockFilePath(c))
	if s.moveAway(judged) || s.moveAside(judged) {
		t.Error("another file was moved away")
	}
	if got := content(t, lockFilePath(c)); got != text {
		t.Errorf("the lock says %q", got)
	}
	finish(t, os.Remove(lockFilePath(c)+".old"))
	wantListing(t, filepath.Join(c.dir, ".locks"), "models--org--name/blob.lock")

	// While it is aside it can be released. Back again it must not look as if somebody held it.
	aside := lockFilePath(c) + ".aside"
	finish(t, os.Rename(lockFilePath(c), aside))
	unlock()
	if got := content(t, aside); got != "filelock/released\n" {
		t.Errorf("a lock that was released while it was aside says %q", got)
	}
}

func TestSoftLockNotAllowed(t *testing.T) {
	c := writeCache(t)
	symlink(t, "/dev/null", lockFilePath(c))
	s := softLock{root: c.root, rel: filepath.FromSlash(".locks/models--org--name/blob.lock"), host: testSoftHost(t)}
	_, err := s.try()
	wantError(t, err, errNotRegular.Error())
}

func TestSoftHolder(t *testing.T) {
	number := func(s string) *big.Int {
		n, _ := new(big.Int).SetString(s, 10)
		return n
	}
	for text, want := range map[string]softHolder{
		"12\nhost\n":       {pid: 12, host: "host"},
		"12\nhost\n345\n":  {pid: 12, host: "host", start: number("345")},
		"12\nhost\n-345\n": {}, "12\nhost\n0x1\n": {}, "12\nhost": {}, "12\n": {}, "": {}, "x\nhost\n": {}, "+1\nhost\n": {}, "0\nhost\n": {}, "2147483648\nhost\n": {}, "1\nh\n2\n3\n": {}, "1\n\xff\n": {},
		"12\nhost\n5103749136894385024958293984928439829348\n": {pid: 12, host: "host", start: number("5103749136894385024958293984928439829348")},
	} {
		got, ok := parseSoftHolder([]byte(text))
		if !ok {
			got = softHolder{}
		}
		if got.pid != want.pid || (got.pid != 0 && got.host != want.host) || (got.start == nil) != (want.start == nil) || (got.start != nil && got.start.Cmp(want.start) != 0) {
			t.Errorf("%q is %+v, want %+v", text, got, want)
		}
	}
}

// fakeProc is a process file system as Linux shows it.
func fakeProc(t *testing.T, pidSpace, timeSpace string, files map[string]string) string {
	t.Helper()
	proc := t.TempDir()
	symlink(t, pidSpace, filepath.Join(proc, "self/ns/pid"))
	symlink(t, timeSpace, filepath.Join(proc, "self/ns/time"))
	put(t, filepath.Join(proc, "sys/kernel/random/boot_id"), "00000000-0000-0000-0000-000000000002\n")
	for name, text := range files {
		put(t, filepath.Join(proc, filepath.FromSlash(name)), text)
	}
	return proc
}

func TestSoftHostName(t *testing.T) {
	initial := fakeProc(t, initialPIDSpace, initialTimeNS, nil)
	container := fakeProc(t, "pid:[4026532000]", initialTimeNS, nil)
	long := strings.Repeat("a", 300)
	for _, test := range []struct{ proc, host, want string }{
		{initial, "node-1", "node-1"},
		{initial, "a b?\n", "a?20b?3f?0a"},
		{initial, "ü", "?c3?bc"},
		{initial, "", "?"},
		{container, "node-1", "node-1?pidns-f00000a0"},
		{filepath.Join(initial, "nowhere"), "node-1", "node-1"},
		{initial, long, strings.Repeat("a", 244) + "-b35439a4"},
	} {
		if got := softHostName(test.proc, test.host); got != test.want {
			t.Errorf("%q is named %q, want %q", test.host, got, test.want)
		}
	}
}

func TestSoftHolderIsGone(t *testing.T) {
	stat := func(pid, ticks string) string {
		return pid + " (a) b) S" + strings.Repeat(" 0", 18) + " " + ticks + " 0 0\n"
	}
	start := new(big.Int).Lsh(big.NewInt(2), 64)
	begun := func(ticks int64) string { return new(big.Int).Add(start, big.NewInt(ticks)).String() }
	files := map[string]string{
		"7/stat": stat("7", "500"), "7/status": "Name:\tx\nNSpid:\t7\n",
		"90/stat": stat("90", "900"), "90/status": "Name:\tx\nNSpid:\t90\t5\n",
	}
	for _, test := range []struct {
		name, pidSpace, timeSpace string
		holder                    string
		gone                      bool
	}{
		{"alive", initialPIDSpace, initialTimeNS, "7\nhost\n" + begun(500) + "\n", false},
		{"alive, without the boot", initialPIDSpace, initialTimeNS, "7\nhost\n500\n", false},
		{"its number has another process", initialPIDSpace, initialTimeNS, "7\nhost\n" + begun(501) + "\n", true},
		{"begun before this boot", initialPIDSpace, initialTimeNS, "7\nhost\n" + new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 64), big.NewInt(500)).String() + "\n", true},
		{"its start cannot be compared", initialPIDSpace, "time:[1]", "7\nhost\n" + begun(501) + "\n", false},
		{"dead", initialPIDSpace, initialTimeNS, "8\nhost\n" + begun(500) + "\n", true},
		{"dead here, alive in a container", initialPIDSpace, initialTimeNS, "5\nhost\n" + begun(900) + "\n", false},
		{"dead here, and another one in a container", initialPIDSpace, initialTimeNS, "5\nhost\n" + begun(901) + "\n", true},
		{"of another namespace", "pid:[4026532000]", initialTimeNS, "8\nhost\n" + begun(500) + "\n", false},
		{"dead in this namespace", "pid:[4026532000]", initialTimeNS, "8\nhost?pidns-f00000a0\n" + begun(500) + "\n", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			host := newSoftHost(fakeProc(t, test.pidSpace, test.timeSpace, files), "host")
			host.alive = func(pid int) bool { return pid == 7 || pid == 90 }
			holder, ok := parseSoftHolder([]byte(test.holder))
			if got := host.isGone(holder); !ok || got != test.gone {
				t.Errorf("gone: %t (%t)", got, ok)
			}
		})
	}
	host := newSoftHost(fakeProc(t, initialPIDSpace, initialTimeNS, files), "host")
	host.pid = 7
	if diff := cmp.Diff("7\nhost\n"+begun(500)+"\n", host.record()); diff != "" {
		t.Errorf("our record (-want +got):\n%s", diff)
	}
}

package hfcache

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

var lockRepo = hub.Repo{Type: hub.Model, Name: "org/name"}

// TestMain lets the test binary be the other process of a test.
func TestMain(m *testing.M) {
	if dir := os.Getenv("HFCACHE_TEST_DIR"); dir != "" {
		if err := otherProcess(dir, os.Getenv("HFCACHE_TEST_DO")); err != nil {
			_, _ = io.WriteString(os.Stderr, err.Error()+"\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// other is another process that works on the same cache. It writes a line after each step, and waits for one before it goes on.
type other struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func startOther(t *testing.T, dir, do string) *other {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HFCACHE_TEST_DIR="+dir, "HFCACHE_TEST_DO="+do)
	return startCommand(t, cmd)
}

func startCommand(t *testing.T, cmd *exec.Cmd) *other {
	t.Helper()
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	finish(t, err)
	out, err := cmd.StdoutPipe()
	finish(t, err)
	finish(t, cmd.Start())
	o := &other{t, cmd, in, bufio.NewScanner(out)}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return o
}

// line waits for the next step. It returns "" when the process has ended.
func (o *other) line() string {
	if o.lines.Scan() {
		return o.lines.Text()
	}
	return ""
}

func (o *other) goOn() {
	o.t.Helper()
	if _, err := io.WriteString(o.in, "\n"); err != nil {
		o.t.Fatal(err)
	}
}

func otherProcess(dir, do string) error {
	c, err := Create(dir, Options{})
	if err != nil {
		return err
	}
	in := bufio.NewReader(os.Stdin)
	step := func(what string) error {
		_, err := io.WriteString(os.Stdout, what+"\n")
		if err == nil {
			_, err = in.ReadString('\n')
		}
		return err
	}
	switch do {
	case "lock":
		unlock, err := c.LockBlob(context.Background(), lockRepo, "blob", nil)
		if err != nil {
			return err
		}
		err = step("locked")
		unlock()
		return errors.Join(err, step("unlocked"))
	case "lock process":
		unlock, err := c.LockProcess("prune", Holder{PID: os.Getpid(), Host: "there"})
		if err != nil {
			return err
		}
		return errors.Join(step("locked"), unlock(), step("unlocked"))
	default:
		return pullSlowly(c, step)
	}
}

func lockFilePath(c *Cache) string {
	return filepath.Join(c.dir, ".locks", "models--org--name", "blob.lock")
}

func TestLockBetweenProcesses(t *testing.T) {
	c := writeCache(t)
	o := startOther(t, c.dir, "lock")
	if got := o.line(); got != "locked" {
		t.Fatalf("the other process says %q", got)
	}
	waits := 0
	unlock, err := c.LockBlob(t.Context(), lockRepo, "blob", func() {
		waits++
		o.goOn()
	})
	finish(t, err)
	if waits != 1 {
		t.Errorf("waiting was called %d times", waits)
	}
	unlock()
	info := lstat(t, lockFilePath(c))
	if info.Size() != 0 || info.Mode().Perm() != 0o664 {
		t.Errorf("the lock's file has %d bytes and mode %v", info.Size(), info.Mode())
	}
}

// The lock of a process that is killed is free.
func TestLockAfterKill(t *testing.T) {
	c := writeCache(t)
	o := startOther(t, c.dir, "lock")
	if got := o.line(); got != "locked" {
		t.Fatalf("the other process says %q", got)
	}
	unlock, err := c.LockBlob(t.Context(), lockRepo, "blob", func() { _ = o.cmd.Process.Kill() })
	finish(t, err)
	unlock()
}

func TestLockWaitEndsWithContext(t *testing.T) {
	c := writeCache(t)
	unlock, err := c.LockBlob(t.Context(), lockRepo, "blob", nil)
	finish(t, err)
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = c.LockBlob(ctx, lockRepo, "blob", cancel)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	free, err := c.LockBlob(t.Context(), lockRepo, "another", nil)
	finish(t, err)
	free()
}

func TestLockSaysOnceThatItWaits(t *testing.T) {
	c := writeCache(t)
	finish(t, os.MkdirAll(filepath.Dir(lockFilePath(c)), 0o777))
	tries, waits := 0, 0
	l := locker{root: c.root, rel: filepath.FromSlash(".locks/models--org--name/blob.lock"), waiting: func() { waits++ }}
	l.try = func(*os.File, int64) error {
		if tries++; tries < 3 {
			return ErrBusy
		}
		return nil
	}
	unlock, err := l.lock(t.Context())
	finish(t, err)
	unlock()
	if tries != 3 || waits != 1 {
		t.Errorf("%d tries, said so %d times", tries, waits)
	}
}

// Some versions of filelock remove the file when they release the lock. Whoever has it open then holds a lock that no newcomer sees.
func TestLockOfRemovedFile(t *testing.T) {
	for name, replace := range map[string]bool{"removed": false, "replaced": true} {
		t.Run(name, func(t *testing.T) {
			c := writeCache(t)
			put(t, lockFilePath(c), "")
			var opened []*os.File
			l := locker{root: c.root, rel: filepath.FromSlash(".locks/models--org--name/blob.lock")}
			l.try = func(f *os.File, offset int64) error {
				if opened = append(opened, f); len(opened) == 1 {
					finish(t, os.Remove(lockFilePath(c)))
					if replace {
						put(t, lockFilePath(c), "")
					}
				}
				return tryLock(f, offset)
			}
			unlock, err := l.lock(t.Context())
			finish(t, err)
			defer unlock()
			if len(opened) != 2 {
				t.Fatalf("%d tries", len(opened))
			}
			newcomer, err := os.OpenFile(lockFilePath(c), os.O_RDWR, 0)
			finish(t, err)
			defer newcomer.Close() //nolint:errcheck // nothing is written
			if err := tryLock(newcomer, 0); !errors.Is(err, ErrBusy) {
				t.Errorf("a newcomer gets the lock: %v", err)
			}
		})
	}
}

// Where flock does not work but is implemented, there is no lock at all. A file that we leave would then be the lock of a client that finds no flock.
func TestLockWithoutLocks(t *testing.T) {
	for name, existed := range map[string]bool{"new": false, "somebody's": true} {
		t.Run(name, func(t *testing.T) {
			c := writeCache(t)
			finish(t, os.MkdirAll(filepath.Dir(lockFilePath(c)), 0o777))
			if existed {
				put(t, lockFilePath(c), "1234")
			}
			for _, err := range []error{syscall.EOPNOTSUPP, syscall.ENOLCK} {
				l := locker{
					root: c.root, rel: filepath.FromSlash(".locks/models--org--name/blob.lock"),
					try: func(*os.File, int64) error { return err },
				}
				unlock, err := l.lock(t.Context())
				finish(t, err)
				unlock()
			}
			if _, err := os.Lstat(lockFilePath(c)); (err == nil) != existed {
				t.Errorf("the file is there: %v", err)
			}
		})
	}
}

func TestLockNames(t *testing.T) {
	c := writeCache(t)
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "../x", "c:x"} {
		if _, err := c.LockBlob(t.Context(), lockRepo, name, nil); err == nil {
			t.Errorf("name %q is accepted", name)
		}
	}
	for _, rel := range listing(t, c.dir) {
		if !strings.HasPrefix(rel, ".locks/models--org--name/") {
			t.Errorf("file %s was made", rel)
		}
	}
}

func TestLockFileThatIsALink(t *testing.T) {
	c := writeCache(t)
	outside := filepath.Join(t.TempDir(), "outside")
	put(t, outside, "")
	symlink(t, outside, lockFilePath(c))
	_, err := c.LockBlob(t.Context(), lockRepo, "blob", nil)
	wantError(t, err, "blob.lock", errNotRegular.Error())

	// A folder of locks elsewhere is somebody's choice, and no reason to fail.
	finish(t, os.RemoveAll(filepath.Join(c.dir, ".locks")))
	elsewhere := t.TempDir()
	symlink(t, elsewhere, filepath.Join(c.dir, ".locks"))
	unlock, err := c.LockBlob(t.Context(), lockRepo, "blob", nil)
	finish(t, err)
	unlock()
	wantListing(t, elsewhere)

	finish(t, os.Remove(filepath.Join(c.dir, ".locks")))
	symlink(t, elsewhere, filepath.Join(c.dir, ".locks", "models--org--name"))
	unlock, err = c.LockBlob(t.Context(), lockRepo, "blob", nil)
	finish(t, err)
	unlock()
	wantListing(t, elsewhere)
}

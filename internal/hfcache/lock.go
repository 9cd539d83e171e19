package hfcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// lockPoll is how often a held lock is tried again, as the Python client does.
const lockPoll = 50 * time.Millisecond

// LockBlob takes the lock that the Hub's clients take while they download a blob (huggingface_hub utils/_fixes.py WeakFileLock): an exclusive flock on
// <hub>/.locks/<repo folder>/<name>.lock, tried until ctx is done. waiting, if not nil, is called once if somebody else holds it. Where the system says that flock is not
// implemented, the existence of the file is the lock, as it is for the clients. The
// lock saves double work and nothing depends on it: where the file system has no locks, or the lock's file belongs to somebody else and cannot be opened, unlock
// does nothing. unlock must be called once. The file of a flock stays, because removing it would let two others hold "the" lock.
func (c *Cache) LockBlob(ctx context.Context, id hub.Repo, name string, waiting func()) (unlock func(), _ error) {
	if name == "" || name == "." || strings.ContainsAny(name, `/\:`) || !filepath.IsLocal(name) {
		return nil, fmt.Errorf("locking a blob of %s: %q is no name of a blob", id, name)
	}
	dir := locksDir + "/" + id.Folder()
	for _, folder := range []string{locksDir, dir} {
		if info, err := c.root.Lstat(filepath.FromSlash(folder)); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return func() {}, nil // some keep locks on a local disk, which may well lie outside of the cache
		}
	}
	l := locker{root: c.root, rel: filepath.FromSlash(dir + "/" + name + ".lock"), try: tryLock, waiting: waiting}
	if err := c.root.MkdirAll(filepath.FromSlash(dir), 0o777); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return func() {}, nil
		}
		return nil, fmt.Errorf("making %s: %w", dir, bare(err))
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("locking %s/%s.lock: %w", dir, name, bare(err))
	}
	return unlock, nil
}

// locker is one call of LockBlob.
type locker struct {
	root    *os.Root
	rel     string
	try     func(f *os.File, offset int64) error // wraps ErrBusy if it is held; any other error means that there are no locks here
	waiting func()
}

func (l *locker) lock(ctx context.Context) (func(), error) {
	const maxGone = 100
	for gone := 0; ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, created, err := l.open()
		switch {
		case errors.Is(err, fs.ErrNotExist) && gone < maxGone:
			gone++ // removed between two looks at it
			continue
		case errors.Is(err, fs.ErrPermission):
			return func() {}, nil
		case err != nil:
			return nil, err
		}
		err = l.poll(ctx, func() error { return l.try(f, 0) })
		switch {
		case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
			return nil, errors.Join(err, f.Close())
		case err != nil:
			return l.withoutFlock(ctx, f, created, errors.Is(err, syscall.ENOSYS))
		case isAt(l.root, l.rel, f):
			if created {
				_ = f.Chmod(0o664) // others who share the cache must be able to wait for it
			}
			return func() { _ = errors.Join(unlockFile(f), f.Close()) }, nil
		}
		// filelock before 3.29.5 removes the file on release: what we hold is the lock of a file that nobody else will open.
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// withoutFlock is what is done where flock does not work. The mere existence of the file may then be the lock, so one that we made must not stay.
func (l *locker) withoutFlock(ctx context.Context, f *os.File, created, missing bool) (func(), error) {
	created = created && isAt(l.root, l.rel, f)
	err := f.Close()
	if created {
		if removeErr := l.root.Remove(l.rel); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	if err != nil {
		return nil, err
	}
	if missing {
		return l.lockSoft(ctx)
	}
	return func() {}, nil
}

// open opens the lock's file, for reading only if it is another user's.
func (l *locker) open() (f *os.File, created bool, err error) {
	f, created, err = openOrCreate(l.root, l.rel, 0o664)
	if errors.Is(err, fs.ErrPermission) {
		if f, readErr := openRegular(l.root, l.rel, os.O_RDONLY); !errors.Is(readErr, fs.ErrNotExist) {
			return f, false, readErr
		}
	}
	return f, created, err
}

// poll tries until the lock is ours.
func (l *locker) poll(ctx context.Context, try func() error) error {
	timer := time.NewTimer(lockPoll)
	defer timer.Stop()
	for {
		err := try()
		if !errors.Is(err, ErrBusy) {
			return err
		}
		if l.waiting != nil {
			l.waiting()
			l.waiting = nil
		}
		timer.Reset(lockPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// withDescriptor calls f with the file's descriptor and keeps the file open meanwhile.
func withDescriptor(file *os.File, f func(fd uintptr) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(fd) }); err != nil {
		return err
	}
	return inner
}

package filestore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path"
	"time"
)

// errNoLocks says that the file system refuses locks.
var errNoLocks = errors.New("the file system has no locks")

// stripes are the locks under which objects change. One key always has the same, many keys share one.
type stripes [64]chan struct{}

func newStripes() stripes {
	var s stripes
	for i := range s {
		s[i] = make(chan struct{}, 1)
	}
	return s
}

func stripeOf(key string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // It cannot fail.
	return int(h.Sum32() % uint32(len(stripes{})))
}

// lock excludes every other change of the key, by this process and by others, until unlock is called. On file systems without locks it
// excludes only this process's and says so by exact = false.
func (s *Store) lock(ctx context.Context, root *os.Root, key string) (unlock func(), exact bool, err error) {
	n := stripeOf(key)
	// First among ourselves, without polling.
	select {
	case s.stripes[n] <- struct{}{}:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	release := func() { <-s.stripes[n] }
	f, err := openLock(root, path.Join(locksDir, fmt.Sprintf("%02x", n)))
	if err != nil {
		release()
		return nil, false, err
	}
	unlock = func() {
		_ = f.Close() // Nothing was written, and closing is what unlocks.
		release()
	}
	err = waitLock(ctx, f)
	switch {
	case errors.Is(err, errNoLocks):
		return unlock, false, nil
	case err != nil:
		unlock()
		return nil, false, err
	}
	return unlock, true, nil
}

func openLock(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if errors.Is(err, fs.ErrPermission) {
		// Another user's file; most file systems lock it all the same.
		return root.Open(name)
	}
	return f, err
}

// waitLock polls, because a thread that waits in the kernel could not be cancelled. Locks are held for a rename, not for a transfer.
func waitLock(ctx context.Context, f *os.File) error {
	const longest = 20 * time.Millisecond
	for wait := time.Millisecond; ; wait = min(2*wait, longest) {
		ok, err := tryLock(f)
		if ok || err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

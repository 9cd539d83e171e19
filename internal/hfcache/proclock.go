package hfcache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// ownLocksDir is where our processes lock each other out: no client looks into .locks (huggingface_hub utils/_cache_manager.py), and whoever uses the cache over a
// network finds it there, too.
const ownLocksDir = locksDir + "/.hf-cache-sync"

// Holder is a process that holds a lock of ours, as it describes itself.
type Holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// BusyError says that another process of ours does what one at a time may do. It is an [ErrBusy].
type BusyError struct {
	Name   string // of the lock: "prune", "watch"
	Holder Holder // zero if it did not say
}

// Error names the holder as far as it is known.
func (e *BusyError) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("another %s is at work on this cache", e.Name)
	}
	text := fmt.Sprintf("another %s is at work on this cache: process %d on %s", e.Name, e.Holder.PID, e.Holder.Host)
	if e.Holder.Since.IsZero() {
		return text
	}
	return text + ", since " + e.Holder.Since.Local().Format(time.DateTime)
}

// Unwrap makes it an [ErrBusy].
func (*BusyError) Unwrap() error { return ErrBusy }

// maxHolder is more bytes than any description of a holder has.
const maxHolder = 4 << 10

// LockProcess makes sure that one process at a time does what name says, "prune" or "watch", on the cache, whoever of its users and on whatever machine. It never
// waits: if somebody else holds the lock, the error wraps a *[BusyError]. The lock ends with unlock, which must be called once, or with the process. The file stays.
// The error wraps [fs.ErrPermission] if this user may not write to the cache.
//
// Where the file system has no locks, the existence of a file is the lock, which does not end with a process that is killed on another machine. Machines that have locks
// there do not see those of machines that have none. Where .locks is a link, or the disk is too full for the lock's file, nobody is kept out.
func (c *Cache) LockProcess(name string, who Holder) (unlock func() error, _ error) {
	return c.lockProcess(name, who, tryLock)
}

func (c *Cache) lockProcess(name string, who Holder, try func(f *os.File, offset int64) error) (unlock func() error, _ error) {
	free := func() error { return nil }
	if info, err := c.root.Lstat(locksDir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return free, nil // some keep locks on a local disk, which may well lie outside of the cache
	}
	const tries = 100 // each means that the file or its folder was replaced since it was opened
	for range tries {
		unlock, err := c.tryProcess(name, who, try)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, ErrBusy):
			return nil, err
		case isDiskFull(err):
			return free, nil // a prune must be able to make room
		case errors.Is(err, syscall.EROFS):
			err = fmt.Errorf("%w (%w)", bare(err), fs.ErrPermission)
		}
		if err != nil {
			return nil, fmt.Errorf("locking %s/%s.lock: %w", ownLocksDir, name, bare(err))
		}
		return unlock, nil
	}
	return nil, fmt.Errorf("locking %s/%s.lock: its file is replaced again and again", ownLocksDir, name)
}

// tryProcess is one try. The error wraps [fs.ErrNotExist] if something was taken away in between.
func (c *Cache) tryProcess(name string, who Holder, try func(f *os.File, offset int64) error) (unlock func() error, _ error) {
	dir, err := c.openOwnLocks()
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // only read from
	file := name + ".lock"
	f, created, err := openOrCreate(dir, file, 0o666)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		// One that may only be read can be locked as well.
		if readable, readErr := openRegular(dir, file, os.O_RDONLY); readErr == nil {
			f, err = readable, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if created {
		_ = f.Chmod(0o666) // other users of the cache have to respect it, and can only do so if they can open it
	}
	switch err := try(f, processLockOffset); {
	case errors.Is(err, ErrBusy):
		busy := &BusyError{name, readHolder(f)}
		_ = f.Close() // only read from
		return nil, busy
	case err != nil:
		return lockProcessSoftly(dir, name, f, who)
	}
	if !isAt(dir, file, f) {
		return nil, errors.Join(fs.ErrNotExist, f.Close())
	}
	writeHolder(f, who)
	return func() error {
		_ = f.Truncate(0) // it describes nobody any more; where that fails, whoever is next writes over it
		return f.Close()
	}, nil
}

// openOwnLocks opens the folder of our locks. It is made with the mode and the owner of the cache's own: whoever shares the cache shares the locks, and a prune by root
// must not leave folders in which the owner cannot lock anything.
func (c *Cache) openOwnLocks() (*os.Root, error) {
	like, err := c.root.Stat(".")
	if err != nil {
		return nil, err
	}
	dir, err := c.root.OpenRoot(".")
	for name := range strings.SplitSeq(ownLocksDir, "/") {
		if err != nil {
			return nil, err
		}
		above := dir
		dir, err = openFolder(above, name)
		if errors.Is(err, fs.ErrNotExist) {
			if err = above.Mkdir(name, 0o777); err == nil {
				makeLike(above, name, like)
			}
			if err == nil || errors.Is(err, fs.ErrExist) {
				dir, err = openFolder(above, name)
			}
		}
		_ = above.Close() // only read from
	}
	return dir, err
}

// processLockOffset is the byte that Windows locks: behind the description, which others must be able to read.
const processLockOffset = maxHolder

// writeHolder describes the holder. The lock counts without it, as on a full disk.
func writeHolder(f *os.File, who Holder) {
	text, err := json.Marshal(who)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, _ = f.WriteAt(append(text, '\n'), 0)
	}
}

// readHolder reads what the holder says of itself, if it makes sense. It is shown to people, and others may have written it.
func readHolder(f *os.File) Holder {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxHolder))
	if err != nil {
		return Holder{}
	}
	var who Holder
	if err := json.Unmarshal(text, &who); err != nil || who.PID <= 0 || !isPlainText(who.Host) || !isPlainText(who.Command) {
		return Holder{}
	}
	return who
}

func isPlainText(s string) bool {
	return len(s) <= 255 && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

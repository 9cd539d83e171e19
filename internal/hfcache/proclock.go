package hfcache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
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
	return fmt.Sprintf("another %s is at work on this cache: process %d on %s, since %s", e.Name, e.Holder.PID, e.Holder.Host, e.Holder.Since.Local().Format(time.DateTime))
}

// Unwrap makes it an [ErrBusy].
func (*BusyError) Unwrap() error { return ErrBusy }

// maxHolder is more bytes than any description of a holder has.
const maxHolder = 4 << 10

// LockProcess makes sure that one process at a time does what name says, "prune" or "watch", on the cache, whoever of its users and on whatever machine. It never
// waits: if somebody else holds the lock, the error is a *[BusyError]. The lock ends with unlock, which must be called once, or with the process. The file stays.
//
// Where the file system has no locks, or .locks is a link, nobody is kept out.
func (c *Cache) LockProcess(name string, who Holder) (unlock func() error, _ error) {
	rel := filepath.FromSlash(ownLocksDir + "/" + name + ".lock")
	fail := func(err error) error { return fmt.Errorf("locking %s/%s.lock: %w", ownLocksDir, name, bare(err)) }
	if info, err := c.root.Lstat(locksDir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return func() error { return nil }, nil // some keep locks on a local disk, which may well lie outside of the cache
	}
	if err := c.makeOwnLocks(); err != nil {
		return nil, fail(err)
	}
	const tries = 100 // each means that the file was replaced since it was opened
	for range tries {
		f, created, err := openOrCreate(c.root, rel, 0o666)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fail(err)
		}
		if created {
			_ = f.Chmod(0o666) // other users of the cache have to respect it, and can only do so if they can open it
		}
		switch err := tryLock(f, processLockOffset); {
		case errors.Is(err, ErrBusy):
			holder := readHolder(f)
			return nil, errors.Join(&BusyError{name, holder}, f.Close())
		case err != nil:
			return f.Close, nil //nolint:nilerr // no locks here
		}
		if !isAt(c.root, rel, f) {
			if err := f.Close(); err != nil {
				return nil, fail(err)
			}
			continue
		}
		if err := writeHolder(f, who); err != nil {
			return nil, errors.Join(fail(err), f.Close())
		}
		return func() error { return errors.Join(f.Truncate(0), f.Close()) }, nil
	}
	return nil, fail(errors.New("its file is replaced again and again"))
}

// makeOwnLocks makes the folder of our locks, with the mode of the cache's own: who shares the cache shares them.
func (c *Cache) makeOwnLocks() error {
	rel := filepath.FromSlash(ownLocksDir)
	if _, err := c.root.Lstat(rel); err == nil {
		return nil
	}
	info, err := c.root.Stat(".")
	if err == nil {
		err = c.root.MkdirAll(rel, 0o777)
	}
	if err == nil {
		_ = c.root.Chmod(rel, info.Mode().Perm()|0o700) // the umask has had its say
	}
	return err
}

// processLockOffset is the byte that Windows locks: behind the description, which others must be able to read.
const processLockOffset = maxHolder

func writeHolder(f *os.File, who Holder) error {
	text, err := json.Marshal(who)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(append(text, '\n'), 0)
	}
	return err
}

// readHolder reads what the holder says of itself, if it makes sense.
func readHolder(f *os.File) Holder {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxHolder))
	if err != nil {
		return Holder{}
	}
	var who Holder
	if err := json.Unmarshal(text, &who); err != nil || who.PID <= 0 || len(who.Host) > 255 {
		return Holder{}
	}
	return who
}

package hfcache

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// softProcessOdd is how old a file has to be that says nothing that makes sense, before it counts as left behind by a crash: far more than clocks differ.
const softProcessOdd = 10 * time.Minute

// lockProcessSoftly is [Cache.LockProcess] where the file system has no locks: the existence of a second file is the lock. f is the lock's file, in which the holder
// describes itself; it is closed with the lock, or here. A lock whose holder was killed is taken over where that can be told: on the same machine.
func lockProcessSoftly(dir *os.Root, name string, f *os.File, who Holder) (unlock func() error, _ error) {
	host, err := os.Hostname()
	if err != nil {
		return f.Close, nil //nolint:nilerr // nobody could tell whose lock it is
	}
	own, err := dir.OpenRoot(".") // for as long as the lock
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s := softLock{root: own, rel: name + softLockSuffix, host: newSoftHost("/proc", host), tried: who.Since}
	release, err := s.try()
	if errors.Is(err, ErrBusy) {
		err = fmt.Errorf("%w; if it has ended, remove %s/%s", &BusyError{name, readHolder(f)}, ownLocksDir, s.rel)
	}
	if err != nil {
		_, _ = f.Close(), own.Close() // only read from
		return nil, err
	}
	writeHolder(f, who)
	return func() error {
		_ = f.Truncate(0) // it describes nobody any more
		release()
		return errors.Join(f.Close(), own.Close())
	}, nil
}

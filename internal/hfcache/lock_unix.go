//go:build unix

package hfcache

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// tryLock takes a whole-file lock that goes with the open file, as Python's filelock does. Locks of fcntl do not exclude it.
func tryLock(f *os.File, _ int64) error {
	err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrBusy
	}
	return err
}

func unlockFile(f *os.File) error { return flock(f, unix.LOCK_UN) }

func flock(f *os.File, how int) error {
	return withDescriptor(f, func(fd uintptr) error {
		for {
			if err := unix.Flock(int(fd), how); !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	})
}

// links is the number of names that the file has.
func links(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Nlink) //nolint:unconvert // its width differs between systems
	}
	return 1
}

// syncRead makes durable what others have written to a file that is open for reading.
func syncRead(f *os.File) error { return f.Sync() }

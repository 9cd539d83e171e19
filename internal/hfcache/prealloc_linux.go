package hfcache

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// preallocate gives the file its size and reserves the space, so that a full disk is found out before the download. Where the file
// system cannot reserve, or can only by writing zeros (tmpfs), it only sets the size.
func preallocate(f *os.File, size int64) error {
	if size == 0 {
		return f.Truncate(0)
	}
	err := withDescriptor(f, func(fd uintptr) error {
		var fs unix.Statfs_t
		if err := unix.Fstatfs(int(fd), &fs); err == nil && fs.Type == unix.TMPFS_MAGIC {
			return errors.ErrUnsupported
		}
		for {
			// Interrupted by one of the runtime's own signals on some file systems.
			if err := unix.Fallocate(int(fd), 0, 0, size); !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	})
	if errors.Is(err, errors.ErrUnsupported) {
		return f.Truncate(size)
	}
	return err
}

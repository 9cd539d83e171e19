package filestore

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

const openFlags = os.O_RDONLY

// inode is unknown without opening the file.
func inode(fs.FileInfo) uint64 { return 0 }

func kindOfErrno(errno syscall.Errno) error {
	switch errno {
	case windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED:
		return store.ErrNoSpace
	case windows.ERROR_WRITE_PROTECT:
		return store.ErrDenied
	case windows.ERROR_NOT_READY, windows.ERROR_BAD_NETPATH, windows.ERROR_NETNAME_DELETED, windows.ERROR_UNEXP_NET_ERR,
		windows.ERROR_SEM_TIMEOUT, windows.ERROR_IO_DEVICE, windows.ERROR_SHARING_VIOLATION, windows.ERROR_LOCK_VIOLATION,
		windows.ERROR_TOO_MANY_OPEN_FILES, windows.ERROR_NETWORK_UNREACHABLE, windows.ERROR_HOST_UNREACHABLE:
		return store.ErrUnavailable
	case windows.ERROR_FILENAME_EXCED_RANGE, windows.ERROR_INVALID_NAME:
		return store.ErrUnsupported
	}
	return nil
}

func isNotDir(err error) bool {
	return errors.Is(err, syscall.ENOTDIR) || errors.Is(err, windows.ERROR_DIRECTORY)
}

func linksRefused(err error) bool {
	return errors.Is(err, windows.ERROR_INVALID_FUNCTION) || errors.Is(err, windows.ERROR_NOT_SUPPORTED) ||
		errors.Is(err, windows.ERROR_TOO_MANY_LINKS)
}

// syncDir has no counterpart: the file system journals its folders.
func syncDir(*os.Root, string) error { return nil }

// tryLock takes the exclusive lock of an open file, or reports that another holds it. Closing the file gives it back.
func tryLock(f *os.File) (bool, error) {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION), errors.Is(err, windows.ERROR_IO_PENDING):
		return false, nil
	case errors.Is(err, windows.ERROR_INVALID_FUNCTION), errors.Is(err, windows.ERROR_NOT_SUPPORTED):
		return false, errNoLocks
	}
	return false, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
}

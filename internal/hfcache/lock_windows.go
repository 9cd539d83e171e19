package hfcache

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// tryLock locks one byte, as Python's filelock does at offset 0.
func tryLock(f *os.File, offset int64) error {
	err := withDescriptor(f, func(fd uintptr) error {
		const how = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
		return windows.LockFileEx(windows.Handle(fd), how, 0, 1, 0, overlapped(offset))
	})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrBusy
	}
	return err
}

// unlockFile releases the lock of a lock file.
func unlockFile(f *os.File) error {
	return withDescriptor(f, func(fd uintptr) error {
		return windows.UnlockFileEx(windows.Handle(fd), 0, 1, 0, overlapped(0))
	})
}

func overlapped(offset int64) *windows.Overlapped {
	return &windows.Overlapped{Offset: uint32(offset), OffsetHigh: uint32(offset >> 32)} //nolint:gosec // the two halves
}

// links is not asked for here: nobody makes backups by hard link.
func links(fs.FileInfo) uint64 { return 1 }

// syncRead does nothing: Windows flushes only files that are open for writing.
func syncRead(*os.File) error { return nil }

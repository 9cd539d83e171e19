package hfcache

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// isShared cannot be told from the mode here; caches lie in the user's own folder.
func isShared(fs.FileInfo) bool { return false }

// makeLike does nothing: folders inherit who may write to them.
func makeLike(*os.Root, string, fs.FileInfo) {}

// isDiskFull says that there is no room, on the disk or in the user's share of it.
func isDiskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) || errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

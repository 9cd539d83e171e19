package hfcache

import (
	"io/fs"
	"syscall"
	"time"
)

// accessTime is when a file was last read, by its directory entry.
func accessTime(info fs.FileInfo) (time.Time, bool) {
	data, ok := info.Sys().(*syscall.Win32FileAttributeData)
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(0, data.LastAccessTime.Nanoseconds()), true
}

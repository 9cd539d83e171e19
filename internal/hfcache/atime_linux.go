package hfcache

import (
	"io/fs"
	"syscall"
	"time"
)

// accessTime is when a file was last read, by its inode.
func accessTime(info fs.FileInfo) (time.Time, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(stat.Atim.Unix()), true
}

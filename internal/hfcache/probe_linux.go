package hfcache

import (
	"os"

	"golang.org/x/sys/unix"
)

// accessTimes reads it from how the file system is mounted.
func accessTimes(dir *os.Root) string {
	f, err := dir.Open(".")
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only asked
	var stat unix.Statfs_t
	if err = withDescriptor(f, func(fd uintptr) error { return unix.Fstatfs(int(fd), &stat) }); err != nil {
		return ""
	}
	switch {
	case stat.Flags&unix.ST_NOATIME != 0:
		return "never"
	case stat.Flags&unix.ST_RELATIME != 0:
		return "at most daily"
	default:
		return "always"
	}
}

package hfcache

import (
	"os"

	"golang.org/x/sys/unix"
)

func freeSpace(f *os.File, _ string) (int64, error) {
	var stat unix.Statfs_t
	if err := withDescriptor(f, func(fd uintptr) error { return unix.Fstatfs(int(fd), &stat) }); err != nil {
		return 0, err
	}
	unit := stat.Frsize // what blocks are counted in; the other is what is good to read at once
	if unit <= 0 {
		unit = stat.Bsize
	}
	return product(stat.Bavail, uint64(unit)), nil //nolint:gosec // a size is not negative
}

//go:build darwin || freebsd

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
	free := int64(stat.Bavail) //nolint:gosec // signed on FreeBSD, where it is below zero when only root's reserve is left
	return product(uint64(max(free, 0)), uint64(stat.Bsize)), nil
}

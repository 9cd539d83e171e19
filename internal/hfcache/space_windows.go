package hfcache

import (
	"os"

	"golang.org/x/sys/windows"
)

func freeSpace(_ *os.File, dir string) (int64, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return 0, err
	}
	return product(free, 1), nil
}

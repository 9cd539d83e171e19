package hfcache

import (
	"os"

	"golang.org/x/sys/unix"
)

func syncFileSystem(f *os.File) error {
	return withDescriptor(f, func(fd uintptr) error { return unix.Syncfs(int(fd)) })
}

package hfcache

import (
	"os"

	"golang.org/x/sys/unix"
)

// cloneFile makes dst share all blocks of src, on Btrfs, XFS, bcachefs and others that can.
func cloneFile(dst, src *os.File) error {
	return withDescriptor(dst, func(to uintptr) error {
		return withDescriptor(src, func(from uintptr) error { return unix.IoctlFileClone(int(to), int(from)) })
	})
}

//go:build unix

package hfcache

import (
	"io/fs"
	"syscall"
)

// statBlock is the unit of st_blocks, whatever the file system's own blocks are (POSIX sys/stat.h leaves it open; Linux, macOS and the BSDs agree).
const statBlock = 512

// onDisk is what a file takes on the disk, and which file it is.
func onDisk(info fs.FileInfo) (int64, Inode) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.Size(), Inode{}
	}
	return stat.Blocks * statBlock, Inode{Device: uint64(stat.Dev), Number: uint64(stat.Ino), Names: uint64(stat.Nlink)} //nolint:unconvert // their widths and signs differ between systems
}

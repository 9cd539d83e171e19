//go:build unix

package hfcache

import (
	"io/fs"
	"os"
	"syscall"
)

// isShared says whether others write to a folder: it is somebody else's, or its mode lets them.
func isShared(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0
}

//go:build unix

package hfcache

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// isShared says whether others write to a folder: it is somebody else's, or its mode lets them.
func isShared(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0
}

// makeLike gives a folder that was just made the mode, the group and the owner of another one, as far as this user may. Its sticky bit is left out: everybody who writes to the folder replaces the
// same files in it.
func makeLike(parent *os.Root, name string, like fs.FileInfo) {
	if stat, ok := like.Sys().(*syscall.Stat_t); ok && parent.Lchown(name, int(stat.Uid), int(stat.Gid)) != nil {
		_ = parent.Lchown(name, -1, int(stat.Gid)) // only root gives away
	}
	_ = parent.Chmod(name, like.Mode()&(fs.ModePerm|fs.ModeSetgid)|0o700) // the umask has had its say
}

// isDiskFull says that there is no room, on the disk or in the user's share of it.
func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

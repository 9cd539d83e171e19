//go:build linux

package powerloss

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// oldCalls are the calls without a descriptor of a folder, by those that took
// their place.
func oldCalls() map[int]int {
	return map[int]int{
		unix.SYS_OPEN: unix.SYS_OPENAT, unix.SYS_CREAT: unix.SYS_OPENAT, unix.SYS_RENAME: unix.SYS_RENAMEAT, unix.SYS_LINK: unix.SYS_LINKAT,
		unix.SYS_SYMLINK: unix.SYS_SYMLINKAT, unix.SYS_UNLINK: unix.SYS_UNLINKAT, unix.SYS_RMDIR: unix.SYS_UNLINKAT, unix.SYS_MKDIR: unix.SYS_MKDIRAT,
	}
}

// modern turns an old call into the one that took its place.
func (c call) modern() call {
	const here = 1<<64 + unix.AT_FDCWD
	a := c.args
	switch c.nr {
	case unix.SYS_OPEN, unix.SYS_MKDIR, unix.SYS_UNLINK:
		c.args = [6]uint64{here, a[0], a[1], a[2]}
		if c.nr == unix.SYS_UNLINK {
			c.args[2] = 0
		}
	case unix.SYS_CREAT:
		c.args = [6]uint64{here, a[0], unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC, a[1]}
	case unix.SYS_RMDIR:
		c.args = [6]uint64{here, a[0], unix.AT_REMOVEDIR}
	case unix.SYS_RENAME, unix.SYS_LINK:
		c.args = [6]uint64{here, a[0], here, a[1]}
	case unix.SYS_SYMLINK:
		c.args = [6]uint64{a[0], here, a[1]}
	default:
		return c
	}
	c.nr = oldCalls()[c.nr]
	return c
}

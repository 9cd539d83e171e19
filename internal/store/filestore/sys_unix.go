//go:build unix

package filestore

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// openFlags keep an open from waiting for the other end of a pipe that lies where an object should.
const openFlags = os.O_RDONLY | unix.O_NONBLOCK

func inode(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

func kindOfErrno(errno syscall.Errno) error {
	switch errno { //nolint:exhaustive // The rest is none of the contract's kinds.
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG:
		return store.ErrNoSpace
	case unix.EROFS:
		return store.ErrDenied
	case unix.EIO, unix.ESTALE, unix.ETIMEDOUT, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN,
		unix.ECONNREFUSED, unix.ECONNRESET, unix.ENOTCONN, unix.EBUSY, unix.EAGAIN, unix.ENFILE, unix.EMFILE:
		return store.ErrUnavailable
	case unix.ENAMETOOLONG, unix.EILSEQ:
		return store.ErrUnsupported
	case unix.ELOOP:
		return store.ErrNotObject
	}
	return nil
}

func isNotDir(err error) bool { return errors.Is(err, unix.ENOTDIR) }

// linksRefused reports whether a file system has no hard links (exFAT, many SMB servers).
func linksRefused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) ||
		errors.Is(err, unix.EMLINK)
}

// syncDir makes the entries of a folder durable. One that is gone has none.
func syncDir(root *os.Root, dir string) (err error) {
	f, err := root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err = f.Sync(); errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EBADF) {
		return nil // SMB and some FUSE file systems cannot, and need not.
	}
	return err
}

// tryLock takes the exclusive lock of an open file, or reports that another holds it. Closing the file gives it back.
func tryLock(f *os.File) (bool, error) {
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case nil:
			return true, nil
		case unix.EINTR:
			continue
		case unix.EWOULDBLOCK:
			return false, nil
		case unix.ENOLCK, unix.ENOSYS, unix.ENOTSUP, unix.EBADF, unix.EINVAL:
			return false, errNoLocks
		default:
			return false, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
}

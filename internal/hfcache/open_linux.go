package hfcache

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openNoAtime keeps the access time: it is what pruning tools go by, and hashing a file is no use of it. Only the owner of a file
// may ask for that.
func openNoAtime(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NOATIME|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EPERM) {
		return root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	}
	return f, err
}

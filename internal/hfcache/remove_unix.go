//go:build unix

package hfcache

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// removeDir removes an empty folder, and nothing else: [os.Root.Remove] would take a file as well that has got the name meanwhile.
func removeDir(parent *os.Root, name string) error {
	f, err := parent.Open(".")
	if err != nil {
		return err
	}
	err = withDescriptor(f, func(fd uintptr) error {
		if err := unix.Unlinkat(int(fd), name, unix.AT_REMOVEDIR); err != nil {
			return &os.PathError{Op: "rmdir", Path: name, Err: err}
		}
		return nil
	})
	return errors.Join(err, f.Close())
}

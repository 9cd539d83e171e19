//go:build unix

package cli

import (
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// hush makes a terminal show nothing of what is typed, from when it returns until restore is called. Lines still end as they did, and keys still interrupt.
func hush(fd int) (restore func() error, err error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	mode, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	mode.Lflag &^= unix.ECHO
	mode.Lflag |= unix.ICANON | unix.ISIG
	mode.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, setTermios, mode); err != nil {
		return nil, err
	}
	return func() error { return term.Restore(fd, before) }, nil
}

package cli

import (
	"golang.org/x/sys/windows"
	"golang.org/x/term"
)

// hush makes a console show nothing of what is typed, from when it returns until restore is called. Lines still end as they did, and keys still interrupt.
func hush(fd int) (restore func() error, err error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	var mode uint32
	if err := windows.GetConsoleMode(windows.Handle(fd), &mode); err != nil {
		return nil, err
	}
	mode &^= windows.ENABLE_ECHO_INPUT
	mode |= windows.ENABLE_PROCESSED_INPUT | windows.ENABLE_LINE_INPUT
	if err := windows.SetConsoleMode(windows.Handle(fd), mode); err != nil {
		return nil, err
	}
	return func() error { return term.Restore(fd, before) }, nil
}

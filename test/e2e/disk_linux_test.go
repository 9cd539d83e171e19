package e2e_test

import (
	"os"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// small makes dir the root of a file system of one megabyte. It needs root.
func small(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "small DIR")
	mount(ts, ts.MkAbs(args[0]), "tmpfs", "tmpfs", 0, "size=1m")
}

// readonly makes dir a folder that even root cannot write to, if root is what
// the test runs as.
func readonly(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "readonly DIR")
	dir := ts.MkAbs(args[0])
	if os.Geteuid() != 0 {
		ts.Check(os.Chmod(dir, 0o555))
		ts.Defer(func() { ts.Check(os.Chmod(dir, 0o755)) })
		return
	}
	mount(ts, dir, dir, "", syscall.MS_BIND, "")
	ts.Check(syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
}

func mount(ts *testscript.TestScript, dir, what, kind string, flags uintptr, data string) {
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(syscall.Mount(what, dir, kind, flags, data))
	ts.Defer(func() { ts.Check(syscall.Unmount(dir, syscall.MNT_DETACH)) })
}

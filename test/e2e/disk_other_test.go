//go:build !linux

package e2e_test

import (
	"os"

	"github.com/rogpeppe/go-internal/testscript"
)

// small is for root on Linux only, and scripts ask for that.
func small(ts *testscript.TestScript, _ bool, _ []string) { ts.Fatalf("there is no small disk here") }

// readonly makes dir a folder that nobody but root can write to.
func readonly(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "readonly DIR")
	dir := ts.MkAbs(args[0])
	ts.Check(os.Chmod(dir, 0o555))
	ts.Defer(func() { ts.Check(os.Chmod(dir, 0o755)) })
}

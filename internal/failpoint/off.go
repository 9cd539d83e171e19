//go:build !failpoint

package failpoint

// Hit says that the process has come to the place with this name. It does
// nothing in this binary. Safe for concurrent use.
func Hit(string) {}

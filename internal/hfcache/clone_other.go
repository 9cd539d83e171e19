//go:build !linux

package hfcache

import (
	"errors"
	"os"
)

// cloneFile is left to hard links here: what APFS and ReFS offer works on names or ranges.
func cloneFile(_, _ *os.File) error { return errors.ErrUnsupported }

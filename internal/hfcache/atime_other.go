//go:build !linux && !darwin && !windows

package hfcache

import (
	"io/fs"
	"time"
)

// accessTime is not looked for on this system.
func accessTime(fs.FileInfo) (time.Time, bool) { return time.Time{}, false }

//go:build !linux

package hfcache

import "os"

// preallocate gives the file its size. The space is taken as the parts arrive.
func preallocate(f *os.File, size int64) error { return f.Truncate(size) }

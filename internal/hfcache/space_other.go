//go:build !linux && !darwin && !freebsd && !windows

package hfcache

import (
	"errors"
	"os"
)

func freeSpace(*os.File, string) (int64, error) { return 0, errors.ErrUnsupported }

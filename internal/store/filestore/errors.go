package filestore

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Reasons that the operating system has no word for, or a different one on each system.
var (
	errNoFolder   = errors.New("there is no bucket")
	errNotDir     = errors.New("an object is where a folder would have to be; a folder cannot hold both")
	errIsDir      = errors.New("a folder of objects has this name; a folder cannot hold both")
	errNotRegular = errors.New("not a regular file")
)

// wrap makes a store error of what the operating system said. What holds a store error already is that error.
func wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	if done, ok := errors.AsType[*store.Error](err); ok {
		return done
	}
	return &store.Error{Op: op, Key: key, Kind: kindOf(err), Err: err}
}

func kindOf(err error) error {
	var errno syscall.Errno
	var pathErr *fs.PathError
	var bodyErr *bodyError
	switch {
	case errors.Is(err, errNoFolder):
		return store.ErrNoFolder
	case errors.As(err, &bodyErr):
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	case errors.Is(err, errNotDir), errors.Is(err, errIsDir):
		return store.ErrUnsupported
	case errors.Is(err, errNotRegular):
		return store.ErrNotObject
	case errors.Is(err, fs.ErrNotExist):
		return store.ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		return store.ErrDenied
	case errors.As(err, &errno):
		return kindOfErrno(errno)
	case errors.As(err, &pathErr):
		// Not from the system: os.Root refused to leave the folder.
		return store.ErrNotObject
	}
	return nil
}

package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

func TestEveryErrorHasItsCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{errors.New("something else"), exitUnexpected},
		{usagef("no such flag"), exitUsage},
		{config.ErrNoRemote, exitUsage},
		{&noCacheError{}, exitUsage},
		{&store.Error{Op: "list", Kind: store.ErrBadConfig}, exitUsage},
		{&store.Error{Op: "get", Key: "k", Kind: store.ErrNotObject}, exitUsage},
		{&someFailedError{code: exitSome}, exitSome},
		{&engine.CollisionError{}, exitSome},
		{&store.Error{Op: "get", Key: "k", Kind: store.ErrDenied}, exitDenied},
		{&store.Error{Op: "get", Key: "k", Kind: store.ErrClockSkew}, exitDenied},
		{&store.Error{Op: "get", Key: "k", Kind: store.ErrExpired}, exitDenied},
		{&store.Error{Op: "put", Key: "k", Kind: store.ErrSetting}, exitUsage},
		{remote.ErrNotFound, exitNotFound},
		{&remote.DanglingRefError{}, exitNotFound},
		{&engine.AmbiguousError{}, exitNotFound},
		{&hub.MismatchError{}, exitDamaged},
		{&engine.DamagedError{Err: errors.New("it is shorter")}, exitDamaged},
		{manifest.ErrInvalid, exitDamaged},
		{&store.Error{Op: "put", Key: "k", Kind: store.ErrBadDigest}, exitDamaged},
		{&remote.WrongBodyError{}, exitDamaged},
		{&store.Error{Op: "put", Key: "k", Kind: store.ErrUnavailable}, exitUnreachable},
		{&store.Error{Op: "put", Key: "k", Kind: store.ErrNoSpace}, exitDisk},
		{&engine.SpaceError{}, exitDisk},
		{hfcache.ErrInTheWay, exitDisk},
		{&store.Error{Op: "put", Key: "k", Kind: store.ErrDenied, Err: syscall.EROFS}, exitDisk},
		{&fs.PathError{Op: "open", Path: "p", Err: syscall.ENOSPC}, exitDisk},
		{&fs.PathError{Op: "open", Path: "p", Err: fs.ErrPermission}, exitDisk},
		{&interruptError{os.Interrupt}, exitInterrupt},
		{&interruptError{syscall.SIGTERM}, exitTerminate},
	} {
		for _, err := range []error{test.err, fmt.Errorf("pull org/name: %w", test.err)} {
			if got := explain(err); got.code != test.want {
				t.Errorf("%T %q exits with %d, want %d", test.err, err, got.code, test.want)
			}
		}
	}
}

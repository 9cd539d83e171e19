package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// TestKilledBeforeTheRename stops a Put after it has recorded the metadata of an object that never came.
func TestKilledBeforeTheRename(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	section := func(data string) *io.SectionReader {
		return io.NewSectionReader(strings.NewReader(data), 0, int64(len(data)))
	}
	metadata := func() map[string]string {
		t.Helper()
		info, err := s.Stat(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		return info.Metadata
	}
	old, next := map[string]string{"a": "old"}, map[string]string{"a": "next"}
	if _, err = s.Put(t.Context(), "k", section("old"), store.PutOptions{Metadata: old}); err != nil {
		t.Fatal(err)
	}
	root, err := s.root()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close() //nolint:errcheck // Nothing is written through it.
	for range 3 {
		o := store.PutOptions{Metadata: next}
		temp, digest, err := s.stage(t.Context(), root, section("next"), o)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := root.Stat(temp)
		if err != nil {
			t.Fatal(err)
		}
		if err = writeMetadata(root, infoOf("k", fi), candidate{key: "k", temp: temp, sha256: digest, opts: o}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(old, metadata()); diff != "" {
			t.Errorf("before the rename (-want +got):\n%s", diff)
		}
	}
	if _, err = s.Put(t.Context(), "k", section("next"), store.PutOptions{Metadata: next}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(next, metadata()); diff != "" {
		t.Errorf("after the rename (-want +got):\n%s", diff)
	}
	// What has been replaced is not kept for ever.
	sc, err := readSidecar(root, "k")
	if err != nil || sc == nil || len(sc.Versions) > 2 {
		t.Errorf("sidecar %+v, %v", sc, err)
	}
}

func TestKinds(t *testing.T) {
	for _, tc := range []struct {
		err  error
		kind error
	}{
		{syscall.ENOENT, store.ErrNotFound},
		{syscall.EACCES, store.ErrDenied},
		{syscall.EPERM, store.ErrDenied},
		{syscall.ENOSPC, store.ErrNoSpace},
		{syscall.EIO, store.ErrUnavailable},
		{syscall.ETIMEDOUT, store.ErrUnavailable},
		{syscall.ENAMETOOLONG, store.ErrUnsupported},
		{errNotDir, store.ErrUnsupported},
		{errIsDir, store.ErrUnsupported},
		{errNotRegular, store.ErrNotObject},
		{errors.New("path escapes from parent"), store.ErrNotObject},
		{errNoUpload, store.ErrNotFound},
		{context.Canceled, nil},
		{context.DeadlineExceeded, nil},
		{&bodyError{syscall.EIO}, nil},
		{&bodyError{fs.ErrNotExist}, nil},
		{syscall.EINVAL, nil},
	} {
		err := wrap("put", "blobs/k", &fs.PathError{Op: "open", Path: "somewhere", Err: tc.err})
		var se *store.Error
		if !errors.As(err, &se) || se.Kind != tc.kind || se.Op != "put" || se.Key != "blobs/k" || !errors.Is(err, tc.err) { //nolint:errorlint // Kinds are compared, not errors.
			t.Errorf("%v: %#v, want kind %v", tc.err, err, tc.kind)
		}
	}
	if err := wrapWrite("put", "k", fs.ErrNotExist); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotFound) {
		t.Errorf("a folder that vanishes under a write: %v", err)
	}
	inner := &store.Error{Op: "get", Key: "other", Kind: store.ErrExists}
	if err := wrap("put", "k", fmt.Errorf("more: %w", inner)); err != error(inner) { //nolint:errorlint // Identity is the point.
		t.Errorf("%v, want the store's own error", err)
	}
}

func TestPlainOnWindows(t *testing.T) {
	for key, want := range map[string]bool{
		"refs/org__name/main": true, "manifests/a__b@0.json": true, "a b/c+d": true, ".hidden": true,
		`a\b`: false, "a:b": false, "a/b?": false, "a*": false, "a|b": false, `"a"`: false, "a<b": false, "a./b": false, "a /b": false, "a/b.": false,
	} {
		if got := plainOnWindows(key); got != want {
			t.Errorf("%q: %v", key, got)
		}
	}
}

// TestWithoutLocks goes the way of a file system that has none.
func TestWithoutLocks(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := s.writableRoot()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close() //nolint:errcheck // Nothing is written through it.
	stage := func(o store.PutOptions) candidate {
		t.Helper()
		temp, _, err := s.stage(t.Context(), root, io.NewSectionReader(strings.NewReader("x"), 0, 1), o)
		if err != nil {
			t.Fatal(err)
		}
		return candidate{key: "k", temp: temp, opts: o}
	}
	const exact = false
	if _, err = publish(root, stage(store.PutOptions{}), exact); err != nil {
		t.Errorf("put: %v", err)
	}
	if _, err = publish(root, stage(store.PutOptions{IfAbsent: true}), exact); !errors.Is(err, store.ErrExists) {
		t.Errorf("put if absent: %v", err)
	}
	if _, err = publish(root, stage(store.PutOptions{IfMatch: "x"}), exact); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("put if unchanged: %v", err)
	}
	// Even where nothing keeps another program from being quicker, its object stays.
	if err = placeOnce(root, stage(store.PutOptions{IfAbsent: true}), exact); !errors.Is(err, store.ErrExists) {
		t.Errorf("place if absent: %v", err)
	}
	c := stage(store.PutOptions{IfAbsent: true})
	c.key = "other/new"
	if _, err = publish(root, c, exact); err != nil {
		t.Errorf("put if absent: %v", err)
	}
	if _, err = root.Stat(path.Clean(c.temp)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary file: %v", err)
	}
}

func TestWaitingForALockIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		section := io.NewSectionReader(strings.NewReader("x"), 0, 1)
		holder, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		root, err := holder.writableRoot()
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close() //nolint:errcheck // Nothing is written through it.
		unlock, exact, err := holder.lock(t.Context(), root, "k")
		if err != nil || !exact {
			t.Fatal(exact, err)
		}
		// As another process has it, and as another goroutine.
		for _, s := range []*Store{{dir: dir, now: holder.now, stripes: newStripes()}, holder} {
			s.buffers.New = holder.buffers.New
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() {
				_, err := s.Put(ctx, "k", section, store.PutOptions{})
				done <- err
			}()
			synctest.Wait()
			cancel()
			if err = <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("put: %v", err)
			}
		}
		unlock()
		if _, err = holder.Put(t.Context(), "k", section, store.PutOptions{}); err != nil {
			t.Errorf("put once it is free: %v", err)
		}
	})
}

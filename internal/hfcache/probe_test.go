package hfcache_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
)

func TestProbe(t *testing.T) {
	dir := t.TempDir()
	cache, err := hfcache.Open(dir, hfcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close() //nolint:errcheck // only read from
	a, err := cache.Probe()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && (!a.Symlinks || !a.Locks || a.OneCase || a.AccessTimes == "") {
		t.Errorf("%+v", a)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
	// What was there stays.
	if err = os.MkdirAll(filepath.Join(dir, ".locks", "models--org--name"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err = cache.Probe(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, ".locks")); err != nil || len(left) != 1 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

func TestProbeWhereNothingCanBeWritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".locks"), nil, 0o600); err != nil { // works for root as well, unlike a mode
		t.Fatal(err)
	}
	cache, err := hfcache.Open(dir, hfcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close() //nolint:errcheck // only read from
	if a, err := cache.Probe(); err == nil || a != (hfcache.Abilities{}) || errors.Is(err, fs.ErrPermission) || runtime.GOOS != "windows" && !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestTraces(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(dir string) error
		want hfcache.Traces
	}{
		{"nothing", func(string) error { return nil }, hfcache.Traces{}},
		{"locks", func(dir string) error { return os.Mkdir(filepath.Join(dir, ".locks"), 0o700) }, hfcache.Traces{Locks: true}},
		{"tag", func(dir string) error { return os.WriteFile(filepath.Join(dir, "CACHEDIR.TAG"), nil, 0o600) }, hfcache.Traces{Tag: true}},
		{"trees", func(dir string) error {
			return os.MkdirAll(filepath.Join(dir, "models--org--name", "trees"), 0o700)
		}, hfcache.Traces{Trees: true}},
		{"trees of nobody", func(dir string) error { return os.MkdirAll(filepath.Join(dir, "other", "trees"), 0o700) }, hfcache.Traces{}},
		{"a folder of the shared store's name", func(dir string) error { return os.Mkdir(filepath.Join(dir, "blobs"), 0o700) }, hfcache.Traces{}},
		{"shared store", func(dir string) error {
			err := os.Mkdir(filepath.Join(dir, "blobs"), 0o700)
			return errors.Join(err, os.WriteFile(filepath.Join(dir, "blobs", ".huggingface-shared-blobs"), []byte("1\n"), 0o600))
		}, hfcache.Traces{SharedStore: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := tc.make(dir); err != nil {
				t.Fatal(err)
			}
			cache, err := hfcache.Open(dir, hfcache.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer cache.Close() //nolint:errcheck // only read from
			got, err := cache.Traces()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ".hf-cache-sync.yaml")
	check := func() {
		t.Helper()
		data, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		entries, dirErr := os.ReadDir(dir)
		if err = errors.Join(err, statErr, dirErr); err != nil || string(data) != "first" || len(entries) != 1 {
			t.Fatalf("%q, %d files, %v", data, len(entries), err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("its mode is %v", info.Mode())
		}
	}
	if err := writeNew(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	check()
	if err := writeNew(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("it is there, and the error is %v", err)
	}
	check()
	if err := renameNew(filepath.Join(dir, "missing"), filepath.Join(dir, "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing to rename, and the error is %v", err)
	}
}

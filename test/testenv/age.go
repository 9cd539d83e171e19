package testenv

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// AgeDetached makes the files of revisions that no ref names look as if nobody had used them for a week, as prune wants them. What was written within young it
// leaves alone, and with it whatever a program may be at work on. Others may write to the cache meanwhile.
func AgeDetached(t *testing.T, hub string, young time.Duration) {
	t.Helper()
	snapshots, err := filepath.Glob(filepath.Join(hub, "*--*", "snapshots", "*"))
	if err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-7 * 24 * time.Hour)
	for _, dir := range snapshots {
		// Clients write the ref before the folder, so that one that is read now names every folder that is new.
		var named []string
		repo := filepath.Dir(filepath.Dir(dir))
		_ = filepath.WalkDir(filepath.Join(repo, "refs"), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				text, _ := os.ReadFile(path)
				named = append(named, string(text))
			}
			return nil
		})
		if len(named) == 0 || slices.Contains(named, filepath.Base(dir)) {
			continue
		}
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil //nolint:nilerr // It was evicted meanwhile.
			}
			info, err := os.Stat(path)
			if err != nil || time.Since(info.ModTime()) < young {
				return nil //nolint:nilerr // Likewise.
			}
			if err := os.Chtimes(path, then, then); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("making %s old: %v", path, err)
			}
			return nil
		})
	}
}

package hfcache

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestFreeSpaceOfAFolderThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "not", "there")} {
		if free, err := FreeSpace(path); err != nil || free <= 0 {
			t.Errorf("%s has %d bytes free, %v", path, free, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "not")); !os.IsNotExist(err) {
		t.Errorf("it made the folder: %v", err)
	}
}

// TestStagedBytes looks at what an unfinished download takes, and removes it.
func TestStagedBytes(t *testing.T) {
	const size, part = 8 << 20, 4 << 20
	d := writeRepo(t, writeCache(t), "org/name")
	id := sha(bigText)
	if got := d.cache.StagedBytes(d.id, id); got != 0 {
		t.Errorf("%d bytes of nothing", got)
	}
	s, err := d.StageResumable(id, size, part, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteAt(make([]byte, part), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := d.cache.StagedBytes(d.id, id); got < part {
		t.Errorf("%d bytes, of at least %d", got, part)
	}
	r := d.cache.Remover(RemoveOptions{Now: time.Now})
	for range 2 { // what is gone is no error
		if removed, err := r.Staged(t.Context(), d.id, id); err != nil || len(removed.Skipped) > 0 {
			t.Fatal(err, removed.Skipped)
		}
	}
	left, err := filepath.Glob(filepath.Join(d.cache.Dir(), "*", "blobs", ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

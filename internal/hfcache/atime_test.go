package hfcache

import (
	"os"
	"testing"
	"time"
)

func TestLastUse(t *testing.T) {
	path := t.TempDir() + "/f"
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	early, late := time.Unix(1_600_000_000, 0), time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		name           string
		read, modified time.Time
	}{
		{"read after it was written", late, early},
		{"written after it was read", early, late},
	} {
		if err := os.Chtimes(path, c.read, c.modified); err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := lastUse(info); !got.Equal(late) {
			t.Errorf("%s: last used %v, want %v", c.name, got, late)
		}
	}
}

//go:build unix

package filestore_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

func TestPipe(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "blobs/a", "x", store.PutOptions{})
	if err := unix.Mkfifo(filepath.Join(dir, "blobs", "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Nobody writes to it: opening it as one opens a file would wait for ever.
	if _, _, err := s.Get(t.Context(), "blobs/pipe", store.Range{}); !errors.Is(err, store.ErrNotObject) || !strings.Contains(err.Error(), "blobs/pipe") {
		t.Errorf("get: %v", err)
	}
	if _, err := s.Stat(t.Context(), "blobs/pipe"); !errors.Is(err, store.ErrNotObject) {
		t.Errorf("stat: %v", err)
	}
	if got := keys(t, s, ""); !slices.Equal(got, []string{"blobs/a"}) {
		t.Errorf("list: %q", got)
	}
}

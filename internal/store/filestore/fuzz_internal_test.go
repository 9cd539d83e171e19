package filestore

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// FuzzSidecar reads what stands beside an object. It never keeps an object from being read, and says nothing of one that it is not about.
func FuzzSidecar(f *testing.F) {
	dir := f.TempDir()
	s, err := Open(dir, Options{Create: true})
	if err != nil {
		f.Fatal(err)
	}
	const key = "refs/org__name/main"
	for _, folder := range []string{"refs/org__name", metaDir} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			f.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, key), []byte("hello"), 0o600); err != nil {
		f.Fatal(err)
	}
	const digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	f.Add([]byte(`{"key": "` + key + `", "versions": [{"size": 5, "sha256": "` + digest + `", "metadata": {"resolved-at": "2026-01-02T03:04:05Z"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, sidecarName(key)), data, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := s.Stat(t.Context(), key)
		if err != nil || info.Size != 5 {
			t.Fatalf("%+v, %v", info, err)
		}
		if len(info.Metadata) > 0 && !strings.Contains(strings.ToLower(string(data)), digest) && !strings.Contains(string(data), info.ETag) && !strings.Contains(string(data), `\u`) {
			t.Errorf("%s is metadata of this object: %v", data, info.Metadata)
		}
	})
}

// FuzzKeys writes and lists objects under foreign keys. Each is refused, or is one file below the folder that is listed under that very key and gone when it is deleted.
func FuzzKeys(f *testing.F) {
	parent := f.TempDir()
	dir := filepath.Join(parent, "bucket")
	s, err := Open(dir, Options{Create: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("blobs/ab")
	f.Fuzz(func(t *testing.T, key string) {
		if _, err := s.Put(t.Context(), key, io.NewSectionReader(strings.NewReader("hello"), 0, 5), store.PutOptions{}); err != nil {
			return
		}
		var listed []string
		for info, err := range s.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			listed = append(listed, info.Key)
		}
		if len(listed) != 1 || listed[0] != key {
			t.Errorf("%q is listed as %q", key, listed)
		}
		if got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(key))); err != nil || string(got) != "hello" {
			t.Errorf("%q has the file %q, %v", key, got, err)
		}
		if err := s.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
		entries, err := os.ReadDir(parent)
		if err != nil || len(entries) != 1 {
			t.Errorf("%q left %v outside, %v", key, entries, err)
		}
		// Folders stay, and the next key may be a file there.
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	})
}

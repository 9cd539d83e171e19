package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestMakeCache(t *testing.T) {
	for name, sparse := range map[string]bool{"full": false, "sparse": true} {
		t.Run(name, func(t *testing.T) {
			c, err := MakeCache(t.Context(), filepath.Join(t.TempDir(), "hub"), "bench/some", []int64{3*mib + 5, 3*mib + 5, 7, 1}, sparse)
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Blobs) != 4 || c.Bytes != 6*mib+18 {
				t.Errorf("%d blobs of %d bytes", len(c.Blobs), c.Bytes)
			}
			if err = VerifyTree(c.Hub, c.Blobs); err != nil {
				t.Error(err)
			}
			links, err := filepath.Glob(filepath.Join(c.Hub, "models--bench--some", "snapshots", "*", "*"))
			if err != nil || len(links) != 4 {
				t.Errorf("links are %v, %v", links, err)
			}
			for _, link := range links {
				if _, err = os.Stat(link); err != nil {
					t.Error(err)
				}
			}
			large := filepath.Join(c.BlobDir(), slices.MaxFunc(slices.Collect(maps.Keys(c.Blobs)), func(a, b string) int { return int(c.Blobs[a] - c.Blobs[b]) }))
			flip(t, large)
			if VerifyTree(c.Hub, c.Blobs) == nil {
				t.Error("other contents were not noticed")
			}
			if err = os.Remove(large); err != nil {
				t.Fatal(err)
			}
			if VerifyTree(c.Hub, c.Blobs) == nil {
				t.Error("a missing file was not noticed")
			}
		})
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err = os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMakeWideCache(t *testing.T) {
	hub := t.TempDir()
	if err := MakeWideCache(hub, 3, 4); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]int{"*/blobs/*": 12, "*/snapshots/*/*": 12, "*/refs/main": 3, "*/trees/*.json": 3} {
		found, err := filepath.Glob(filepath.Join(hub, pattern))
		if err != nil || len(found) != want {
			t.Errorf("%s: %d, want %d (%v)", pattern, len(found), want, err)
		}
	}
}

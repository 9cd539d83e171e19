package store_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// FuzzCheckKey looks for a key that passes and could still lead out of a folder.
func FuzzCheckKey(f *testing.F) {
	f.Add("blobs/ab")
	f.Fuzz(func(t *testing.T, key string) {
		if store.CheckKey("get", key) != nil {
			return
		}
		// fs.ValidPath also wants UTF-8, which a key need not be.
		if clean := strings.ToValidUTF8(key, "x"); !fs.ValidPath(clean) || clean == "." || strings.ContainsAny(key, "\x00\n") {
			t.Errorf("%q passes", key)
		}
	})
}

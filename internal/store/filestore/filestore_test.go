package filestore_test

import (
	"path/filepath"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, storetest.Options{FlatFolders: true}, func(t *testing.T) store.Store {
		t.Helper()
		s, err := filestore.Open(filepath.Join(t.TempDir(), "bucket"), filestore.Options{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

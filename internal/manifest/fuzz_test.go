package manifest_test

import (
	"bytes"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// safe fails unless a path that was taken from foreign text stays below the folder that it is joined to.
func safe(t *testing.T, p hub.Path) {
	t.Helper()
	joined := filepath.Join("snapshot", filepath.FromSlash(string(p)))
	if !filepath.IsLocal(filepath.FromSlash(string(p))) || joined != filepath.FromSlash("snapshot/"+string(p)) {
		t.Errorf("the path %q was taken", p)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(golden))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m *manifest.Manifest
		var err error
		if taken := allocated(func() { m, err = manifest.Decode(data) }); tooMuch(taken, len(data)) {
			t.Errorf("%d bytes took %d to read", len(data), taken)
		}
		if err != nil {
			return
		}
		seen := map[hub.Path]bool{}
		for _, file := range m.Files {
			safe(t, file.Path)
			if _, err := hub.ParseBlobID(string(file.Blob)); err != nil || file.Size < 0 || seen[file.Path] {
				t.Errorf("the file %+v was taken: %v", file, err)
			}
			seen[file.Path] = true
		}
		for path := range m.Tree() {
			safe(t, path)
		}
		if m.Hub != nil {
			for _, path := range m.Hub.NoExist {
				safe(t, path)
				if seen[path] {
					t.Errorf("%q is there, and does not exist", path)
				}
			}
		}
		encoded, err := manifest.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := manifest.Decode(encoded)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, encoded)
		}
		if again.Key() != m.Key() || !again.Covers(m) || !m.Covers(again) {
			t.Errorf("it changes on the way:\n%s", cmp.Diff(m, again))
		}
		if twice, err := manifest.Encode(again); err != nil || !bytes.Equal(twice, encoded) {
			t.Errorf("written twice, it differs: %v\n%s\n%s", err, encoded, twice)
		}
	})
}

func FuzzDecodeTreeFile(f *testing.F) {
	f.Add([]byte(`{"format_version": 1, "files": {"a": {"size": 1, "blob_id": "x"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var tree manifest.Tree
		var err error
		if taken := allocated(func() { tree, err = manifest.DecodeTreeFile(data) }); tooMuch(taken, len(data)) {
			t.Errorf("%d bytes took %d to read", len(data), taken)
		}
		if err != nil {
			return
		}
		for path, entry := range tree {
			safe(t, path)
			if entry.Size < 0 {
				t.Errorf("%q has %d bytes", path, entry.Size)
			}
			if id := entry.ID(); id != "" {
				if _, err := hub.ParseBlobID(string(id)); err != nil {
					t.Error(err)
				}
			}
		}
		encoded, err := manifest.EncodeTreeFile(tree)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(string(encoded), func(r rune) bool { return r > 0x7e }) {
			t.Errorf("it is not ASCII: %q", encoded)
		}
		again, err := manifest.DecodeTreeFile(encoded)
		if err != nil || !cmp.Equal(tree, again) {
			t.Errorf("it changes on the way: %v\n%s", err, cmp.Diff(tree, again))
		}
	})
}

// FuzzRepoKeys looks for two repositories that would stand under one key, and for keys that are not read as what was written.
func FuzzRepoKeys(f *testing.F) {
	f.Add(byte(1), "org/name", byte(1), "org__name")
	f.Fuzz(func(t *testing.T, typeA byte, nameA string, typeB byte, nameB string) {
		a, err := hub.ParseRepo(hub.RepoType(typeA), nameA)
		if err != nil {
			return
		}
		key := manifest.RepoKey(a)
		if back, err := manifest.ParseRepoKey(key); err != nil || back != a {
			t.Errorf("%v has the key %q, which is %v, %v", a, key, back, err)
		}
		if strings.Contains(key, "/") || !filepath.IsLocal(key) {
			t.Errorf("%v has the key %q", a, key)
		}
		b, err := hub.ParseRepo(hub.RepoType(typeB), nameB)
		if err == nil && a != b && manifest.RepoKey(b) == key {
			t.Errorf("%v and %v have the same key %q", a, b, key)
		}
	})
}

// FuzzObjectKeys reads keys as a listing gives them. One that is accepted is the one that is written for what it says.
func FuzzObjectKeys(f *testing.F) {
	f.Add("manifests/org__name@" + commit + ".json")
	f.Add("refs/org__name/refs/pr/1")
	f.Fuzz(func(t *testing.T, key string) {
		if repoKey, c, err := manifest.ParseManifestKey(key); err == nil {
			if manifest.ManifestKey(repoKey, c) != key || strings.Contains(repoKey, "/") {
				t.Errorf("%q is %q at %q", key, repoKey, c)
			}
		}
		if repoKey, ref, err := manifest.ParseRefKey(key); err == nil {
			safe(t, hub.Path(ref))
			if manifest.RefKey(repoKey, ref) != key || strings.Contains(repoKey, "/") {
				t.Errorf("%q is %q of %q", key, ref, repoKey)
			}
		}
		if repo, err := manifest.ParseRepoKey(key); err == nil && !filepath.IsLocal(repo.Folder()) {
			t.Errorf("%q is %v, in the folder %q", key, repo, repo.Folder())
		}
	})
}

// allocated is how many bytes f allocates, be they garbage by now, and what others do meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// tooMuch says whether what was allocated for an input of size bytes is more than a multiple of it, beyond what is needed anyway.
func tooMuch(taken uint64, size int) bool { return taken > 1<<20+100*uint64(size) }

package testenv

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Noise is bytes that look like weights: of one seed always the same, and not
// compressible.
func Noise(seed uint64, size int) []byte {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(data) // It never fails.
	return data
}

// SHA256 is the name of data as a large file of the Hub.
func SHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// GitSHA1 is the name of data as a small file of the Hub, which is git's own.
func GitSHA1(data []byte) string {
	h := sha1.New()
	_, _ = fmt.Fprintf(h, "blob %d\x00", len(data)) // A hash takes everything.
	_, _ = h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// Commit is a made-up commit, always the same for the same label.
func Commit(label string) string { return GitSHA1([]byte(label)) }

// Content is one file of a commit.
type Content struct {
	Path string
	Data []byte
	LFS  bool
}

// ID is the name of the file's blob.
func (c Content) ID() string {
	if c.LFS {
		return SHA256(c.Data)
	}
	return GitSHA1(c.Data)
}

// Revision is one commit of a repository, to be put into a cache or a bucket by
// the test alone: no code of the product is used for it.
type Revision struct {
	Type   string // As in a manifest; "" is a model.
	Repo   string
	Commit string
	Refs   []string
	Files  []Content
	Bare   bool // No listing of the commit is known.
}

// Sample is a small model with files in folders, one of them LFS.
func Sample() Revision {
	return Revision{
		Repo: "org/name", Commit: Commit("sample"), Refs: []string{"main"},
		Files: []Content{
			{Path: "config.json", Data: []byte(`{"hidden_size": 256}` + "\n")},
			{Path: "empty.txt"},
			{Path: "model.safetensors", Data: Noise(1, 300_000), LFS: true},
			{Path: "tokenizer/deep/vocab.txt", Data: []byte("a\nb\nc\n")},
		},
	}
}

func (r Revision) kind() string {
	if r.Type == "" {
		return "model"
	}
	return r.Type
}

// Folder is the name of the repository's folder in a cache.
func (r Revision) Folder() string { return r.kind() + "s--" + strings.ReplaceAll(r.Repo, "/", "--") }

// Key is the repository's name in the keys of a bucket. It knows only names
// without a double underscore.
func (r Revision) Key() string {
	if r.kind() == "model" {
		return strings.ReplaceAll(r.Repo, "/", "__")
	}
	return r.Folder()
}

// File is the file with the given path.
func (r Revision) File(t *testing.T, path string) Content {
	t.Helper()
	for _, f := range r.Files {
		if f.Path == path {
			return f
		}
	}
	t.Fatalf("there is no file %s", path)
	return Content{}
}

// Tree is the listing of the commit, as clients keep it.
func (r Revision) Tree() map[string]any {
	tree := map[string]any{}
	for _, f := range r.Files {
		entry := map[string]any{"size": len(f.Data), "blob_id": f.ID()}
		if f.LFS {
			pointer := fmt.Appendf(nil, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", f.ID(), len(f.Data))
			entry["blob_id"], entry["lfs_sha256"], entry["lfs_size"] = GitSHA1(pointer), f.ID(), len(f.Data)
		}
		tree[f.Path] = entry
	}
	return tree
}

// WriteCache puts the revision into the cache in root, as a client that
// downloads it would.
func (r Revision) WriteCache(t *testing.T, root string) {
	t.Helper()
	repo := filepath.Join(root, r.Folder())
	snapshot := filepath.Join(repo, "snapshots", r.Commit)
	Mkdir(t, snapshot)
	for _, f := range r.Files {
		WriteFile(t, filepath.Join(repo, "blobs", f.ID()), f.Data)
		link := filepath.Join(snapshot, filepath.FromSlash(f.Path))
		Mkdir(t, filepath.Dir(link))
		Symlink(t, strings.Repeat("../", strings.Count(f.Path, "/")+2)+"blobs/"+f.ID(), link)
	}
	if !r.Bare {
		WriteFile(t, filepath.Join(repo, "trees", r.Commit+".json"), JSON(t, map[string]any{"format_version": 1, "files": r.Tree()}))
	}
	for _, ref := range r.Refs {
		WriteFile(t, filepath.Join(repo, "refs", filepath.FromSlash(ref)), []byte(r.Commit))
	}
}

// Manifest is the body of the revision's manifest, for tests to change.
func (r Revision) Manifest() map[string]any {
	files := []any{}
	for _, f := range r.Files {
		files = append(files, map[string]any{"path": f.Path, "blob": f.ID(), "size": len(f.Data)})
	}
	m := map[string]any{"repo": r.Repo, "revision": r.Commit, "repo_type": r.kind(), "files": files}
	if !r.Bare {
		m["hub"] = map[string]any{"complete": true, "tree": r.Tree()}
	}
	return m
}

// ManifestKey is the key of the revision's manifest.
func (r Revision) ManifestKey() string { return "manifests/" + r.Key() + "@" + r.Commit + ".json" }

// WriteBucket puts the revision into the bucket whose objects are files below
// root, as docs/format.md wants it.
func (r Revision) WriteBucket(t *testing.T, root string) {
	t.Helper()
	for _, f := range r.Files {
		WriteFile(t, filepath.Join(root, "blobs", f.ID()), f.Data)
	}
	WriteFile(t, filepath.Join(root, filepath.FromSlash(r.ManifestKey())), JSON(t, r.Manifest()))
	for _, ref := range r.Refs {
		WriteFile(t, filepath.Join(root, "refs", r.Key(), filepath.FromSlash(ref)), []byte(r.Commit))
	}
}

// Compare fails the test unless the snapshot in the cache in root has exactly
// the files of the revision, byte by byte, and the refs name it.
func (r Revision) Compare(t *testing.T, root string) {
	t.Helper()
	repo := filepath.Join(root, r.Folder())
	paths := make([]string, 0, len(r.Files))
	for _, f := range r.Files {
		paths = append(paths, f.Path)
	}
	r.CompareFiles(t, root, paths...)
	for _, ref := range r.Refs {
		if got, err := os.ReadFile(filepath.Join(repo, "refs", filepath.FromSlash(ref))); err != nil || string(got) != r.Commit {
			t.Errorf("ref %s: %q, %v", ref, got, err)
		}
	}
}

// CompareFiles fails the test unless the snapshot has exactly the files with
// these paths.
func (r Revision) CompareFiles(t *testing.T, root string, paths ...string) {
	t.Helper()
	snapshot := filepath.Join(root, r.Folder(), "snapshots", r.Commit)
	want := map[string]bool{}
	for _, path := range paths {
		want[path] = true
		got, err := os.ReadFile(filepath.Join(snapshot, filepath.FromSlash(path)))
		if err != nil {
			t.Errorf("reading a snapshot: %v", err)
		} else if !bytes.Equal(got, r.File(t, path).Data) {
			t.Errorf("%s in the snapshot has wrong bytes", path)
		}
	}
	for path := range Tree(t, snapshot) {
		if info, err := os.Stat(filepath.Join(snapshot, path)); err == nil && info.IsDir() {
			continue
		}
		if !want[filepath.ToSlash(path)] {
			t.Errorf("%s is in the snapshot", path)
		}
	}
}

// JSON encodes v.
func JSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// WriteFile writes a file and makes the folders above it. What is there is
// replaced, not written to.
func WriteFile(t *testing.T, path string, data []byte) {
	t.Helper()
	Mkdir(t, filepath.Dir(path))
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Mkdir makes a folder and those above it.
func Mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

// Symlink makes a link, and replaces what is there.
func Symlink(t *testing.T, target, path string) {
	t.Helper()
	Mkdir(t, filepath.Dir(path))
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

package testenv

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Tree describes everything below root, by path: kind, mode, size, time of
// modification, and the target of a link or the digest of a file. Two equal
// trees mean that nothing was written in between.
func Tree(t *testing.T, root string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == root {
			return nil
		}
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("describing %s: %w", path, err)
		}
		text := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			var digest string
			if digest, err = hashFile(path, 64); err != nil {
				return err
			}
			text = fmt.Sprintf("%s %d %s %s", text, info.Size(), info.ModTime(), digest)
		case info.Mode()&fs.ModeSymlink != 0:
			var target string
			if target, err = os.Readlink(path); err != nil {
				return fmt.Errorf("describing %s: %w", path, err)
			}
			text += " -> " + target
		}
		rel, err := filepath.Rel(root, path)
		tree[rel] = text
		return err //nolint:wrapcheck // Both paths are the walk's.
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// hashFile names the file as a blob whose name has the given length.
func hashFile(path string, length int) (_ string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("hashing: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("hashing: %w", err)
	}
	h := sha256.New()
	if length != 2*sha256.Size {
		h = sha1.New()
		_, _ = fmt.Fprintf(h, "blob %d\x00", info.Size()) // A hash takes everything.
	}
	if _, err = io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hashing %s: %w", path, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// Auditor looks at caches and buckets that a command may have left half done:
// what has a final name must be right, what has not may be anything. It
// remembers the digests of files that have not changed since it last saw them.
type Auditor struct {
	seen map[string]seenFile
}

type seenFile struct {
	info   fs.FileInfo
	digest string
}

// digest is hashFile with a memory.
func (a *Auditor) digest(path string, length int) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("hashing: %w", err)
	}
	old, ok := a.seen[path]
	if ok && len(old.digest) == length && os.SameFile(old.info, info) && old.info.Size() == info.Size() && old.info.ModTime().Equal(info.ModTime()) {
		return old.digest, nil
	}
	digest, err := hashFile(path, length)
	if err != nil {
		return "", err
	}
	if a.seen == nil {
		a.seen = map[string]seenFile{}
	}
	a.seen[path] = seenFile{info, digest}
	return digest, nil
}

// complaints is what an audit found.
type complaints []string

func (c *complaints) add(format string, args ...any) { *c = append(*c, fmt.Sprintf(format, args...)) }

func (c *complaints) tell(t *testing.T, of string) {
	t.Helper()
	for i, complaint := range *c {
		if i == 10 {
			t.Errorf("%s: ... and %d more", of, len(*c)-i)
			break
		}
		t.Errorf("%s: %s", of, complaint)
	}
}

// Cache audits the cache in root: every blob holds what its name says, every
// link of a snapshot leads to a file inside of the cache, every ref names a
// commit that has a folder, and nothing that is unfinished has a final name.
func (a *Auditor) Cache(t *testing.T, root string) {
	t.Helper()
	var found complaints
	real, err := filepath.EvalSymlinks(root)
	if errors.Is(err, fs.ErrNotExist) {
		return // A cache that was never made has nothing wrong in it.
	}
	if err != nil {
		t.Fatal(err)
	}
	repos, err := filepath.Glob(filepath.Join(real, "*--*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, repo := range repos {
		a.blobs(&found, real, filepath.Join(repo, "blobs"))
		walkFiles(t, filepath.Join(repo, "snapshots"), func(path string, _ fs.DirEntry) {
			target, err := filepath.EvalSymlinks(path)
			if err != nil || !strings.HasPrefix(target, real+string(filepath.Separator)) {
				found.add("%s leads to %q, %v", path, target, err)
			}
		})
		walkFiles(t, filepath.Join(repo, "refs"), func(path string, _ fs.DirEntry) {
			data, err := os.ReadFile(path)
			if err != nil || !isCommit(data) {
				found.add("%s holds %.50q, %v", path, data, err)
				return
			}
			if info, err := os.Stat(filepath.Join(repo, "snapshots", string(data))); err != nil || !info.IsDir() {
				found.add("%s names %s, which has no snapshot: %v", path, data, err)
			}
		})
	}
	found.tell(t, "the cache")
}

func isCommit(data []byte) bool { return regexp.MustCompile(`^[0-9a-f]{40}$`).Match(data) }

// blobs audits the folder of a repository's blobs.
func (a *Auditor) blobs(found *complaints, root, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		found.add("%v", err)
	}
	id := regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if !id.MatchString(e.Name()) {
			found.add("%s has no name of a blob", path)
			continue
		}
		target, err := filepath.EvalSymlinks(path)
		if err != nil || !strings.HasPrefix(target, root+string(filepath.Separator)) {
			found.add("%s leads to %q, %v", path, target, err)
			continue
		}
		if got, err := a.digest(path, len(e.Name())); err != nil || got != e.Name() {
			found.add("%s holds %s, %v", path, got, err)
		}
	}
}

// walkFiles calls visit for everything below dir that is no folder. A dir that
// is missing has nothing below it.
func walkFiles(t *testing.T, dir string, visit func(path string, d fs.DirEntry)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == dir {
			return nil
		}
		if err == nil && !d.IsDir() {
			visit(path, d)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Bucket audits the bucket whose objects are files below root: every blob holds
// what its key says, every manifest has its blobs in their sizes, every ref has
// its manifest.
func (a *Auditor) Bucket(t *testing.T, root string) {
	t.Helper()
	var found complaints
	for _, key := range Keys(t, root) {
		path := filepath.Join(root, filepath.FromSlash(key))
		kind, name, _ := strings.Cut(key, "/")
		switch kind {
		case "blobs":
			if got, err := a.digest(path, len(name)); err != nil || got != name {
				found.add("%s holds %s, %v", key, got, err)
			}
		case "manifests":
			found.manifest(root, key)
		case "refs":
			data, err := os.ReadFile(path)
			repo, _, _ := strings.Cut(name, "/")
			if err != nil || !isCommit(data) {
				found.add("%s holds %.50q, %v", key, data, err)
			} else if _, err := os.Stat(filepath.Join(root, "manifests", repo+"@"+string(data)+".json")); err != nil {
				found.add("%s: %v", key, err)
			}
		case "leases": // Says who is at work; it runs out by itself.
		default:
			found.add("%s is no key of the format", key)
		}
	}
	found.tell(t, "the bucket")
}

func (c *complaints) manifest(root, key string) {
	var m struct {
		Files []struct {
			Path, Blob string
			Size       int64
		}
	}
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(key)))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		c.add("%s: %v", key, err)
	}
	for _, f := range m.Files {
		info, err := os.Stat(filepath.Join(root, "blobs", f.Blob))
		switch {
		case err != nil:
			c.add("%s names %s: %v", key, f.Path, err)
		case info.Size() != f.Size:
			c.add("%s names %s with %d bytes, and it has %d", key, f.Path, f.Size, info.Size())
		}
	}
}

// Keys are the objects of the bucket whose objects are files below root, in
// order. What a folder as a bucket and the S3 server keep for themselves is left
// out.
func Keys(t *testing.T, root string) []string {
	t.Helper()
	keys := map[string]bool{}
	walkFiles(t, root, func(path string, _ fs.DirEntry) {
		rel, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		if key := filepath.ToSlash(rel); !strings.HasPrefix(key, ".hf-cache-sync/") && !strings.Contains(key, ".sgwtmp") {
			keys[key] = true
		}
	})
	return slices.Sorted(maps.Keys(keys))
}

// ObjectKeys are the keys that the bucket has once these revisions were pushed,
// in order.
func ObjectKeys(revisions ...Revision) []string {
	keys := map[string]bool{}
	for _, r := range revisions {
		keys[r.ManifestKey()] = true
		for _, f := range r.Files {
			keys["blobs/"+f.ID()] = true
		}
		for _, ref := range r.Refs {
			keys["refs/"+r.Key()+"/"+ref] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

package main

import (
	"context"
	"crypto/sha1" // Git's name of a commit is made of it.
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// Cache is a Hub cache that the harness made, of one repository.
type Cache struct {
	Hub   string           // The folder.
	Repo  string           // org/name
	Blobs map[string]int64 // Name, which is the SHA-256, and size.
	Bytes int64
}

// BlobDir is where the files are.
func (c *Cache) BlobDir() string { return filepath.Join(c.Hub, repoFolder(c.Repo), "blobs") }

func repoFolder(repo string) string {
	return "models--" + filepath.Dir(repo) + "--" + filepath.Base(repo)
}

// MakeCache writes a cache below hub whose repository has files of these sizes.
// Their contents are random. A file in sparse has random contents in one page of
// each MiB and takes memory for no other.
func MakeCache(ctx context.Context, hub, repo string, sizes []int64, sparse bool) (*Cache, error) {
	c := &Cache{Hub: hub, Repo: repo, Blobs: map[string]int64{}}
	if err := os.MkdirAll(c.BlobDir(), 0o755); err != nil {
		return nil, err //nolint:wrapcheck // It names the folder.
	}
	names := make([]string, len(sizes))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, size := range sizes {
		group.Go(func() (err error) {
			if err = context.Cause(ctx); err == nil {
				names[i], err = writeBlob(c.BlobDir(), i, size, sparse)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("making a cache: %w", err)
	}
	files := make(map[string]string, len(sizes))
	for i, name := range names {
		c.Blobs[name] = sizes[i]
		c.Bytes += sizes[i]
		files[fmt.Sprintf("file-%06d.bin", i)] = name
	}
	return c, publish(hub, repo, files, c.Blobs)
}

// writeBlob writes file number i and returns its name.
func writeBlob(dir string, i int, size int64, sparse bool) (name string, err error) {
	unnamed := filepath.Join(dir, fmt.Sprintf("unnamed-%d", i))
	out, err := os.Create(unnamed)
	if err != nil {
		return "", err //nolint:wrapcheck // It names the file.
	}
	random := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(size >> 10), byte(size >> 20), byte(size >> 30)})
	digest := sha256.New()
	buf := make([]byte, min(size, 1<<20))
	for at := int64(0); at < size && err == nil; at += int64(len(buf)) {
		block := buf[:min(int64(len(buf)), size-at)]
		written := block
		if sparse {
			written = block[:min(4096, len(block))]
		}
		_, _ = random.Read(written) // It never fails.
		_, _ = digest.Write(block)  // Nor does this.
		_, err = out.WriteAt(written, at)
	}
	if err == nil {
		err = out.Truncate(size)
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", err //nolint:wrapcheck // It names the file.
	}
	name = hex.EncodeToString(digest.Sum(nil))
	return name, os.Rename(unnamed, filepath.Join(dir, name)) //nolint:wrapcheck // It names the file.
}

// publish writes what leads to the blobs of a repository: snapshot, tree, ref.
func publish(hub, repo string, files map[string]string, sizes map[string]int64) error {
	type treeEntry struct {
		BlobID string `json:"blob_id"`
		SHA256 string `json:"lfs_sha256"`
		LFS    int64  `json:"lfs_size"`
		Size   int64  `json:"size"`
	}
	base := filepath.Join(hub, repoFolder(repo))
	sum := sha1.Sum([]byte(repo))
	commit := hex.EncodeToString(sum[:])
	snapshot := filepath.Join(base, "snapshots", commit)
	for _, dir := range []string{snapshot, filepath.Join(base, "refs"), filepath.Join(base, "trees")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err //nolint:wrapcheck // It names the folder.
		}
	}
	tree := make(map[string]treeEntry, len(files))
	for path, blob := range files {
		tree[path] = treeEntry{fmt.Sprintf("%040d", 0), blob, sizes[blob], sizes[blob]}
		if err := os.Symlink("../../blobs/"+blob, filepath.Join(snapshot, path)); err != nil {
			return err //nolint:wrapcheck // It names the file.
		}
	}
	data, err := json.Marshal(map[string]any{"files": tree, "format_version": 1})
	if err != nil {
		return fmt.Errorf("the tree of %s: %w", repo, err)
	}
	if err = os.WriteFile(filepath.Join(base, "trees", commit+".json"), data, 0o644); err != nil {
		return err //nolint:wrapcheck // It names the file.
	}
	return os.WriteFile(filepath.Join(base, "refs", "main"), []byte(commit), 0o644) //nolint:wrapcheck // It names the file.
}

// MakeWideCache writes a cache to be looked at and not read: repos repositories of
// files each, all holes.
func MakeWideCache(hub string, repos, files int) error {
	for r := range repos {
		repo := fmt.Sprintf("bench/wide-%03d", r)
		dir := filepath.Join(hub, repoFolder(repo), "blobs")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err //nolint:wrapcheck // It names the folder.
		}
		paths, sizes := make(map[string]string, files), make(map[string]int64, files)
		for f := range files {
			sum := sha256.Sum256(fmt.Appendf(nil, "%d/%d", r, f))
			blob := hex.EncodeToString(sum[:])
			paths[fmt.Sprintf("file-%06d.bin", f)], sizes[blob] = blob, 16<<10
			name := filepath.Join(dir, blob)
			if err := os.WriteFile(name, nil, 0o644); err != nil {
				return err //nolint:wrapcheck // It names the file.
			}
			if err := os.Truncate(name, 16<<10); err != nil {
				return err //nolint:wrapcheck // It names the file.
			}
		}
		if err := publish(hub, repo, paths, sizes); err != nil {
			return err
		}
	}
	return nil
}

// VerifyTree checks that below dir each of blobs is there once, with the contents
// that its name says.
func VerifyTree(dir string, blobs map[string]int64) error {
	found := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		if _, ours := blobs[entry.Name()]; !ours {
			return nil
		}
		found++
		f, err := os.Open(path)
		if err != nil {
			return err //nolint:wrapcheck // It names the file.
		}
		digest := sha256.New()
		_, err = io.Copy(digest, f)
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err == nil && hex.EncodeToString(digest.Sum(nil)) != entry.Name() {
			err = fmt.Errorf("%s has other contents than its name says", path)
		}
		return err
	})
	if err == nil && found != len(blobs) {
		err = fmt.Errorf("%s holds %d files of %d", dir, found, len(blobs))
	}
	return err
}

package hfcache

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Misfits are the files of a revision that are there with another size than the commit's listing says, sorted by path, with the id that the listing gives. A
// scan leaves them out of the revision, as a [Problem] whose path is [Cache.SnapshotPath] of the file.
func (c *Cache) Misfits(repo *Repo, rev *Revision) []File {
	have := make(map[string]bool, len(rev.Files))
	for _, f := range rev.Files {
		have[string(f.Path)] = true
	}
	var misfits []File
	for _, p := range slices.Sorted(maps.Keys(rev.Tree)) {
		if have[string(p)] {
			continue
		}
		entry := rev.Tree[p]
		f, ok := c.misfit(repo, c.SnapshotPath(repo, rev, File{Path: p}))
		if ok && f.Size != entry.Size {
			f.Path, f.ID = p, entry.ID()
			misfits = append(misfits, f)
		}
	}
	return misfits
}

func (c *Cache) misfit(repo *Repo, rel string) (File, bool) {
	info, err := c.root.Lstat(filepath.FromSlash(rel))
	switch {
	case err != nil:
		return File{}, false
	case info.Mode().IsRegular():
		return File{Size: info.Size(), Bytes: rel, ModTime: info.ModTime()}, true
	case info.Mode()&fs.ModeSymlink == 0:
		return File{}, false
	}
	text, err := c.root.Readlink(filepath.FromSlash(rel))
	if err != nil {
		return File{}, false
	}
	target, err := c.target(path.Dir(rel), text)
	if err != nil {
		return File{}, false
	}
	if name, isBlob := strings.CutPrefix(target, repo.ID.Folder()+"/"+blobsDir+"/"); isBlob {
		blob, known := repo.Blobs[name]
		return File{Size: blob.Size, Blob: name, Bytes: blob.Bytes, ModTime: blob.ModTime}, known
	}
	resolved, info, err := c.resolve(target)
	if err != nil {
		return File{}, false
	}
	return File{Size: info.Size(), Bytes: resolved, ModTime: info.ModTime()}, true
}

// SnapshotPath is where a file's name is, below the cache folder, slash-separated.
func (*Cache) SnapshotPath(repo *Repo, rev *Revision, f File) string {
	return repo.ID.Folder() + "/" + snapshotsDir + "/" + string(rev.Commit) + "/" + string(f.Path)
}

// SameFile says whether two paths below the cache folder are names of one file on the disk, as hard links are. The last elements must not be links.
func (c *Cache) SameFile(a, b string) bool {
	first, err := c.root.Lstat(filepath.FromSlash(a))
	second, err2 := c.root.Lstat(filepath.FromSlash(b))
	return errors.Join(err, err2) == nil && os.SameFile(first, second)
}

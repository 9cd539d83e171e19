package hfcache

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// ErrTreeConflict is wrapped when the cache has another listing of the same commit. A commit never changes, so one of the two is wrong.
var ErrTreeConflict = errors.New("the cache has another listing of this commit")

// WriteTree writes the listing of a commit. One that the cache has already and that clients accept stays, except that it learns the Xet hashes
// that only t has. If the two list different files, nothing is changed and the error wraps [ErrTreeConflict].
func (d *RepoDir) WriteTree(c hub.Commit, t manifest.Tree) error {
	rel := treesDir + "/" + string(c) + ".json"
	if old, ok := d.readTree(rel); ok {
		merged, err := mergeTrees(old, t)
		if err != nil {
			return d.fail("writing", rel, err)
		}
		if maps.Equal(old, merged) {
			return nil
		}
		t = merged
	}
	data, err := manifest.EncodeTreeFile(t)
	if err != nil {
		return d.fail("writing", rel, err)
	}
	return d.writeFile("tree", rel, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	}, nil)
}

// readTree says false for a listing that is missing or that clients would ignore.
func (d *RepoDir) readTree(rel string) (manifest.Tree, bool) { return readTreeFile(d.root, rel) }

func readTreeFile(root *os.Root, rel string) (manifest.Tree, bool) {
	f, err := openRegular(root, filepath.FromSlash(rel), os.O_RDONLY)
	if err != nil {
		return nil, false
	}
	defer f.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(io.LimitReader(f, manifest.MaxSize+1))
	if err != nil {
		return nil, false
	}
	tree, err := manifest.DecodeTreeFile(data)
	return tree, err == nil
}

// mergeTrees adds to old what only other knows.
func mergeTrees(old, other manifest.Tree) (manifest.Tree, error) {
	merged := maps.Clone(old)
	for p, entry := range other {
		known, ok := old[p]
		if !ok {
			return nil, fmt.Errorf("%w, without %q", ErrTreeConflict, p)
		}
		if known.XetHash == "" {
			known.XetHash = entry.XetHash
			merged[p] = known
		}
		entry.XetHash = known.XetHash
		if known != entry {
			return nil, fmt.Errorf("%w, with other facts about %q", ErrTreeConflict, p)
		}
	}
	if len(other) < len(old) {
		for p := range old {
			if _, ok := other[p]; !ok {
				return nil, fmt.Errorf("%w, with %q too", ErrTreeConflict, p)
			}
		}
	}
	return merged, nil
}

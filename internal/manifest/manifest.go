package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// File is one file of a commit.
type File struct {
	Path hub.Path
	Blob hub.BlobID
	Size int64 // bytes
}

// Manifest is what a bucket knows of one commit of one repository.
type Manifest struct {
	Repo   hub.Repo
	Commit hub.Commit
	Files  []File // sorted by path

	// Hub is what only hf-cache-sync in Go writes. It is nil for a manifest of the Python tool: such a manifest does not prove that its blobs are in
	// the bucket, nor that it names all files that the pushing machine had.
	Hub *Hub
}

// Hub is what the cache of the pushing machine knew of the commit beyond the files it had.
type Hub struct {
	Tree    Tree       // the whole commit as the Hub listed it; nil if no machine that pushed knew it
	NoExist []hub.Path // optional files that the Hub said do not exist, sorted

	// Refs are the earliest times at which any machine claims to have learned that a ref names the commit. A machine whose cache was copied claims a time that is too late, so
	// the earliest counts. Claims are kept for refs that the bucket did not move, too.
	Refs map[hub.Ref]time.Time
	// Forced are the latest times at which somebody made a ref name the commit whatever the claims say. They stand above Refs.
	Forced map[hub.Ref]time.Time
}

// RefTime is when a ref began to name the commit, as far as anybody knows: when it was last forced to, else the earlier of what the manifest claims and of other, which is what the
// caller knows beside. The zero time stands for unknown.
func (m *Manifest) RefTime(name hub.Ref, other time.Time) time.Time {
	if m == nil || m.Hub == nil {
		return other
	}
	if forced, ok := m.Hub.Forced[name]; ok {
		return forced
	}
	claimed, ok := m.Hub.Refs[name]
	if ok && (other.IsZero() || claimed.Before(other)) {
		return claimed
	}
	return other
}

// IsForced says whether somebody made the ref name the commit whatever the claims say.
func (m *Manifest) IsForced(name hub.Ref) bool {
	if m == nil || m.Hub == nil {
		return false
	}
	_, forced := m.Hub.Forced[name]
	return forced
}

// Tree is the Hub's listing of a commit, by path.
type Tree map[hub.Path]TreeEntry

// TreeEntry is one file of a Tree, in the fields of huggingface_hub's trees/<commit>.json (huggingface_hub _tree_cache.py).
type TreeEntry struct {
	Size      int64      // bytes of the real file
	BlobID    string     // git SHA-1 of the file, or of its LFS pointer
	LFSSHA256 hub.BlobID // empty for a plain git file
	LFSSize   int64
	XetHash   string // empty if the Hub gave none
}

// ID is the name by which the Hub serves the entry's bytes: the SHA-256 of an LFS file, else the git blob SHA-1. It is empty
// if the listing gives no usable digest.
func (e TreeEntry) ID() hub.BlobID {
	if e.LFSSHA256 != "" {
		return e.LFSSHA256
	}
	id, err := hub.ParseBlobID(e.BlobID)
	if err != nil {
		return ""
	}
	return id
}

// Key identifies a revision across types and repositories.
type Key struct {
	Repo   hub.Repo
	Commit hub.Commit
}

// String is "org/name@commit", for people.
func (k Key) String() string { return k.Repo.String() + "@" + k.Commit.Short() }

// Key returns what the manifest is about.
func (m *Manifest) Key() Key { return Key{m.Repo, m.Commit} }

// File returns the entry for a path.
func (m *Manifest) File(p hub.Path) (File, bool) {
	i, found := slices.BinarySearchFunc(m.Files, p, func(f File, p hub.Path) int { return strings.Compare(string(f.Path), string(p)) })
	if !found {
		return File{}, false
	}
	return m.Files[i], true
}

// Tree returns the commit's listing, or nil.
func (m *Manifest) Tree() Tree {
	if m.Hub == nil {
		return nil
	}
	return m.Hub.Tree
}

// Completeness says how much of its commit a manifest covers.
type Completeness uint8

// The three answers. Without a tree nothing can be said: a snapshot looks the same whether filtered, interrupted or whole.
const (
	Unknown Completeness = iota
	Partial
	Complete
)

// Completeness compares the files with the tree.
func (m *Manifest) Completeness() Completeness {
	tree := m.Tree()
	if len(tree) == 0 {
		return Unknown
	}
	for path := range tree {
		if _, ok := m.File(path); !ok {
			return Partial
		}
	}
	return Complete
}

// ErrInvalid is wrapped by every refusal of a manifest.
var ErrInvalid = errors.New("invalid manifest")

// Check sorts the files and reports the first thing that makes a manifest inconsistent. Decode and Merge call it; whoever builds a Manifest by hand calls it once.
func (m *Manifest) Check() error {
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(string(a.Path), string(b.Path)) })
	sizes := make(map[hub.BlobID]int64, len(m.Files))
	paths := make([]hub.Path, len(m.Files))
	for i, f := range m.Files {
		paths[i] = f.Path
		if f.Size < 0 {
			return fmt.Errorf("%w: file %q has the negative size %d", ErrInvalid, f.Path, f.Size)
		}
		if known, ok := sizes[f.Blob]; ok && known != f.Size {
			return fmt.Errorf("%w: blob %s has two sizes, %d and %d (file %q)", ErrInvalid, f.Blob, known, f.Size, f.Path)
		}
		sizes[f.Blob] = f.Size
	}
	if err := checkPaths(paths); err != nil {
		return err
	}
	if m.Hub == nil {
		return nil
	}
	treePaths := make([]hub.Path, 0, len(m.Hub.Tree))
	for p := range m.Hub.Tree {
		treePaths = append(treePaths, p)
	}
	slices.Sort(treePaths)
	if err := checkPaths(treePaths); err != nil {
		return err
	}
	slices.Sort(m.Hub.NoExist)
	m.Hub.NoExist = slices.Compact(m.Hub.NoExist)
	return nil
}

// checkPaths wants sorted paths without a double and without one that is also a folder of another.
func checkPaths(paths []hub.Path) error {
	isFile := make(map[hub.Path]bool, len(paths))
	for i, p := range paths {
		if i > 0 && paths[i-1] == p {
			return fmt.Errorf("%w: file %q is listed twice", ErrInvalid, p)
		}
		isFile[p] = true
	}
	for _, p := range paths {
		for i, c := range p {
			if c == '/' && isFile[p[:i]] {
				return fmt.Errorf("%w: %q is both a file and the folder of %q", ErrInvalid, p[:i], p)
			}
		}
	}
	return nil
}

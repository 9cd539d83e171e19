package manifest

import (
	"fmt"
	"path"
	"slices"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Contents is what a cache or a bucket has of one commit.
type Contents struct {
	Has  map[hub.Path]bool // paths whose bytes are there
	Tree Tree              // the commit's file listing, or nil if nobody knows it
}

// Contents is what the bucket has of the commit. A nil manifest has nothing.
func (m *Manifest) Contents() Contents {
	if m == nil {
		return Contents{}
	}
	c := Contents{Has: make(map[hub.Path]bool, len(m.Files)), Tree: m.Tree()}
	for _, f := range m.Files {
		c.Has[f.Path] = true
	}
	return c
}

// Loss is why a ref must not move to another commit: whoever follows it would lose something.
type Loss struct {
	Path hub.Path // a file that the ref leads to today, or that the listing of the new commit has, and that would be missing
	More int      // how many others there are
	// Incomplete says that every file of the old commit would still be there, but the old commit is complete and the new one is not.
	Incomplete bool
}

// String names what would be missing: "model.safetensors and 2 more files".
func (l *Loss) String() string {
	switch l.More {
	case 0:
		return string(l.Path)
	case 1:
		return string(l.Path) + " and 1 more file"
	default:
		return fmt.Sprintf("%s and %d more files", l.Path, l.More)
	}
}

// Worse says what is lost by moving a ref from the commit of which old is there to the one of which there is new; nil says that nothing is, and that the ref may move. A ref moves only so that
// whoever could load the repository by it still can:
//
//   - A path that old has counts as lost if new lacks it while the listing of its commit has it, or if nobody knows that listing.
//   - A path that the listing has dropped is excused only if new has all listed paths with the same extension: weights that were split into other files are there again. If the listing has none with
//     that extension, new must have all LFS files of some other one: weights in another format are there, unless the commit has no LFS files.
//   - Where old is known to be complete, new must be, too: clients refuse an incomplete snapshot when they are offline.
//   - What old has beyond its own listing is no part of the repository.
//
// Paths for which holds says no do not count: this platform cannot have such a file. A nil holds says yes to all.
func Worse(old, new Contents, holds func(hub.Path) bool) *Loss {
	if holds == nil {
		holds = func(hub.Path) bool { return true }
	}
	if len(new.Tree) == 0 {
		new.Tree = nil // no commit is empty, so that is no listing
	}
	exts := new.extensions(holds)
	var absent []hub.Path // listed paths that new lacks
	for p := range new.Tree {
		if !new.Has[p] && holds(p) {
			absent = append(absent, p)
		}
	}
	var lost []hub.Path
	for p := range old.Has {
		if new.Has[p] || !holds(p) {
			continue
		}
		if _, listed := old.Tree[p]; old.Tree != nil && !listed {
			continue
		}
		_, listed := new.Tree[p]
		if new.Tree == nil || listed || !exts.excuse(path.Ext(string(p))) {
			lost = append(lost, p)
		}
	}
	if len(lost) > 0 {
		return &Loss{Path: slices.Min(lost), More: len(lost) - 1}
	}
	if len(absent) > 0 && old.complete(holds) {
		return &Loss{Path: slices.Min(absent), More: len(absent) - 1, Incomplete: true}
	}
	return nil
}

// complete says whether every listed path is there that this platform can have.
func (c Contents) complete(holds func(hub.Path) bool) bool {
	if len(c.Tree) == 0 {
		return false
	}
	for p := range c.Tree {
		if !c.Has[p] && holds(p) {
			return false
		}
	}
	return true
}

// extensions says of the extensions in a listing whether all paths with them are there.
type extensions struct {
	all map[string]bool // of all paths
	lfs map[string]bool // of LFS files
}

func (c Contents) extensions(holds func(hub.Path) bool) extensions {
	e := extensions{map[string]bool{}, map[string]bool{}}
	note := func(all map[string]bool, ext string, there bool) {
		before, known := all[ext]
		all[ext] = there && (before || !known)
	}
	for p, entry := range c.Tree {
		if !holds(p) {
			continue
		}
		ext := path.Ext(string(p))
		note(e.all, ext, c.Has[p])
		if entry.LFSSHA256 != "" {
			note(e.lfs, ext, c.Has[p])
		}
	}
	return e
}

// excuse says whether a path with an extension may be gone that the listing has dropped.
func (e extensions) excuse(ext string) bool {
	if there, listed := e.all[ext]; listed {
		return there
	}
	for _, there := range e.lfs {
		if there {
			return true
		}
	}
	return len(e.lfs) == 0
}

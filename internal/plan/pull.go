package plan

import (
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

// PullPolicy is what the user wants of a pull.
type PullPolicy struct {
	Files     Filter // which files of the commit
	ForceRefs bool   // move local refs even if they were learned later
	// Refresh asks the Hub for the commit that a branch names now, instead of the bucket.
	Refresh bool
}

// Pull is what has to be done so that the cache has a revision of the bucket.
type Pull struct {
	Manifest *manifest.Manifest
	Files    []manifest.File     // to be linked: what the filter lets through
	Blobs    []manifest.File     // to be fetched, each blob once; Path is the first that needs it
	Refs     []PullRef           // to be written at the end
	KeptRefs []PullRef           // local refs that were learned later, as they are here
	Unclean  []hub.Ref           // local refs whose files are to be written again with the commits that they name already
	Filtered int                 // files that the filter keeps out
	Local    *hfcache.Revision   // what is here already, or nil
	Alone    bool                // the bucket could not be asked for anything
	Upstream map[hub.BlobID]bool // blobs that the bucket does not have, as far as its manifest tells
}

// PullRef is a ref as it will be written.
type PullRef struct {
	Name    hub.Ref
	Commit  hub.Commit
	Learned time.Time
}

// NewPull compares a manifest, and the refs of the bucket that name its commit, with what the cache has of the repository (nil if nothing).
func NewPull(m *manifest.Manifest, refs []remote.Ref, local *hfcache.Repo, policy PullPolicy) *Pull {
	p := &Pull{Manifest: m}
	here := map[string]hfcache.Blob{}
	if local != nil {
		here = local.Blobs
		p.Local = local.Revision(m.Commit)
	}
	real := p.realFiles()
	fetching := map[hub.BlobID]bool{}
	for _, f := range m.Files {
		if !policy.Files.Wants(string(f.Path)) {
			p.Filtered++
			continue
		}
		p.Files = append(p.Files, f)
		blob, have := here[string(f.Blob)]
		if (have && blob.Size == f.Size) || fetching[f.Blob] || real[manifest.File{Path: f.Path, Size: f.Size}] {
			continue
		}
		fetching[f.Blob] = true
		p.Blobs = append(p.Blobs, f)
	}
	for _, ref := range refs {
		p.ref(ref, local, policy)
	}
	p.unclean(local)
	return p
}

// unclean finds the local refs that clients cannot follow because of what else is in their files. Writing them again promises nothing new, so it depends neither on what the bucket
// says about them nor on what becomes of the files.
func (p *Pull) unclean(local *hfcache.Repo) {
	if local == nil {
		return
	}
	for _, l := range local.Refs {
		if l.Unclean && !slices.ContainsFunc(p.Refs, func(r PullRef) bool { return r.Name == l.Name }) {
			p.Unclean = append(p.Unclean, l.Name)
		}
	}
}

// Contradiction is a file that the manifest has otherwise than the listing of the same commit that the cache has, or nil. A commit never changes, so one of the two is
// wrong; the listing may be the Hub's own, and a manifest is anybody's who may write the bucket. Two digests of different kinds can be of the same bytes.
func (p *Pull) Contradiction() *manifest.ConflictError {
	if p.Local == nil || p.Local.Tree == nil {
		return nil
	}
	for _, f := range p.Files {
		entry, listed := p.Local.Tree[f.Path]
		id := entry.ID()
		if listed && entry.Size == f.Size && (id == "" || id == f.Blob || id.Algorithm() != f.Blob.Algorithm()) {
			continue
		}
		return &manifest.ConflictError{Key: p.Manifest.Key(), Path: f.Path, Ours: manifest.File{Path: f.Path, Blob: id, Size: entry.Size}, Theirs: f}
	}
	return nil
}

// realFiles are the files, by path and size, that the snapshot holds itself, as caches without links do.
func (p *Pull) realFiles() map[manifest.File]bool {
	if p.Local == nil {
		return nil
	}
	files := map[manifest.File]bool{}
	for _, f := range p.Local.Files {
		if f.Blob == "" {
			files[manifest.File{Path: f.Path, Size: f.Size}] = true
		}
	}
	return files
}

func (p *Pull) ref(ref remote.Ref, local *hfcache.Repo, policy PullPolicy) {
	wanted := PullRef{ref.Name, ref.Commit, ref.Resolved}
	if local != nil && !policy.ForceRefs {
		for _, l := range local.Refs {
			if l.Name == ref.Name && l.Commit != ref.Commit && l.Learned.After(ref.Resolved) {
				p.KeptRefs = append(p.KeptRefs, PullRef{l.Name, l.Commit, l.Learned})
				return
			}
			if l.Name == ref.Name && l.Commit == ref.Commit {
				return
			}
		}
	}
	p.Refs = append(p.Refs, wanted)
}

// Bytes is how much has to be fetched. Sizes that a manifest made up can add up to more than there are numbers; then it is the largest number.
func (p *Pull) Bytes() int64 {
	var sum int64
	for _, f := range p.Blobs {
		if sum > math.MaxInt64-f.Size {
			return math.MaxInt64
		}
		sum += f.Size
	}
	return sum
}

// Completeness says what the snapshot will be once the plan is carried out.
func (p *Pull) Completeness() manifest.Completeness {
	tree := p.Manifest.Tree()
	if tree == nil {
		return manifest.Unknown
	}
	if p.PresentListed() < len(tree) {
		return manifest.Partial
	}
	return manifest.Complete
}

// CaseCollision finds two paths that a file system which ignores case would take for one, or of which one would be the folder of the other. It
// knows letters as [strings.EqualFold] does, and does not know that one letter can be written with one rune or with several.
func CaseCollision(files []manifest.File) (a, b hub.Path, collide bool) {
	type name struct {
		path   hub.Path
		folder bool
	}
	seen := make(map[string]name, len(files))
	for _, f := range files {
		folded := foldCase(string(f.Path))
		for i := range len(folded) {
			if folded[i] != '/' {
				continue
			}
			if other, taken := seen[folded[:i]]; taken && !other.folder {
				return other.path, f.Path, true
			} else if !taken {
				seen[folded[:i]] = name{f.Path, true}
			}
		}
		if other, taken := seen[folded]; taken {
			return other.path, f.Path, true
		}
		seen[folded] = name{f.Path, false}
	}
	return "", "", false
}

// foldCase gives all texts that are equal but for their case one form. [strings.ToLower] would not: ſ, ς and the sign for kelvin are lower case, or
// have one of their own, and are s, σ and k for file systems all the same.
func foldCase(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, s)
}

// PresentListed counts the files of the commit's listing that the snapshot will have.
func (p *Pull) PresentListed() int {
	tree := p.Manifest.Tree()
	present := map[hub.Path]bool{}
	mark := func(path hub.Path) {
		if _, listed := tree[path]; listed {
			present[path] = true
		}
	}
	for _, f := range p.Files {
		mark(f.Path)
	}
	if p.Local != nil {
		for _, f := range p.Local.Files {
			mark(f.Path)
		}
	}
	return len(present)
}

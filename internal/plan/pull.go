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
	// RequireComplete moves no ref to a snapshot that is not known to be complete.
	RequireComplete bool
	// Behind is as in [PushPolicy]. [engine.Engine.PreparePull] sets it.
	Behind time.Duration
}

// Pull is what has to be done so that the cache has a revision of the bucket.
type Pull struct {
	Manifest *manifest.Manifest
	Files    []manifest.File     // to be linked: what the filter lets through
	Blobs    []manifest.File     // to be fetched, each blob once; Path is the first that needs it
	Refs     []PullRef           // to be written at the end
	KeptRefs []KeptLocal         // local refs that stay
	Asked    hub.Ref             // the ref by which the revision was asked for, if any
	AskedHub bool                // the Hub itself said just now that Asked names the commit
	Unclean  []hub.Ref           // local refs whose files are to be written again with the commits that they name already
	Filtered int                 // files that the filter keeps out
	Local    *hfcache.Revision   // what is here already, or nil
	Alone    bool                // the bucket could not be asked for anything
	Upstream map[hub.BlobID]bool // blobs that the bucket does not have, as far as its manifest tells

	were []KeptLocal // the local refs that the bucket has, too, as they are
}

// PullRef is a ref as it will be written.
type PullRef struct {
	Name    hub.Ref
	Commit  hub.Commit
	Learned time.Time
}

// Were says which commit a local ref names before the pull. The commit is empty if there is no such ref, or if the bucket has none of that name.
func (p *Pull) Were(name hub.Ref) KeptLocal {
	for _, were := range p.were {
		if were.Name == name {
			return were
		}
	}
	return KeptLocal{}
}

// KeptLocal is a ref of the cache that stays although the bucket's names another commit.
type KeptLocal struct {
	PullRef                // as it is here; its commit is empty if there is none
	Why     KeptWhy        // why it stays
	Loss    *manifest.Loss // what would be missing; for KeptWorse
	// Local is the revision that the ref names, nil if it is not here.
	Local *hfcache.Revision
}

// KeptWhy is a reason for which a local ref stays.
type KeptWhy uint8

// The reasons.
const (
	KeptLater      KeptWhy = iota + 1 // it was learned later than the bucket's
	KeptWorse                         // files that it leads to would be missing
	KeptIncomplete                    // only a complete snapshot was to be named, and this one is not
	KeptEmpty                         // the snapshot will have no file
)

// NewPull compares a manifest, and the refs of the bucket that name its commit, with what the cache has of the repository (nil if nothing). known are manifests of other commits that local refs
// name, for what they claim about these; see [LocalRefsToJudge].
func NewPull(m *manifest.Manifest, refs []remote.Ref, local *hfcache.Repo, known map[hub.Commit]*manifest.Manifest, policy PullPolicy) *Pull {
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
		p.ref(ref, local, known, policy)
	}
	p.unclean(local)
	return p
}

// LocalRefsToJudge are the commits that local refs name, where the bucket's refs name m and were learned earlier, as far as file times tell: a copy of a cache can have all of its files written today. If
// the bucket knows of these commits when somebody learned of them first, that counts. The caller looks them up.
func LocalRefsToJudge(m *manifest.Manifest, refs []remote.Ref, local *hfcache.Repo, policy PullPolicy) []hub.Commit {
	var commits []hub.Commit
	if local == nil || policy.ForceRefs {
		return nil
	}
	for _, ref := range refs {
		for _, l := range local.Refs {
			if l.Name == ref.Name && l.Commit != ref.Commit && learned(l, policy.Behind).After(ref.Time(m)) && !slices.Contains(commits, l.Commit) {
				commits = append(commits, l.Commit)
			}
		}
	}
	return commits
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

func (p *Pull) ref(ref remote.Ref, local *hfcache.Repo, known map[hub.Commit]*manifest.Manifest, policy PullPolicy) {
	wanted := PullRef{ref.Name, ref.Commit, ref.Time(p.Manifest)}
	here, exists := PullRef{Name: ref.Name}, false
	if local != nil {
		for _, l := range local.Refs {
			if l.Name == ref.Name {
				here, exists = PullRef{l.Name, l.Commit, learned(l, policy.Behind)}, true
			}
		}
	}
	kept := KeptLocal{PullRef: here}
	if exists {
		defer func() { p.were = append(p.were, kept) }()
	}
	nowhere := false
	if exists {
		kept.Local = local.Revision(here.Commit)
		// A ref that leads to no file is worth nothing, unless a client is about to download them.
		nowhere = (kept.Local == nil || len(kept.Local.Files) == 0) && len(local.Temps) == 0
	}
	switch {
	case policy.RequireComplete && p.Completeness() != manifest.Complete && here.Commit != ref.Commit:
		kept.Why = KeptIncomplete
	case exists && policy.ForceRefs:
	case exists && here.Commit == ref.Commit:
		return
	case (!exists || nowhere) && len(p.Files) == 0 && (p.Local == nil || len(p.Local.Files) == 0):
		kept.Why = KeptEmpty
	case nowhere:
	case exists && !ref.FromHub && known[here.Commit].RefTime(ref.Name, here.Learned).After(wanted.Learned):
		kept.Why = KeptLater
	case exists:
		if kept.Loss = p.loss(kept.Local, ref.Name); kept.Loss != nil {
			kept.Why = KeptWorse
		}
	}
	if kept.Why != 0 {
		p.KeptRefs = append(p.KeptRefs, kept)
		return
	}
	p.Refs = append(p.Refs, wanted)
}

// loss is what would be missing if a local ref moved away from a revision. A ref that was forced in the bucket is followed even if the bucket lacks files, but not if a filter leaves them out.
func (p *Pull) loss(old *hfcache.Revision, name hub.Ref) *manifest.Loss {
	loss := manifest.Worse(contents(old), p.contents(p.Files), hfcache.CanHold)
	if loss != nil && p.Manifest.IsForced(name) && manifest.Worse(contents(old), p.contents(p.Manifest.Files), hfcache.CanHold) != nil {
		return nil
	}
	return loss
}

// contents is what the snapshot has with the given files.
func (p *Pull) contents(files []manifest.File) manifest.Contents {
	c := contents(p.Local)
	for _, f := range files {
		c.Has[f.Path] = true
	}
	if tree := p.Manifest.Tree(); tree != nil {
		c.Tree = tree
	}
	return c
}

// contents is what the cache has of a revision, nil if nothing.
func contents(rev *hfcache.Revision) manifest.Contents {
	c := manifest.Contents{Has: map[hub.Path]bool{}}
	if rev == nil {
		return c
	}
	for _, f := range rev.Files {
		c.Has[f.Path] = true
	}
	c.Tree = rev.Tree
	return c
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

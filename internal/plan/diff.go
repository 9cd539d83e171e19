package plan

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

// State says how the two copies of a revision compare.
type State uint8

// The states of a revision. Of a revision that is in conflict and partial as well, the conflict counts: nothing can be done about the rest before it is settled.
const (
	InSync     State = iota // both sides have the same files
	LocalOnly               // the bucket does not know the commit
	RemoteOnly              // the cache does not have the commit
	Partial                 // both know it, and at least one lacks files that the other has
	Conflict                // both have a file, and not the same
)

// String is the word that users see.
func (s State) String() string {
	return [...]string{"in-sync", "local-only", "remote-only", "partial", "conflict"}[s]
}

// Diff is how a cache and a bucket compare.
type Diff struct {
	Revisions []RevisionDiff // sorted by repository and commit
	Refs      []RefDiff      // sorted by repository and name; only those that differ
}

// RevisionDiff is how one revision compares.
type RevisionDiff struct {
	Key   manifest.Key
	State State

	LocalRefs, RemoteRefs []hub.Ref // that name it, sorted
	Files                 int       // that at least one side has
	Bytes                 int64     // of those

	LocalLacks, RemoteLacks Lack
	Conflicts               []FileConflict // sorted by path
	// BySize are the files of which only the sizes could be compared, because the two sides know different digests or the cache knows none.
	BySize []hub.Path
	// Unproven says that the bucket's manifest was written by the Python tool, which does not make sure that the blobs it names are there.
	Unproven bool
}

// Lack is what one side does not have of a revision, and the other does.
type Lack struct {
	Files []hub.Path // sorted
	Bytes int64
}

// FileConflict is a file with two contents.
type FileConflict struct {
	Path          hub.Path
	Local, Remote manifest.File // Local.Blob is empty if only the sizes differ and the cache knows no digest
}

// RefDiff is a ref that does not name the same commit on both sides.
type RefDiff struct {
	Key           remote.RefKey
	Local, Remote hub.Commit // empty if that side does not have the ref
}

// NewDiff compares a cache with what was read of a bucket, both narrowed down to the same repositories. It goes by the ids that the scan found, and hashes nothing.
// It is about files and refs; marks of absent files and the Hub's listings of commits, which a push adds to the bucket as well, are not compared.
//
// A ref that only one side has is a difference only if both sides have the revision that it names; else it says no more than that the revision is missing.
func NewDiff(inv *hfcache.Inventory, contents *remote.Contents) *Diff {
	d := &Diff{}
	refs := map[remote.RefKey]*RefDiff{}
	ref := func(repo hub.Repo, name hub.Ref) *RefDiff {
		key := remote.RefKey{Repo: repo, Name: name}
		if refs[key] == nil {
			refs[key] = &RefDiff{Key: key}
		}
		return refs[key]
	}
	both := map[manifest.Key]bool{}
	for _, repo := range inv.Repos {
		for _, rev := range repo.Revisions {
			r := RevisionDiff{Key: manifest.Key{Repo: repo.ID, Commit: rev.Commit}, LocalRefs: localRefs(repo, rev.Commit)}
			listed := contents.Revision(r.Key)
			if listed == nil && len(rev.Files)+len(rev.NoExist) == 0 {
				continue // a client has begun a download: there is nothing yet that the bucket could lack
			}
			both[r.Key] = listed != nil
			r.compare(rev, listed)
			d.Revisions = append(d.Revisions, r)
		}
		for _, l := range repo.Refs {
			ref(repo.ID, l.Name).Local = l.Commit
		}
	}
	for _, listed := range contents.Revisions {
		if _, seen := both[listed.Key()]; !seen {
			r := RevisionDiff{Key: listed.Key()}
			r.compare(nil, listed)
			d.Revisions = append(d.Revisions, r)
		}
		for _, name := range listed.Refs {
			ref(listed.Repo, name).Remote = listed.Commit
		}
	}
	slices.SortFunc(d.Revisions, func(a, b RevisionDiff) int {
		return cmp.Or(a.Key.Repo.Compare(b.Key.Repo), strings.Compare(string(a.Key.Commit), string(b.Key.Commit)))
	})
	for _, r := range refs {
		onBoth := both[manifest.Key{Repo: r.Key.Repo, Commit: cmp.Or(r.Local, r.Remote)}]
		if r.Local != r.Remote && (onBoth || (r.Local != "" && r.Remote != "")) {
			d.Refs = append(d.Refs, *r)
		}
	}
	slices.SortFunc(d.Refs, func(a, b RefDiff) int {
		return cmp.Or(a.Key.Repo.Compare(b.Key.Repo), strings.Compare(string(a.Key.Name), string(b.Key.Name)))
	})
	return d
}

func localRefs(repo *hfcache.Repo, commit hub.Commit) []hub.Ref {
	var names []hub.Ref
	for _, ref := range repo.Refs {
		if ref.Commit == commit {
			names = append(names, ref.Name)
		}
	}
	return names
}

// compare fills in how the files compare. One of the two sides may be nil.
func (r *RevisionDiff) compare(local *hfcache.Revision, listed *remote.Listed) {
	here, there := map[hub.Path]manifest.File{}, map[hub.Path]manifest.File{}
	if local != nil {
		for _, f := range local.Files {
			here[f.Path] = manifest.File{Path: f.Path, Blob: f.ID, Size: f.Size}
		}
	}
	if listed != nil {
		r.RemoteRefs, r.Unproven = listed.Refs, listed.Hub == nil
		for _, f := range listed.Files {
			there[f.Path] = f
		}
	}
	paths := maps.Clone(here)
	maps.Copy(paths, there)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		r.file(path, here, there)
	}
	switch {
	case listed == nil:
		r.State = LocalOnly
	case local == nil:
		r.State = RemoteOnly
	case len(r.Conflicts) > 0:
		r.State = Conflict
	case len(r.LocalLacks.Files)+len(r.RemoteLacks.Files) > 0:
		r.State = Partial
	}
}

func (r *RevisionDiff) file(path hub.Path, here, there map[hub.Path]manifest.File) {
	ours, isHere := here[path]
	theirs, isThere := there[path]
	r.Files++
	switch {
	case !isHere:
		r.LocalLacks.add(theirs)
		r.Bytes = addSize(r.Bytes, theirs.Size)
		return
	case !isThere:
		r.RemoteLacks.add(ours)
	case ours.Size == theirs.Size && (ours.Blob == "" || ours.Blob.Algorithm() != theirs.Blob.Algorithm()):
		r.BySize = append(r.BySize, path)
	case ours != theirs:
		r.Conflicts = append(r.Conflicts, FileConflict{path, ours, theirs})
	}
	r.Bytes = addSize(r.Bytes, ours.Size)
}

func (l *Lack) add(f manifest.File) {
	l.Files = append(l.Files, f.Path)
	l.Bytes = addSize(l.Bytes, f.Size)
}

// addSize is the sum, or the largest number: a manifest can make up sizes that add up to more than there are numbers.
func addSize(sum, size int64) int64 {
	if sum > math.MaxInt64-size {
		return math.MaxInt64
	}
	return sum + size
}

// Counts says how many revisions are in each state.
func (d *Diff) Counts() map[State]int {
	counts := map[State]int{}
	for _, r := range d.Revisions {
		counts[r.State]++
	}
	return counts
}

// Empty says that nothing differs.
func (d *Diff) Empty() bool { return len(d.Refs) == 0 && d.Counts()[InSync] == len(d.Revisions) }

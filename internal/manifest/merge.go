package manifest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// ConflictError reports one path of one commit with two contents. A commit never changes, so one of the two machines has a damaged or edited file.
type ConflictError struct {
	Key          Key
	Path         hub.Path
	Ours, Theirs File
}

// Error names the revision, the path and both blobs.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s: file %q is blob %s (%d bytes) here and blob %s (%d bytes) in the bucket",
		e.Key, e.Path, e.Ours.Blob, e.Ours.Size, e.Theirs.Blob, e.Theirs.Size)
}

// Merge returns a manifest that knows what both know. Neither argument is changed. Where the two disagree about a file the error is a *[ConflictError];
// where only one has a tree or knows of absent files, that one's is kept. Of two claims about one ref the earlier is kept, of two forced times the later. The result has a Hub part if ours has one, because the caller
// vouches for the blobs of both.
func Merge(ours, theirs *Manifest) (*Manifest, error) {
	if ours.Key() != theirs.Key() {
		return nil, fmt.Errorf("%w: cannot merge %s with %s", ErrInvalid, ours.Key(), theirs.Key())
	}
	merged := &Manifest{Repo: ours.Repo, Commit: ours.Commit, Files: slices.Clone(theirs.Files)}
	for _, f := range ours.Files {
		existing, ok := theirs.File(f.Path)
		switch {
		case !ok:
			merged.Files = append(merged.Files, f)
		case existing != f:
			return nil, &ConflictError{Key: ours.Key(), Path: f.Path, Ours: f, Theirs: existing}
		}
	}
	if ours.Hub != nil {
		merged.Hub = mergeHub(ours.Hub, theirs.Hub)
		merged.dropImpossible()
	}
	if err := merged.Check(); err != nil {
		return nil, err
	}
	return merged, nil
}

// mergeHub prefers the bucket's tree, so that two machines whose clients wrote different ones do not overwrite each other for ever.
func mergeHub(ours, theirs *Hub) *Hub {
	if theirs == nil {
		return &Hub{Tree: maps.Clone(ours.Tree), NoExist: slices.Clone(ours.NoExist), Refs: maps.Clone(ours.Refs), Forced: maps.Clone(ours.Forced)}
	}
	merged := &Hub{
		Tree: maps.Clone(theirs.Tree), NoExist: slices.Concat(ours.NoExist, theirs.NoExist),
		Refs:   mergeTimes(ours.Refs, theirs.Refs, time.Time.Before),
		Forced: mergeTimes(ours.Forced, theirs.Forced, time.Time.After),
	}
	if merged.Tree == nil {
		merged.Tree = maps.Clone(ours.Tree)
	}
	for path, entry := range ours.Tree {
		// The listing of a commit never changes, but clients that avoid Xet write it without the hash.
		if known, ok := merged.Tree[path]; ok && known.XetHash == "" && known.ID() == entry.ID() {
			merged.Tree[path] = entry
		}
	}
	return merged
}

// mergeTimes keeps of two times of one ref the one that wins.
func mergeTimes(a, b map[hub.Ref]time.Time, wins func(time.Time, time.Time) bool) map[hub.Ref]time.Time {
	if len(a) == 0 {
		return maps.Clone(b)
	}
	merged := maps.Clone(a)
	for name, t := range b {
		if known, ok := merged[name]; !ok || wins(t, known) {
			merged[name] = t
		}
	}
	return merged
}

// dropImpossible removes "does not exist" marks for files that do: clients look at the mark first, so a wrong one hides the file.
func (m *Manifest) dropImpossible() {
	if len(m.Hub.NoExist) == 0 {
		return
	}
	exists := make(map[hub.Path]bool, len(m.Files)+len(m.Hub.Tree))
	for _, f := range m.Files {
		exists[f.Path] = true
	}
	for p := range m.Hub.Tree {
		exists[p] = true
	}
	m.Hub.NoExist = slices.DeleteFunc(m.Hub.NoExist, func(p hub.Path) bool { return exists[p] })
}

// Covers says whether m already knows everything that other does, so that writing other would change nothing.
func (m *Manifest) Covers(other *Manifest) bool {
	if m.Hub == nil && other.Hub != nil {
		return false
	}
	merged, err := Merge(other, m)
	return err == nil && m.equal(merged)
}

func (m *Manifest) equal(other *Manifest) bool {
	if !slices.Equal(m.Files, other.Files) || (m.Hub == nil) != (other.Hub == nil) {
		return false
	}
	return m.Hub == nil || maps.Equal(m.Hub.Tree, other.Hub.Tree) && slices.Equal(m.Hub.NoExist, other.Hub.NoExist) &&
		maps.EqualFunc(m.Hub.Refs, other.Hub.Refs, time.Time.Equal) && maps.EqualFunc(m.Hub.Forced, other.Hub.Forced, time.Time.Equal)
}

package plan

import (
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// PrunePolicy says how much may stay, and what may go.
type PrunePolicy struct {
	Now time.Time
	// Budget is how many bytes the cache may take on the disk; negative means that there is no limit, and only garbage goes.
	Budget int64
	// All takes everything that may go, and not only as much as the budget asks for.
	All bool
	// OlderThan spares revisions that were used less long ago.
	OlderThan time.Duration
	// Grace spares what was written or unlinked less long ago: a client may be at work on it.
	Grace time.Duration
	// TempAge is from when on a temporary file counts as left behind.
	TempAge time.Duration
	// EvictActive allows more to be evicted than detached revisions that were not used within a day: active and pinned ones, and last of all what was used within a day.
	EvictActive bool
	// Unsafe evicts without asking the bucket, and without one.
	Unsafe bool
	// Keep names the repositories whose revisions stay.
	Keep Globs
	// Quarantine lets files go that verify has put aside, once they are older than TempAge.
	Quarantine bool
	// Held says which revisions the bucket was asked about, and whether it has all of their bytes; the error says what is lacking. A revision that is not in it is an
	// open question: see [Prune.Ask]. Nil means that there is no bucket: then only detached revisions are evicted that were not used within a day.
	Held map[manifest.Key]error
	// NoAnswer says that the bucket cannot be asked, so that revisions that are not in Held stay, and are no question any more.
	NoAnswer bool
	// LastUse is what is remembered about the use of revisions, beside the times of their files. It may be nil.
	LastUse map[manifest.Key]time.Time
}

// PruneKind says what a [PruneStep] removes.
type PruneKind uint8

// The kinds of steps, in the order in which they are planned.
const (
	// PruneTemp is a temporary file in blobs/: Repo and Place.
	PruneTemp PruneKind = iota + 1
	// PruneLeftover is a leftover outside of blobs/: Place, and Repo if it is in one.
	PruneLeftover
	// PruneBlob is a blob that no revision needs: Repo and Blob.
	PruneBlob
	// PrunePayload is a file of the shared blob store that no repository uses: Place.
	PrunePayload
	// PruneRevision is a revision with the refs that name it, and the blobs that only it needs: Repo, Commit, Refs and Blobs.
	PruneRevision
)

// usedLately is for how long a revision counts as in use. File systems keep the time of a read to the day (mount option relatime).
const usedLately = 24 * time.Hour

// Standing says what names a revision.
type Standing uint8

// The standings of revisions.
const (
	// Detached is a revision that no ref names, while one names another revision of its repository.
	Detached Standing = iota + 1
	// Active is a revision that a ref names.
	Active
	// Pinned is a revision whose repository has no ref that names any of its revisions: somebody loads it by its commit.
	Pinned
)

// String is the name used in JSON output.
func (s Standing) String() string {
	names := [...]string{"", "detached", "active", "pinned"}
	if int(s) >= len(names) {
		return "unknown"
	}
	return names[s]
}

// String is the name used in JSON output.
func (k PruneKind) String() string {
	names := [...]string{"", "temporary_file", "leftover", "blob", "shared_blob", "revision"}
	if int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// PruneStep is one thing to remove.
type PruneStep struct {
	Kind   PruneKind
	Repo   hub.Repo
	Commit hub.Commit
	Refs   []hub.Ref // sorted
	Blobs  []string  // names in blobs/ that nothing needs afterwards, sorted; of a [PruneBlob] exactly one
	Place  string    // below the cache folder, slash-separated
	// Leftover is what a [PruneLeftover] removes.
	Leftover *hfcache.Leftover
	Standing Standing  // of a revision
	Used     time.Time // when it was last used
	// Bytes is what the disk gets back by this step, after those before it: a file that has other names, or that other revisions or repositories use, counts in the step that
	// takes the last of them.
	Bytes  int64
	Reason string // why it goes, for people
}

// PruneKept is something that could not go although the budget asks for it, or that a client may be at work on.
type PruneKept struct {
	Kind   PruneKind
	Repo   hub.Repo
	Commit hub.Commit
	Place  string
	// Standing is that of a revision.
	Standing Standing
	Used     time.Time
	Bytes    int64 // on the disk; what several revisions share counts in each of them
	Reason   string
	// Busy says that somebody is or may be at work on it, as opposed to being kept by the policy.
	Busy bool
}

// Prune is what a prune does: a list of steps in order.
type Prune struct {
	Before int64 // bytes that the cache takes on the disk
	Budget int64 // as in the policy
	Steps  []PruneStep
	Kept   []PruneKept // what holds the rest, the largest first
	// Ask are the revisions, in the order of their eviction, about which the bucket has to be asked before this plan is final: without an answer they stay. Ask, add the answers to
	// [PrunePolicy.Held], and plan again, until there are none.
	Ask []manifest.Key
}

// Freed is what the disk gets back.
func (p *Prune) Freed() int64 {
	var sum int64
	for _, s := range p.Steps {
		sum += s.Bytes
	}
	return sum
}

// After is what the cache takes afterwards.
func (p *Prune) After() int64 { return p.Before - p.Freed() }

// Met says whether the cache fits the budget afterwards.
func (p *Prune) Met() bool { return p.Budget < 0 || p.After() <= p.Budget }

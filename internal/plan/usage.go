package plan

import (
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Usage is what a cache takes on the disk, in bytes. Bytes that several files share, by links or in the shared blob store, count once.
type Usage struct {
	Repos, Revisions int
	Total            int64 // of all files that hold content: [Prune.Before]

	// What a prune to a budget of nothing would reclaim: detached revisions that were not used within a day, with what only they need.
	Detached      int
	DetachedBytes int64
	// Blobs that no revision needs, and files of the shared blob store that no repository uses.
	Orphans     int
	OrphanBytes int64
	// Temporary files and leftovers that nobody writes any more.
	Temps     int
	TempBytes int64

	// Unfinished downloads, also those that somebody may be writing.
	Incomplete      int
	IncompleteBytes int64
}

// Reclaimable is what a prune to a budget of nothing would reclaim.
func (u Usage) Reclaimable() int64 { return u.DetachedBytes + u.OrphanBytes + u.TempBytes }

// NewUsage adds up a cache. It counts as [NewPrune] does, with the policy's rules, but for the budget and without a bucket: which revisions a bucket holds it does not ask.
func NewUsage(inv *hfcache.Inventory, survey *hfcache.Survey, policy PrunePolicy) Usage {
	policy.Budget, policy.All, policy.Held, policy.NoAnswer = 0, false, nil, false
	p := buildPrune(inv, survey, policy, false)
	u := Usage{Repos: len(inv.Repos), Total: p.Before}
	for _, s := range p.Steps {
		switch s.Kind {
		case PruneTemp, PruneLeftover:
			u.Temps++
			u.TempBytes += s.Bytes
		case PruneBlob, PrunePayload:
			u.Orphans++
			u.OrphanBytes += s.Bytes
		case PruneRevision:
			u.Detached++
			u.DetachedBytes += s.Bytes
		}
	}
	for _, repo := range inv.Repos {
		u.Revisions += len(repo.Revisions)
		for _, temp := range repo.Temps {
			if isDownload(temp.Name) {
				u.Incomplete++
				u.IncompleteBytes += temp.Disk
			}
		}
	}
	return u
}

// isDownload tells unfinished downloads from locks and markers by their names.
func isDownload(name string) bool {
	for _, suffix := range []string{
		".incomplete",         // Python, JS, Rust 1.x
		".part",               // Rust 0.x
		".downloadInProgress", // llama.cpp
	} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	// Ours are ".<blob id>.hf-cache-sync"; other temporary files have other words in the middle.
	id, ours := strings.CutSuffix(strings.TrimPrefix(name, "."), ".hf-cache-sync")
	_, err := hub.ParseBlobID(id)
	return ours && err == nil
}

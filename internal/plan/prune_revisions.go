package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// candidate is a revision that may or may not go.
type candidate struct {
	repo *hfcache.Repo
	rev  *hfcache.Revision
	refs []hfcache.Ref
	key  manifest.Key
	used time.Time
	gone bool
}

// revisions chooses revisions until the budget is met, then gives back those that it would have been met without.
func (b *pruneBuilder) revisions() {
	candidates := b.candidates()
	var chosen []*candidate
	for _, c := range candidates {
		if why, busy := b.blocked(c); why != "" {
			b.keepRevision(c, why, busy)
			continue
		}
		if !b.wanting() {
			continue
		}
		freed, _ := b.account.revision(c.key.Repo, c.rev, 1)
		b.left -= freed
		c.gone = true
		chosen = append(chosen, c)
	}
	if !b.All {
		for _, c := range slices.Backward(chosen) {
			freed, _ := b.account.revision(c.key.Repo, c.rev, -1)
			if b.left-freed <= max(b.Budget, b.left) {
				b.left -= freed
				c.gone = false
				continue
			}
			b.account.revision(c.key.Repo, c.rev, 1)
		}
	}
	// What a step frees depends on those before it, and only now they are known.
	for _, c := range slices.Backward(chosen) {
		if c.gone {
			freed, _ := b.account.revision(c.key.Repo, c.rev, -1)
			b.left -= freed
		}
	}
	for _, c := range chosen {
		if c.gone {
			b.evict(c)
		}
	}
}

// wanting says whether more has to go.
func (b *pruneBuilder) wanting() bool {
	return b.All || b.Budget >= 0 && b.left > b.Budget
}

func (b *pruneBuilder) evict(c *candidate) {
	if _, asked := b.Held[c.key]; len(c.refs) > 0 && !b.Unsafe && !asked {
		b.prune.Ask = append(b.prune.Ask, c.key)
	}
	freed, blobs := b.account.revision(c.key.Repo, c.rev, 1)
	slices.Sort(blobs)
	s := PruneStep{Kind: PruneRevision, Repo: c.key.Repo, Commit: c.key.Commit, Blobs: blobs, Used: c.used, Bytes: freed, Reason: "no ref names it"}
	for _, ref := range c.refs {
		s.Refs = append(s.Refs, ref.Name)
	}
	if len(c.refs) > 0 {
		s.Reason = named(c.refs) + ", and the bucket has it in full"
		if b.Unsafe {
			s.Reason = named(c.refs) + "; the bucket was not asked (--unsafe)"
		}
	}
	b.step(s)
}

// named says which refs name a revision.
func named(refs []hfcache.Ref) string {
	names := make([]string, 0, len(refs))
	for _, ref := range refs {
		names = append(names, string(ref.Name))
	}
	const most = 3
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("%d more", len(refs)-most))
	}
	if len(refs) == 1 {
		return "ref " + names[0] + " names it"
	}
	return "refs " + strings.Join(names, ", ") + " name it"
}

func (b *pruneBuilder) keepRevision(c *candidate, why string, busy bool) {
	var disk int64
	seen := map[string]bool{}
	for _, f := range c.rev.Files {
		if !seen[f.Bytes] {
			seen[f.Bytes] = true
			disk += f.Disk
		}
	}
	b.keep(PruneKept{Kind: PruneRevision, Repo: c.key.Repo, Commit: c.key.Commit, Used: c.used, Bytes: disk, Reason: why, Busy: busy})
}

// candidates are all revisions in the order in which they would go.
func (b *pruneBuilder) candidates() []*candidate {
	var all []*candidate
	for _, repo := range b.inv.Repos {
		refs := map[hub.Commit][]hfcache.Ref{}
		for _, ref := range repo.Refs {
			refs[ref.Commit] = append(refs[ref.Commit], ref)
		}
		for _, rev := range repo.Revisions {
			c := &candidate{repo: repo, rev: rev, refs: refs[rev.Commit], key: manifest.Key{Repo: repo.ID, Commit: rev.Commit}}
			c.used = b.lastUse(c)
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(x, y *candidate) int {
		return cmp.Or(cmp.Compare(min(1, len(x.refs)), min(1, len(y.refs))), x.used.Compare(y.used), x.key.Repo.Compare(y.key.Repo),
			strings.Compare(string(x.key.Commit), string(y.key.Commit)))
	})
	return all
}

// lastUse is the newest of what the file system and our own notes say.
func (b *pruneBuilder) lastUse(c *candidate) time.Time {
	used := b.LastUse[c.key]
	for _, f := range c.rev.Files {
		used = later(used, f.Used)
	}
	for _, ref := range c.refs {
		used = later(used, ref.Learned)
	}
	if used.IsZero() {
		used = b.survey.Changed[c.key.Repo][c.key.Commit]
	}
	return used
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// blocked says why a revision stays, or nothing, and whether that is because somebody may be at work on it.
func (b *pruneBuilder) blocked(c *candidate) (why string, busy bool) {
	if b.Keep.Match(c.key.Repo.String(), c.key.Repo.Name) {
		return "pinned by --keep or cache.keep", false
	}
	if why := b.atWork(c); why != "" {
		return why, true
	}
	own := snapshotPlace(c.key.Repo, c.key.Commit)
	for _, f := range c.rev.Files {
		if b.pinned[f.Bytes] != nil && (f.Blob != "" || strings.HasPrefix(f.Bytes, own)) {
			return "a link of another revision leads to its file " + string(f.Path) + " past blobs/", false
		}
	}
	switch {
	case b.OlderThan > 0 && b.recent(c.used, b.OlderThan):
		return "it was used within --older-than", false
	case len(c.refs) == 0:
		return "", false
	case !b.EvictActive:
		return named(c.refs) + "; --evict-active lets it go", false
	case b.Unsafe:
		return "", false
	case b.Held == nil:
		return named(c.refs) + ", and no bucket is configured from which it could come back; --unsafe lets it go", false
	}
	err, asked := b.Held[c.key]
	switch {
	case !asked && b.hopeful:
		return "", false
	case !asked:
		return named(c.refs) + "; the bucket was not asked yet", false
	case err != nil:
		return named(c.refs) + ", and the bucket could not give it back: " + err.Error(), false
	}
	return "", false
}

// atWork says why somebody may be at work on a revision, or nothing.
func (b *pruneBuilder) atWork(c *candidate) string {
	changed := b.survey.Changed[c.key.Repo][c.key.Commit]
	for _, f := range c.rev.Files {
		if use := b.inUse(f.Bytes); use != "" {
			return use
		}
		changed = later(changed, f.ModTime)
	}
	for _, ref := range c.refs {
		changed = later(changed, ref.Learned)
	}
	if b.recent(changed, b.Grace) {
		return "it was written within the grace period (--grace)"
	}
	if c.complete() {
		return ""
	}
	for _, t := range c.repo.Temps {
		if isDownload(t.Name) && b.recent(t.ModTime, b.Grace) {
			return "a download into the repository is under way"
		}
	}
	return ""
}

// complete says that every file of the commit is there, so that nobody can be downloading it.
func (c *candidate) complete() bool { return c.rev.Tree != nil && len(c.rev.Files) >= len(c.rev.Tree) }

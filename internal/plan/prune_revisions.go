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

// candidate is a revision that may or may not be evicted.
type candidate struct {
	repo     *hfcache.Repo
	rev      *hfcache.Revision
	refs     []hfcache.Ref
	key      manifest.Key
	standing Standing
	used     time.Time
	lately   bool // it was used within a day
	gone     bool

	whyPinned string // for people
}

// turn is the place of a candidate's group in the order of eviction.
func (c *candidate) turn() int {
	switch {
	case c.lately:
		return 2
	case c.standing != Detached:
		return 1
	}
	return 0
}

// revisions chooses revisions until the budget is met, then gives back those that it would have been met without at no cost: what they have is needed by others.
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
			if freed, _ := b.account.revision(c.key.Repo, c.rev, -1); freed == 0 {
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
	if _, asked := b.Held[c.key]; b.Held != nil && !b.Unsafe && !asked {
		b.prune.Ask = append(b.prune.Ask, c.key)
	}
	freed, blobs := b.account.revision(c.key.Repo, c.rev, 1)
	slices.Sort(blobs)
	s := PruneStep{
		Kind: PruneRevision, Repo: c.key.Repo, Commit: c.key.Commit, Blobs: blobs, Standing: c.standing, Used: c.used, Bytes: freed, Reason: c.describe(),
	}
	for _, ref := range c.refs {
		s.Refs = append(s.Refs, ref.Name)
	}
	switch {
	case b.Unsafe:
		s.Reason += "; the bucket was not asked (--unsafe)"
	case b.Held != nil:
		s.Reason += ", and the bucket holds it"
	}
	b.step(s)
}

// describe says why it is a revision's turn, for people.
func (c *candidate) describe() string {
	text := c.standing.String()
	switch c.standing {
	case Active:
		text += " (" + refNames(c.refs) + ")"
	case Pinned:
		text += " (" + c.whyPinned + ")"
	case Detached:
	}
	if c.lately {
		text += ", used within a day"
	}
	return text
}

// refNames names refs for people.
func refNames(refs []hfcache.Ref) string {
	names := make([]string, 0, len(refs))
	for _, ref := range refs {
		names = append(names, string(ref.Name))
	}
	const most = 3
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("%d more", len(refs)-most))
	}
	if len(refs) == 1 {
		return "ref " + names[0]
	}
	return "refs " + strings.Join(names, ", ")
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
	b.keep(PruneKept{Kind: PruneRevision, Repo: c.key.Repo, Commit: c.key.Commit, Standing: c.standing, Used: c.used, Bytes: disk, Reason: why, Busy: busy})
}

// candidates are all revisions in the order in which they would be evicted.
func (b *pruneBuilder) candidates() []*candidate {
	var all []*candidate
	for _, repo := range b.inv.Repos {
		refs := map[hub.Commit][]hfcache.Ref{}
		for _, ref := range repo.Refs {
			refs[ref.Commit] = append(refs[ref.Commit], ref)
		}
		named := slices.ContainsFunc(repo.Revisions, func(rev *hfcache.Revision) bool { return len(refs[rev.Commit]) > 0 })
		for _, rev := range repo.Revisions {
			c := &candidate{repo: repo, rev: rev, refs: refs[rev.Commit], key: manifest.Key{Repo: repo.ID, Commit: rev.Commit}}
			switch {
			case len(c.refs) > 0:
				c.standing = Active
			case !named:
				c.standing, c.whyPinned = Pinned, "no ref names a revision of its repository"
			case b.illegible(repo):
				c.standing, c.whyPinned = Pinned, "a ref of its repository cannot be read"
			default:
				c.standing = Detached
			}
			all = append(all, c)
		}
	}
	b.lastUses(all)
	slices.SortStableFunc(all, func(x, y *candidate) int {
		return cmp.Or(cmp.Compare(x.turn(), y.turn()), x.used.Compare(y.used), x.key.Repo.Compare(y.key.Repo),
			strings.Compare(string(x.key.Commit), string(y.key.Commit)))
	})
	return all
}

// illegible says whether a repository has a ref that could not be read: it may name any of the revisions.
func (b *pruneBuilder) illegible(repo *hfcache.Repo) bool {
	return slices.ContainsFunc(b.inv.Problems, func(p hfcache.Problem) bool {
		return p.Repo == repo.ID && strings.HasPrefix(p.Path, repo.ID.Folder()+"/refs/")
	})
}

// lastUses finds out when revisions were last used: the newest of what the times of their files and our own notes say.
//
// The time of a file that several revisions share says that one of them was used, and not which. It does not count for a revision most of whose bytes are its
// own and were not read for a day before, if another one of them was used at that time as far as that one's own files tell. Otherwise a tokenizer that a
// branch never changes would keep all of its past in use.
func (b *pruneBuilder) lastUses(all []*candidate) {
	type holders struct {
		last   *candidate
		count  int
		newest time.Time // when one of them was used, as far as its own files tell
	}
	files := map[*accountFile]*holders{}
	eachFile := func(c *candidate, do func(f *hfcache.File, h *holders)) {
		for i := range c.rev.Files {
			f := &c.rev.Files[i]
			file := b.account.files[f.Bytes]
			h := files[file]
			if h == nil {
				h = &holders{}
				if file != nil { // A file that was not understood is nobody's.
					files[file] = h
				}
			}
			do(f, h)
		}
	}
	for _, c := range all {
		eachFile(c, func(_ *hfcache.File, h *holders) {
			if h.last != c {
				h.last = c
				h.count++
			}
		})
	}
	ownUse, mostOwn := make([]time.Time, len(all)), make([]bool, len(all))
	for i, c := range all {
		var own, bytes int64
		eachFile(c, func(f *hfcache.File, h *holders) {
			bytes += f.Size
			if h.count == 1 {
				own += f.Size
				ownUse[i] = later(ownUse[i], f.Used)
			}
		})
		mostOwn[i] = 2*own > bytes
		eachFile(c, func(_ *hfcache.File, h *holders) { h.newest = later(h.newest, ownUse[i]) })
	}
	for i, c := range all {
		c.used = b.LastUse[c.key]
		eachFile(c, func(f *hfcache.File, h *holders) {
			before := f.Used.Add(-usedLately)
			if explained := mostOwn[i] && ownUse[i].Before(before) && !h.newest.Before(before); !explained {
				c.used = later(c.used, f.Used)
			}
		})
		for _, ref := range c.refs {
			c.used = later(c.used, ref.Learned)
		}
		if c.used.IsZero() {
			c.used = b.survey.Changed[c.key.Repo][c.key.Commit]
		}
		c.lately = b.recent(c.used, usedLately)
	}
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
		return "kept by --keep or cache.keep", false
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
	if b.OlderThan > 0 && b.recent(c.used, b.OlderThan) {
		return "it was used within --older-than", false
	}
	return b.forbidden(c), false
}

// forbidden says why the policy spares a revision whose turn it is, or nothing.
func (b *pruneBuilder) forbidden(c *candidate) string {
	err, asked := b.Held[c.key]
	switch {
	case c.turn() > 0 && !b.EvictActive:
		return c.describe() + "; --evict-active evicts it"
	case b.Unsafe:
		return ""
	case b.Held == nil && c.turn() > 0:
		return c.describe() + ", and no bucket is configured from which it could come back; --unsafe evicts it"
	case b.Held == nil, !asked && b.hopeful:
		return ""
	case !asked && b.NoAnswer:
		return c.describe() + ", and the bucket could not be asked; --unsafe evicts it"
	case !asked:
		return c.describe() + "; the bucket was not asked yet"
	case err != nil:
		return c.describe() + ", and the bucket does not hold it: " + err.Error()
	}
	return ""
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

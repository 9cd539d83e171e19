package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// NewPrune decides what is removed: garbage, whatever the budget, and then revisions until the budget is met, in this order:
//
//  1. detached revisions that were not used within a day;
//  2. with [PrunePolicy.EvictActive], active and pinned revisions that were not used within a day;
//  3. with [PrunePolicy.EvictActive], whatever was used within a day.
//
// Each of the three goes by last use, the oldest first. A revision stays whose eviction would free nothing, and one that the bucket does not hold.
func NewPrune(inv *hfcache.Inventory, survey *hfcache.Survey, policy PrunePolicy) *Prune {
	p := buildPrune(inv, survey, policy, false)
	if !policy.NoAnswer {
		p.Ask = buildPrune(inv, survey, policy, true).Ask
	}
	return p
}

// buildPrune makes the plan. With hopeful, revisions about which the bucket was not asked are taken as if it had them, and those that go are in Ask.
func buildPrune(inv *hfcache.Inventory, survey *hfcache.Survey, policy PrunePolicy, hopeful bool) *Prune {
	b := &pruneBuilder{
		PrunePolicy: policy, inv: inv, survey: survey, hopeful: hopeful, account: newAccount(inv, survey),
		prune: &Prune{Budget: policy.Budget}, pinned: pinnedPlaces(inv), unclear: map[hub.Repo]bool{},
	}
	for _, problem := range inv.Problems {
		if problem.Lost {
			b.unclear[problem.Repo] = true
		}
	}
	b.prune.Before = b.account.total
	b.left = b.account.total
	for _, repo := range inv.Repos {
		b.temps(repo)
	}
	b.leftovers()
	for _, repo := range inv.Repos {
		b.orphans(repo)
	}
	b.payloads()
	b.revisions()
	slices.SortStableFunc(b.prune.Kept, func(x, y PruneKept) int { return cmp.Compare(y.Bytes, x.Bytes) })
	return b.prune
}

type pruneBuilder struct {
	PrunePolicy
	inv     *hfcache.Inventory
	survey  *hfcache.Survey
	hopeful bool
	account *account
	prune   *Prune
	left    int64                        // bytes that stay, so far
	pinned  map[string]map[hub.Repo]bool // places that links in odd places lead to
	unclear map[hub.Repo]bool            // the scan has left out content of them
}

// pinnedPlaces are files that a snapshot leads to in a way that no client writes: past blobs/, or into another repository. They stay, whatever happens to the revision.
func pinnedPlaces(inv *hfcache.Inventory) map[string]map[hub.Repo]bool {
	pinned := map[string]map[hub.Repo]bool{}
	for _, repo := range inv.Repos {
		for _, rev := range repo.Revisions {
			own := snapshotPlace(repo.ID, rev.Commit)
			for _, f := range rev.Files {
				if f.Blob == "" && !strings.HasPrefix(f.Bytes, own) {
					if pinned[f.Bytes] == nil {
						pinned[f.Bytes] = map[hub.Repo]bool{}
					}
					pinned[f.Bytes][repo.ID] = true
				}
			}
		}
	}
	return pinned
}

func (b *pruneBuilder) step(s PruneStep) {
	b.left -= s.Bytes
	b.prune.Steps = append(b.prune.Steps, s)
}

func (b *pruneBuilder) keep(k PruneKept) { b.prune.Kept = append(b.prune.Kept, k) }

// recent says whether something happened less than d ago. What lies in the future did.
func (b *pruneBuilder) recent(t time.Time, d time.Duration) bool { return b.Now.Sub(t) < d }

// inUse says who has a file open, or nothing.
func (b *pruneBuilder) inUse(place string) string {
	users := b.survey.Open[place]
	if len(users) == 0 {
		return ""
	}
	return fmt.Sprintf("open in process %d (%s)", users[0].ID, cmp.Or(users[0].Name, "?"))
}

func (b *pruneBuilder) temps(repo *hfcache.Repo) {
	for _, t := range repo.Temps {
		if isLockOrNote(t.Name) {
			continue
		}
		place := b.account.repos[repo.ID].place(t.Name)
		kept := PruneKept{Kind: PruneTemp, Repo: repo.ID, Place: place, Used: t.ModTime, Bytes: t.Disk, Busy: true}
		switch use := b.inUse(place); {
		case use != "":
			kept.Reason = use
		case b.recent(t.ModTime, b.TempAge):
			kept.Reason = "a download may still be writing it"
		default:
			b.step(PruneStep{Kind: PruneTemp, Repo: repo.ID, Place: place, Used: t.ModTime, Bytes: b.account.drop(place, 1), Reason: "left behind by an unfinished download"})
			continue
		}
		b.keep(kept)
	}
}

// isLockOrNote are entries of blobs/ that are no content and that somebody may rely on however old they are: locks are held by name, and old clients keep notes.
func isLockOrNote(name string) bool {
	for _, suffix := range []string{".lock", ".etag", ".json"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

func (b *pruneBuilder) leftovers() {
	for _, l := range b.survey.Leftovers {
		kept := PruneKept{Kind: PruneLeftover, Repo: l.Repo, Place: l.Place, Used: l.ModTime, Bytes: l.Disk}
		age, reason := b.Grace, ""
		switch l.Kind {
		case hfcache.LeftoverTemp:
			age, reason = b.TempAge, "left behind"
		case hfcache.LeftoverTree:
			reason = "the listing of a revision that is gone"
		case hfcache.LeftoverTrash:
			age, reason = 0, "left behind by an interrupted prune"
		case hfcache.LeftoverEmpty:
			reason = "a repository without content"
		case hfcache.LeftoverQuarantine:
			age, reason = b.TempAge, "damaged, and put aside by verify"
			if !b.Quarantine {
				kept.Reason = "damaged, and put aside by verify; --quarantine removes it"
				b.keep(kept)
				continue
			}
		}
		if b.recent(l.ModTime, age) {
			kept.Reason, kept.Busy = "it is too new to tell whether somebody is at work on it", true
			b.keep(kept)
			continue
		}
		b.step(PruneStep{Kind: PruneLeftover, Repo: l.Repo, Place: l.Place, Leftover: &l, Used: l.ModTime, Bytes: b.account.drop(l.Place, 1), Reason: reason})
	}
}

func (b *pruneBuilder) orphans(repo *hfcache.Repo) {
	blobs := b.account.repos[repo.ID]
	var names []string
	for name := range repo.Blobs {
		if blobs.users[name] == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		blob := repo.Blobs[name]
		kept := PruneKept{Kind: PruneBlob, Repo: repo.ID, Place: blobs.place(name), Used: blob.Used, Bytes: blob.Disk}
		switch use := b.inUse(blob.Bytes); {
		case use != "":
			kept.Reason, kept.Busy = use, true
		case b.recent(blob.ModTime, b.Grace):
			kept.Reason, kept.Busy = "it is new, and a client may be about to link it", true
		case b.unclear[repo.ID]:
			kept.Reason = "something in the repository was not understood, so it may be needed; hf-cache-sync verify " + repo.ID.String() + " says more"
		case b.pinned[blob.Bytes] != nil:
			kept.Reason = "a link leads to it past blobs/"
		default:
			b.step(PruneStep{
				Kind: PruneBlob, Repo: repo.ID, Blobs: []string{name}, Place: kept.Place, Used: blob.Used,
				Bytes: b.account.blob(blobs, name, 1), Reason: "no revision needs it",
			})
			continue
		}
		b.keep(kept)
	}
}

func (b *pruneBuilder) payloads() {
	for _, p := range b.survey.Payloads {
		if len(b.account.store[p.Place].users) > 0 || len(p.Users) > 0 {
			continue // somebody uses it, or did until a step before this, which takes it along
		}
		kept := PruneKept{Kind: PrunePayload, Place: p.Place, Used: p.ModTime, Bytes: p.Disk}
		switch use := b.inUse(p.Place); {
		case use != "":
			kept.Reason, kept.Busy = use, true
		case b.recent(p.ModTime, b.Grace):
			kept.Reason, kept.Busy = "it is new, and a client may be about to link it", true
		case !p.Listed:
			kept.Reason = "who uses it cannot be told, so clients keep it, too"
		case b.pinned[p.Place] != nil:
			kept.Reason = "a link leads to it past blobs/"
		default:
			b.step(PruneStep{Kind: PrunePayload, Place: p.Place, Used: p.ModTime, Bytes: b.account.drop(p.Place, 1), Reason: "no repository uses it"})
			continue
		}
		b.keep(kept)
	}
}

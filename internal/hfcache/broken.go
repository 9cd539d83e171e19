package hfcache

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// BrokenFile is a file that clients look for in the cache and do not find.
type BrokenFile struct {
	Repo   hub.Repo
	Commit hub.Commit
	MissingFile
}

// Place is where its name is or was, below the cache folder, slash-separated.
func (f BrokenFile) Place() string {
	return f.Repo.Folder() + "/" + snapshotsDir + "/" + string(f.Commit) + "/" + string(f.Path)
}

// BrokenFiles are the missing files of all revisions, in the inventory's order.
func (inv *Inventory) BrokenFiles() (broken []BrokenFile) {
	for _, repo := range inv.Repos {
		for _, rev := range repo.Revisions {
			for _, m := range rev.Missing {
				broken = append(broken, BrokenFile{repo.ID, rev.Commit, m})
			}
		}
	}
	return broken
}

// RefFault says what is wrong with a ref.
type RefFault uint8

// The faults of refs. Each of them makes scan_cache_dir of the Hub's Python client give up on the whole repository.
const (
	RefUnclean  RefFault = iota // it holds more than the digits, and clients cannot follow it
	RefGarbage                  // it names no commit
	RefNowhere                  // nothing of its commit is in the cache
	RefLeftover                 // it is the temporary file of a client that was stopped
)

// BrokenRef is a ref that clients cannot follow, or that is none.
type BrokenRef struct {
	Repo   hub.Repo
	Name   string // below refs/, slash-separated
	Fault  RefFault
	Why    string
	Commit hub.Commit   // that it names; empty if it names none
	Here   []hub.Commit // of which the cache has files, most files first; only of [RefNowhere]
}

// Place is where the ref's file is, below the cache folder, slash-separated.
func (r BrokenRef) Place() string { return r.Repo.Folder() + "/" + refsDir + "/" + r.Name }

// atWork is the age from which on no client is still writing a temporary file.
const atWork = 24 * time.Hour

// BrokenRefs finds the refs that clients cannot follow, in the inventory's order. A ref is written before what it leads to, so a commit without files is no fault while a
// download goes on, and neither is one of which a client only knows that a file does not exist, unless another revision is here that could be loaded instead.
func (inv *Inventory) BrokenRefs(now time.Time) (broken []BrokenRef) {
	for _, repo := range inv.Repos {
		busy := slices.ContainsFunc(repo.Temps, func(t Temp) bool { return now.Sub(t.ModTime) < atWork })
		here := repo.commitsHere()
		var found []BrokenRef
		for _, ref := range repo.Refs {
			b := BrokenRef{Repo: repo.ID, Name: string(ref.Name), Commit: ref.Commit}
			rev := repo.Revision(ref.Commit)
			switch {
			case ref.Unclean:
				b.Why = "it holds more than the commit, such as a newline, so Python clients cannot follow it"
			case busy, rev != nil && len(rev.Files)+len(rev.Missing) > 0, rev != nil && len(here) == 0:
				continue
			default:
				b.Fault, b.Here = RefNowhere, here
				b.Why = "it names " + string(ref.Commit) + ", of which nothing is here"
				if len(here) > 0 {
					b.Why += "; " + string(here[0]) + " is"
				}
			}
			found = append(found, b)
		}
		for _, bad := range repo.BadRefs {
			switch {
			case !bad.Leftover:
				found = append(found, BrokenRef{Repo: repo.ID, Name: bad.Name, Fault: RefGarbage, Why: bad.Why})
			case now.Sub(bad.ModTime) >= atWork:
				found = append(found, BrokenRef{Repo: repo.ID, Name: bad.Name, Fault: RefLeftover, Why: bad.Why})
			}
		}
		slices.SortStableFunc(found, func(a, b BrokenRef) int { return strings.Compare(a.Name, b.Name) })
		broken = append(broken, found...)
	}
	return broken
}

// commitsHere are the revisions with files, those with most files first.
func (r *Repo) commitsHere() (commits []hub.Commit) {
	files := map[hub.Commit]int{}
	for _, rev := range r.Revisions {
		if len(rev.Files) > 0 {
			files[rev.Commit] = len(rev.Files)
			commits = append(commits, rev.Commit)
		}
	}
	slices.SortStableFunc(commits, func(a, b hub.Commit) int { return cmp.Compare(files[b], files[a]) })
	return commits
}

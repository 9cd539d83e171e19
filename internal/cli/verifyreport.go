package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

// verifyReport is the object of verify --json. docs/json.md describes it.
type verifyReport struct {
	DryRun          bool            `json:"dry_run"`
	Repos           int             `json:"repos"`
	VerifiedBlobs   int             `json:"verified_blobs"`
	VerifiedBytes   int64           `json:"verified_bytes"`
	ElapsedSeconds  float64         `json:"elapsed_seconds"` // of reading
	DamagedFiles    int             `json:"damaged_files"`
	Quarantined     int             `json:"quarantined_files"`
	Repaired        int             `json:"repaired_files"`
	RepairedRefs    int             `json:"repaired_refs"`
	DownloadedBlobs int             `json:"downloaded_blobs"` // by --repair
	DownloadedBytes int64           `json:"downloaded_bytes"`
	Requests        jsonRequests    `json:"requests"`
	Damaged         []damagedJSON   `json:"damaged"`
	Missing         []missingJSON   `json:"missing"` // when this run began
	BrokenRefs      []jsonItem      `json:"broken_refs"`
	Unchecked       []uncheckedJSON `json:"unchecked"`
	Skipped         []jsonItem      `json:"skipped"`
	Failed          []jsonItem      `json:"failed"`
	LeftOut         []jsonItem      `json:"left_out"`
	Notes           []jsonItem      `json:"notes"`

	inv      *hfcache.Inventory
	plan     *plan.Verify
	result   *engine.VerifyResult
	repaired *engine.Result
	earlier  []hfcache.BrokenFile
	tried    bool // to repair them
	refs     []hfcache.BrokenRef
	requests plan.Requests
	elapsed  time.Duration
}

type damagedJSON struct {
	Repo       string     `json:"repo"`
	Entry      string     `json:"entry"` // below the repository's folder
	Size       int64      `json:"size"`
	Why        string     `json:"why"`
	Files      []jsonFile `json:"files"`
	Quarantine string     `json:"quarantine,omitempty"` // where the bytes are, below the cache folder, if they were moved
	Record     string     `json:"record,omitempty"`
	Repaired   bool       `json:"repaired"`
	Error      string     `json:"error,omitempty"` // why it was not quarantined or not repaired
}

type jsonFile struct {
	Repo     string `json:"repo,omitempty"`
	Revision string `json:"revision"`
	Path     string `json:"path"`
}

type missingJSON struct {
	jsonFile
	Damaged bool   `json:"damaged"` // verify has put it aside, as opposed to a link that leads nowhere
	Why     string `json:"why"`
}

type uncheckedJSON struct {
	Repo  string `json:"repo"`
	Entry string `json:"entry"`
}

func fileItems(repo string, files []hfcache.SnapshotFile) []jsonFile {
	items := []jsonFile{}
	for _, f := range files {
		items = append(items, jsonFile{repo, string(f.Commit), string(f.Path)})
	}
	return items
}

// fill completes the object from what was found and done.
func (r *verifyReport) fill() *verifyReport {
	r.Repos, r.VerifiedBlobs, r.VerifiedBytes = len(r.inv.Repos), r.result.Blobs, r.result.Bytes
	r.ElapsedSeconds, r.Requests = seconds(r.elapsed), requestsJSON(r.requests)
	r.DownloadedBlobs, r.DownloadedBytes = r.repaired.Blobs, r.repaired.Bytes
	r.DamagedFiles, r.Quarantined, r.Repaired = len(r.result.Damaged), r.quarantined(), len(r.result.Damaged)-r.unrepaired()
	r.Damaged, r.Missing, r.Unchecked = []damagedJSON{}, []missingJSON{}, []uncheckedJSON{}
	for i := range r.result.Damaged {
		d := &r.result.Damaged[i]
		item := damagedJSON{Repo: d.Repo.String(), Entry: d.Entry, Size: d.Size, Why: d.Why, Files: fileItems("", d.Files), Repaired: d.Repaired}
		if q := d.Quarantine; q != nil {
			item.Record = q.Record
			if q.Moved {
				item.Quarantine = q.Bytes
			}
		}
		if d.Err != nil {
			item.Error = d.Err.Error()
		}
		r.Damaged = append(r.Damaged, item)
	}
	for _, f := range r.earlier {
		r.Missing = append(r.Missing, missingJSON{jsonFile{f.Repo.String(), string(f.Commit), string(f.Path)}, f.Damaged, f.Why})
	}
	r.BrokenRefs = brokenRefItems(r.refs)
	for _, u := range r.plan.Unchecked {
		r.Unchecked = append(r.Unchecked, uncheckedJSON{u.Repo.String(), u.Entry})
	}
	r.Skipped, r.Failed = failureItems(r.repaired.Failures, true), failureItems(r.repaired.Failures, false)
	for _, f := range r.result.Failed {
		item := jsonItem{Path: f.Bytes, Why: f.Err.Error()}
		if f.Harmless {
			r.Skipped = append(r.Skipped, item)
		} else {
			r.Failed = append(r.Failed, item)
		}
	}
	r.LeftOut, r.Notes = problemItems(r.inv.Problems, true), problemItems(r.inv.Problems, false)
	return r
}

// damagedText is "3 damaged, quarantined" or "3 damaged, 2 quarantined, 1 repaired".
func (r *verifyReport) damagedText() string {
	all, aside, repaired := len(r.result.Damaged), r.quarantined(), len(r.result.Damaged)-r.unrepaired()
	text := fmt.Sprintf("%d damaged", all)
	switch {
	case all == 0 || aside == 0:
		return text
	case repaired == all:
		return text + ", repaired"
	case aside == all && repaired == 0:
		return text + ", quarantined"
	}
	text += fmt.Sprintf(", %d quarantined", aside)
	if repaired > 0 {
		text += fmt.Sprintf(", %d repaired", repaired)
	}
	return text
}

func (r *verifyReport) quarantined() (n int) {
	for i := range r.result.Damaged {
		if r.result.Damaged[i].Quarantine != nil {
			n++
		}
	}
	return n
}

func (r *verifyReport) unrepaired() (n int) {
	for i := range r.result.Damaged {
		if !r.result.Damaged[i].Repaired {
			n++
		}
	}
	return n
}

// takeFromProblems removes from the inventory's problems what the report says in words of its own.
func (r *verifyReport) takeFromProblems() {
	said := map[string]bool{}
	for _, f := range r.earlier {
		said[f.Place()] = true
	}
	for _, ref := range r.refs {
		said[ref.Place()] = true
	}
	r.inv.Problems = slices.DeleteFunc(r.inv.Problems, func(p hfcache.Problem) bool { return said[p.Path] })
}

// count tells files that verify has put aside from those whose bytes somebody else has removed.
func count(files []hfcache.BrokenFile) (damaged, missing int) {
	for _, f := range files {
		if f.Damaged {
			damaged++
		} else {
			missing++
		}
	}
	return damaged, missing
}

// left counts what was broken before this run and still is.
func (r *verifyReport) left() (damaged, missing int) {
	if !r.tried {
		return count(r.earlier)
	}
	type file struct {
		key  manifest.Key
		path hub.Path
	}
	failed := map[file]bool{}
	for _, f := range r.repaired.Failures {
		failed[file{f.Key, f.Path}] = true
	}
	return count(slices.DeleteFunc(slices.Clone(r.earlier), func(f hfcache.BrokenFile) bool {
		return !failed[file{manifest.Key{Repo: f.Repo, Commit: f.Commit}, f.Path}]
	}))
}

// brokenRefs are those that keep clients from loading something.
func (r *verifyReport) brokenRefs() []hfcache.BrokenRef {
	return slices.DeleteFunc(slices.Clone(r.refs), func(ref hfcache.BrokenRef) bool { return ref.Fault == hfcache.RefLeftover })
}

// firstBroken is a revision with a file that is damaged or missing.
func (r *verifyReport) firstBroken() (hub.Repo, hub.Commit, bool) {
	for i := range r.result.Damaged {
		if d := &r.result.Damaged[i]; len(d.Files) > 0 {
			return d.Repo, d.Files[0].Commit, true
		}
	}
	for _, f := range r.earlier {
		return f.Repo, f.Commit, true
	}
	return hub.Repo{}, "", false
}

func (r *verifyReport) changed() (n int) {
	for _, f := range r.result.Failed {
		if f.Harmless {
			n++
		}
	}
	return n
}

func (r *verifyReport) unread() int { return len(r.result.Failed) - r.changed() }

package cli

import (
	"fmt"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
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
	DownloadedBlobs int             `json:"downloaded_blobs"` // by --repair
	DownloadedBytes int64           `json:"downloaded_bytes"`
	Requests        jsonRequests    `json:"requests"`
	Damaged         []damagedJSON   `json:"damaged"`
	Missing         []jsonFile      `json:"missing"` // put aside by earlier runs, and not back when this one began
	Unchecked       []uncheckedJSON `json:"unchecked"`
	Skipped         []jsonItem      `json:"skipped"`
	Failed          []jsonItem      `json:"failed"`
	LeftOut         []jsonItem      `json:"left_out"`
	Notes           []jsonItem      `json:"notes"`

	inv      *hfcache.Inventory
	plan     *plan.Verify
	result   *engine.VerifyResult
	repaired *engine.Result
	earlier  map[hub.Repo][]hfcache.SnapshotFile
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
	r.Damaged, r.Missing, r.Unchecked = []damagedJSON{}, []jsonFile{}, []uncheckedJSON{}
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
	for _, repo := range r.inv.Repos {
		r.Missing = append(r.Missing, fileItems(repo.ID.String(), r.earlier[repo.ID])...)
	}
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

// missing counts what earlier runs put aside.
func (r *verifyReport) missing() (n int) {
	for _, files := range r.earlier {
		n += len(files)
	}
	return n
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

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// pullReport is what became of one repository, and the object of pull --json. docs/json.md describes it.
type pullReport struct {
	DryRun          bool         `json:"dry_run"`
	Repo            string       `json:"repo"`
	RepoType        string       `json:"repo_type"`
	Commit          string       `json:"commit"`
	Files           int          `json:"files"`
	FilteredFiles   int          `json:"filtered_files"`
	ListedFiles     *int         `json:"listed_files"` // of the whole commit; null if unknown
	PlannedBlobs    int          `json:"planned_blobs"`
	PlannedBytes    int64        `json:"planned_bytes"`
	PlannedRequests jsonRequests `json:"planned_requests"`
	DownloadedBlobs int          `json:"downloaded_blobs"`
	DownloadedBytes int64        `json:"downloaded_bytes"`
	ResumedBytes    int64        `json:"resumed_bytes"`
	ReusedBlobs     int          `json:"reused_blobs"`
	HubBlobs        int          `json:"hub_blobs"` // of those that were downloaded
	HubBytes        int64        `json:"hub_bytes"`
	BackfilledBlobs int          `json:"backfilled_blobs"` // uploaded to the bucket
	BackfilledBytes int64        `json:"backfilled_bytes"`
	LinkedFiles     int          `json:"linked_files"`
	Refs            []string     `json:"refs"`
	KeptRefs        []string     `json:"kept_refs"`
	RefsKept        []keptRef    `json:"refs_kept"`
	RepairedRefs    []string     `json:"repaired_refs"` // local ones that clients could not follow
	Requests        jsonRequests `json:"requests"`
	ElapsedSeconds  float64      `json:"elapsed_seconds"`
	Offline         string       `json:"offline"`        // "ready", "partial" or "unknown"
	OfflineCommit   string       `json:"offline_commit"` // of which Offline speaks: that the local ref names, if the revision is one
	Failed          []jsonItem   `json:"failed"`

	planned  plan.Requests
	elapsed  time.Duration
	key      manifest.Key
	failures []engine.Failure
	refusal  error // what would end the real run of a dry one
	kept     []plan.KeptLocal
	pulled   offlineState // of the revision that was pulled
	offline  offlineState // of the commit by which clients will load it
}

// offlineState is what clients find offline.
type offlineState struct {
	state           manifest.Completeness
	present, listed int // files of the listing; both 0 without one
	ref             hub.Ref
	commit          hub.Commit // that ref stays at; empty if it names the revision that was pulled, or if none was asked for
}

// text is the verdict for people.
func (s offlineState) text() string {
	text := "unknown (no file listing)"
	switch s.state {
	case manifest.Complete:
		text = "ready"
	case manifest.Partial:
		text = fmt.Sprintf("partial (%d of %s)", s.present, ui.Plural(s.listed, "file"))
	case manifest.Unknown:
	}
	if s.commit != "" {
		text += fmt.Sprintf(", as %s stays at %s", s.ref, s.commit.Short())
	}
	return text
}

// pulledState looks at the revision that was pulled. failed is how many of its files could not be.
func pulledState(p *plan.Pull, failed int) offlineState {
	s := offlineState{state: p.Completeness(), present: p.PresentListed(), listed: len(p.Manifest.Tree())}
	if s.state == manifest.Complete && failed > 0 {
		s.state, s.present = manifest.Partial, s.present-failed
	}
	return s
}

// offlineStateOf looks at the commit by which clients will load the repository: the one that was pulled, unless the local ref that was asked for names another afterwards.
func offlineStateOf(p *plan.Pull, pulled offlineState, moved bool) offlineState {
	were := p.Were(p.Asked)
	stays := !moved || slices.ContainsFunc(p.KeptRefs, func(k plan.KeptLocal) bool { return k.Name == p.Asked })
	if !stays || were.Commit == "" || were.Commit == p.Manifest.Commit {
		return pulled
	}
	s := offlineState{ref: were.Name, commit: were.Commit}
	if were.Local != nil && len(were.Local.Tree) > 0 {
		s.listed, s.present = len(were.Local.Tree), were.Local.PresentListed()
		if s.state = manifest.Partial; s.present == s.listed {
			s.state = manifest.Complete
		}
	}
	return s
}

// pathFailures counts the files that could not be pulled.
func pathFailures(failures []engine.Failure) int {
	n := 0
	for _, f := range failures {
		if f.Path != "" {
			n++
		}
	}
	return n
}

func newPullReport(p *plan.Pull, result *engine.Result, dryRun bool) *pullReport {
	r := &pullReport{
		DryRun: dryRun, Repo: p.Manifest.Repo.Name, RepoType: p.Manifest.Repo.Type.String(), Commit: string(p.Manifest.Commit),
		Files: len(p.Files), FilteredFiles: p.Filtered, PlannedBlobs: len(p.Blobs), PlannedBytes: p.Bytes(),
		DownloadedBlobs: result.Blobs, DownloadedBytes: result.Bytes, ResumedBytes: result.Resumed, ReusedBlobs: result.Reused,
		HubBlobs: result.UpstreamBlobs, HubBytes: result.UpstreamBytes,
		LinkedFiles: result.Linked, Refs: []string{}, KeptRefs: []string{}, RepairedRefs: []string{}, Failed: failureItems(result.Failures, false),
		key: p.Manifest.Key(), failures: result.Failures,
	}
	if tree := p.Manifest.Tree(); tree != nil {
		listed := len(tree)
		r.ListedFiles = &listed
	}
	for _, ref := range p.Refs {
		// Where files are missing no ref was written.
		if !slices.ContainsFunc(result.Failures, func(f engine.Failure) bool { return f.Ref == "" || f.Ref == ref.Name }) {
			r.Refs = append(r.Refs, string(ref.Name))
		}
	}
	for _, ref := range p.KeptRefs {
		r.KeptRefs = append(r.KeptRefs, string(ref.Name))
	}
	for _, name := range p.Unclean {
		if !slices.ContainsFunc(result.Failures, func(f engine.Failure) bool { return f.Ref == name }) {
			r.RepairedRefs = append(r.RepairedRefs, string(name))
		}
	}
	r.pulled = pulledState(p, pathFailures(r.failures))
	r.kept, r.offline = p.KeptRefs, offlineStateOf(p, r.pulled, slices.Contains(r.Refs, string(p.Asked)))
	r.RefsKept, r.OfflineCommit = keptLocals(p), cmp.Or(string(r.offline.commit), r.Commit)
	r.Offline = map[manifest.Completeness]string{
		manifest.Complete: "ready", manifest.Partial: "partial", manifest.Unknown: "unknown",
	}[r.offline.state]
	return r
}

func keptLocals(p *plan.Pull) []keptRef {
	items := []keptRef{}
	for _, k := range p.KeptRefs {
		item := keptRef{Repo: p.Manifest.Repo.String(), Ref: string(k.Name), Commit: string(k.Commit), Wanted: string(p.Manifest.Commit)}
		switch k.Why {
		case plan.KeptLater:
			item.Reason = "later"
		case plan.KeptWorse:
			item.Reason, item.Missing = "missing_files", string(k.Loss.Path)
		case plan.KeptIncomplete:
			item.Reason = "incomplete"
		case plan.KeptEmpty:
			item.Reason = "empty"
		}
		items = append(items, item)
	}
	return items
}

// sayKeptLocal says why a local ref stays, and what moves it.
func (o *pullOptions) sayKeptLocal(r *pullReport, k plan.KeptLocal) {
	commit := r.key.Commit.Short()
	switch k.Why {
	case plan.KeptLater:
		o.note("note: the local ref %s was learned later than the bucket's and stays; --force-refs moves it", k.Name)
	case plan.KeptWorse:
		o.note("note: the local ref %s stays at %s, because %s lacks %s; --fallback hf-hub downloads what is missing, --force-refs moves the ref without it",
			k.Name, k.Commit.Short(), commit, k.Loss)
	case plan.KeptIncomplete:
		o.note("note: the ref %s was not written, because %s is not known to be complete", k.Name, commit)
	case plan.KeptEmpty:
		o.note("note: the ref %s was not written, because no file of %s was pulled", k.Name, commit)
	}
}

// say prints the report for people.
func (o *pullOptions) say(r *pullReport) error {
	for _, kept := range r.kept {
		o.sayKeptLocal(r, kept)
	}
	for _, name := range r.RepairedRefs {
		done := "it is repaired"
		if r.DryRun {
			done = "a pull repairs it"
		}
		o.note("note: the local ref %s held more than its commit, such as a newline, so clients could not follow it; %s", name, done)
	}
	o.sayFailures(r.failures)
	t := tally{failures: r.failures, filtered: r.FilteredFiles, kept: len(r.KeptRefs)}
	if r.DryRun {
		return o.print("would pull %s: %s, of which %s to download in %s%s",
			r.key, ui.Plural(r.Files, "file"), blobs(r.PlannedBlobs, r.PlannedBytes), r.planned, t)
	}
	detail := "everything was here"
	if len(r.failures) > 0 {
		detail = "nothing downloaded"
	}
	if r.DownloadedBlobs > 0 || r.ReusedBlobs > 0 {
		detail = blobs(r.DownloadedBlobs, r.DownloadedBytes) + " downloaded " + pace(r.elapsed, r.DownloadedBytes-r.ResumedBytes)
		if r.ResumedBytes > 0 {
			detail += ", " + ui.Size(r.ResumedBytes) + " of it by an earlier pull"
		}
		if r.HubBlobs > 0 {
			detail += ", " + blobs(r.HubBlobs, r.HubBytes) + " from the Hub"
		}
		if r.BackfilledBlobs > 0 {
			detail += ", " + blobs(r.BackfilledBlobs, r.BackfilledBytes) + " pushed to the bucket"
		}
		if r.ReusedBlobs > 0 {
			detail += ", " + ui.Plural(r.ReusedBlobs, "blob") + " taken from other repositories here"
		}
	}
	if n := len(r.RepairedRefs); n > 0 {
		detail += ", " + ui.Plural(n, "ref") + " repaired"
	}
	if err := o.print("pulled %s: %s, %s%s", r.key, ui.Plural(r.Files, "file"), detail, t); err != nil {
		return err
	}
	return o.print("offline: %s", r.offline.text())
}

// pullAdvice is the hint for files that could not be pulled.
func pullAdvice(repo hub.Repo, failures []engine.Failure) string {
	hint := ""
	for _, f := range failures {
		if lackedByBucket(f.Err) {
			return hintRecheck(repo.String())
		}
		hint = cmp.Or(hint, explain(f.Err).hint)
	}
	return hint
}

// lackedByBucket says whether an error about a file means that the bucket has no good copy of it.
func lackedByBucket(err error) bool {
	return isType[*engine.DamagedError](err) || isType[*hub.MismatchError](err) || errors.Is(err, store.ErrNotFound) || errors.Is(err, remote.ErrNotFound)
}

// hintRecheck names the command that makes the bucket's blobs good again.
func hintRecheck(repos ...string) string {
	return "on a machine whose copy is good: hf-cache-sync push --recheck " + strings.Join(repos, " ")
}

// verdict is the error, if any, that a report means for the exit code.
func (r *pullReport) verdict(requireComplete bool) error {
	if r.refusal != nil {
		return r.refusal
	}
	if code := failureCode(r.failures); code != exitDone {
		return &someFailedError{
			code, fmt.Sprintf("pull %s: %s failed, as said above", r.key, ui.Plural(len(r.failures), "file")),
			pullAdvice(r.key.Repo, r.failures),
		}
	}
	state := r.pulled
	if state.state == manifest.Complete {
		state = r.offline // a complete snapshot helps nobody whose ref stays at another
	}
	if requireComplete && state.state != manifest.Complete {
		is := "is"
		if r.DryRun {
			is = "would be"
		}
		return &someFailedError{
			exitSome, fmt.Sprintf("pull %s: the snapshot %s %s", r.key, is, state.text()),
			"download the rest with the Hub's client and push it",
		}
	}
	return nil
}

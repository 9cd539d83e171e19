package cli

import (
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// pushRun is what there is to say about a push.
type pushRun struct {
	inventory *hfcache.Inventory
	plan      *plan.Push
	result    *engine.Result
	planned   plan.Requests // from the first look to the last ref
	made      plan.Requests
	elapsed   time.Duration
}

// kept are the refs of the bucket that stay.
func (r *pushRun) kept() []plan.KeptRef { return slices.Concat(r.plan.Kept, r.result.Kept) }

// sayPartial names the revisions that are in the bucket only in part after this run.
func (o *pushOptions) sayPartial(run *pushRun) {
	for _, rev := range run.plan.PerRevision() {
		switch unfinished := run.unfinished(rev.Key); {
		case rev.Present < rev.Listed && unfinished:
			o.note("note: %s is partial: %d of %s; an unfinished download of it is in the cache", rev.Key, rev.Present, ui.Plural(rev.Listed, "file"))
		case rev.Present < rev.Listed:
			o.note("note: %s is partial: %d of %s", rev.Key, rev.Present, ui.Plural(rev.Listed, "file"))
		case unfinished:
			o.note("note: %s may be partial: an unfinished download is in the cache", rev.Key)
		}
	}
}

// unfinished says whether a revision may need one of the unfinished downloads in the cache.
func (r *pushRun) unfinished(key manifest.Key) bool {
	repo := r.inventory.Repo(key.Repo)
	return repo != nil && slices.Contains(plan.Interrupted(repo), key.Commit)
}

// sayKept names the commands that move refs of the bucket which stay. They name the repositories: by force all refs of a push move.
func (a *app) sayKept(kept []plan.KeptRef) {
	var partial, later []string
	for _, k := range kept {
		repos := &later
		if k.Loss != nil {
			repos = &partial
		}
		if name := k.Key.Repo.String(); !slices.Contains(*repos, name) {
			*repos = append(*repos, name)
		}
	}
	if repos := strings.Join(partial, " "); repos != "" {
		a.note("to move it: hf-cache-sync push --complete %s downloads the missing files from the Hub first; hf-cache-sync push --force-refs %s moves it without them", repos, repos)
	}
	if repos := strings.Join(later, " "); repos != "" {
		a.note("to move it back: hf-cache-sync push --force-refs %s", repos)
	}
}

// keptRef is an element of refs_kept in --json.
type keptRef struct {
	Repo    string `json:"repo"`
	Ref     string `json:"ref"`
	Commit  string `json:"commit"`  // that the ref stays at; empty if there is none
	Wanted  string `json:"wanted"`  // that it does not move to
	Reason  string `json:"reason"`  // "later", "missing_files", "incomplete" or "empty"
	Missing string `json:"missing"` // for missing_files, one of the files
}

func keptRefs(kept []plan.KeptRef) []keptRef {
	items := []keptRef{}
	for _, k := range kept {
		item := keptRef{Repo: k.Key.Repo.String(), Ref: string(k.Key.Name), Commit: string(k.Kept), Wanted: string(k.Commit), Reason: "later"}
		if k.Loss != nil {
			item.Reason, item.Missing = "missing_files", string(k.Loss.Path)
		}
		items = append(items, item)
	}
	return items
}

// standingFilter is what the configuration file says about which repositories a bare push takes.
func (a *app) standingFilter() (plan.Filter, error) {
	include, err := plan.ParseGlobs(a.file.PushInclude())
	if err != nil {
		return plan.Filter{}, usagef("%s: push.include: %w", a.file.Path, err)
	}
	exclude, err := plan.ParseGlobs(a.file.PushExclude())
	if err != nil {
		return plan.Filter{}, usagef("%s: push.exclude: %w", a.file.Path, err)
	}
	return plan.Filter{Include: include, Exclude: exclude}, nil
}

// noteExcluded names in one line what the configuration file keeps out.
func (o *pushOptions) noteExcluded() {
	const most = 5
	if len(o.excluded) == 0 {
		return
	}
	var names []string
	for i, repo := range o.excluded {
		if i == most {
			names = append(names, "and "+ui.Plural(len(o.excluded)-most, "other"))
			break
		}
		names = append(names, repo.String())
	}
	o.note("note: %s left out, as push.include and push.exclude in %s say: %s",
		ui.Plural(len(o.excluded), "repository"), o.file.Path, strings.Join(names, ", "))
}

func (o *pushOptions) sayDone(run *pushRun, t tally) error {
	p, result := run.plan, run.result
	uploads, _ := p.Uploads()
	o.sayRecheck(p)
	switch {
	case o.dryRun:
		return o.sayPlan(run, t)
	case len(run.inventory.Repos) == 0:
		return o.print("nothing to push: no repository of the cache at %s is meant%s", run.inventory.Dir, t)
	case result.Blobs+result.Manifests+result.Refs+len(uploads) == 0 && !result.Failed():
		return o.print("nothing to push: %s up to date%s%s", ui.Plural(p.UpToDate+len(p.Revisions), "revision"), rechecked(result), t)
	}
	var resumed string
	if result.Resumed > 0 {
		resumed = ", " + ui.Size(result.Resumed) + " of it by an earlier push"
	}
	return o.print("pushed %s %s%s, %s, %s; %s up to date%s%s",
		blobs(result.Blobs, result.Bytes), pace(run.elapsed, result.Bytes-result.Resumed), resumed,
		ui.Plural(result.Manifests, "manifest"), ui.Plural(result.Refs, "ref"), ui.Plural(p.UpToDate, "revision"), rechecked(result), t)
}

// sayRecheck names the blobs that are damaged in the bucket, and says of how many nobody knows.
func (o *pushOptions) sayRecheck(p *plan.Push) {
	for _, b := range p.Blobs {
		if b.Damage != nil {
			o.warn("damaged: %s: %v; used by %s: %s", manifest.BlobKey(b.ID), b.Damage, b.Repo, b.File.Path)
		}
	}
	if unproven, bytes := p.ReadBacks(); len(unproven) > 0 && len(o.selected) == 0 {
		o.note("note: the store tells no checksum of %s: only %s compared; to read them back, name their repositories: hf-cache-sync push --recheck %s",
			blobs(len(unproven), bytes), sizesWere(len(unproven)), unproven[0].Repo)
	}
}

func sizesWere(n int) string {
	if n == 1 {
		return "its size was"
	}
	return "their sizes were"
}

// rechecked sums up what a recheck has shown.
func rechecked(result *engine.Result) string {
	text := ""
	if result.ReadBack > 0 {
		text += "; " + blobs(result.ReadBack, result.ReadBackBytes) + " read back and found good"
	}
	if result.Replaced > 0 {
		text += "; " + ui.Plural(result.Replaced, "damaged blob") + " replaced"
	}
	return text
}

// sayPlan prints what a run would do.
func (o *pushOptions) sayPlan(run *pushRun, t tally) error {
	p := run.plan
	for _, rev := range p.PerRevision() {
		if err := o.print("would push %s: %s, %s to upload", rev.Key, ui.Plural(rev.Files, "file"), blobs(rev.Blobs, rev.Bytes)); err != nil {
			return err
		}
	}
	for _, ref := range p.Refs {
		if err := o.print("would point %s %s at %s", ref.Key.Repo, ref.Key.Name, ref.Commit.Short()); err != nil {
			return err
		}
	}
	if unproven, bytes := p.ReadBacks(); len(unproven) > 0 && len(o.selected) > 0 {
		if err := o.print("would read back %s, which is download traffic, and upload again those that are damaged", blobs(len(unproven), bytes)); err != nil {
			return err
		}
	}
	uploads, bytes := p.Uploads()
	return o.print("would upload %s, %s, %s in %s; %s up to date%s", blobs(len(uploads), bytes),
		ui.Plural(p.Manifests(), "manifest"), ui.Plural(len(p.Refs), "ref"), run.planned, ui.Plural(p.UpToDate+len(p.Revisions)-len(p.PerRevision()), "revision"), t)
}

// pushSummary is the object of push --json. docs/json.md describes it.
type pushSummary struct {
	DryRun           bool              `json:"dry_run"`
	Repos            int               `json:"repos"`
	PlannedBlobs     int               `json:"planned_blobs"`
	PlannedBytes     int64             `json:"planned_bytes"`
	PlannedRequests  jsonRequests      `json:"planned_requests"`
	PlannedRevisions []plannedRevision `json:"planned_revisions"`
	UploadedBlobs    int               `json:"uploaded_blobs"`
	UploadedBytes    int64             `json:"uploaded_bytes"`
	ResumedBytes     int64             `json:"resumed_bytes"`
	Manifests        int               `json:"manifests"`
	Refs             int               `json:"refs"`
	UpToDate         int               `json:"revisions_up_to_date"`
	ReadBackBlobs    int               `json:"read_back_blobs"`
	ReadBackBytes    int64             `json:"read_back_bytes"`
	ReplacedBlobs    int               `json:"replaced_blobs"` // of uploaded_blobs
	UnprovenBlobs    int               `json:"unproven_blobs"`
	UnprovenBytes    int64             `json:"unproven_bytes"`
	Requests         jsonRequests      `json:"requests"`
	ElapsedSeconds   float64           `json:"elapsed_seconds"`
	Excluded         []string          `json:"excluded"`
	RefsKept         []keptRef         `json:"refs_kept"`
	Skipped          []jsonItem        `json:"skipped"`
	Failed           []jsonItem        `json:"failed"`
	LeftOut          []jsonItem        `json:"left_out"`
	Notes            []jsonItem        `json:"notes"`
}

// plannedRevision is a revision that has to be written.
type plannedRevision struct {
	Repo         string `json:"repo"`
	Revision     string `json:"revision"`
	Files        int    `json:"files"`
	PlannedBlobs int    `json:"planned_blobs"`
	PlannedBytes int64  `json:"planned_bytes"`
	ListedFiles  *int   `json:"listed_files"`  // of the whole commit; null if unknown
	PresentFiles *int   `json:"present_files"` // of those, in the bucket afterwards; null if unknown
	Unfinished   bool   `json:"unfinished"`    // an unfinished download may belong to it
}

func (o *pushOptions) summary(run *pushRun, failures []engine.Failure) pushSummary {
	p, result := run.plan, run.result
	uploads, bytes := p.Uploads()
	s := pushSummary{
		DryRun: o.dryRun, Repos: len(run.inventory.Repos), PlannedBlobs: len(uploads), PlannedBytes: bytes,
		PlannedRequests: requestsJSON(run.planned), PlannedRevisions: []plannedRevision{},
		UploadedBlobs: result.Blobs, UploadedBytes: result.Bytes, ResumedBytes: result.Resumed,
		Manifests: result.Manifests, Refs: result.Refs, UpToDate: p.UpToDate,
		ReadBackBlobs: result.ReadBack, ReadBackBytes: result.ReadBackBytes, ReplacedBlobs: result.Replaced,
		Requests: requestsJSON(run.made), ElapsedSeconds: seconds(run.elapsed), Excluded: []string{},
		RefsKept: keptRefs(run.kept()), Skipped: failureItems(failures, true), Failed: failureItems(failures, false),
		LeftOut: problemItems(run.inventory.Problems, true), Notes: problemItems(run.inventory.Problems, false),
	}
	unproven, unprovenBytes := p.ReadBacks()
	s.UnprovenBlobs, s.UnprovenBytes = len(unproven), unprovenBytes
	for _, rev := range p.PerRevision() {
		planned := plannedRevision{
			Repo: rev.Key.Repo.String(), Revision: string(rev.Key.Commit), Files: rev.Files, PlannedBlobs: rev.Blobs, PlannedBytes: rev.Bytes,
			Unfinished: run.unfinished(rev.Key),
		}
		if rev.Listed > 0 {
			planned.ListedFiles, planned.PresentFiles = &rev.Listed, &rev.Present
		}
		s.PlannedRevisions = append(s.PlannedRevisions, planned)
	}
	for _, repo := range o.excluded {
		s.Excluded = append(s.Excluded, repo.String())
	}
	return s
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

type pullOptions struct {
	*app
	revision         string
	repoType         string
	dryRun           bool
	workers          int
	include, exclude []string
	forceRefs        bool
	requireComplete  bool
	hub              hubOptions

	repo   hub.Repo
	policy plan.PullPolicy

	makeRoom bool  // where the disk is full, what was begun goes, so that others fit
	promised int64 // bytes of the disk's free space that a dry run has spoken for
}

func (a *app) pullCommand() *cobra.Command {
	o := &pullOptions{app: a}
	cmd := &cobra.Command{
		Use:   "pull <repo>",
		Short: "Bring a repository from the bucket into the cache",
		Long: `Pull fetches the blobs of one revision that the cache lacks, checks each against its hash, and builds the
snapshot as the Hub's own clients would have: links, the listing of the commit, marks of absent files and
refs. Afterwards Python, JS and Rust clients load it offline.

A local ref stays if it was learned later than the bucket's, or if files that it leads to would be missing. What
"offline:" says is about the commit that the local ref names afterwards.

The revision is a branch, a tag, "refs/pr/1", a full commit or the beginning of one; without one, main.
It ends by saying whether the snapshot is whole: "offline: ready", "partial (3 of 12 files)" or, where the
machine that pushed had no listing of the commit, "unknown (no file listing)".

With --fallback hf-hub what the bucket lacks comes from the Hub: a repository or a revision, missing and damaged
blobs, the rest of a revision that was pushed in part, and everything if the bucket cannot be reached. Wrong
credentials for the bucket stay an error. With --backfill the bucket gets what came from the Hub, so that the next
machine finds it there. --refresh asks the Hub for the commit first, and so follows a branch that moves.

EXIT STATUS
  0 done; 3 some files could not be written, or --require-complete is not met; 5 not in the bucket;
  6 a blob in the bucket is damaged; 4, 7, 9 no permission, no connection, no space; see docs/exit-codes.md.
  With --dry-run the same, as far as it can be known without doing the work.`,
		Example: `  hf-cache-sync pull org/name
  hf-cache-sync pull datasets/org/name -r v1.0
  hf-cache-sync pull org/name --include '*.safetensors' --include '*.json'
  hf-cache-sync pull org/name --fallback hf-hub --backfill`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args[0]); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.revision, "revision", "r", "", "branch, tag, pull request or commit (default main)")
	flags.StringVar(&o.repoType, "repo-type", "", "type of a repository named without one: model, dataset, space, kernel")
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.IntVar(&o.workers, "workers", defaultWorkers, "large blobs moved at once")
	flags.StringArrayVar(&o.include, "include", nil, "only files that match this glob (may be repeated)")
	flags.StringArrayVar(&o.exclude, "exclude", nil, "no files that match this glob (may be repeated)")
	flags.BoolVar(&o.forceRefs, "force-refs", false, "move local refs to the bucket's commits, whatever they name now")
	o.hub.flags(cmd)
	flags.BoolVar(&o.requireComplete, "require-complete", false, "fail unless the snapshot is known to be whole")
	return cmd
}

func (o *pullOptions) check(arg string) error {
	if err := checkWorkers(o.workers); err != nil {
		return err
	}
	repo, revision, err := parseRepoArg(arg, o.repoType)
	if err != nil {
		return err
	}
	if revision != "" {
		if o.revision != "" && o.revision != revision {
			return usagef("%s names a revision, and --revision %s another", arg, o.revision)
		}
		o.revision = revision
	}
	o.repo = repo
	files, err := parseFilter(o.include, o.exclude)
	o.policy = plan.PullPolicy{Files: files, ForceRefs: o.forceRefs, Refresh: o.hub.refresh, RequireComplete: o.requireComplete}
	return errors.Join(err, o.hub.check(o.app))
}

func (o *pullOptions) run(ctx context.Context) (err error) {
	o.folder.hubInstead = o.hub.fallback == fallbackHub
	if o.hub.pushBack && o.folder.hubInstead && !o.dryRun {
		if err := o.agreeToFolder(ctx); err != nil {
			return err
		}
	}
	s, err := o.open("pulling", useIfThere, engine.Options{Workers: o.workers})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.close(); err == nil {
			err = closeErr
		}
	}()
	if err := o.hub.attach(o.app, s); err != nil {
		return err
	}
	report, err := o.pull(ctx, s)
	s.progress.Close()
	if err != nil {
		return notInBucket(ctx, err, wanted{"pull", o.repo, o.revision}, s.Catalog)
	}
	if o.json {
		if err := o.printJSON(report); err != nil {
			return err
		}
	} else if err := o.say(report); err != nil {
		return err
	}
	return report.verdict(o.requireComplete)
}

// pull does the work for one repository.
func (o *pullOptions) pull(ctx context.Context, s *session) (*pullReport, error) {
	watch, before := newStopwatch(o.Now), s.requests()
	p, err := s.PreparePull(ctx, o.repo, o.revision, o.policy)
	if err != nil {
		return nil, err
	}
	planned := s.requests().Minus(before).Plus(p.Requests())
	result, backfilled := &engine.Result{}, &engine.Result{}
	var refusal error
	if o.dryRun || s.Cache == nil {
		refusal = o.refuses(s, p)
	}
	if !o.dryRun {
		if refusal != nil { // before there is a folder
			return nil, refusal
		}
		if err := s.makeCache(); err != nil {
			return nil, err
		}
		if result, err = s.Pull(ctx, p); err != nil {
			if o.makeRoom && noSpace(err) {
				err = errors.Join(err, s.DropUnfinished(ctx, p))
			}
			o.sayFailures(result.Failures)
			if result.Blobs > 0 {
				o.note("%s downloaded before it stopped", blobs(result.Blobs, result.Bytes))
			}
			return nil, fmt.Errorf("pull %s: %w", p.Manifest.Key(), err)
		}
		o.noteTerms(ctx, s.Cache, p.Manifest)
		if backfilled, err = o.hub.backfill(ctx, o.app, s, p, result); err != nil {
			return nil, err
		}
		o.recordUse(ctx, s.Cache, p.Manifest.Key())
	}
	report := newPullReport(p, result, o.dryRun)
	report.refusal = refusal
	report.BackfilledBlobs, report.BackfilledBytes = backfilled.Blobs, backfilled.Bytes
	report.planned, report.elapsed = planned, watch.elapsed()
	report.PlannedRequests, report.Requests = requestsJSON(planned), requestsJSON(s.requests().Minus(before))
	report.ElapsedSeconds = seconds(report.elapsed)
	return report, nil
}

// refuses says what would end a pull before it begins.
func (o *pullOptions) refuses(s *session, p *plan.Pull) error {
	dir, _, err := config.CacheDir(o.cacheDir, o.Env, o.Home, o.file)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return &usageError{err: err}
	}
	if err := s.CheckPull(p, dir, o.promised); err != nil {
		return fmt.Errorf("pull %s: %w", p.Manifest.Key(), err)
	}
	return nil
}

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

// pulledState looks at the revision that was pulled.
func pulledState(p *plan.Pull, failed int) offlineState {
	s := offlineState{state: p.Completeness(), present: p.PresentListed(), listed: len(p.Manifest.Tree())}
	if s.state == manifest.Complete && failed > 0 {
		s.state, s.present = manifest.Partial, s.present-failed
	}
	return s
}

// offlineStateOf looks at the commit by which clients will load the repository: the one that was pulled, unless the local ref that was asked for stays at another.
func offlineStateOf(p *plan.Pull, pulled offlineState) offlineState {
	s := pulled
	for _, kept := range p.KeptRefs {
		if kept.Name != p.Asked || kept.Commit == "" {
			continue
		}
		s = offlineState{ref: kept.Name, commit: kept.Commit}
		if kept.Local != nil && kept.Local.Tree != nil {
			s.listed, s.present = len(kept.Local.Tree), kept.Local.PresentListed()
			if s.state = manifest.Partial; s.present == s.listed {
				s.state = manifest.Complete
			}
		}
	}
	return s
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
		r.Refs = append(r.Refs, string(ref.Name))
	}
	for _, ref := range p.KeptRefs {
		r.KeptRefs = append(r.KeptRefs, string(ref.Name))
	}
	for _, name := range p.Unclean {
		if !slices.ContainsFunc(result.Failures, func(f engine.Failure) bool { return f.Ref == name }) {
			r.RepairedRefs = append(r.RepairedRefs, string(name))
		}
	}
	r.pulled = pulledState(p, len(r.failures))
	r.kept, r.offline = p.KeptRefs, offlineStateOf(p, r.pulled)
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
	if requireComplete && r.pulled.state != manifest.Complete {
		is := "is"
		if r.DryRun {
			is = "would be"
		}
		return &someFailedError{
			exitSome, fmt.Sprintf("pull %s: the snapshot %s %s", r.key, is, r.pulled.text()),
			"download the rest with the Hub's client and push it",
		}
	}
	return nil
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
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
}

func (a *app) pullCommand() *cobra.Command {
	o := &pullOptions{app: a}
	cmd := &cobra.Command{
		Use:   "pull <repo>",
		Short: "Bring a repository from the bucket into the cache",
		Long: `Pull fetches the blobs of one revision that the cache lacks, checks each against its hash, and builds the
snapshot as the Hub's own clients would have: links, the listing of the commit, marks of absent files and
refs. Afterwards Python, JS and Rust clients load it offline.

The revision is a branch, a tag, "refs/pr/1", a full commit or the beginning of one; without one, main.
It ends by saying whether the snapshot is whole: "offline: ready", "partial (3 of 12 files)" or, where the
machine that pushed had no listing of the commit, "unknown (no file listing)".

With --fallback hf-hub what the bucket lacks comes from the Hub: a repository or a revision, missing and damaged
blobs, the rest of a revision that was pushed in part, and everything if the bucket cannot be reached. Wrong
credentials for the bucket stay an error. With --backfill the bucket gets what came from the Hub, so that the next
machine finds it there. --refresh asks the Hub for the commit first, and so follows a branch that moves.

EXIT STATUS
  0 done; 3 some files could not be written, or --require-complete is not met; 5 not in the bucket;
  6 a blob in the bucket is damaged; 4, 7, 9 no permission, no connection, no space; see docs/exit-codes.md.`,
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
	flags.BoolVar(&o.forceRefs, "force-refs", false, "move local refs even if they were learned later than the bucket's")
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
	o.policy = plan.PullPolicy{Files: files, ForceRefs: o.forceRefs, Refresh: o.hub.refresh}
	return errors.Join(err, o.hub.check(o.app))
}

func (o *pullOptions) run(ctx context.Context) (err error) {
	s, err := o.open("pulling", pullUse(o.dryRun), engine.Options{Workers: o.workers})
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
		return notInBucket(ctx, err, o.repo, s.Catalog)
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
	if !o.dryRun {
		if result, err = s.Pull(ctx, p); err != nil {
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
	report.BackfilledBlobs, report.BackfilledBytes = backfilled.Blobs, backfilled.Bytes
	report.planned, report.elapsed = planned, watch.elapsed()
	report.PlannedRequests, report.Requests = requestsJSON(planned), requestsJSON(s.requests().Minus(before))
	report.ElapsedSeconds = seconds(report.elapsed)
	return report, nil
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
	Requests        jsonRequests `json:"requests"`
	ElapsedSeconds  float64      `json:"elapsed_seconds"`
	Offline         string       `json:"offline"` // "ready", "partial" or "unknown"
	Failed          []jsonItem   `json:"failed"`

	planned   plan.Requests
	elapsed   time.Duration
	key       manifest.Key
	present   int
	failures  []engine.Failure
	completed manifest.Completeness
}

func newPullReport(p *plan.Pull, result *engine.Result, dryRun bool) *pullReport {
	r := &pullReport{
		DryRun: dryRun, Repo: p.Manifest.Repo.Name, RepoType: p.Manifest.Repo.Type.String(), Commit: string(p.Manifest.Commit),
		Files: len(p.Files), FilteredFiles: p.Filtered, PlannedBlobs: len(p.Blobs), PlannedBytes: p.Bytes(),
		DownloadedBlobs: result.Blobs, DownloadedBytes: result.Bytes, ResumedBytes: result.Resumed, ReusedBlobs: result.Reused,
		HubBlobs: result.UpstreamBlobs, HubBytes: result.UpstreamBytes,
		LinkedFiles: result.Linked, Refs: []string{}, KeptRefs: []string{}, Failed: failureItems(result.Failures, false),
		key: p.Manifest.Key(), failures: result.Failures, completed: p.Completeness(),
	}
	r.present = len(p.Files)
	if tree := p.Manifest.Tree(); tree != nil {
		listed := len(tree)
		r.ListedFiles = &listed
		r.present = p.PresentListed()
	}
	for _, ref := range p.Refs {
		r.Refs = append(r.Refs, string(ref.Name))
	}
	for _, ref := range p.KeptRefs {
		r.KeptRefs = append(r.KeptRefs, string(ref.Name))
	}
	if r.completed == manifest.Complete && len(r.failures) > 0 {
		r.completed = manifest.Partial
		r.present -= len(r.failures)
	}
	r.Offline = map[manifest.Completeness]string{
		manifest.Complete: "ready", manifest.Partial: "partial", manifest.Unknown: "unknown",
	}[r.completed]
	return r
}

// say prints the report for people.
func (o *pullOptions) say(r *pullReport) error {
	for _, name := range r.KeptRefs {
		o.note("note: the local ref %s was learned later than the bucket's and stays; --force-refs moves it", name)
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
	if err := o.print("pulled %s: %s, %s%s", r.key, ui.Plural(r.Files, "file"), detail, t); err != nil {
		return err
	}
	return o.print("offline: %s", r.offlineText())
}

func (r *pullReport) offlineText() string {
	switch r.completed {
	case manifest.Complete:
		return "ready"
	case manifest.Partial:
		return fmt.Sprintf("partial (%d of %s)", r.present, ui.Plural(*r.ListedFiles, "file"))
	default:
		return "unknown (no file listing)"
	}
}

// pullAdvice is the hint for files that could not be pulled.
func pullAdvice(repo hub.Repo, failures []engine.Failure) string {
	hint := ""
	for _, f := range failures {
		if _, damaged := errors.AsType[*engine.DamagedError](f.Err); damaged || isType[*hub.MismatchError](f.Err) || errors.Is(f.Err, store.ErrNotFound) {
			return hintRecheck(repo.String())
		}
		hint = cmp.Or(hint, explain(f.Err).hint)
	}
	return hint
}

// hintRecheck names the command that makes the bucket's blobs good again.
func hintRecheck(repos ...string) string {
	return "on a machine whose copy is good: hf-cache-sync push --recheck " + strings.Join(repos, " ")
}

// verdict is the error, if any, that a report means for the exit code.
func (r *pullReport) verdict(requireComplete bool) error {
	if code := failureCode(r.failures); code != exitDone {
		return &someFailedError{
			code, fmt.Sprintf("pull %s: %s failed, as said above", r.key, ui.Plural(len(r.failures), "file")),
			pullAdvice(r.key.Repo, r.failures),
		}
	}
	if requireComplete && r.completed != manifest.Complete && !r.DryRun {
		return &someFailedError{
			exitSome, fmt.Sprintf("pull %s: the snapshot is %s", r.key, r.offlineText()),
			"download the rest with the Hub's client and push it",
		}
	}
	return nil
}

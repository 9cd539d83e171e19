package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
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

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/doctor"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

type pushOptions struct {
	*app
	dryRun           bool
	workers          int
	include, exclude []string
	repoType         string
	forceRefs        bool
	recheck          bool
	yes              bool
	complete         bool
	allowGated       bool
	allowGatedGiven  bool // by the flag or its variable, so that the configuration file has no say

	gated    []engine.Failure        // what was left out because it looks gated
	selected map[hub.Repo]hub.Commit // from the arguments; empty means all. The commit is empty for the whole repository.
	filter   plan.Filter
	standing plan.Filter // of the configuration file; for a bare push alone
	excluded []hub.Repo  // what it kept out
}

func (a *app) pushCommand() *cobra.Command {
	o := &pushOptions{app: a}
	cmd := &cobra.Command{
		Use:   "push [repo...]",
		Short: "Upload what the bucket lacks",
		Long: `Push compares the local cache with the bucket and uploads the blobs that are missing, then the
manifests that name them, then the refs that name those. Without arguments the whole cache is offered.

What is already there costs one request for each local revision and ref, however large the bucket is.
Every file is checked against its hash before it counts as pushed; a damaged one is named and left out.
A bucket that is a folder has to exist: a missing one may be a share that is not mounted. With --create it is made.
With --complete the rest of what the cache has only in part is fetched from the Hub first, or named if it cannot be.
Repositories that look gated, by the front matter of their README or by their licence, are left out and named.
An interrupted push is carried on by the next one.

A ref of the bucket moves only to a commit that was learned later and that lacks no file which the ref leads to
today. Where it stays, the files are uploaded all the same, and the next push moves it once the commit is complete.
--force-refs moves it at once, and all who pull follow.

With --recheck manifests are not believed. Blobs that are missing or of a wrong size are uploaded, and
manifests that nobody can read are written anew. Of the repositories named as arguments every blob is
read back and hashed, which is download traffic; damaged ones are replaced. Without arguments blobs are
compared with the checksums that the store tells, and the rest by size alone.
With --force-refs what is no ref at all is replaced, too.

EXIT STATUS
  0 everything is in the bucket; 3 some files could not be pushed; 6 some files are damaged;
  4, 7, 9 no permission, no connection, no space; see docs/exit-codes.md.`,
		Example: `  hf-cache-sync push
  hf-cache-sync push org/name datasets/org/name
  hf-cache-sync push --recheck org/name
  hf-cache-sync push --include 'org/*' --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args); err != nil {
				return err
			}
			o.allowGatedGiven = cmd.Flags().Changed("allow-gated")
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.IntVar(&o.workers, "workers", defaultWorkers, "large blobs moved at once")
	flags.StringArrayVar(&o.include, "include", nil, "only repositories that match this glob (may be repeated)")
	flags.StringArrayVar(&o.exclude, "exclude", nil, "no repositories that match this glob (may be repeated)")
	flags.StringVar(&o.repoType, "repo-type", "", "type of the repositories named without one: model, dataset, space, kernel")
	flags.BoolVar(&o.forceRefs, "force-refs", false, "move the bucket's refs to the local commits, whatever they name now, and replace unreadable ones")
	flags.BoolVar(&o.recheck, "recheck", false, "check every blob in the bucket and replace damaged ones; those of named repositories are read back")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask before the first push of everything to a bucket")
	flags.BoolVar(&o.folder.create, "create", false, createUsage)
	flags.BoolVar(&o.complete, "complete", false, "fetch from the Hub what revisions lack that were downloaded in part, and push them whole")
	flags.BoolVar(&o.allowGated, "allow-gated", false, "push repositories that look gated, too")
	return cmd
}

const (
	defaultWorkers = 8
	createUsage    = "make the bucket's folder if it is missing, or begin a new bucket in one that is empty now"
)

func checkWorkers(n int) error {
	if n < 1 || n > 256 {
		return usagef("--workers is %d; it must be between 1 and 256", n)
	}
	return nil
}

func parseFilter(include, exclude []string) (plan.Filter, error) {
	in, err := plan.ParseGlobs(include)
	if err != nil {
		return plan.Filter{}, usagef("--include: %w", err)
	}
	out, err := plan.ParseGlobs(exclude)
	if err != nil {
		return plan.Filter{}, usagef("--exclude: %w", err)
	}
	return plan.Filter{Include: in, Exclude: out}, nil
}

func (o *pushOptions) check(args []string) error {
	if err := checkWorkers(o.workers); err != nil {
		return err
	}
	var err error
	if o.filter, err = parseFilter(o.include, o.exclude); err != nil {
		return err
	}
	o.selected = map[hub.Repo]hub.Commit{}
	for _, arg := range args {
		repo, revision, err := parseRepoArg(arg, o.repoType)
		if err != nil {
			return err
		}
		var commit hub.Commit
		if revision != "" {
			if commit, err = hub.ParseCommit(revision); err != nil {
				return usagef("push %s: a revision to push is a full commit: %w", arg, err)
			}
		}
		o.selected[repo] = commit
	}
	return nil
}

func (o *pushOptions) wants(repo hub.Repo) bool {
	_, named := o.selected[repo]
	if !named && len(o.selected) > 0 || !o.filter.Wants(repo.String(), repo.Name) {
		return false
	}
	if len(o.selected) == 0 && o.filter.Empty() && !o.standing.Wants(repo.String(), repo.Name) {
		o.excluded = append(o.excluded, repo)
		return false
	}
	return true
}

func (o *pushOptions) run(ctx context.Context) (err error) {
	watch := newStopwatch(o.Now)
	if o.standing, err = o.standingFilter(); err != nil {
		return err
	}
	o.folder.hasCreate = true
	if !o.yes && !o.dryRun {
		if err := o.agreeToFolder(ctx); err != nil {
			return err
		}
	}
	s, err := o.open("pushing", useExisting, engine.Options{Workers: o.workers})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.close(); err == nil {
			err = closeErr
		}
	}()
	s.phase("scanning the cache")
	inv, err := s.Cache.Scan(ctx, o.wants)
	if err != nil {
		return err
	}
	o.noteExcluded()
	if err := o.choose(ctx, s.Cache, inv); err != nil {
		return err
	}
	if o.complete {
		if inv, err = o.completed(ctx, s, inv); err != nil {
			return err
		}
	}
	policy := plan.PushPolicy{Recheck: o.recheck, ForceRefs: o.forceRefs}
	if o.recheck {
		if policy.Check = plan.CheckChecksums; len(o.selected) > 0 {
			policy.Check = plan.CheckBytes
		}
	}
	p, err := s.PreparePush(ctx, inv, policy)
	if err != nil {
		return err
	}
	run := &pushRun{inventory: inv, plan: p, result: &engine.Result{}, planned: s.requests().Plus(p.Requests(o.unconditional()))}
	if o.dryRun {
		s.progress.Close()
		run.made, run.elapsed = s.requests(), watch.elapsed()
		return o.report(run)
	}
	if err := watch.without(func() error { return o.confirm(ctx, s.Catalog.Store.String(), p) }); err != nil {
		return err
	}
	result, err := s.Push(ctx, p, policy)
	s.progress.Close()
	if err != nil {
		o.sayFailures(result.Failures)
		if result.Blobs > 0 {
			o.note("%s uploaded before it stopped", blobs(result.Blobs, result.Bytes))
		}
		return err
	}
	run.result, run.made, run.elapsed = result, s.requests(), watch.elapsed()
	return o.report(run)
}

// narrow applies what the arguments say to the inventory, and makes sure that all of them are there.
func (o *pushOptions) narrow(inv *hfcache.Inventory) error {
	for repo, commit := range o.selected {
		found := inv.Repo(repo)
		if found == nil {
			return notInCache("push", repo, inv, o.localRepos())
		}
		if commit == "" {
			continue
		}
		rev := found.Revision(commit)
		if rev == nil {
			return &someFailedError{exitNotFound, fmt.Sprintf("push %s: commit %s is not in the cache", repo, commit), "hf-cache-sync list shows what is"}
		}
		found.Revisions = []*hfcache.Revision{rev}
		refs := found.Refs[:0]
		for _, ref := range found.Refs {
			if ref.Commit == commit {
				refs = append(refs, ref)
			}
		}
		found.Refs = refs
	}
	return nil
}

// report prints what was done, or would be, and decides the exit code.
func (o *pushOptions) report(run *pushRun) error {
	failures := append(slices.Clip(run.result.Failures), o.gated...)
	failures = append(failures, keptFailures(run.kept())...)
	for _, r := range run.plan.Refused {
		failures = append(failures, refusalFailure(r))
	}
	lost := o.sayProblems(run.inventory.Problems)
	o.sayFailures(failures)
	o.sayPartial(run)
	o.sayKept(run.kept())
	if o.json {
		if err := o.printJSON(o.summary(run, failures)); err != nil {
			return err
		}
	} else if err := o.sayDone(run, tally{failures: failures, excluded: len(o.excluded), lost: lost}); err != nil {
		return err
	}
	if code := failureCode(failures); code != exitDone {
		return &someFailedError{code, "some files were not pushed; they are named above", pushAdvice(failures)}
	}
	if lost > 0 {
		return &someFailedError{exitSome, ui.Plural(lost, "thing") + " in the cache could not be pushed, as said above", ""}
	}
	return nil
}

// keptFailures are the refs of the bucket that stay, which does no harm.
func keptFailures(kept []plan.KeptRef) []engine.Failure {
	failures := make([]engine.Failure, len(kept))
	for i, k := range kept {
		key := manifest.Key{Repo: k.Key.Repo, Commit: k.Commit}
		failures[i] = engine.Failure{Key: key, Ref: k.Key.Name, Err: refusalError(k.Why()), Harmless: true}
	}
	return failures
}

// pushAdvice is the hint for what could not be pushed: the commands that replace what stands in the way.
func pushAdvice(failures []engine.Failure) string {
	var errs []error
	for _, f := range failures {
		if !f.Harmless {
			errs = append(errs, f.Err)
		}
	}
	if hint := doctor.Remedy(errs); hint != "" {
		return hint
	}
	if errors.Is(errors.Join(errs...), store.ErrBadDigest) {
		return hintBadDigest
	}
	return ""
}

func refusalFailure(r plan.Refusal) engine.Failure {
	why := error(refusalError(r.Why))
	if r.Err != nil {
		why = fmt.Errorf("%s: %w", r.Why, r.Err)
	}
	return engine.Failure{Key: r.Key, Ref: r.Ref, Path: r.Path, Err: why, Harmless: r.Harmless}
}

// refusalError is a reason that a plan gives.
type refusalError string

// Error is the reason.
func (e refusalError) Error() string { return string(e) }

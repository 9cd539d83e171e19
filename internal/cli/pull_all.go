package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

type pullAllOptions struct {
	*app
	dryRun           bool
	workers, limit   int
	include, exclude []string
	allRefs          bool
	forceRefs        bool
	filter           plan.Filter
	hub              hubOptions
}

func (a *app) pullAllCommand() *cobra.Command {
	o := &pullAllOptions{app: a}
	cmd := &cobra.Command{
		Use:   "pull-all",
		Short: "Bring every repository of the bucket into the cache",
		Long: `Pull-all pulls every repository that has a ref in the bucket: its main branch, or its first ref where it has no
main; with --all-refs the commits of all refs. A repository that fails does not stop the others.

EXIT STATUS
  0 done; 3 some repositories failed; 4, 7, 9 no permission, no connection, no space; see docs/exit-codes.md.`,
		Example: `  hf-cache-sync pull-all --include 'org/*'
  hf-cache-sync pull-all --limit 5 --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.IntVar(&o.workers, "workers", defaultWorkers, "large blobs moved at once")
	flags.IntVar(&o.limit, "limit", 0, "at most this many repositories (0: all)")
	flags.StringArrayVar(&o.include, "include", nil, "only repositories that match this glob (may be repeated)")
	flags.StringArrayVar(&o.exclude, "exclude", nil, "no repositories that match this glob (may be repeated)")
	flags.BoolVar(&o.allRefs, "all-refs", false, "the commits of all refs, not only main")
	flags.BoolVar(&o.forceRefs, "force-refs", false, "move local refs even if they were learned later than the bucket's")
	o.hub.fallbackFlag(cmd)
	return cmd
}

func (o *pullAllOptions) check() error {
	if err := checkWorkers(o.workers); err != nil {
		return err
	}
	if o.limit < 0 {
		return usagef("--limit is %d; it must not be negative", o.limit)
	}
	var err error
	o.filter, err = parseFilter(o.include, o.exclude)
	return errors.Join(err, o.hub.check(o.app))
}

func (o *pullAllOptions) run(ctx context.Context) (err error) {
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
	watch := newStopwatch(o.Now)
	s.phase("asking the bucket for its refs")
	targets, failed, err := o.targets(ctx, s.Catalog)
	if err != nil {
		return err
	}
	reports, asked := []*pullReport{}, s.requests()
	for _, key := range targets {
		one := &pullOptions{
			app: o.app, repo: key.Repo, revision: string(key.Commit), dryRun: o.dryRun,
			policy: plan.PullPolicy{ForceRefs: o.forceRefs}, hub: o.hub,
		}
		report, err := one.pull(ctx, s)
		if err == nil && !o.json {
			err = one.say(report)
		}
		if err == nil {
			reports = append(reports, report)
			err = report.verdict(false)
		}
		if err != nil {
			if stopsAll(ctx, err) {
				return err
			}
			failed = append(failed, jsonItem{Repo: key.Repo.String(), Revision: string(key.Commit), Why: err.Error()})
			o.warn("failed: %s: %v", key, err)
		}
	}
	s.progress.Close()
	if failed == nil {
		failed = []jsonItem{}
	}
	return o.report(&pullAllReport{Pulled: reports, Failed: failed, Requests: requestsJSON(s.requests()), elapsed: watch.elapsed()}, asked)
}

// stopsAll says whether an error would meet the next repository too.
func stopsAll(ctx context.Context, err error) bool {
	switch explain(err).code {
	case exitDenied, exitUnreachable, exitDisk, exitUsage:
		return true
	}
	return ctx.Err() != nil
}

// targets are the revisions to pull, in order of their repositories. Refs that lead nowhere are returned as failures beside.
func (o *pullAllOptions) targets(ctx context.Context, catalog *remote.Catalog) ([]manifest.Key, []jsonItem, error) {
	objects := map[string][]remote.RefObject{}
	for object, err := range catalog.RefNames(ctx) {
		if err != nil {
			return nil, nil, err
		}
		objects[object.RepoKey] = append(objects[object.RepoKey], object)
	}
	var broken []brokenRef
	commits := map[hub.Repo][]hub.Commit{}
	for _, repoKey := range slices.Sorted(maps.Keys(objects)) {
		for _, object := range o.choose(objects[repoKey]) {
			entry, err := catalog.Follow(ctx, object)
			switch {
			case err == nil:
				commits[entry.Repo] = append(commits[entry.Repo], entry.Commit)
			case ctx.Err() != nil || stopsAll(ctx, err):
				return nil, nil, err
			default:
				broken = append(broken, brokenRef{object, err})
			}
		}
	}
	var failed []jsonItem
	for _, b := range broken {
		if !b.replaced(commits) {
			failed = append(failed, jsonItem{Repo: b.RepoKey, Ref: string(b.Name), Why: b.err.Error()})
			o.warn("failed: %v", b.err)
		}
	}
	var targets []manifest.Key
	repos := slices.SortedFunc(maps.Keys(commits), hub.Repo.Compare)
	repos = slices.DeleteFunc(repos, func(r hub.Repo) bool { return !o.filter.Wants(r.String(), r.Name) })
	if o.limit > 0 {
		repos = repos[:min(o.limit, len(repos))]
	}
	for _, repo := range repos {
		slices.Sort(commits[repo])
		for _, commit := range slices.Compact(commits[repo]) {
			targets = append(targets, manifest.Key{Repo: repo, Commit: commit})
		}
	}
	return targets, failed, nil
}

// brokenRef is a ref of the bucket that leads nowhere.
type brokenRef struct {
	remote.RefObject
	err error
}

// replaced says whether the commit is in the bucket after all, under the key of a repository that the Python tool keeps under the same key as this ref.
func (b brokenRef) replaced(commits map[hub.Repo][]hub.Commit) bool {
	dangling, ok := errors.AsType[*remote.DanglingRefError](b.err)
	if !ok {
		return false
	}
	for repo, known := range commits {
		if manifest.LegacyRepoKey(repo) == b.RepoKey && slices.Contains(known, dangling.Ref.Commit) {
			return true
		}
	}
	return false
}

// choose takes the refs of one repository that are meant.
func (o *pullAllOptions) choose(refs []remote.RefObject) []remote.RefObject {
	if o.allRefs {
		return refs
	}
	if i := slices.IndexFunc(refs, func(r remote.RefObject) bool { return r.Name == hub.Main }); i >= 0 {
		return refs[i : i+1]
	}
	return refs[:1]
}

// pullAllReport is the object of pull-all --json. docs/json.md describes it.
type pullAllReport struct {
	Pulled          []*pullReport `json:"pulled"`
	Failed          []jsonItem    `json:"failed"`
	PlannedRequests jsonRequests  `json:"planned_requests"`
	Requests        jsonRequests  `json:"requests"`
	ElapsedSeconds  float64       `json:"elapsed_seconds"`

	elapsed time.Duration
}

// report says what came of it. asked are the requests that it took to find out what there is.
func (o *pullAllOptions) report(r *pullAllReport, asked plan.Requests) error {
	planned := asked
	var moved pullReport
	for _, one := range r.Pulled {
		planned = planned.Plus(one.planned)
		moved.PlannedBlobs += one.PlannedBlobs
		moved.PlannedBytes += one.PlannedBytes
		moved.DownloadedBlobs += one.DownloadedBlobs
		moved.DownloadedBytes += one.DownloadedBytes
		moved.ResumedBytes += one.ResumedBytes
	}
	r.PlannedRequests, r.ElapsedSeconds = requestsJSON(planned), seconds(r.elapsed)
	revisions, t := ui.Plural(len(r.Pulled), "revision"), tally{lost: len(r.Failed)}
	var err error
	switch {
	case o.json:
		err = o.printJSON(r)
	case o.dryRun:
		err = o.print("would pull %s: %s in %s%s", revisions, blobs(moved.PlannedBlobs, moved.PlannedBytes), planned, t)
	default:
		err = o.print("pulled %s: %s %s%s", revisions, blobs(moved.DownloadedBlobs, moved.DownloadedBytes),
			pace(r.elapsed, moved.DownloadedBytes-moved.ResumedBytes), t)
	}
	if err != nil {
		return err
	}
	if len(r.Failed) > 0 {
		return &someFailedError{exitSome, fmt.Sprintf("pull-all: %s failed, as said above", ui.Plural(len(r.Failed), "item")), ""}
	}
	return nil
}

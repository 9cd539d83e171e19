package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
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
		Long: `Pull-all pulls every repository of the bucket: its main branch, or its first ref where it has no main; with
--all-refs the commits of all refs. Of a repository that no ref names, as one is that was pushed from a
machine that had pulled it by commit, it pulls the revision that was pushed last, and says so.

A repository that fails does not stop the others, and neither does one that does not fit on the disk. Those
are named with their sizes.

EXIT STATUS
  0 done; 3 some repositories failed; 9 some did not fit on the disk, and all others are there, or there is no
  write access; 4, 7 no permission, no connection; see docs/exit-codes.md.`,
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
	flags.BoolVar(&o.forceRefs, "force-refs", false, "move local refs to the bucket's commits, whatever they name now")
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
	r := &pullAllReport{Pulled: []*pullReport{}, Pinned: []jsonItem{}, Failed: failed, other: len(failed) > 0}
	asked := s.requests()
	for _, target := range targets {
		if err := o.pullOne(ctx, s, target, r); err != nil {
			return err
		}
	}
	s.progress.Close()
	r.Requests, r.elapsed = requestsJSON(s.requests()), watch.elapsed()
	return o.report(r, asked)
}

// pullOne pulls one target and puts what came of it into the report. The error is one that would meet the next target too.
func (o *pullAllOptions) pullOne(ctx context.Context, s *session, target pullTarget, r *pullAllReport) error {
	one := &pullOptions{
		app: o.app, repo: target.Repo, revision: string(target.Commit), dryRun: o.dryRun, makeRoom: true, promised: r.promised(),
		policy: plan.PullPolicy{ForceRefs: o.forceRefs}, hub: o.hub,
	}
	report, err := one.pull(ctx, s)
	if err == nil {
		err = report.refusal
	}
	if err == nil {
		if target.pinned {
			why := o.pinnedNote(target.Key)
			o.note("note: %s", why)
			r.Pinned = append(r.Pinned, jsonItem{Repo: target.Repo.String(), Revision: string(target.Commit), Why: why})
		}
		if !o.json {
			err = one.say(report)
		}
	}
	if err == nil {
		r.Pulled = append(r.Pulled, report)
		err = report.verdict(false)
	}
	switch {
	case err == nil:
		return nil
	case stopsAll(ctx, err):
		return err
	}
	why := strings.TrimPrefix(explain(err).message, "pull "+target.String()+": ")
	item := failedItem{jsonItem: jsonItem{Repo: target.Repo.String(), Revision: string(target.Commit), Why: why}}
	if space, ok := errors.AsType[*engine.SpaceError](err); ok {
		item.NeededBytes = space.Need
	}
	r.fail(err, item)
	o.warn("failed: %s: %s", target.Key, item.Why)
	return nil
}

// pinnedNote says of a repository why this commit of it is pulled.
func (o *pullAllOptions) pinnedNote(key manifest.Key) string {
	verb := "pulled"
	if o.dryRun {
		verb = "would pull"
	}
	return fmt.Sprintf("no ref in the bucket names a revision of %s; %s its newest, %s", key.Repo, verb, key.Commit.Short())
}

// stopsAll says whether an error would meet the next repository too. One that does not fit on the disk leaves room for a smaller one, and what is in the way of one folder is not
// in that of another.
func stopsAll(ctx context.Context, err error) bool {
	switch explain(err).code {
	case exitDenied, exitUnreachable, exitUsage:
		return true
	case exitDisk:
		return !noSpace(err) && !errors.Is(err, hfcache.ErrInTheWay)
	}
	return ctx.Err() != nil
}

// noSpace says whether a disk, or what this user may have of it, is too small.
func noSpace(err error) bool {
	return isType[*engine.SpaceError](err) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// pullTarget is a revision to pull.
type pullTarget struct {
	manifest.Key
	pinned bool // no ref of its repository leads to a revision: it is the newest
}

// targets are the revisions to pull, in order of their repositories. What leads nowhere is returned as failures beside.
func (o *pullAllOptions) targets(ctx context.Context, catalog *remote.Catalog) ([]pullTarget, []failedItem, error) {
	f := &targetFinder{pullAllOptions: o, catalog: catalog, commits: map[hub.Repo][]hub.Commit{}, named: remote.NamedCommits{}, read: map[string]bool{}}
	if err := f.followRefs(ctx); err != nil {
		return nil, nil, err
	}
	if err := o.remember(catalog); err != nil {
		return nil, nil, err
	}
	pinned, err := f.findPinned(ctx)
	_ = catalog.Cache.Close() // only read from, as far as the result goes
	if err != nil {
		return nil, nil, err
	}
	var targets []pullTarget
	repos := slices.SortedFunc(maps.Keys(f.commits), hub.Repo.Compare)
	repos = slices.DeleteFunc(repos, func(r hub.Repo) bool { return !o.wants(r) })
	if o.limit > 0 {
		repos = repos[:min(o.limit, len(repos))]
	}
	for _, repo := range repos {
		slices.Sort(f.commits[repo])
		for _, commit := range slices.Compact(f.commits[repo]) {
			targets = append(targets, pullTarget{manifest.Key{Repo: repo, Commit: commit}, pinned[repo]})
		}
	}
	return targets, f.failures(), nil
}

func (o *pullAllOptions) wants(r hub.Repo) bool { return o.filter.Wants(r.String(), r.Name) }

// targetFinder finds the revisions to pull.
type targetFinder struct {
	*pullAllOptions
	catalog *remote.Catalog

	objects map[string][]remote.RefObject // by repository key
	commits map[hub.Repo][]hub.Commit     // to be pulled
	named   remote.NamedCommits           // by the refs that were followed
	read    map[string]bool               // keys of those refs
	refs    []brokenRef
	broken  []error // manifests
}

// followRefs reads the refs that are meant, and the manifests that they lead to.
func (f *targetFinder) followRefs(ctx context.Context) error {
	f.objects = map[string][]remote.RefObject{}
	for object, err := range f.catalog.RefNames(ctx) {
		if err != nil {
			return err
		}
		f.objects[object.RepoKey] = append(f.objects[object.RepoKey], object)
	}
	for _, repoKey := range slices.Sorted(maps.Keys(f.objects)) {
		f.named[repoKey] = nil
		for _, object := range f.choose(f.objects[repoKey]) {
			entry, err := f.follow(ctx, object)
			if err != nil {
				return err
			}
			if entry != nil {
				f.commits[entry.Repo] = append(f.commits[entry.Repo], entry.Commit)
				f.named[repoKey] = append(f.named[repoKey], entry.Commit)
			}
		}
	}
	return nil
}

// follow reads one ref and the manifest that it leads to. It is nil if that cannot be used, which is remembered.
func (f *targetFinder) follow(ctx context.Context, object remote.RefObject) (*remote.Entry, error) {
	f.read[manifest.RefKey(object.RepoKey, object.Name)] = true
	entry, err := f.catalog.Follow(ctx, object)
	switch {
	case err == nil:
		return entry, nil
	case ctx.Err() != nil || stopsAll(ctx, err):
		return nil, err
	}
	f.refs = append(f.refs, brokenRef{object, err})
	return nil, nil //nolint:nilnil // there is none
}

// findPinned adds the newest revision of each repository that no ref leads to, and says which those are.
func (f *targetFinder) findPinned(ctx context.Context) (map[hub.Repo]bool, error) {
	newest, err := f.catalog.Newest(ctx, f.named, f.wants)
	if err != nil {
		return nil, err
	}
	f.broken = newest.Broken
	if newest.Unread > 0 {
		f.note("note: %s in the bucket not read; if the Python tool wrote one of another repository under the same key, that repository is left out; "+
			"hf-cache-sync list --remote names all", ui.Plural(newest.Unread, "older manifest"))
	}
	pinned := map[hub.Repo]bool{}
	for _, repo := range slices.SortedFunc(maps.Keys(newest.Revisions), hub.Repo.Compare) {
		if len(f.commits[repo]) > 0 {
			continue
		}
		if err := f.followOthers(ctx, repo); err != nil {
			return nil, err
		}
		if len(f.commits[repo]) == 0 {
			f.commits[repo], pinned[repo] = []hub.Commit{newest.Revisions[repo].Commit}, true
		}
	}
	return pinned, nil
}

// followOthers looks for a ref that leads to the repository among those that were passed over: because the key is another repository's too, or because the ref
// that counts leads nowhere.
func (f *targetFinder) followOthers(ctx context.Context, repo hub.Repo) error {
	var found []remote.RefObject
	commits := map[hub.Ref]hub.Commit{}
	for _, repoKey := range slices.Compact([]string{manifest.RepoKey(repo), manifest.LegacyRepoKey(repo)}) {
		for _, object := range f.objects[repoKey] {
			if f.read[manifest.RefKey(object.RepoKey, object.Name)] {
				continue
			}
			entry, err := f.follow(ctx, object)
			if err != nil {
				return err
			}
			if entry != nil && entry.Repo == repo {
				found = append(found, object)
				commits[object.Name] = entry.Commit
			}
		}
	}
	if len(found) > 0 {
		f.commits[repo] = []hub.Commit{commits[f.choose(found)[0].Name]}
	}
	return nil
}

// failures names what cannot be used, each once.
func (f *targetFinder) failures() []failedItem {
	items := []failedItem{}
	var said []string
	for _, b := range f.refs {
		if !b.replaced(f.commits) {
			items = append(items, failedItem{jsonItem: jsonItem{Repo: b.RepoKey, Ref: string(b.Name), Why: b.err.Error()}})
			said = append(said, b.err.Error())
		}
	}
	for _, err := range f.broken { // some by a ref as well
		if !slices.Contains(said, err.Error()) {
			items = append(items, failedItem{jsonItem: jsonItem{Why: err.Error()}})
		}
	}
	for _, item := range items {
		f.warn("failed: %s", item.Why)
	}
	return items
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
	Pinned          []jsonItem    `json:"pinned"` // of those, what no ref in the bucket names
	Failed          []failedItem  `json:"failed"`
	PlannedRequests jsonRequests  `json:"planned_requests"`
	Requests        jsonRequests  `json:"requests"`
	ElapsedSeconds  float64       `json:"elapsed_seconds"`

	elapsed time.Duration
	other   bool     // something failed for another reason than the disk
	full    []string // what did not fit
}

// failedItem is something that failed, and what it needs of the disk where that is why.
type failedItem struct {
	jsonItem
	NeededBytes int64 `json:"needed_bytes,omitempty"`
}

// fail adds what failed.
func (r *pullAllReport) fail(err error, item failedItem) {
	r.Failed = append(r.Failed, item)
	if explain(err).code != exitDisk {
		r.other = true
	}
	if noSpace(err) {
		text := item.Repo + "@" + hub.Commit(item.Revision).Short()
		if item.NeededBytes > 0 {
			text += " (" + ui.Size(item.NeededBytes) + ")"
		}
		r.full = append(r.full, text)
	}
}

// promised is what a dry run has found to fit so far.
func (r *pullAllReport) promised() (bytes int64) {
	for _, one := range r.Pulled {
		if one.DryRun {
			bytes += one.PlannedBytes
		}
	}
	return bytes
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
	return r.verdict()
}

// verdict is the error, if any, that a report means for the exit code.
func (r *pullAllReport) verdict() error {
	if len(r.Failed) == 0 {
		return nil
	}
	err := &someFailedError{exitSome, fmt.Sprintf("pull-all: %s failed, as said above", ui.Plural(len(r.Failed), "item")), ""}
	if len(r.full) > 0 {
		err.message += "; no room for " + strings.Join(r.full, ", ")
		err.hint = "free some space, then run the same command again; it brings the rest"
	}
	if !r.other {
		err.code = exitDisk
	}
	return err
}

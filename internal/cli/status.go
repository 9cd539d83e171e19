package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/doctor"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

type statusOptions struct {
	*app
	localOnly bool
	noFolder  error // the bucket is a folder that is not there
}

func (a *app) statusCommand() *cobra.Command {
	o := &statusOptions{app: a}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the cache is doing, and whether it agrees with the bucket",
		Long: `Status shows where the cache is and who says so, how much it holds, how much of its budget that is, what could
be freed, and if a bucket is configured whether it can be reached and how the two compare.

The size is what the files take on the disk, as prune counts it: bytes that several revisions share count once.
Reclaimable is what prune --max-size 0 would free at this moment: detached revisions that were not used within a
day, blobs that no revision needs, and temporary files and leftovers that nobody writes any more. Where a bucket
is configured, prune evicts of these revisions only what the bucket holds, which status does not ask.

Files that are damaged or missing and refs that clients cannot follow are named with the command that helps.

A service that cannot be reached is no error of this command: it says so, in one line. A bucket whose folder does
not exist, or was a bucket and is empty now, is one.

EXIT STATUS
  0 said; 2 there is no such cache; 7 the bucket's folder is not there; see docs/exit-codes.md.`,
		Example: `  hf-cache-sync status
  hf-cache-sync status --local --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&o.localOnly, "local", false, "do not ask the bucket")
	return cmd
}

// statusReport is what status says, and the object of its --json.
type statusReport struct {
	Cache struct {
		Dir    string        `json:"dir"`
		Origin config.Origin `json:"origin"`
	} `json:"cache"`
	Repos     int   `json:"repos"`
	Revisions int   `json:"revisions"`
	Size      int64 `json:"size"`
	Budget    struct {
		Size   int64         `json:"size"`
		Origin config.Origin `json:"origin"`
	} `json:"budget"`
	Reclaimable struct {
		Size              int64 `json:"size"`
		DetachedRevisions int   `json:"detached_revisions"`
		DetachedSize      int64 `json:"detached_size"`
		OrphanBlobs       int   `json:"orphan_blobs"`
		OrphanSize        int64 `json:"orphan_size"`
		TemporaryFiles    int   `json:"temporary_files"`
		TemporarySize     int64 `json:"temporary_size"`
	} `json:"reclaimable"`
	Incomplete struct {
		Downloads int   `json:"downloads"`
		Size      int64 `json:"size"`
	} `json:"incomplete"`
	Damaged    int          `json:"damaged"` // files that verify has put aside and that are not back
	Missing    int          `json:"missing"` // files of snapshots whose bytes are gone
	BrokenRefs []jsonItem   `json:"broken_refs"`
	Problems   int          `json:"problems"`
	Bucket     bucketReport `json:"bucket"`

	broken []hfcache.BrokenFile
	refs   []hfcache.BrokenRef
}

// bucketReport is about the bucket.
type bucketReport struct {
	URL       string        `json:"url"` // empty if none is configured
	Origin    config.Origin `json:"origin"`
	Reachable bool          `json:"reachable"`
	Why       string        `json:"why"`     // nothing could be compared; empty if it could
	Broken    int           `json:"broken"`  // objects that cannot be read
	Compare   *diffCounts   `json:"compare"` // null if nothing could be compared

	summary string
}

func (o *statusOptions) run(ctx context.Context) (err error) {
	defer collectEarly()()
	where, catalog, unconfigured, err := o.statusCatalog()
	if err != nil {
		return err
	}
	cache, err := o.openCache(false)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := cache.Close(); err == nil {
			err = closeErr
		}
	}()
	inv, err := cache.ScanEach(ctx, nil, func(repo *hfcache.Repo) {
		for _, rev := range repo.Revisions {
			rev.Tree = shortTree(rev)
		}
	})
	if err != nil {
		return err
	}
	survey, err := cache.Survey(ctx, inv)
	if err != nil {
		return err
	}
	report, err := o.report(cache, inv, survey)
	if err != nil {
		return err
	}
	report.Bucket = bucketReport{URL: where.String(), Origin: where.Origin, Why: unconfigured}
	if where.Kind == 0 {
		report.Bucket.URL = ""
	}
	if catalog != nil {
		inv.DropAllButFiles() // the report has what it needs of the rest
		if err := o.compare(ctx, inv, catalog, &report.Bucket); err != nil {
			return err
		}
	}
	if o.json {
		err = o.printJSON(report)
	} else {
		err = o.say(report)
	}
	return errors.Join(err, o.noFolder)
}

// statusCatalog opens the bucket. If there is none, or none is wanted, why says so. What is wrong with the configuration is an error all the same.
func (o *statusOptions) statusCatalog() (where config.Remote, catalog *remote.Catalog, why string, err error) {
	where, err = config.ResolveRemote(o.remote, o.Env, o.file)
	switch {
	case errors.Is(err, config.ErrNoRemote):
		return config.Remote{}, nil, "no bucket is configured; give --remote, or run hf-cache-sync init", nil
	case err != nil:
		return config.Remote{}, nil, "", &usageError{err: err}
	case o.localOnly:
		return where, nil, "not asked (--local)", nil
	}
	catalog, err = o.readingCatalog()
	if isType[*noFolderError](err) {
		o.noFolder = err
	}
	if err != nil { // such as a folder that is a file
		return where, nil, err.Error(), nil //nolint:nilerr // it is the report's content
	}
	return where, catalog, "", nil
}

// shortTree stands for the listing of a revision, which takes more memory than the files: all that is still asked is whether the files that it names are there.
func shortTree(rev *hfcache.Revision) manifest.Tree {
	if rev.Tree != nil && len(rev.Files) >= len(rev.Tree) {
		return manifest.Tree{}
	}
	return nil
}

func (o *statusOptions) report(cache *hfcache.Cache, inv *hfcache.Inventory, survey *hfcache.Survey) (*statusReport, error) {
	_, origin, err := config.CacheDir(o.cacheDir, o.Env, o.Home, o.file)
	if err != nil {
		return nil, &usageError{err: err}
	}
	keep, err := o.keepers(nil)
	if err != nil {
		return nil, err
	}
	use := plan.NewUsage(inv, survey, o.prunePolicy(cache, pruneRules{grace: age(defaultGrace), keep: keep}))
	r := &statusReport{Repos: use.Repos, Revisions: use.Revisions, Size: use.Total, Problems: len(inv.Problems)}
	r.Cache.Dir, r.Cache.Origin = inv.Dir, origin
	r.broken, r.refs = inv.BrokenFiles(), inv.BrokenRefs(o.Now())
	r.Damaged, r.Missing = count(r.broken)
	r.BrokenRefs = brokenRefItems(r.refs)
	r.Budget.Size, r.Budget.Origin = o.file.MaxLocal()
	r.Reclaimable.Size = use.Reclaimable()
	r.Reclaimable.DetachedRevisions, r.Reclaimable.DetachedSize = use.Detached, use.DetachedBytes
	r.Reclaimable.OrphanBlobs, r.Reclaimable.OrphanSize = use.Orphans, use.OrphanBytes
	r.Reclaimable.TemporaryFiles, r.Reclaimable.TemporarySize = use.Temps, use.TempBytes
	r.Incomplete.Downloads, r.Incomplete.Size = use.Incomplete, use.IncompleteBytes
	return r, nil
}

// patience is how long status waits for a bucket's first answer. It is asked once: somebody sits and waits, and a bucket that needs retries is worth knowing about.
const patience = 10 * time.Second

// compare asks the bucket. Only an interrupt is an error.
func (o *statusOptions) compare(ctx context.Context, inv *hfcache.Inventory, catalog *remote.Catalog, report *bucketReport) error {
	contents, err := o.ask(ctx, catalog)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		report.Why = err.Error()
		return nil //nolint:nilerr // it is the report's content
	}
	d := plan.NewDiff(inv, contents)
	counts := countsJSON(d)
	report.Reachable, report.Compare, report.Broken, report.summary = true, &counts, len(contents.Broken), syncSummary(d)
	return nil
}

func (o *statusOptions) ask(ctx context.Context, catalog *remote.Catalog) (*remote.Contents, error) {
	once := catalog.Store
	if wrapper, ok := once.(store.Unwrapper); ok {
		once = wrapper.Unwrap()
	}
	first, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %s", ui.Duration(patience)))
	defer cancel()
	for _, err := range once.List(first, manifest.ManifestPrefix) {
		if err != nil && first.Err() != nil {
			return nil, context.Cause(first)
		}
		if err != nil {
			return nil, err
		}
		break
	}
	return o.readBucket(ctx, catalog, nil)
}

func (o *statusOptions) say(r *statusReport) error {
	lines := [][2]string{
		{"cache", fmt.Sprintf("%s (%s)", r.Cache.Dir, from(r.Cache.Origin))},
		{"content", ui.Plural(r.Repos, "repository") + ", " + ui.Plural(r.Revisions, "revision")},
		{"size", fmt.Sprintf("%s (%s)", ui.Gauge(r.Size, r.Budget.Size), from(r.Budget.Origin))},
		{"reclaimable", fmt.Sprintf("%s: %s (%s), %s (%s), %s (%s)", ui.Size(r.Reclaimable.Size),
			ui.Plural(r.Reclaimable.DetachedRevisions, "detached revision"), ui.Size(r.Reclaimable.DetachedSize),
			ui.Plural(r.Reclaimable.OrphanBlobs, "orphan blob"), ui.Size(r.Reclaimable.OrphanSize),
			ui.Plural(r.Reclaimable.TemporaryFiles, "temporary file"), ui.Size(r.Reclaimable.TemporarySize))},
		{"incomplete", fmt.Sprintf("%s (%s)", ui.Plural(r.Incomplete.Downloads, "download"), ui.Size(r.Incomplete.Size))},
	}
	lines = append(lines, o.brokenLines(r)...)
	if r.Problems > 0 {
		lines = append(lines, [2]string{"problems", fmt.Sprintf("%d; hf-cache-sync list names them", r.Problems)})
	}
	bucket := "none"
	if r.Bucket.URL != "" {
		bucket = fmt.Sprintf("%s (%s)", r.Bucket.URL, from(r.Bucket.Origin))
	}
	if r.Bucket.Why != "" {
		bucket += ": " + r.Bucket.Why
	} else {
		bucket += ", reachable"
	}
	lines = append(lines, [2]string{"bucket", bucket})
	if r.Bucket.Reachable {
		lines = append(lines, [2]string{"compared", r.Bucket.summary})
	}
	if r.Bucket.Broken > 0 {
		lines = append(lines, [2]string{"", ui.Plural(r.Bucket.Broken, "object") + " in the bucket cannot be read; hf-cache-sync list --remote names them"})
	}
	for _, l := range lines {
		if err := o.print("%-12s %s", l[0], ui.Clean(l[1])); err != nil {
			return err
		}
	}
	return nil
}

// brokenLines say what clients cannot load, and what to type.
func (o *statusOptions) brokenLines(r *statusReport) (lines [][2]string) {
	for _, kind := range []struct {
		damaged bool
		what    string
		n       int
	}{{true, "damaged", r.Damaged}, {false, "missing", r.Missing}} {
		if i := slices.IndexFunc(r.broken, func(f hfcache.BrokenFile) bool { return f.Damaged == kind.damaged }); i >= 0 {
			f := r.broken[i]
			lines = append(lines, [2]string{kind.what, fmt.Sprintf("%s; first %s of %s@%s: %s; %s",
				ui.Plural(kind.n, "file"), f.Path, f.Repo, f.Commit.Short(), f.Why, doctor.FilesHint(f.Repo, f.Commit, o.hasBucket()))})
		}
	}
	const most = 3
	for i, ref := range r.refs {
		if i == most {
			lines = append(lines, [2]string{"", fmt.Sprintf("and %d more; hf-cache-sync verify names them", len(r.refs)-most)})
			break
		}
		lines = append(lines, [2]string{"broken ref", fmt.Sprintf("%s: %s; %s", ref.Place(), ref.Why, doctor.RefHint(ref, o.hasBucket()))})
	}
	return lines
}

// from says where a value came from.
func from(o config.Origin) string {
	if o == config.Default {
		return "default"
	}
	return "from " + string(o)
}

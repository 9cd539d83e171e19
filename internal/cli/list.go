package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// configured is the value of a bare "list --remote": the bucket that is configured elsewhere.
const configured = "configured"

type listOptions struct {
	*app
	inBucket         string // empty for the local cache
	include, exclude []string
}

func (a *app) listCommand() *cobra.Command {
	o := &listOptions{app: a}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is in the cache, or with --remote in the bucket",
		Long: `List shows the revisions in the local cache, or with --remote those in the bucket. Sizes are of all files of a
revision; files that revisions share are counted in each of them, and once in the total.

EXIT STATUS
  0 listed, also if there is nothing; 3 some manifests in the bucket cannot be read; see docs/exit-codes.md.`,
		Example: `  hf-cache-sync list
  hf-cache-sync list --remote
  hf-cache-sync list --remote=s3://team-hf-cache --include 'org/*'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 { // "list --remote s3://bucket": a bare --remote leaves the URL behind
				if o.inBucket != configured || !strings.Contains(args[0], "://") {
					return &usageError{fmt.Errorf("list takes no argument %q", args[0]), "try: hf-cache-sync list --help"}
				}
				o.inBucket = args[0]
			}
			filter, err := parseFilter(o.include, o.exclude)
			if err != nil {
				return err
			}
			wants := func(r hub.Repo) bool { return filter.Wants(r.String(), r.Name) }
			if o.inBucket == "" {
				return o.local(cmd.Context(), wants)
			}
			return o.bucket(cmd.Context(), wants)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.inBucket, "remote", "", "list the bucket; a URL may follow after =")
	flags.Lookup("remote").NoOptDefVal = configured
	flags.StringArrayVar(&o.include, "include", nil, "only repositories that match this glob (may be repeated)")
	flags.StringArrayVar(&o.exclude, "exclude", nil, "no repositories that match this glob (may be repeated)")
	return cmd
}

// listRow is one revision, and an element of list --json.
type listRow struct {
	Repo     string   `json:"repo"`
	RepoType string   `json:"repo_type"`
	Commit   string   `json:"commit"`
	Refs     []string `json:"refs"`
	Files    int      `json:"files"`
	Size     int64    `json:"size"`
	Complete string   `json:"complete"` // "yes", "no" or "unknown"

	id hub.Repo
}

func completeWord(c manifest.Completeness) string {
	return map[manifest.Completeness]string{manifest.Complete: "yes", manifest.Partial: "no", manifest.Unknown: "unknown"}[c]
}

func (o *listOptions) local(ctx context.Context, wants func(hub.Repo) bool) (err error) {
	cache, err := o.openCache(false)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := cache.Close(); err == nil {
			err = closeErr
		}
	}()
	inv, err := cache.Scan(ctx, wants)
	if err != nil {
		return err
	}
	o.sayProblems(inv.Problems)
	rows := []listRow{}
	distinct := map[string]int64{} // by where the bytes are
	for _, repo := range inv.Repos {
		for _, rev := range repo.Revisions {
			row := listRow{
				Repo: repo.ID.Name, RepoType: repo.ID.Type.String(), Commit: string(rev.Commit), Refs: []string{},
				Files: len(rev.Files), Complete: completeWord(localCompleteness(rev)), id: repo.ID,
			}
			for _, ref := range repo.Refs {
				if ref.Commit == rev.Commit {
					row.Refs = append(row.Refs, string(ref.Name))
				}
			}
			for _, f := range rev.Files {
				row.Size += f.Size
				distinct[f.Bytes] = f.Size
			}
			rows = append(rows, row)
		}
	}
	return o.show(rows, total(distinct))
}

func localCompleteness(rev *hfcache.Revision) manifest.Completeness {
	if rev.Tree == nil {
		return manifest.Unknown
	}
	listed := 0
	for _, f := range rev.Files {
		if _, ok := rev.Tree[f.Path]; ok {
			listed++
		}
	}
	if listed < len(rev.Tree) {
		return manifest.Partial
	}
	return manifest.Complete
}

func total[K comparable](sizes map[K]int64) (sum int64) {
	for _, size := range sizes {
		sum += size
	}
	return sum
}

func (o *listOptions) bucket(ctx context.Context, wants func(hub.Repo) bool) error {
	if o.inBucket != configured {
		o.remote = o.inBucket
	}
	catalog, err := o.catalog(nil, nil)
	if err != nil {
		return err
	}
	read := &bucketReader{Catalog: catalog, refs: map[manifest.Key][]string{}}
	if err := read.all(ctx); err != nil {
		return err
	}
	rows := []listRow{}
	distinct := map[hub.BlobID]int64{}
	for _, entry := range read.entries {
		if !wants(entry.Repo) {
			continue
		}
		row := listRow{
			Repo: entry.Repo.Name, RepoType: entry.Repo.Type.String(), Commit: string(entry.Commit), Refs: []string{},
			Files: len(entry.Files), Complete: completeWord(entry.Completeness()), id: entry.Repo,
		}
		row.Refs = append(row.Refs, read.refs[entry.Key()]...)
		slices.Sort(row.Refs)
		for _, f := range entry.Files {
			row.Size += f.Size
			distinct[f.Blob] = f.Size
		}
		rows = append(rows, row)
	}
	if err := o.show(rows, total(distinct)); err != nil {
		return err
	}
	for _, err := range read.dangling {
		o.note("note: %v", err)
	}
	for _, err := range read.broken {
		o.warn("failed: %v", err)
	}
	if len(read.broken) > 0 {
		return &someFailedError{exitSome, ui.Plural(len(read.broken), "object") + " in the bucket cannot be read, as said above", ""}
	}
	return nil
}

// bucketReader reads all manifests and refs of a bucket, many at once.
type bucketReader struct {
	*remote.Catalog

	mu      sync.Mutex // guards what follows
	entries []*remote.Entry
	refs    map[manifest.Key][]string
	broken  []error

	dangling []error // refs that lead to nothing: nothing of theirs is to be listed
}

func (b *bucketReader) all(ctx context.Context) error {
	const atOnce = 32
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(atOnce)
	for object, err := range b.Revisions(ctx, "") {
		if err != nil {
			return errors.Join(err, work.Wait())
		}
		work.Go(func() error {
			entry, err := b.ReadRevision(ctx, object)
			return b.take(ctx, err, func() { b.entries = append(b.entries, entry) })
		})
	}
	for object, err := range b.RefNames(ctx) {
		if err != nil {
			return errors.Join(err, work.Wait())
		}
		work.Go(func() error {
			entry, err := b.Follow(ctx, object)
			return b.take(ctx, err, func() { b.refs[entry.Key()] = append(b.refs[entry.Key()], string(object.Name)) })
		})
	}
	err := work.Wait()
	slices.SortFunc(b.entries, func(x, y *remote.Entry) int {
		if c := x.Repo.Compare(y.Repo); c != 0 {
			return c
		}
		return strings.Compare(string(x.Commit), string(y.Commit))
	})
	return err
}

// take stores what was read, or remembers what is broken; it returns what concerns every object.
func (b *bucketReader) take(ctx context.Context, err error, store func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		store()
	case ctx.Err() != nil || stopsAll(ctx, err):
		return err
	case isType[*remote.DanglingRefError](err):
		b.dangling = append(b.dangling, err)
	default:
		b.broken = append(b.broken, err)
	}
	return nil
}

func (o *listOptions) show(rows []listRow, bytes int64) error {
	if o.json {
		return o.printJSON(struct {
			Revisions []listRow `json:"revisions"`
			Size      int64     `json:"size"`
		}{rows, bytes})
	}
	repos := map[hub.Repo]bool{}
	var table [][]string
	for _, r := range rows {
		repos[r.id] = true
		table = append(table, []string{
			r.id.String(), r.Commit[:12], ui.Plural(r.Files, "file"), ui.Size(r.Size), r.Complete, strings.Join(r.Refs, " "),
		})
	}
	if len(table) > 0 {
		if err := ui.Table(o.Stdout, []string{"ID", "REVISION", "FILES", "SIZE", "COMPLETE", "REFS"}, table, map[int]bool{2: true, 3: true}); err != nil {
			return err
		}
	}
	return o.print("%s, %s, %s", ui.Plural(len(repos), "repository"), ui.Plural(len(rows), "revision"), ui.Size(bytes))
}

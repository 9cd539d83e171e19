package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/doctor"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/query"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// configured is the value of a bare "list --remote": the bucket that is configured elsewhere.
const configured = "configured"

type listOptions struct {
	*app
	inBucket         string // empty for the local cache
	revisions        bool
	include, exclude []string
	filters          []string
	sort             string
	limit            int

	wanted plan.Filter
	query  *query.Query
}

func (a *app) listCommand() *cobra.Command {
	o := &listOptions{app: a}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is in the cache, or with --remote in the bucket",
		Long: `List shows the repositories in the local cache, or with --remote those in the bucket; with --revisions each of
their commits. Files that revisions share are counted once, also in the total; with --revisions they are
counted in each revision, and once in the total. A size is that of the content, as "hf cache ls" has it; what the
cache takes on the disk, garbage included, is what status and prune count.

Filters, sorting and limits are those of "hf cache ls":

  --filter 'size>1gb'      also !=, <, >=, <= and =; sizes are decimal
  --filter 'accessed>30d'  ages in s, m, h, d, w, mo or y; also modified
  --filter type=dataset    also !=; model, dataset, space or kernel
  --filter refs=main       also !=

Put a filter with < or > in quotes, or the shell takes it for a redirection. All of several filters must
hold. A repository was last accessed when one of its files was last read or written, as far as the
file system tells. A bucket does not know when something was last read; there, "modified" is when the
revision was last pushed.

A revision of which files are missing, or were damaged and are quarantined by verify, says so in the column
COMPLETE and in a note.

With --quiet only ids are printed, one a line: org/name, and with --revisions org/name@commit.

EXIT STATUS
  0 listed, also if there is nothing; 3 some manifests in the bucket cannot be read;
  4, 7 no permission, no connection; see docs/exit-codes.md.`,
		Example: `  hf-cache-sync list
  hf-cache-sync list --filter 'size>1gb' --filter 'accessed>30d' --sort accessed:asc
  hf-cache-sync list --remote --revisions
  hf-cache-sync list --remote=s3://team-hf-cache --include 'org/*'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args); err != nil {
				return err
			}
			if o.inBucket == "" {
				return o.local(cmd.Context())
			}
			return o.bucket(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.inBucket, "remote", "", "list the bucket; a URL may follow after =")
	flags.Lookup("remote").NoOptDefVal = configured
	flags.BoolVar(&o.revisions, "revisions", false, "a line for each revision instead of each repository")
	flags.StringArrayVar(&o.include, "include", nil, "only repositories that match this glob (may be repeated)")
	flags.StringArrayVar(&o.exclude, "exclude", nil, "no repositories that match this glob (may be repeated)")
	flags.StringArrayVarP(&o.filters, "filter", "f", nil, "only what satisfies this, such as 'size>1gb' (may be repeated)")
	flags.StringVar(&o.sort, "sort", "", "accessed, modified, name or size, perhaps with :asc or :desc")
	flags.IntVar(&o.limit, "limit", 0, "at most this many lines (0: all)")
	return cmd
}

func (o *listOptions) check(args []string) (err error) {
	const hint = "try: hf-cache-sync list --help"
	if len(args) > 0 { // "list --remote s3://bucket": a bare --remote leaves the URL behind
		if o.inBucket != configured || !strings.Contains(args[0], "://") {
			return &usageError{fmt.Errorf("list takes no argument %q", args[0]), hint}
		}
		o.inBucket = args[0]
	}
	if o.wanted, err = parseFilter(o.include, o.exclude); err != nil {
		return err
	}
	if o.query, err = query.Parse(o.filters, o.sort, o.limit, o.Now()); err != nil {
		return &usageError{err, hint}
	}
	if o.inBucket != "" && o.query.Uses("accessed") {
		return &usageError{errors.New("a bucket does not know when something was last accessed"), `use "modified" with --remote`}
	}
	return nil
}

func (o *listOptions) wants(r hub.Repo) bool { return o.wanted.Wants(r.String(), r.Name) }

func (o *listOptions) local(ctx context.Context) (err error) {
	cache, err := o.openCache(false)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := cache.Close(); err == nil {
			err = closeErr
		}
	}()
	rows := cachedRows{of: cachedRepo}
	if o.revisions {
		rows.of = cachedRevisions
	}
	inv, err := cache.ScanEach(ctx, o.wants, rows.take)
	if err != nil {
		return err
	}
	o.sayProblems(inv.Problems)
	o.sayBrokenFiles(rows.sorted())
	return o.show(rows.sorted())
}

// sayBrokenFiles names the rows with files that clients look for in vain.
func (o *listOptions) sayBrokenFiles(rows []listRow) {
	for _, r := range rows {
		hint := doctor.FilesHint(r.repo, r.broken, o.hasBucket())
		if r.damaged > 0 {
			o.note("note: %s: %s damaged, quarantined and not back; %s", r.id(), ui.Plural(r.damaged, "file"), hint)
		}
		if r.missing > 0 {
			o.note("note: %s: %s missing; %s", r.id(), ui.Plural(r.missing, "file"), hint)
		}
	}
}

func (o *listOptions) bucket(ctx context.Context) error {
	if o.inBucket != configured {
		o.remote = o.inBucket
	}
	catalog, err := o.readingCatalog()
	if err != nil {
		return err
	}
	contents, err := o.readBucket(ctx, catalog, o.wants)
	if err != nil {
		return err
	}
	rows := pushedRepos(contents)
	if o.revisions {
		rows = pushedRevisions(contents)
	}
	if err := o.show(rows); err != nil {
		return err
	}
	return o.sayBroken(contents)
}

// show prints what is left of the rows after the filters.
func (o *listOptions) show(rows []listRow) error {
	rows = query.Apply(o.query, rows, listRow.ask)
	switch {
	case o.json:
		return o.showJSON(rows)
	case o.quiet:
		for _, r := range rows {
			if err := o.print("%s", ui.Clean(r.id())); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) > 0 {
		if err := o.showTable(rows); err != nil {
			return err
		}
	}
	repos, revisions := map[hub.Repo]bool{}, 0
	for _, r := range rows {
		repos[r.repo] = true
		revisions += r.revisions
	}
	return o.print("%s, %s, %s", ui.Plural(len(repos), "repository"), ui.Plural(revisions, "revision"), ui.Size(totalSize(rows)))
}

func (o *listOptions) showTable(rows []listRow) error {
	header, right := []string{"ID", "SIZE", "LAST ACCESSED", "LAST MODIFIED", "REFS"}, map[int]bool{1: true}
	switch {
	case o.revisions:
		header, right = []string{"ID", "REVISION", "FILES", "SIZE", "COMPLETE", "LAST MODIFIED", "REFS"}, map[int]bool{2: true, 3: true}
	case o.inBucket != "":
		header = []string{"ID", "SIZE", "LAST MODIFIED", "REFS"}
	}
	table := make([][]string, 0, len(rows))
	for _, r := range rows {
		var line []string
		for _, column := range header {
			line = append(line, r.cell(column, o.Now()))
		}
		table = append(table, line)
	}
	return ui.FitTable(o.Stdout, ui.Width(o.Stdout), header, table, right)
}

func (o *listOptions) showJSON(rows []listRow) error {
	size := totalSize(rows)
	if o.revisions {
		revisions := []jsonRevision{}
		for _, r := range rows {
			revisions = append(revisions, r.jsonRevision())
		}
		return o.printJSON(struct {
			Revisions []jsonRevision `json:"revisions"`
			Size      int64          `json:"size"`
		}{revisions, size})
	}
	repos := []jsonRepo{}
	for _, r := range rows {
		repos = append(repos, r.jsonRepo())
	}
	return o.printJSON(struct {
		Repos []jsonRepo `json:"repos"`
		Size  int64      `json:"size"`
	}{repos, size})
}

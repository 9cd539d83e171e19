package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

type diffOptions struct {
	*app
	include, exclude []string
	repoType         string
	exitCode         bool

	selected map[hub.Repo][]string // from the arguments, with the revisions that are meant; no revision means all. Empty means all repositories.
	filter   plan.Filter
}

func (a *app) diffCommand() *cobra.Command {
	o := &diffOptions{app: a}
	cmd := &cobra.Command{
		Use:   "diff [repo...]",
		Short: "Compare the cache with the bucket",
		Long: `Diff says of every revision in the cache or the bucket how the two compare:

  in-sync      both have the same files
  local-only   only the cache has it; push would upload it
  remote-only  only the bucket has it; pull would download it
  partial      both know it, and one of them lacks files
  conflict     both have a file, and not with the same content

and which refs do not name the same commit. A repository may be followed by @ and a commit, the beginning
of one, or a ref. Nothing is hashed: contents are compared by the digests that the cache and the bucket
know, and where they know none in common by size, which is said.

With --quiet only what differs is printed, one org/name@commit a line.

EXIT STATUS
  0 compared, whatever came out; 10 with --exit-code if anything differs; 3 some objects in the bucket cannot
  be read; 5 no such repository or revision; 4, 7 no permission, no connection; see docs/exit-codes.md.`,
		Example: `  hf-cache-sync diff
  hf-cache-sync diff org/name datasets/org/name@v1.0
  hf-cache-sync diff --include 'org/*' --exit-code --quiet`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.include, "include", nil, "only repositories that match this glob (may be repeated)")
	flags.StringArrayVar(&o.exclude, "exclude", nil, "no repositories that match this glob (may be repeated)")
	flags.StringVar(&o.repoType, "repo-type", "", "type of the repositories named without one: model, dataset, space, kernel")
	flags.BoolVar(&o.exitCode, "exit-code", false, "end with 10 if anything differs")
	return cmd
}

func (o *diffOptions) check(args []string) (err error) {
	if o.filter, err = parseFilter(o.include, o.exclude); err != nil {
		return err
	}
	o.selected = map[hub.Repo][]string{}
	for _, arg := range args {
		repo, revision, err := parseRepoArg(arg, o.repoType)
		if err != nil {
			return err
		}
		before, named := o.selected[repo]
		switch {
		case revision == "" || (named && len(before) == 0):
			o.selected[repo] = nil // the whole repository includes each of its revisions
		default:
			o.selected[repo] = append(before, revision)
		}
	}
	return nil
}

func (o *diffOptions) wants(repo hub.Repo) bool {
	_, named := o.selected[repo]
	return (named || len(o.selected) == 0) && o.filter.Wants(repo.String(), repo.Name)
}

func (o *diffOptions) run(ctx context.Context) (err error) {
	defer collectEarly()()
	catalog, err := o.readingCatalog()
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
	inv, contents, err := o.readBoth(ctx, cache, catalog, o.wants)
	if err != nil {
		return err
	}
	d := plan.NewDiff(inv, contents)
	if err := o.narrow(d); err != nil {
		return errors.Join(err, o.sayBroken(contents))
	}
	o.sayProblems(inv.Problems)
	if err := o.show(d); err != nil {
		return err
	}
	if err := o.sayBroken(contents); err != nil {
		return err
	}
	if o.exitCode && !d.Empty() {
		return &someFailedError{exitDiffers, "the cache and the bucket differ", "hf-cache-sync push uploads what the bucket lacks, pull and pull-all download what the cache lacks"}
	}
	return nil
}

// collectEarly has garbage collected when it is a tenth of what is kept, and not as much again, until it is undone. It is for commands that keep all of a cache and all of a bucket:
// of large ones this is what decides how much memory they take, for little more time.
func collectEarly() (undo func()) {
	const percent = 10
	before := debug.SetGCPercent(percent)
	return func() { debug.SetGCPercent(before) }
}

// readBoth reads the cache and the bucket at the same time.
func (a *app) readBoth(
	ctx context.Context, cache *hfcache.Cache, catalog *remote.Catalog, wants func(hub.Repo) bool,
) (inv *hfcache.Inventory, contents *remote.Contents, err error) {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() (err error) {
		inv, err = cache.ScanFiles(ctx, wants)
		return err
	})
	work.Go(func() (err error) {
		contents, err = a.readBucket(ctx, catalog, wants)
		return err
	})
	return inv, contents, work.Wait()
}

// narrow leaves the revisions that the arguments name, and makes sure that each of them is somewhere.
func (o *diffOptions) narrow(d *plan.Diff) error {
	met := map[string]bool{}
	d.Revisions = slices.DeleteFunc(d.Revisions, func(r plan.RevisionDiff) bool {
		wanted := o.selected[r.Key.Repo]
		if len(wanted) == 0 {
			met[r.Key.Repo.String()] = true
			return false
		}
		keep := false
		for _, w := range wanted {
			ref := hub.Ref(w)
			if strings.HasPrefix(string(r.Key.Commit), w) || slices.Contains(r.LocalRefs, ref) || slices.Contains(r.RemoteRefs, ref) {
				keep, met[r.Key.Repo.String()+"@"+w] = true, true
			}
		}
		return !keep
	})
	kept := map[hub.Commit]bool{}
	for _, r := range d.Revisions {
		kept[r.Key.Commit] = true
	}
	d.Refs = slices.DeleteFunc(d.Refs, func(r plan.RefDiff) bool {
		return len(o.selected[r.Key.Repo]) > 0 && !kept[r.Local] && !kept[r.Remote]
	})
	var missing []string
	for repo, wanted := range o.selected {
		ids := []string{repo.String()}
		if len(wanted) > 0 {
			ids = nil
			for _, w := range wanted {
				ids = append(ids, repo.String()+"@"+w)
			}
		}
		for _, id := range ids {
			if !met[id] {
				missing = append(missing, id)
			}
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return &someFailedError{
			exitNotFound, fmt.Sprintf("diff %s: neither the cache nor the bucket has anything of it", strings.Join(missing, " ")),
			"hf-cache-sync list shows what is in the cache, list --remote what is in the bucket",
		}
	}
	return nil
}

func (o *diffOptions) show(d *plan.Diff) error {
	switch {
	case o.json:
		return o.printJSON(diffJSON(d))
	case o.quiet:
		for _, r := range d.Revisions {
			if r.State == plan.InSync {
				continue
			}
			if err := o.print("%s@%s", r.Key.Repo, r.Key.Commit); err != nil {
				return err
			}
		}
		return nil
	}
	width := ui.Width(o.Stdout)
	if len(d.Revisions) > 0 {
		var table [][]string
		for _, r := range d.Revisions {
			table = append(table, []string{r.Key.Repo.String(), r.Key.Commit.Short(), r.State.String(), ui.Size(r.Bytes), diffDetail(r)})
		}
		if err := ui.FitTable(o.Stdout, width, []string{"ID", "REVISION", "STATE", "SIZE", "DETAIL"}, table, map[int]bool{3: true}); err != nil {
			return err
		}
	}
	if len(d.Refs) > 0 {
		var table [][]string
		for _, r := range d.Refs {
			table = append(table, []string{r.Key.Repo.String(), string(r.Key.Name), commitOrNone(r.Local), commitOrNone(r.Remote)})
		}
		if err := o.print(""); err != nil {
			return err
		}
		if err := ui.FitTable(o.Stdout, width, []string{"ID", "REF", "LOCAL", "BUCKET"}, table, nil); err != nil {
			return err
		}
		if err := o.print(""); err != nil {
			return err
		}
	}
	return o.print("%s", syncSummary(d))
}

func commitOrNone(c hub.Commit) string {
	if c == "" {
		return "none"
	}
	return c.Short()
}

// diffDetail says what lies behind the state of a revision.
func diffDetail(r plan.RevisionDiff) string {
	var parts []string
	if r.State == plan.Partial || r.State == plan.Conflict {
		for _, side := range []struct {
			name string
			lack plan.Lack
		}{{"local", r.LocalLacks}, {"bucket", r.RemoteLacks}} {
			if n := len(side.lack.Files); n > 0 {
				parts = append(parts, fmt.Sprintf("%s lacks %s (%s)", side.name, ui.Plural(n, "file"), ui.Size(side.lack.Bytes)))
			}
		}
	}
	for i, c := range r.Conflicts {
		const shown = 3
		if i == shown {
			parts = append(parts, fmt.Sprintf("and %d more", len(r.Conflicts)-shown))
			break
		}
		parts = append(parts, fmt.Sprintf("%s is %s here and %s in the bucket", c.Path, conflictSide(c.Local.Blob, c.Local.Size), conflictSide(c.Remote.Blob, c.Remote.Size)))
	}
	if n := len(r.BySize); n > 0 {
		parts = append(parts, ui.Plural(n, "file")+" compared by size only")
	}
	if r.Unproven {
		parts = append(parts, "pushed by the Python tool, which does not check that the blobs are there")
	}
	return strings.Join(parts, "; ")
}

func conflictSide(id hub.BlobID, size int64) string {
	const digits = 12
	if len(id) < digits {
		return "of " + ui.Plural(int(size), "byte")
	}
	return fmt.Sprintf("%s (%s)", id[:digits], ui.Size(size))
}

// syncSummary is "7 revisions in sync, 2 local only, 5 remote only, 1 partial".
func syncSummary(d *plan.Diff) string {
	counts := d.Counts()
	parts := []string{ui.Plural(counts[plan.InSync], "revision") + " in sync"}
	for _, s := range []struct {
		state plan.State
		words string
	}{{plan.LocalOnly, "local only"}, {plan.RemoteOnly, "remote only"}, {plan.Partial, "partial"}, {plan.Conflict, "in conflict"}} {
		if n := counts[s.state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s.words))
		}
	}
	switch n := len(d.Refs); n {
	case 0:
	case 1:
		parts = append(parts, "1 ref differs")
	default:
		parts = append(parts, fmt.Sprintf("%d refs differ", n))
	}
	return strings.Join(parts, ", ")
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/doctor"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

type verifyOptions struct {
	*app
	inBucket         string // empty for the local cache
	from             string
	repair           bool
	dryRun           bool
	workers          int
	include, exclude []string
	repoType         string

	selected []hub.Repo // from the arguments; empty means all
	filter   plan.Filter
}

func (a *app) verifyCommand() *cobra.Command {
	o := &verifyOptions{app: a}
	cmd := &cobra.Command{
		Use:   "verify [repo...]",
		Short: "Read every byte again and compare it with its hash",
		Long: `Verify hashes the files of the local cache, each once, and compares them with what their names and the
listings of the commits say. A file that neither tells about cannot be checked, and is named.

A damaged file is put aside, never deleted: it is moved to .hf-cache-sync/quarantine in its repository's
folder, beside a record of what was where, and its names in snapshots are removed, so that clients see a
missing file instead of a wrong one. The payload of a shared blob store stays where it is until no
repository of the cache links to it any more. A file that a client is working on is left alone.
A file that was put aside counts as damaged in every later run, until good bytes are back, by whatever means, or
the revision is removed. A link whose bytes are gone is a missing file. With --repair good copies of both are
fetched from the bucket, and refs that clients cannot follow because of a newline are written again; --from names
the bucket if it is not the configured one.

With --remote the bucket is verified: its manifests are read, and every blob that they name is downloaded
once and hashed, which services may charge for; --dry-run says how much it would be. Nothing is changed in
the bucket, unless --repair is given: then good copies from the local cache are uploaded.

For the cache --dry-run reads everything and moves nothing.

EXIT STATUS
  0 all is good, or was repaired; 3 some files could not be read or are missing, or a ref cannot be followed;
  5 not in the cache, or not in the bucket; 6 some files are damaged, now or since an earlier run, or missing in
  the bucket; 4, 7, 9 no permission, no connection, no space; see docs/exit-codes.md.`,
		Example: `  hf-cache-sync verify
  hf-cache-sync verify org/name --repair
  hf-cache-sync verify --remote --dry-run
  hf-cache-sync verify --remote=s3://team-hf-cache org/name`,
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
	flags.StringVar(&o.inBucket, "remote", "", "verify the bucket; a URL may follow after =")
	flags.Lookup("remote").NoOptDefVal = configured
	flags.StringVar(&o.from, "from", "", "the bucket that --repair fetches from, if not the configured one")
	flags.BoolVar(&o.repair, "repair", false, "fetch what is damaged from the bucket; with --remote, upload it from the cache")
	flags.BoolVar(&o.dryRun, "dry-run", false, "change nothing; with --remote, read no blobs either, and say how much there is to read")
	flags.IntVar(&o.workers, "workers", 0, "files hashed at once; with --remote, large blobs read at once (0: as many as there are processors, and 8)")
	flags.StringArrayVar(&o.include, "include", nil, "only repositories that match this glob (may be repeated)")
	flags.StringArrayVar(&o.exclude, "exclude", nil, "no repositories that match this glob (may be repeated)")
	flags.StringVar(&o.repoType, "repo-type", "", "type of the repositories named without one: model, dataset, space, kernel")
	return cmd
}

func (o *verifyOptions) check(args []string) (err error) {
	if o.workers != 0 {
		if err := checkWorkers(o.workers); err != nil {
			return err
		}
	}
	if o.filter, err = parseFilter(o.include, o.exclude); err != nil {
		return err
	}
	if o.inBucket == configured && len(args) > 0 && isBucketURL(args[0]) { // "verify --remote s3://bucket": a bare --remote leaves the URL behind
		o.inBucket, args = args[0], args[1:]
	}
	switch {
	case o.from != "" && o.inBucket != "":
		return usagef("--from is for repairing the cache; --remote names the bucket that is verified")
	case o.from != "" && !o.repair:
		return usagef("--from is for --repair, which is not given")
	case o.from != "":
		o.remote = o.from
	case o.inBucket != "" && o.inBucket != configured:
		o.remote = o.inBucket
	}
	for _, arg := range args {
		repo, revision, err := parseRepoArg(arg, o.repoType)
		if err != nil {
			return err
		}
		if revision != "" {
			return usagef("verify %s: whole repositories are verified, without a revision", arg)
		}
		o.selected = append(o.selected, repo)
	}
	return nil
}

func isBucketURL(arg string) bool {
	return strings.HasPrefix(arg, "s3://") || strings.HasPrefix(arg, "file://")
}

func (o *verifyOptions) wants(repo hub.Repo) bool {
	return (len(o.selected) == 0 || slices.Contains(o.selected, repo)) && o.filter.Wants(repo.String(), repo.Name)
}

// openVerify opens the cache, and the bucket only if it will be asked: most who verify have nothing to do with it.
func (o *verifyOptions) openVerify() (*session, error) {
	options := engine.Options{Workers: o.workers}
	if o.repair && !o.dryRun {
		return o.open("verifying", useExisting, options)
	}
	cache, err := o.openCache(false)
	if err != nil {
		return nil, err
	}
	progress := ui.NewProgress(o.Stderr, o.progressMode(), o.Now)
	progress.Verb("verifying")
	o.screen.Store(progress)
	sink := event.Sink(progress)
	if o.events != nil {
		sink = o.events
	}
	return &session{progress: progress, app: o.app, Engine: &engine.Engine{Cache: cache, Events: o.watched(sink), Options: options}}, nil
}

func (o *verifyOptions) local(ctx context.Context) (err error) {
	s, err := o.openVerify()
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.close(); err == nil {
			err = closeErr
		}
	}()
	watch := newStopwatch(o.Now)
	s.phase("scanning the cache")
	inv, err := s.Cache.Scan(ctx, o.wants)
	if err != nil {
		return err
	}
	if err := o.known(inv); err != nil {
		return err
	}
	p := s.PrepareVerify(inv)
	r := &verifyReport{
		DryRun: o.dryRun, inv: inv, plan: p, result: &engine.VerifyResult{}, repaired: &engine.Result{},
		earlier: inv.BrokenFiles(), refs: inv.BrokenRefs(o.Now()),
	}
	r.takeFromProblems()
	if r.result, err = s.Verify(ctx, p); err != nil {
		s.progress.Close()
		o.sayDamage(r)
		if r.result.Blobs > 0 {
			o.note("%s verified before it stopped", blobs(r.result.Blobs, r.result.Bytes))
		}
		return err
	}
	r.elapsed = watch.elapsed()
	err = o.treat(ctx, s, r)
	s.progress.Close()
	if err != nil {
		o.sayDamage(r)
		return fmt.Errorf("%s: %w", r.damagedText(), err)
	}
	return o.reportLocal(r)
}

// treat puts aside what is damaged, and repairs it if that is wanted.
func (o *verifyOptions) treat(ctx context.Context, s *session, r *verifyReport) error {
	if o.dryRun {
		return nil
	}
	if err := s.Quarantine(ctx, r.result.Damaged, o.Now); err != nil || !o.repair {
		return err
	}
	before := s.requests()
	s.progress.Verb("repairing")
	var err error
	found := len(r.refs)
	left, failures := s.CleanRefs(r.refs)
	r.refs, r.RepairedRefs = left, found-len(left)
	r.repaired, err = s.Repair(ctx, r.result.Damaged, r.earlier)
	r.repaired.Failures = append(r.repaired.Failures, failures...)
	r.tried, r.requests = true, s.requests().Minus(before)
	return err
}

// known makes sure that all repositories that the arguments name are there.
func (o *verifyOptions) known(inv *hfcache.Inventory) error {
	for _, repo := range o.selected {
		if inv.Repo(repo) == nil && o.wants(repo) {
			return notInCache("verify", repo, inv, o.localRepos())
		}
	}
	return nil
}

// reportLocal prints what was found and done, and decides the exit code.
func (o *verifyOptions) reportLocal(r *verifyReport) error {
	lost := o.sayProblems(r.inv.Problems)
	o.sayDamage(r)
	if o.json {
		if err := o.printJSON(r.fill()); err != nil {
			return err
		}
	} else if err := o.sayVerified(r, lost); err != nil {
		return err
	}
	return o.verdict(r, lost)
}

// verdict decides the exit code. What is damaged stays so until good bytes are back: a script that looks once a day must not find all well on the second.
func (o *verifyOptions) verdict(r *verifyReport, lost int) error {
	damaged, missing := r.left()
	if bad := r.unrepaired() + damaged; bad > 0 {
		return &someFailedError{exitDamaged, "verify: " + ui.Plural(bad, "file") + " damaged, as said above", o.repairHint(r)}
	}
	var parts []string
	hint := ""
	if n := r.unread() + lost; n > 0 {
		parts = append(parts, ui.Plural(n, "file")+" could not be read")
	}
	if missing > 0 {
		parts = append(parts, ui.Plural(missing, "file")+" missing")
		hint = o.repairHint(r)
	}
	if broken := r.brokenRefs(); len(broken) > 0 {
		parts = append(parts, ui.Plural(len(broken), "ref")+" cannot be followed")
		if hint == "" {
			hint = doctor.RefHint(broken[0], o.hasBucket())
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return &someFailedError{exitSome, "verify: " + strings.Join(parts, ", ") + ", as said above", hint}
}

// repairHint says how good copies of damaged and missing files come back.
func (o *verifyOptions) repairHint(r *verifyReport) string {
	repaired := o.repair && !o.dryRun
	switch {
	case repaired:
		return o.unrepairedHint(r)
	case o.dryRun && r.unrepaired() > 0 && o.hasBucket():
		return "hf-cache-sync verify puts them aside, and with --repair fetches good copies from the bucket"
	case o.dryRun && r.unrepaired() > 0:
		return "hf-cache-sync verify puts them aside; then download them again with the Hub's client"
	case !o.hasBucket():
		if repo, commit, ok := r.firstBroken(); ok {
			return doctor.FilesHint(repo, commit, false)
		}
		return "" // nothing links to the bytes, so nobody needs them
	}
	return "hf-cache-sync verify --repair fetches good copies from the bucket"
}

// unrepairedHint says what brings back what a repair did not: for what the bucket has no good copy of it names the repositories, for the rest it tells why that could not be written.
func (o *verifyOptions) unrepairedHint(r *verifyReport) string {
	var repos []string
	hint := ""
	add := func(repo hub.Repo, err error) {
		switch {
		case errors.Is(err, hfcache.ErrBusy):
			hint = cmp.Or(hint, "wait until the client has finished, then run the same command again")
		case !lackedByBucket(err) && !errors.Is(err, manifest.ErrInvalid):
			hint = cmp.Or(hint, explain(err).hint)
		case !slices.Contains(repos, repo.String()):
			repos = append(repos, repo.String())
		}
	}
	for i := range r.result.Damaged {
		if d := &r.result.Damaged[i]; !d.Repaired {
			add(d.Repo, d.Err)
		}
	}
	for _, f := range r.repaired.Failures {
		add(f.Key.Repo, f.Err)
	}
	if len(repos) == 0 {
		return hint
	}
	if o.from != "" {
		repos = append(repos, "--remote", o.from)
	}
	return hintRecheck(repos...) + ", then here the same command again"
}

// sayVerified prints the last line.
func (o *verifyOptions) sayVerified(r *verifyReport, lost int) error {
	if len(r.inv.Repos) == 0 {
		return o.print("nothing to verify: no repository of the cache at %s is meant", r.inv.Dir)
	}
	damaged, missing := r.left()
	wasDamaged, wasMissing := count(r.earlier)
	parts := []string{"verified " + blobs(r.result.Blobs, r.result.Bytes) + " " + pace(r.elapsed, r.result.Bytes)}
	if len(r.result.Damaged) > 0 {
		parts = append(parts, r.damagedText())
	}
	for _, part := range []struct {
		n    int
		what string
	}{
		{wasDamaged - damaged, "put aside earlier, fetched"},
		{damaged, "put aside earlier, not back"},
		{wasMissing - missing, "missing, fetched"},
		{missing, "missing"},
		{len(r.plan.Unchecked), "cannot be checked"},
		{r.changed(), "changed while read"},
		{r.unread() + lost, "could not be read"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	if n := len(r.brokenRefs()); n > 0 {
		parts = append(parts, ui.Plural(n, "broken ref"))
	}
	if n := r.RepairedRefs; n > 0 {
		parts = append(parts, ui.Plural(n, "ref")+" repaired")
	}
	return o.print("%s", strings.Join(parts, "; "))
}

// sayDamage names everything that is not as it should be.
func (o *verifyOptions) sayDamage(r *verifyReport) {
	for i := range r.result.Damaged {
		o.warn("damaged: %s", damageLine(&r.result.Damaged[i]))
	}
	for _, f := range r.result.Failed {
		if f.Harmless {
			o.note("skipped: %s: %v", f.Bytes, f.Err)
		} else {
			o.warn("failed: %v", named(f.Bytes, f.Err))
		}
	}
	o.sayFailures(r.repaired.Failures)
	const most = 10
	for i, u := range r.plan.Unchecked {
		if i == most {
			o.note("note: and %d more", len(r.plan.Unchecked)-most)
			break
		}
		o.note("note: %s: %s: %s", u.Repo, u.Entry, uncheckedWhy)
	}
	earlier := r.earlier
	if r.tried {
		earlier = nil // failures say what is left of them
	}
	for _, f := range earlier {
		what := "missing"
		if f.Damaged {
			what = "damaged"
		}
		o.warn("%s: %s: %s of %s: %s", what, f.Repo, f.Path, f.Commit.Short(), f.Why)
	}
	for _, ref := range r.refs {
		text := fmt.Sprintf("%s: %s; %s", ref.Place(), ref.Why, doctor.RefHint(ref, o.hasBucket()))
		if ref.Fault == hfcache.RefLeftover {
			o.note("note: %s", text)
		} else {
			o.warn("broken ref: %s", text)
		}
	}
}

const uncheckedWhy = "cannot be checked: neither its name nor a listing of the commit says what it should hold"

// named makes sure that an error says which file it is about.
func named(file string, err error) error {
	if strings.Contains(err.Error(), file) {
		return err
	}
	return fmt.Errorf("%s: %w", file, err)
}

// damageLine is one line for people about one damage and what became of it.
func damageLine(d *engine.Damage) string {
	const shown = 3
	var files []string
	for i, f := range d.Files {
		if i == shown {
			files = append(files, fmt.Sprintf("%d more", len(d.Files)-shown))
			break
		}
		files = append(files, fmt.Sprintf("%s of %s", f.Path, f.Commit.Short()))
	}
	text := fmt.Sprintf("%s: %s", d.Repo, d.Entry)
	if len(files) > 0 && !strings.HasPrefix(d.Entry, "snapshots/") {
		text += " (" + strings.Join(files, ", ") + ")"
	}
	text += ": " + d.Why
	switch q := d.Quarantine; {
	case q != nil && q.Moved:
		text += "; quarantined as " + q.Bytes
	case q != nil:
		text += "; no longer linked; the bytes stay at " + q.Bytes + ", where others may use them"
	case errors.Is(d.Err, hfcache.ErrBusy):
		return text + "; not quarantined: a client is at work on it"
	case d.Err != nil:
		return text + "; not quarantined: " + d.Err.Error()
	}
	switch {
	case d.Repaired:
		text += "; repaired"
	case d.Err != nil:
		text += "; " + d.Err.Error()
	}
	return text
}

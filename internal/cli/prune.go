package cli

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

type pruneOptions struct {
	*app
	pruneRules
	maxGB  float64
	size   byteSize
	keepAs []string // as it was given
	dryRun bool
	yes    bool
}

// pruneRules say what a prune may take. They are the same for the command and for a watcher that keeps the budget.
type pruneRules struct {
	budget                          int64 // bytes
	origin                          config.Origin
	keep                            plan.Globs
	olderThan, grace                age
	all                             bool // everything that may go, whatever the budget
	evictActive, unsafe, quarantine bool
}

// defaultGrace is for how long what was written counts as being at work.
const defaultGrace = time.Hour

// tempAge is from when on a temporary file is taken for left behind: no download stands still for so long.
const tempAge = 24 * time.Hour

func (a *app) pruneCommand() *cobra.Command {
	o := &pruneOptions{app: a}
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Make the cache fit a disk budget",
		Long: `Prune first removes garbage, whatever the budget: temporary files older than a day and blobs that no revision
uses. Then it evicts revisions until the cache fits the budget, in this order:

  1. detached revisions that were not used within a day: no ref names them, and one names another revision of
     their repository;
  2. only with --evict-active: active revisions, which a ref names, and pinned ones, whose repository has no ref
     (somebody loads them by their commit);
  3. only with --evict-active: whatever was used within a day, which is then said.

Within each of the three the least recently used goes first. A revision whose eviction frees nothing stays.

Where a bucket is configured, it is asked about each blob of a revision that would be evicted, and a revision that
it does not hold stays. If it cannot be asked, all of them stay; the garbage is removed all the same. Without a
bucket only detached revisions that were not used within a day are evicted. --unsafe evicts without asking, and
without a bucket; it needs --yes, or somebody at a terminal who agrees.

The budget is --max-gb or --max-size, else cache.max_local_gb of the configuration file, else 50 GB. Freed is what
the disk gets back: bytes that several revisions, repositories or hard links share count when the last of them is
removed. What clients are or may be at work on stays: files that a process has open, blobs whose lock is held, and
what was written within --grace. What stays is named if the cache does not fit the budget.

Last use is the newest of when a file was read, when it was written, and when hf-cache-sync last pulled it.
With --older-than only revisions are evicted that were not used for so long; without a budget beside it, all of
them.

EXIT STATUS
  0 done, also if the budget cannot be met, which is said; 2 wrong arguments, or not confirmed;
  8 another prune is at work on the cache; 4, 7 the bucket could not be asked, and no revision that it was not
  asked about was evicted; 9 no permission to remove; see docs/exit-codes.md.`,
		Example: `  hf-cache-sync prune --max-gb 50 --dry-run
  hf-cache-sync prune --max-size 200GB --evict-active --keep 'my-org/*'
  hf-cache-sync prune --older-than 30d`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd.Flags().Changed("max-gb"), cmd.Flags().Changed("max-size")); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.Float64Var(&o.maxGB, "max-gb", 0, "the budget, in gigabytes (10^9 bytes)")
	flags.Var(&o.size, "max-size", "the budget, as in 50GB or 1.5TB")
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what would be removed and why, and remove nothing")
	flags.StringArrayVar(&o.keepAs, "keep", nil, "keep the revisions of repositories that match this glob (may be repeated; cache.keep in the configuration adds to it)")
	flags.BoolVar(&o.unsafe, "unsafe", false, "evict without asking the bucket, and without one; needs --yes or a terminal")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask for confirmation")
	o.flags(cmd)
	return cmd
}

// flags adds those that say what may be removed, but for --unsafe: a watcher has nobody to ask.
func (r *pruneRules) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	r.grace = age(defaultGrace)
	flags.BoolVar(&r.evictActive, "evict-active", false, "evict active and pinned revisions, too, and last of all what was used within a day")
	flags.Var(&r.olderThan, "older-than", "evict only revisions that were not used for this long: 30d, 2w, 6mo")
	flags.Var(&r.grace, "grace", "keep what was written within this time")
	flags.BoolVar(&r.quarantine, "quarantine", false, "remove damaged files that verify has put aside, once they are a day old")
}

// check settles the budget: the flags, else the configuration, else nothing but age.
func (o *pruneOptions) check(gb, size bool) (err error) {
	switch {
	case gb && size:
		return usagef("--max-gb and --max-size are two budgets: give one of them")
	case gb && (o.maxGB < 0 || o.maxGB > 1e9 || math.IsNaN(o.maxGB)):
		return usagef("--max-gb is %v; it must be a number of gigabytes, 0 or more", o.maxGB)
	case gb:
		o.budget, o.origin = int64(o.maxGB*1e9), "--max-gb"
	case size:
		o.budget, o.origin = int64(o.size), "--max-size"
	case o.olderThan > 0:
		o.budget, o.origin, o.all = -1, "--older-than", true
	default:
		o.budget, o.origin = o.file.MaxLocal()
	}
	if o.unsafe && !o.dryRun && !o.yes && !o.asks() {
		return &usageError{errors.New("prune: --unsafe may evict the only copy, and nobody is there to agree; nothing was removed"), "agree with --yes, or look at --dry-run"}
	}
	o.keep, err = o.keepers(o.keepAs)
	return err
}

// asks says whether somebody is there to be asked.
func (o *pruneOptions) asks() bool { return o.Interactive && !o.json && o.events == nil }

// keepers are the repositories whose revisions the flags and the configuration keep.
func (a *app) keepers(globs []string) (plan.Globs, error) {
	kept, err := plan.ParseGlobs(globs)
	if err != nil {
		return nil, usagef("--keep: %w", err)
	}
	standing, err := plan.ParseGlobs(a.file.Keep())
	if err != nil {
		return nil, usagef("%s: cache.keep: %w", a.file.Path, err)
	}
	return append(kept, standing...), nil
}

func (o *pruneOptions) run(ctx context.Context) (err error) {
	watch := newStopwatch(o.Now)
	s, err := o.openPrune()
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.close(); err == nil {
			err = closeErr
		}
	}()
	if !o.dryRun {
		unlock, err := o.lockCache(s.Cache, "prune")
		if err != nil {
			return err
		}
		defer func() {
			if unlockErr := unlock(); err == nil {
				err = unlockErr
			}
		}()
	}
	open := o.bucket(s)
	p, unasked, err := o.planPrune(ctx, s.Engine, o.pruneRules, open)
	if err != nil {
		return err
	}
	s.phase("")
	run := &pruneRun{plan: p, result: &engine.Pruned{}, noBucket: open == nil}
	if o.dryRun || len(p.Steps) == 0 {
		s.progress.Close()
		run.elapsed = watch.elapsed()
		if err := o.report(run); err != nil {
			return err
		}
		return unasked
	}
	if err := watch.without(func() error { return o.confirm(ctx, s.Cache.Dir(), p) }); err != nil {
		return err
	}
	run.result, err = s.Prune(ctx, p, hfcache.RemoveOptions{Now: o.Now, Grace: time.Duration(o.grace)})
	s.progress.Close()
	run.elapsed = watch.elapsed()
	if err != nil {
		if run.result.Bytes > 0 {
			o.note("%s freed before it stopped", ui.Size(run.result.Bytes))
		}
		return err
	}
	if err := o.report(run); err != nil {
		return err
	}
	return unasked
}

// openPrune opens the cache. The bucket is opened when there is something to ask it.
func (o *pruneOptions) openPrune() (*session, error) {
	cache, err := o.openCache(false)
	if err != nil {
		return nil, err
	}
	progress := ui.NewProgress(o.Stderr, o.progressMode(), o.Now)
	progress.Verb("pruning")
	o.screen.Store(progress)
	sink := event.Sink(progress)
	if o.events != nil {
		sink = o.events
	}
	return &session{progress: progress, app: o.app, Engine: &engine.Engine{Cache: cache, Events: o.watched(sink)}}, nil
}

// bucket opens the bucket of a prune; nil if none is configured.
func (o *pruneOptions) bucket(s *session) func() error {
	if _, err := config.ResolveRemote(o.remote, o.Env, o.file); errors.Is(err, config.ErrNoRemote) {
		return nil
	}
	return func() (err error) {
		s.Catalog, err = o.catalog(s.Events, s.Throttle)
		return err
	}
}

// prunePolicy are the rules as the plan wants them, without what a bucket answers.
func (a *app) prunePolicy(cache *hfcache.Cache, rules pruneRules) plan.PrunePolicy {
	return plan.PrunePolicy{
		Now: a.Now(), Budget: rules.budget, All: rules.all, OlderThan: time.Duration(rules.olderThan), Grace: time.Duration(rules.grace), TempAge: tempAge,
		EvictActive: rules.evictActive, Unsafe: rules.unsafe, Keep: rules.keep, Quarantine: rules.quarantine, LastUse: a.lastUses(cache),
	}
}

// planPrune looks at the cache and decides, asking the bucket as far as the decision needs it. open connects an engine that has no catalogue with the bucket; it is called
// before the first question, and nil if there is no bucket.
// If the bucket cannot be asked, unasked says why: the plan is good, and evicts nothing that the bucket was not asked about.
func (a *app) planPrune(ctx context.Context, e *engine.Engine, rules pruneRules, open func() error) (p *plan.Prune, unasked, err error) {
	phase := func(text string) { e.Events.Event(event.Event{Kind: event.Phase, Text: text}) }
	phase("scanning the cache")
	inv, err := e.Cache.Scan(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	phase("looking for what is in use")
	survey, err := e.Cache.Survey(ctx, inv)
	if err != nil {
		return nil, nil, err
	}
	policy := a.prunePolicy(e.Cache, rules)
	if open != nil || e.Catalog != nil {
		policy.Held = map[manifest.Key]error{}
	}
	for {
		p := plan.NewPrune(inv, survey, policy)
		if len(p.Ask) == 0 {
			return p, unasked, nil
		}
		var held map[manifest.Key]error
		if e.Catalog == nil {
			err = open()
		}
		if err == nil {
			held, err = e.Held(ctx, inv, p.Ask)
		}
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case err != nil:
			policy.NoAnswer, unasked, err = true, &unaskedError{err}, nil
		}
		maps.Copy(policy.Held, held)
	}
}

// unaskedError says that the bucket could not be asked which revisions it holds, so that none was evicted on its word.
type unaskedError struct{ err error }

func (e *unaskedError) Error() string {
	return "prune: the bucket could not be asked, so revisions that it may not hold stay: " + e.err.Error()
}

func (e *unaskedError) Unwrap() error { return e.err }

// confirm asks whether to go on, if there is somebody to ask.
func (o *pruneOptions) confirm(ctx context.Context, dir string, p *plan.Prune) error {
	if o.yes || !o.asks() {
		return nil
	}
	o.warn("About to remove from %s:", dir)
	for _, s := range p.Steps {
		o.warn("  - %s", o.stepLine(s))
	}
	o.warn("%s in all. Remove it? [y/N]", ui.Size(p.Freed()))
	answer, err := o.readLine(ctx)
	if ctx.Err() != nil {
		return err
	}
	if err != nil || !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))) {
		return &usageError{errors.New("prune: not confirmed, nothing was removed"), "agree with --yes, or look at --dry-run"}
	}
	return nil
}

package cli

import (
	"context"
	"errors"
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

// tempAge is from when on a temporary file is taken for left behind: no download stands still for so long.
const tempAge = 24 * time.Hour

func (a *app) pruneCommand() *cobra.Command {
	o := &pruneOptions{app: a}
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Make the cache fit a disk budget",
		Long: `Prune removes what nobody needs, whatever the budget: temporary files older than a day, and blobs that no
revision uses. Then, until the cache fits the budget, it removes revisions that no branch or tag names, by last
use, the oldest first. With --evict-active revisions go that are still named, but only those that the bucket
has in full, which it is asked about blob by blob; --unsafe takes them all. The budget is --max-gb or --max-size,
else cache.max_local_gb of the configuration file, else 50 GB.

What is freed is what the disk gets back: bytes that several revisions, repositories or hard links share count
when the last of them goes. What clients are or may be at work on is left alone and named: files that a process
has open, blobs whose lock is held, and what was written within --grace.

Last use is the newest of when a file was read, when it was written, and when hf-cache-sync last pulled it.
With --older-than only revisions go that were not used for so long; without a budget beside it, all of them.

EXIT STATUS
  0 done, also if the budget cannot be met, which is said; 2 wrong arguments, or not confirmed;
  8 another prune is at work on the cache; 4, 7 the bucket could not be asked; 9 no permission to remove;
  see docs/exit-codes.md.`,
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
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what would go and why, and remove nothing")
	flags.StringArrayVar(&o.keepAs, "keep", nil, "leave revisions of repositories alone that match this glob (may be repeated; cache.keep in the configuration adds to it)")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	o.flags(cmd)
	return cmd
}

// flags adds those that the command and the watcher share.
func (r *pruneRules) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	r.grace = age(time.Hour)
	flags.BoolVar(&r.evictActive, "evict-active", false, "revisions that refs name may go, too, if the bucket has them in full")
	flags.BoolVar(&r.unsafe, "unsafe", false, "with --evict-active: even if the bucket does not have them")
	flags.Var(&r.olderThan, "older-than", "only revisions that were not used for so long: 30d, 2w, 6mo")
	flags.Var(&r.grace, "grace", "leave alone what was written less long ago")
	flags.BoolVar(&r.quarantine, "quarantine", false, "damaged files that verify has put aside may go, once they are a day old")
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
	if o.unsafe && !o.evictActive {
		return usagef("--unsafe is for --evict-active, which is not given")
	}
	o.keep, err = o.keepers(o.keepAs)
	return err
}

// keepers are the repositories that are pinned by the flags and the configuration.
func (a *app) keepers(globs []string) (plan.Globs, error) {
	pinned, err := plan.ParseGlobs(globs)
	if err != nil {
		return nil, usagef("--keep: %w", err)
	}
	standing, err := plan.ParseGlobs(a.file.Keep())
	if err != nil {
		return nil, usagef("%s: cache.keep: %w", a.file.Path, err)
	}
	return append(pinned, standing...), nil
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
	p, err := o.planPrune(ctx, s.Engine, o.pruneRules)
	if err != nil {
		return err
	}
	s.phase("")
	run := &pruneRun{plan: p, result: &engine.Pruned{}}
	if o.dryRun || len(p.Steps) == 0 {
		s.progress.Close()
		run.elapsed = watch.elapsed()
		return o.report(run)
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
	return o.report(run)
}

// openPrune opens the cache, and the bucket only if it has to be asked.
func (o *pruneOptions) openPrune() (*session, error) {
	if o.evictActive && !o.unsafe {
		s, err := o.open("pruning", useExisting, engine.Options{})
		if !errors.Is(err, config.ErrNoRemote) {
			return s, err
		}
		o.note("note: no bucket is configured, so no revision that a ref names goes; --unsafe takes them all the same")
	}
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

// planPrune looks at the cache and decides, asking the bucket as far as the decision needs it. Without a bucket, the engine has no catalogue.
func (a *app) planPrune(ctx context.Context, e *engine.Engine, rules pruneRules) (*plan.Prune, error) {
	phase := func(text string) { e.Events.Event(event.Event{Kind: event.Phase, Text: text}) }
	phase("scanning the cache")
	inv, err := e.Cache.Scan(ctx, nil)
	if err != nil {
		return nil, err
	}
	phase("looking for what is in use")
	survey, err := e.Cache.Survey(ctx, inv)
	if err != nil {
		return nil, err
	}
	policy := plan.PrunePolicy{
		Now: a.Now(), Budget: rules.budget, All: rules.all, OlderThan: time.Duration(rules.olderThan), Grace: time.Duration(rules.grace), TempAge: tempAge,
		EvictActive: rules.evictActive, Unsafe: rules.unsafe, Keep: rules.keep, Quarantine: rules.quarantine, LastUse: a.lastUses(e.Cache),
	}
	if e.Catalog != nil {
		policy.Held = map[manifest.Key]error{}
	}
	for {
		p := plan.NewPrune(inv, survey, policy)
		if len(p.Ask) == 0 {
			return p, nil
		}
		held, err := e.Held(ctx, inv, p.Ask)
		if err != nil {
			return nil, err
		}
		for _, key := range p.Ask {
			policy.Held[key] = held[key]
		}
	}
}

// confirm asks whether to go on, if there is somebody to ask.
func (o *pruneOptions) confirm(ctx context.Context, dir string, p *plan.Prune) error {
	if o.yes || !o.Interactive || o.json || o.events != nil {
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

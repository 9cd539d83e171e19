package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/daemon"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

type watchOptions struct {
	*app
	debounce, rescan time.Duration
	workers          int
	once, poll       bool
	include, exclude []string
	allowGated       bool
	allowGatedGiven  bool
	metricsAddr      string
	prune            bool
	pruneRules       pruneRules

	filter plan.Filter
}

func (a *app) watchCommand() *cobra.Command {
	o := &watchOptions{app: a}
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Push what other programs download, once it is complete",
		Long: `Watch stays and pushes what appears in the cache: everything that is there at the start, and then each repository
in which nothing has happened for --debounce. Revisions into which somebody downloads are left until that is done.
It needs no confirmation: what a bare push would offer goes to the bucket, private repositories too; --include and
--exclude, or push.include and push.exclude in the configuration, say what.

Where the system does not tell of changes, as on network file systems, the times of folders are compared every
--rescan. When the bucket cannot be reached it tries again, less and less often. One watcher works on a cache.

A bucket that is a folder has to exist, or is made with --create. So has a cache that was named by --cache-dir.

With --prune it keeps the cache within its budget, in prune's order. It evicts no revision that the bucket does not
hold: there is no --unsafe here, because nobody could agree to it.

It ends on SIGTERM or Ctrl-C, within seconds: a large upload is broken off and carried on by the next push. On
SIGHUP it reads the configuration file again. With --metrics-addr it serves /metrics for Prometheus and /healthz.
docs/watch.md says how to run it as a service.

EXIT STATUS
  0 it was told to stop, or with --once everything is pushed; 8 another watcher is at work on the cache;
  2 wrong arguments or configuration; with --once also what push ends with; see docs/exit-codes.md.`,
		Example: `  hf-cache-sync watch
  hf-cache-sync watch --prune --metrics-addr 127.0.0.1:9099
  hf-cache-sync watch --once`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.allowGatedGiven = cmd.Flags().Changed("allow-gated")
			if err := o.check(); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.debounce, "debounce", 30*time.Second, "how long a repository must have been quiet")
	flags.DurationVar(&o.rescan, "rescan", 5*time.Minute, "how often the times of folders are compared")
	flags.IntVar(&o.workers, "workers", defaultWorkers, "large blobs moved at once")
	flags.BoolVar(&o.once, "once", false, "push what is there and complete, and end")
	flags.BoolVar(&o.poll, "poll", false, "do not ask the system to tell of changes")
	flags.StringArrayVar(&o.include, "include", nil, "only repositories that match this glob (may be repeated)")
	flags.StringArrayVar(&o.exclude, "exclude", nil, "no repositories that match this glob (may be repeated)")
	flags.BoolVar(&o.allowGated, "allow-gated", false, "push repositories that look gated, too")
	flags.BoolVar(&o.folder.create, "create", false, createUsage)
	flags.StringVar(&o.metricsAddr, "metrics-addr", "", "serve metrics and a health check at this address, such as 127.0.0.1:9099")
	flags.BoolVar(&o.prune, "prune", false, "keep the cache within cache.max_local_gb, as prune does")
	flags.BoolVar(&o.pruneRules.evictActive, "evict-active", false, "with --prune: evict active and pinned revisions, too, and last of all what was used within a day")
	return cmd
}

func (o *watchOptions) check() (err error) {
	if err := checkWorkers(o.workers); err != nil {
		return err
	}
	const shortest = 10 * time.Millisecond
	switch {
	case o.debounce < 0:
		return usagef("--debounce is %s; it must not be negative", o.debounce)
	case o.rescan < shortest:
		return usagef("--rescan is %s; it must be at least %s", o.rescan, shortest)
	case o.pruneRules.evictActive && !o.prune:
		return usagef("--evict-active is for --prune, which is not given")
	}
	if o.metricsAddr != "" {
		if _, _, err := net.SplitHostPort(o.metricsAddr); err != nil {
			return usagef("--metrics-addr %q: %w", o.metricsAddr, err)
		}
	}
	if o.filter, err = parseFilter(o.include, o.exclude); err != nil {
		return err
	}
	return o.rules()
}

// rules are those of the configuration file, which may be read again.
func (o *watchOptions) rules() (err error) {
	o.pruneRules.budget, o.pruneRules.origin = o.file.MaxLocal()
	o.pruneRules.grace = age(defaultGrace)
	if o.pruneRules.keep, err = o.keepers(nil); err != nil {
		return err
	}
	if len(o.include)+len(o.exclude) == 0 {
		o.filter, err = o.standingFilter()
	}
	return err
}

func (o *watchOptions) wants(repo hub.Repo) bool { return o.filter.Wants(repo.String(), repo.Name) }

func (o *watchOptions) run(ctx context.Context) (err error) {
	clock := newStopwatch(o.Now)
	o.folder.hasCreate = true
	if err := o.agreeToFolder(ctx); err != nil {
		return err
	}
	w, err := o.newWatch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	served, stop, err := w.serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if err := w.loop(ctx, served); err != nil {
		return err
	}
	return w.report(clock.elapsed())
}

// serve begins to serve metrics, if they are asked for, until stop is called. They are there for as long as the watcher ends its work.
func (w *watchRun) serve(ctx context.Context) (served <-chan error, stop func(), _ error) {
	if w.metricsAddr == "" {
		return nil, func() {}, nil
	}
	l, err := daemon.Listen(ctx, w.metricsAddr)
	if err != nil {
		return nil, nil, &usageError{fmt.Errorf("--metrics-addr: %w", err), "another program may use the port: stop it, or name another one"}
	}
	w.log.InfoContext(ctx, "serving metrics", slog.String("address", l.Addr().String()))
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- daemon.Serve(ctx, l, w.metrics, w.health) }()
	return done, cancel, nil
}

package cli

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/hf-cache-sync/hf-cache-sync/internal/daemon"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/watch"
)

// watchRun is a watcher at work. Its loop decides what is done when, and never waits for anything but the next event; the work goes on beside it, one
// repository at a time.
type watchRun struct {
	*watchOptions
	log     *slog.Logger
	cache   *hfcache.Cache
	unlock  func() error
	engine  *engine.Engine
	watcher *watch.Watcher
	metrics *daemon.Metrics
	notify  daemon.Notifier
	served  <-chan error
	said    map[string]bool // what has been complained of, so that it is said once

	queue    map[string]bool      // folders of repositories to be looked at
	later    map[string]time.Time // those to be looked at again
	retry    backoff.BackOff
	holdOff  time.Time // nothing is begun before, because the bucket could not be reached
	dirty    bool      // something was pushed, or removed, since the cache was pruned last
	reloaded bool      // the configuration has to be read before the next work
	failure  error     // the last of --once

	state atomic.Pointer[watchHealth]
}

// watchHealth is what the health check goes by.
type watchHealth struct {
	beat         time.Time // the loop was alive
	failingSince time.Time // zero if the last work went well
	why          string
}

// Patience of the health check.
const (
	longestBeat = time.Minute      // the loop turns at least every beat
	beat        = 10 * time.Second //
	failingLong = 10 * time.Minute
	// stopTime is how long work may go on after the end was asked for. What is not finished by then is broken off.
	stopTime = 5 * time.Second
)

// newWatch opens all that a watcher needs.
func (o *watchOptions) newWatch() (_ *watchRun, err error) {
	w := &watchRun{
		watchOptions: o, log: o.daemonLogger(), said: map[string]bool{}, queue: map[string]bool{}, later: map[string]time.Time{}, retry: newRetry(),
		unlock: func() error { return nil }, dirty: true,
	}
	if w.cache, err = o.openCache(true); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.unlock, err = o.lockCache(w.cache, "watch"); err != nil {
		w.unlock = func() error { return nil }
		return nil, err
	}
	if w.engine, err = w.openEngine(); err != nil {
		return nil, err
	}
	w.watcher, err = watch.New(w.cache.Dir(), watch.Options{
		Debounce: o.debounce, Rescan: o.rescan, Log: w.log, Poll: o.poll,
		Wanted: func(name string) bool {
			repo, err := hub.ParseFolder(name)
			return err == nil && repo.Folder() == name
		},
	})
	w.metrics = daemon.NewMetrics("hf_cache_sync_watch_", version(), func() daemon.Watched {
		s := w.watcher.Stats()
		return daemon.Watched{Folders: s.Folders, Polling: s.Polling != ""}
	})
	w.state.Store(&watchHealth{beat: o.Now()})
	return w, err
}

// openEngine connects the cache with the bucket.
func (w *watchRun) openEngine() (*engine.Engine, error) {
	e := &engine.Engine{Cache: w.cache, Events: watchSink{w.log}, Options: engine.Options{Workers: w.workers, Ranges: w.bwlimit.rangesFor()}}
	var err error
	e.Catalog, err = w.catalog(nil, e.Throttle)
	return e, err
}

func (w *watchRun) close() error { return errors.Join(w.unlock(), w.cache.Close()) }

func newRetry() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = time.Second, 5*time.Minute, 2
	return b
}

// loop runs until ctx is done, which is how it is meant to end, or with --once until there is nothing left to do.
func (w *watchRun) loop(ctx context.Context) error {
	watchCtx, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	watched := make(chan error, 1)
	go func() { watched <- w.watcher.Run(watchCtx) }()
	// Work goes on for a moment after the end was asked for: most of it is done by then.
	workCtx, breakOff := context.WithCancelCause(context.WithoutCancel(ctx))
	defer breakOff(nil)
	w.log.InfoContext(ctx, "watching", slog.String("cache", w.cache.Dir()), slog.String("bucket", w.engine.Catalog.Store.String()))
	alive := time.NewTicker(w.beatEvery())
	defer alive.Stop()
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	var hangups <-chan os.Signal
	if w.Hangups != nil {
		hangups = w.Hangups()
	}
	var working chan *watchOutcome
	first := true
	for {
		if working == nil {
			if working = w.begin(workCtx); working == nil && w.once && !first {
				return w.failure
			}
		}
		w.beat()
		wake.Reset(w.untilWake())
		select {
		case <-ctx.Done():
			w.notify.Stopping()
			return w.stop(ctx, working, breakOff)
		case err := <-w.served:
			return err
		case err := <-watched:
			if ctx.Err() == nil {
				return err
			}
		case names := <-w.watcher.Ready():
			for _, name := range names {
				w.queue[name] = true
			}
			if first {
				first = false
				w.notify.Ready()
			}
		case outcome := <-working:
			working = nil
			w.take(outcome)
		case <-hangups:
			w.reloaded, w.holdOff = true, time.Time{}
			w.retry.Reset()
		case <-wake.C:
		case <-alive.C:
		}
	}
}

// stop ends the work in hand, and says 0 to whoever asked for it.
func (w *watchRun) stop(ctx context.Context, working chan *watchOutcome, breakOff context.CancelCauseFunc) error {
	if working != nil {
		timer := time.AfterFunc(stopTime, func() { breakOff(context.Cause(ctx)) })
		outcome := <-working
		timer.Stop()
		w.take(outcome)
	}
	w.log.InfoContext(ctx, "stopped")
	return nil
}

// begin starts the next piece of work, if there is one and its time has come. The outcome is sent on the channel.
func (w *watchRun) begin(ctx context.Context) chan *watchOutcome {
	if w.reloaded {
		w.reload()
	}
	now := w.Now()
	for name, at := range w.later {
		if !at.After(now) {
			delete(w.later, name)
			w.queue[name] = true
		}
	}
	w.metrics.Queued.Set(float64(len(w.queue)))
	w.metrics.Unfinished.Set(float64(len(w.later)))
	if now.Before(w.holdOff) {
		return nil
	}
	done := make(chan *watchOutcome, 1)
	if len(w.queue) == 0 {
		if !w.prune || !w.dirty {
			return nil
		}
		w.dirty = false
		go func() { done <- w.pruneOnce(ctx) }()
		return done
	}
	name := slices.Min(slices.Collect(maps.Keys(w.queue)))
	delete(w.queue, name)
	go func() { done <- w.pushOnce(ctx, name) }()
	return done
}

// untilWake is how long nothing has to be done unless something happens.
func (w *watchRun) untilWake() time.Duration {
	now, next := w.Now(), time.Hour
	if len(w.queue) > 0 && now.Before(w.holdOff) {
		next = w.holdOff.Sub(now)
	}
	for _, at := range w.later {
		next = min(next, max(0, at.Sub(now)))
	}
	return max(next, time.Millisecond)
}

// beatEvery is how often the loop turns at least: as often as the service manager wants to hear of it.
func (w *watchRun) beatEvery() time.Duration {
	if interval := w.notify.Interval(); interval > 0 {
		return min(interval, beat)
	}
	return beat
}

func (w *watchRun) beat() {
	w.notify.Alive()
	h := *w.state.Load()
	h.beat = w.Now()
	w.state.Store(&h)
}

// health is for the health check, which asks from other goroutines.
func (w *watchRun) health() daemon.Health {
	h, now := w.state.Load(), w.Now()
	switch {
	case now.Sub(h.beat) > longestBeat:
		return daemon.Health{Reason: "the watcher hangs"}
	case !h.failingSince.IsZero() && now.Sub(h.failingSince) > failingLong:
		return daemon.Health{Reason: h.why}
	}
	return daemon.Health{OK: true}
}

// reload reads the configuration file again. A wrong one changes nothing.
func (w *watchRun) reload() {
	w.reloaded = false
	w.notify.Reloading()
	defer w.notify.Ready()
	file, _, err := w.findConfig()
	if err != nil {
		w.log.Error("the configuration was not read again; the old one stays", slog.Any("error", err))
		return
	}
	before := w.file
	if file != nil {
		w.file = file
	}
	e, err := w.openEngine()
	if err == nil {
		err = w.rules()
	}
	if err != nil {
		w.file = before
		_ = w.rules() // they were good before
		w.log.Error("the configuration makes no sense; the old one stays", slog.Any("error", err))
		return
	}
	w.engine = e
	clear(w.said)
	w.log.Info("the configuration was read again", slog.String("bucket", e.Catalog.Store.String()))
	for _, name := range w.folders() {
		w.queue[name] = true // the bucket, or what is pushed, may be another
	}
}

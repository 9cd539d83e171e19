package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/daemon"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
	"github.com/hf-cache-sync/hf-cache-sync/internal/watch"
)

// watchRun is a watcher at work. Its loop decides what is done when, and never waits for anything but the next event; the work goes on beside it, one
// repository at a time. Fields that the work uses are changed by the loop only while there is none.
type watchRun struct {
	*watchOptions
	log     *slog.Logger
	cache   *hfcache.Cache
	unlock  func() error
	engine  *engine.Engine
	sink    *watchSink
	watcher *watch.Watcher
	metrics *daemon.Metrics
	notify  daemon.Notifier
	said    saidOnce
	status  string // as the service manager knows it

	queue    *watchQueue
	retry    backoff.BackOff // for what concerns the whole bucket
	holdOff  time.Time       // nothing is begun before
	held     string          // why
	dirty    bool            // the cache may have grown since it was pruned last
	pruneAt  time.Time       // not before
	pruned   time.Time       // the last time
	reloaded bool            // the configuration has to be read before the next work
	gone     bool            // so has the terminal
	failure  error           // what ends --once
	totals   watchTotals

	state atomic.Pointer[watchHealth]
}

// watchHealth is what the health check goes by.
type watchHealth struct {
	beat         time.Time // the loop was alive
	hangs        bool      // the work has reported nothing for too long
	failingSince time.Time // zero if the bucket did what it was asked for the last time
	why          string
}

const (
	// beat is how often the loop turns at least; one that has not turned for longestBeat hangs.
	beat        = 10 * time.Second
	longestBeat = time.Minute
	// longestWork is for how long work may report nothing: hashing a file of hundreds of gigabytes that nothing names does not.
	longestWork = 2 * time.Hour
	// failingLong is for how long the bucket may fail before that is a matter for others.
	failingLong = 10 * time.Minute
	// stopTime is how long work may go on after the end was asked for. What is not finished by then is broken off, which takes a moment, too; service managers
	// give at least ten seconds (docker stop).
	stopTime = 5 * time.Second
	// pruneAgain is when a prune is tried again that another one kept out.
	pruneAgain = time.Minute
	// pruneEvery is how often the cache is pruned although nothing has changed: what was too new becomes old enough by itself.
	pruneEvery = time.Hour
)

// newWatch opens all that a watcher needs.
func (o *watchOptions) newWatch() (_ *watchRun, err error) {
	w := &watchRun{
		watchOptions: o, log: o.daemonLogger(), said: saidOnce{}, queue: newWatchQueue(), retry: newRetry(), unlock: func() error { return nil }, dirty: true,
		totals: watchTotals{repos: map[string]bool{}},
	}
	w.sink = &watchSink{log: w.log, now: o.Now}
	w.state.Store(&watchHealth{beat: o.Now()})
	if err := o.checkApart(); err != nil {
		return nil, err
	}
	if w.cache, err = o.watchedCache(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	unlock, err := o.lockCache(w.cache, "watch")
	if err != nil {
		return nil, err
	}
	w.unlock = unlock
	if w.engine, err = w.openEngine(); err != nil {
		return nil, err
	}
	w.watcher, err = watch.New(w.cache.Dir(), watch.Options{
		Debounce: o.debounce, Rescan: o.rescan, Log: w.log, Poll: o.poll || o.once, Wanted: isRepoFolder,
	})
	if err != nil {
		return nil, err
	}
	w.metrics = daemon.NewMetrics("hf_cache_sync_watch_", version(), func() daemon.Watched {
		s := w.watcher.Stats()
		return daemon.Watched{Folders: s.Folders, Changing: s.Pending, Polling: s.Polling != "", OK: w.health().OK}
	})
	return w, nil
}

// watchedCache opens the cache. One that was named to this program alone has to be there, or nobody would ever download anything into it. One that the Hub's clients go by may be
// missing, as on a machine that has not downloaded anything yet: then it is made, if the folder above the one that was named is there.
func (o *watchOptions) watchedCache() (*hfcache.Cache, error) {
	dir, origin, err := config.CacheDir(o.cacheDir, o.Env, o.Home, o.file)
	if err != nil {
		return nil, &usageError{err: err}
	}
	named := dir
	switch origin {
	case config.Default, "XDG_CACHE_HOME":
		return o.openCache(true)
	case "HF_HOME":
		named = filepath.Dir(dir)
	case "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE":
	default:
		return o.openCache(false)
	}
	_, err = os.Stat(filepath.Dir(filepath.Clean(named)))
	return o.openCache(err == nil)
}

// isRepoFolder says whether an entry of the cache folder is a repository.
func isRepoFolder(name string) bool {
	repo, err := hub.ParseFolder(name)
	return err == nil && repo.Folder() == name
}

// openEngine connects the cache with the bucket.
func (w *watchRun) openEngine() (*engine.Engine, error) {
	e := &engine.Engine{Cache: w.cache, Events: w.sink, Options: engine.Options{Workers: w.workers, Ranges: w.bwlimit.rangesFor()}}
	var err error
	e.Catalog, err = w.catalog(w.sink, e.Throttle)
	return e, err
}

func (w *watchRun) bucket() string { return w.engine.Catalog.Store.String() }

func (w *watchRun) close() error {
	if w.engine != nil {
		w.noteFolder()
	}
	return errors.Join(w.unlock(), w.cache.Close())
}

// work is a piece of work that goes on.
type work struct {
	done chan *watchOutcome
	what string
}

// loop runs until ctx is done, which is how it is meant to end, or with --once until there is nothing left to do. served gives the end of the metrics server, if there is one.
func (w *watchRun) loop(ctx context.Context, served <-chan error) (err error) {
	watchCtx, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	watched := make(chan error, 1)
	go func() { watched <- w.watcher.Run(watchCtx) }()
	// Work goes on for a moment after the end was asked for: most of it is done by then.
	workCtx, breakOff := context.WithCancelCause(context.WithoutCancel(ctx))
	current := &work{}
	defer func() { w.stop(ctx, current, breakOff) }()
	w.log.InfoContext(ctx, "watching", slog.String("cache", w.cache.Dir()), slog.String("bucket", w.bucket()))
	w.say("looking at the cache")
	alive, wake := time.NewTicker(w.beatEvery()), time.NewTimer(0)
	defer alive.Stop()
	defer wake.Stop()
	hangups := w.hangups()
	first := true
	for {
		if current.done == nil && !w.gone {
			if current = w.begin(workCtx); current.done == nil && w.once && !first {
				return w.failure
			}
		}
		if w.gone {
			return nil
		}
		w.beat(current.done != nil)
		wake.Reset(w.untilWake())
		select {
		case <-ctx.Done():
			if w.once {
				return context.Cause(ctx) // it is not done
			}
			return nil
		case err := <-served:
			return fmt.Errorf("serving metrics: %w", err)
		case err := <-watched:
			if ctx.Err() == nil {
				return err
			}
		case names := <-w.watcher.Ready():
			w.queue.add(names...)
			if first {
				first = false
				w.notify.Ready()
			}
		case outcome := <-current.done:
			current = &work{}
			w.take(outcome)
		case <-hangups:
			w.hungUp()
		case <-wake.C:
		case <-alive.C:
		}
	}
}

// stop ends the work in hand.
func (w *watchRun) stop(ctx context.Context, current *work, breakOff context.CancelCauseFunc) {
	w.notify.Stopping()
	if current.done != nil {
		w.say("stopping: " + current.what)
		if ctx.Err() == nil { // an error ends it, and nobody waits for the work
			breakOff(context.Canceled)
		}
		timer := time.AfterFunc(stopTime, func() { breakOff(context.Cause(ctx)) })
		w.take(<-current.done)
		timer.Stop()
	}
	breakOff(nil)
	if !w.once {
		w.log.InfoContext(ctx, "stopped")
	}
}

// begin starts the next piece of work, if there is one and its time has come.
func (w *watchRun) begin(ctx context.Context) *work {
	if w.reloaded {
		w.reload()
	}
	now := w.Now()
	w.queue.wake(now)
	w.metrics.Queued.Set(float64(len(w.queue.next)))
	w.metrics.Waiting.Set(float64(len(w.queue.later)))
	if now.Before(w.holdOff) {
		w.say(fmt.Sprintf("%s; %s, trying again at %s", w.held, ui.Plural(len(w.queue.next), "repository")+" to look at", w.holdOff.Format(time.TimeOnly)))
		return &work{}
	}
	w.dirty = w.dirty || w.prune && !w.once && now.Sub(w.pruned) >= pruneEvery
	name, some := w.queue.take()
	if !some && (!w.prune || !w.dirty || now.Before(w.pruneAt)) {
		w.say(w.idle())
		return &work{}
	}
	current := &work{make(chan *watchOutcome, 1), "keeping the budget"}
	do := func() *watchOutcome { return w.pruneOnce(ctx) }
	if some {
		current.what = "looking at " + name
		do = func() *watchOutcome { return w.pushOnce(ctx, name) }
	} else {
		w.dirty, w.pruned = false, now
	}
	w.sink.alive()
	w.say(current.what)
	go func() { current.done <- do() }()
	return current
}

// idle is what the service manager is told while nothing is to be done.
func (w *watchRun) idle() string {
	s := w.watcher.Stats()
	text := "watching " + ui.Plural(s.Folders, "folder")
	if s.Polling != "" {
		text += " by comparing their times"
	}
	if n := len(w.queue.later); n > 0 {
		text += "; " + ui.Plural(n, "repository") + " to be looked at again"
	}
	return text + fmt.Sprintf("; pushed %s since the start", ui.Size(w.totals.bytes))
}

// say tells the service manager what goes on, if it is anything new.
func (w *watchRun) say(status string) {
	if status != w.status {
		w.status = status
		w.notify.Status(status)
	}
}

// untilWake is how long nothing has to be done unless something happens.
func (w *watchRun) untilWake() time.Duration {
	now := w.Now()
	next := w.queue.pause(now, time.Hour)
	if w.dirty && w.prune {
		next = min(next, w.pruneAt.Sub(now))
	} else if w.prune {
		next = min(next, w.pruned.Add(pruneEvery).Sub(now))
	}
	// While work goes on or the bucket is left in peace, nothing that waits matters.
	return max(next, w.holdOff.Sub(now), beat/100)
}

// beatEvery is how often the loop turns at least: as often as the service manager wants to hear of it.
func (w *watchRun) beatEvery() time.Duration {
	if interval := w.notify.Interval(); interval > 0 {
		return min(interval, beat)
	}
	return beat
}

// beat says that the loop is alive, unless the work hangs that it waits for.
func (w *watchRun) beat(working bool) {
	h := *w.state.Load()
	h.beat, h.hangs = w.Now(), working && w.sink.quiet() > longestWork
	if !h.hangs {
		w.notify.Alive()
	}
	w.state.Store(&h)
}

// health is for the health check, which asks from other goroutines.
func (w *watchRun) health() daemon.Health {
	h, now := w.state.Load(), w.Now()
	switch {
	case now.Sub(h.beat) > longestBeat || h.hangs:
		return daemon.Health{Reason: "the watcher hangs"}
	case !h.failingSince.IsZero() && now.Sub(h.failingSince) > failingLong:
		return daemon.Health{Reason: h.why}
	}
	return daemon.Health{OK: true}
}

// hangups gives the hangup signals.
func (w *watchRun) hangups() <-chan os.Signal {
	if w.Hangups == nil {
		return nil
	}
	return w.Hangups()
}

// hungUp answers a hangup signal. It asks for the configuration to be read again, unless it says what it was made for: that the terminal is gone.
func (w *watchRun) hungUp() {
	if w.Interactive && !ui.IsTerminal(w.Stderr) {
		w.gone = true
		return
	}
	w.reloaded = true // once the work in hand is done, whose failure would count else
}

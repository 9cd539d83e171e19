package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/lmittmann/tint"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// watchOutcome is what became of one piece of work.
type watchOutcome struct {
	name       string // the repository's folder; empty for a prune
	repo       hub.Repo
	unfinished []hub.Commit
	result     *engine.Result
	left       []engine.Failure // what was left out, and what failed
	pruned     *engine.Pruned
	elapsed    time.Duration
	err        error
}

// pushOnce pushes what is finished of one repository.
func (w *watchRun) pushOnce(ctx context.Context, name string) *watchOutcome {
	begin := w.Now()
	out := &watchOutcome{name: name, result: &engine.Result{}}
	out.repo, out.err = hub.ParseFolder(name)
	if out.err == nil && w.wants(out.repo) {
		out.err = w.push(ctx, out)
	}
	out.elapsed = w.Now().Sub(begin)
	return out
}

func (w *watchRun) push(ctx context.Context, out *watchOutcome) error {
	inv, err := w.cache.Scan(ctx, func(r hub.Repo) bool { return r == out.repo })
	if err != nil {
		return err
	}
	repo := inv.Repo(out.repo)
	if repo == nil {
		return nil // gone again
	}
	out.unfinished = plan.Unfinished(repo, w.cache.LockedBlobs(repo), w.Now())
	plan.Without(repo, out.unfinished)
	o := &pushOptions{app: w.app, allowGated: w.allowGated, allowGatedGiven: w.allowGatedGiven}
	if err := o.choose(ctx, w.cache, inv); err != nil {
		return err
	}
	out.left = o.gated
	for _, p := range inv.Problems {
		if p.Lost {
			out.left = append(out.left, engine.Failure{Key: manifest.Key{Repo: out.repo}, Err: errors.New(p.String())})
		}
	}
	policy := plan.PushPolicy{}
	p, err := w.engine.PreparePush(ctx, inv, policy)
	if err != nil {
		return err
	}
	for _, r := range p.Refused {
		out.left = append(out.left, refusalFailure(r))
	}
	if p.Empty() {
		return nil
	}
	out.result, err = w.engine.Push(ctx, p, policy)
	out.left = append(out.left, out.result.Failures...)
	return err
}

// pruneOnce keeps the budget.
func (w *watchRun) pruneOnce(ctx context.Context) *watchOutcome {
	begin := w.Now()
	out := &watchOutcome{}
	out.pruned, out.err = w.keepBudget(ctx)
	out.elapsed = w.Now().Sub(begin)
	return out
}

func (w *watchRun) keepBudget(ctx context.Context) (_ *engine.Pruned, err error) {
	none := &engine.Pruned{}
	unlock, err := w.lockCache(w.cache, "prune")
	if err != nil {
		return none, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	p, err := w.planPrune(ctx, w.engine, w.pruneRules)
	if err != nil {
		return none, err
	}
	if !p.Met() {
		w.sayOnce("budget", func() {
			w.log.WarnContext(ctx, "the cache does not fit its budget, and nothing more may go; hf-cache-sync prune --dry-run says why",
				slog.String("size", ui.Size(p.After())), slog.String("budget", ui.Size(p.Budget)))
		})
	}
	return w.engine.Prune(ctx, p, hfcache.RemoveOptions{Now: w.Now, Grace: time.Duration(w.pruneRules.grace)})
}

// sayOnce says something unless it was said before. Only the loop calls it while no work is done, or the work while the loop waits for it.
func (w *watchRun) sayOnce(key string, say func()) {
	if !w.said[key] {
		w.said[key] = true
		say()
	}
}

// take learns from what became of a piece of work.
func (w *watchRun) take(out *watchOutcome) {
	if out.err != nil {
		w.failed(out)
		return
	}
	w.recovered()
	if out.name == "" {
		w.takePruned(out)
		return
	}
	r := out.result
	w.metrics.PushedBytes.Add(float64(r.Bytes))
	w.metrics.PushedBlobs.Add(float64(r.Blobs))
	w.metrics.PushedRevisions.Add(float64(r.Manifests))
	w.metrics.LastSuccess.Set(float64(w.Now().Unix()))
	if r.Blobs+r.Manifests+r.Refs > 0 {
		w.dirty = true
		w.log.Info("pushed", slog.String("repo", out.repo.String()), slog.Int("blobs", r.Blobs), slog.Int64("bytes", r.Bytes),
			slog.Int("manifests", r.Manifests), slog.Int("refs", r.Refs), slog.Float64("seconds", seconds(out.elapsed)))
	}
	again := len(out.unfinished) > 0
	for _, f := range out.left {
		again = again || errors.Is(f.Err, engine.ErrChanged)
		if !f.Harmless {
			w.metrics.Failures.WithLabelValues(failureKind(f.Err)).Inc()
			w.failure = &someFailedError{failureCode(out.left), "some files were not pushed; they are named above", ""}
		}
		w.sayOnce(f.String(), func() {
			if f.Harmless {
				w.log.Info("left out", slog.String("what", f.String()))
			} else {
				w.log.Error("not pushed", slog.String("what", f.String()))
			}
		})
	}
	for _, commit := range out.unfinished {
		w.sayOnce("unfinished "+out.name+string(commit), func() {
			w.log.Info("somebody downloads it; it waits", slog.String("revision", manifest.Key{Repo: out.repo, Commit: commit}.String()))
		})
	}
	if again && !w.once {
		w.later[out.name] = w.Now().Add(max(w.debounce, time.Second/10))
	}
	if len(w.queue) == 0 {
		debug.FreeOSMemory() // reading a cache takes much more than waiting for the next change
	}
}

func (w *watchRun) takePruned(out *watchOutcome) {
	w.metrics.FreedBytes.Add(float64(out.pruned.Bytes))
	for _, s := range out.pruned.Done {
		w.log.Info("removed", slog.String("what", pruneName(s.Kind, s.Repo, s.Commit, s.Place)), slog.Int64("bytes", s.Bytes), slog.String("why", s.Reason))
	}
	debug.FreeOSMemory()
}

// failed is for what ended a piece of work. It is tried again, less and less often; why is said once.
func (w *watchRun) failed(out *watchOutcome) {
	if errors.Is(out.err, context.Canceled) {
		return // it was broken off by the end
	}
	if _, busy := errors.AsType[*hfcache.BusyError](out.err); busy {
		w.log.Debug("the budget is not kept now", slog.Any("error", out.err))
		return
	}
	v := explain(out.err)
	w.metrics.Failures.WithLabelValues(failureKind(out.err)).Inc()
	w.sayOnce("failed "+out.err.Error(), func() { w.log.Error("it does not work", slog.String("why", v.message), slog.String("hint", v.hint)) })
	w.failure = out.err
	if out.name != "" && !w.once {
		w.queue[out.name] = true
	}
	h := *w.state.Load()
	if h.failingSince.IsZero() {
		h.failingSince = w.Now()
	}
	h.why = v.message
	w.state.Store(&h)
	if w.once {
		clear(w.queue)
		return
	}
	wait := w.retry.NextBackOff()
	if v.code == exitDenied || v.code == exitUsage {
		wait = 5 * time.Minute // keys do not change by themselves; SIGHUP tries at once
	}
	w.holdOff = w.Now().Add(wait)
	w.log.Debug("trying again later", slog.Duration("in", wait))
}

// recovered ends a time of failures.
func (w *watchRun) recovered() {
	w.retry.Reset()
	h := *w.state.Load()
	if h.failingSince.IsZero() {
		return
	}
	w.log.Info("it works again", slog.Duration("after", w.Now().Sub(h.failingSince).Round(time.Second)))
	h.failingSince, h.why = time.Time{}, ""
	w.state.Store(&h)
	for key := range w.said {
		if len(key) > 7 && key[:7] == "failed " {
			delete(w.said, key)
		}
	}
}

// failureKind is how the metrics call an error.
func failureKind(err error) string {
	switch explain(err).code {
	case exitUnreachable:
		return "unreachable"
	case exitDenied:
		return "denied"
	case exitDamaged:
		return "damaged"
	case exitDisk:
		return "disk"
	}
	return "other"
}

// folders are the names of what is in the cache folder.
func (w *watchRun) folders() []string {
	entries, err := os.ReadDir(w.cache.Dir())
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if repo, err := hub.ParseFolder(e.Name()); err == nil && repo.Folder() == e.Name() && e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// daemonLogger is the log of a program that runs for long.
func (a *app) daemonLogger() *slog.Logger {
	level := slog.LevelInfo
	switch {
	case a.verbose:
		level = slog.LevelDebug
	case a.quiet:
		level = slog.LevelError
	}
	switch {
	case a.events != nil:
		return slog.New(slog.NewJSONHandler(a.Stderr, &slog.HandlerOptions{Level: level}))
	case ui.IsTerminal(a.Stderr):
		_, noColor := a.Env("NO_COLOR")
		return slog.New(tint.NewTextHandler(a.Stderr, &tint.Options{Level: level, NoColor: noColor, TimeFormat: time.TimeOnly}))
	}
	return slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: level}))
}

// watchSink logs what the engine reports, in detail only.
type watchSink struct{ log *slog.Logger }

// Event logs it.
func (s watchSink) Event(e event.Event) {
	if e.Kind == event.ItemDone || e.Kind == event.Retrying || e.Kind == event.Waiting {
		s.log.Debug("event", slog.String("kind", e.Kind.String()), slog.String("item", e.Item), slog.String("repo", e.Repo), slog.String("text", e.Text), slog.Any("error", e.Err))
	}
}

package cli

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// watchOutcome is what became of one piece of work.
type watchOutcome struct {
	name       string // the repository's folder; empty for a prune
	repo       hub.Repo
	unfinished []hub.Commit // left for later, because somebody downloads them
	revisions  []plan.RevisionUploads
	result     *engine.Result
	left       []engine.Failure // what was left out, and cannot be helped by trying again
	answered   bool             // the bucket did what it was asked for
	pruned     *engine.Pruned
	overBudget *plan.Prune // the budget cannot be met
	elapsed    time.Duration
	err        error
	brokenOff  bool // the end came first
}

// pushOnce pushes what is finished of one repository.
func (w *watchRun) pushOnce(ctx context.Context, name string) *watchOutcome {
	begin := w.Now()
	out := &watchOutcome{name: name, result: &engine.Result{}}
	out.repo, out.err = hub.ParseFolder(name)
	if out.err == nil && w.wants(out.repo) {
		out.err = w.push(ctx, out)
	}
	out.elapsed, out.brokenOff = w.Now().Sub(begin), ctx.Err() != nil
	return out
}

func (w *watchRun) push(ctx context.Context, out *watchOutcome) error {
	inv, err := w.cache.Scan(ctx, func(r hub.Repo) bool { return r == out.repo })
	if err != nil {
		return err
	}
	repo := inv.Repo(out.repo)
	if repo == nil {
		return nil // gone again, or nothing that can be read
	}
	out.unfinished = plan.Unfinished(repo, w.cache.LockedBlobs(repo), w.Now())
	plan.Without(repo, out.unfinished)
	o := &pushOptions{app: w.app, allowGated: w.allowGated, allowGatedGiven: w.allowGatedGiven}
	if err := o.choose(ctx, w.cache, inv); err != nil {
		return err
	}
	policy := plan.PushPolicy{}
	p, err := w.engine.PreparePush(ctx, inv, policy)
	if err != nil {
		return err
	}
	out.answered = slices.ContainsFunc(inv.Repos, func(r *hfcache.Repo) bool { return len(r.Revisions)+len(r.Refs) > 0 })
	out.left = o.gated
	for _, problem := range inv.Problems {
		if problem.Lost {
			out.left = append(out.left, engine.Failure{Key: manifest.Key{Repo: out.repo}, Err: errors.New(problem.String())})
		}
	}
	for _, r := range p.Refused {
		out.left = append(out.left, refusalFailure(r))
	}
	out.left = append(out.left, keptFailures(p.Kept)...)
	if p.Empty() {
		return nil
	}
	out.revisions = p.PerRevision()
	out.result, err = w.engine.Push(ctx, p, policy)
	out.left = append(out.left, keptFailures(out.result.Kept)...)
	return err
}

// pruneOnce keeps the budget.
func (w *watchRun) pruneOnce(ctx context.Context) *watchOutcome {
	begin := w.Now()
	out := &watchOutcome{result: &engine.Result{}, pruned: &engine.Pruned{}}
	out.err = w.keepBudget(ctx, out)
	out.elapsed, out.brokenOff = w.Now().Sub(begin), ctx.Err() != nil
	return out
}

func (w *watchRun) keepBudget(ctx context.Context, out *watchOutcome) (err error) {
	unlock, err := w.lockCache(w.cache, "prune")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	p, unasked, err := w.planPrune(ctx, w.engine, w.pruneRules, nil)
	if err != nil {
		return err
	}
	if !p.Met() {
		out.overBudget = p
	}
	if len(p.Steps) == 0 {
		return unasked
	}
	out.pruned, err = w.engine.Prune(ctx, p, hfcache.RemoveOptions{Now: w.Now, Grace: time.Duration(w.pruneRules.grace)})
	if err != nil {
		return err
	}
	return unasked
}

// take learns from what became of a piece of work.
func (w *watchRun) take(out *watchOutcome) {
	w.count(out)
	w.sayRemoved(out)
	switch {
	case out.brokenOff && out.err != nil:
		w.log.Info("broken off; the next push carries it on", slog.String("repo", repoOf(out.name)))
	case out.err != nil:
		w.failed(out)
	case out.pruned != nil:
		w.sayBudget(out.overBudget)
	default:
		w.takePushed(out)
	}
	if len(w.queue.next) == 0 {
		debug.FreeOSMemory() // reading a cache takes much more than waiting for the next change
	}
}

// count adds up what was done, whether or not all of it was.
func (w *watchRun) count(out *watchOutcome) {
	r := out.result
	w.totals.repos[out.name] = true
	w.totals.blobs += r.Blobs
	w.totals.bytes += r.Bytes
	w.totals.manifests += r.Manifests
	w.totals.refs += r.Refs
	w.metrics.PushedBytes.Add(float64(max(0, r.Bytes-r.Resumed)))
	w.metrics.PushedBlobs.Add(float64(r.Blobs))
	w.metrics.PushedRevisions.Add(float64(r.Manifests))
	if out.pruned != nil {
		w.totals.freed += out.pruned.Bytes
		w.metrics.FreedBytes.Add(float64(out.pruned.Bytes))
	}
}

func (w *watchRun) takePushed(out *watchOutcome) {
	w.queue.done(out.name)
	w.dirty = true // whatever changed, the cache may have grown
	if out.answered {
		w.recovered()
	}
	w.sayPushed(out)
	again, bad := len(out.unfinished) > 0, false
	for _, f := range out.result.Failures {
		again = again || errors.Is(f.Err, engine.ErrChanged)
		// Another try finds damaged bytes as they are, after it has read all of them; the next change of the repository is the one to look again.
		bad = bad || !f.Harmless && explain(f.Err).code != exitDamaged
		w.complain(f)
	}
	for _, f := range out.left {
		w.complain(f)
	}
	for _, commit := range out.unfinished {
		key := manifest.Key{Repo: out.repo, Commit: commit}
		w.said.say("unfinished "+key.String(), func() {
			w.log.Info("somebody is downloading it; it waits", slog.String("repo", out.repo.String()), slog.String("commit", string(commit)))
			if len(w.totals.unfinished) < mostSaid {
				w.totals.unfinished = append(w.totals.unfinished, key)
			}
		})
	}
	switch {
	case w.once:
	case bad:
		w.queue.failed(out.name, w.Now())
	case again:
		w.queue.postpone(out.name, w.Now().Add(max(w.debounce, time.Second/10)))
	}
}

// sayPushed logs each revision that is in the bucket now and was not before.
func (w *watchRun) sayPushed(out *watchOutcome) {
	if out.answered {
		w.metrics.LastSuccess.Set(float64(w.Now().Unix()))
	}
	broken := map[hub.Commit]bool{}
	for _, f := range out.result.Failures {
		broken[f.Key.Commit] = broken[f.Key.Commit] || f.Ref == ""
	}
	for _, r := range out.revisions {
		if broken[r.Key.Commit] {
			continue
		}
		delete(w.said, "unfinished "+r.Key.String())
		w.log.Info("pushed", slog.String("repo", out.repo.String()), slog.String("commit", string(r.Key.Commit)), slog.Int("files", r.Files),
			slog.Int("blobs", r.Blobs), slog.Int64("bytes", r.Bytes), slog.Float64("seconds", seconds(out.elapsed)))
	}
	if n := out.result.Refs; n > 0 {
		w.log.Info("refs moved", slog.String("repo", out.repo.String()), slog.Int("refs", n))
	}
}

// complain names what was not pushed, once.
func (w *watchRun) complain(f engine.Failure) {
	if !f.Harmless {
		w.metrics.Failures.WithLabelValues(failureKind(f.Err)).Inc()
	}
	w.said.say(f.String(), func() {
		if len(w.totals.failures) < mostSaid {
			w.totals.failures = append(w.totals.failures, f)
		}
		if f.Harmless {
			w.log.Info("left out", slog.String("what", f.String()))
		} else {
			w.log.Error("not pushed", slog.String("what", f.String()))
		}
	})
}

// sayRemoved logs what a prune took.
func (w *watchRun) sayRemoved(out *watchOutcome) {
	if out.pruned == nil {
		return
	}
	for _, s := range out.pruned.Done {
		about := []any{
			slog.String("what", pruneName(s.Kind, s.Repo, s.Commit, s.Place)), slog.Int64("bytes", s.Bytes), slog.String("why", s.Reason),
		}
		if s.Kind == plan.PruneRevision {
			w.log.Info("evicted", about...)
		} else {
			w.log.Info("removed", about...)
		}
	}
	for _, s := range out.pruned.Skipped {
		w.log.Debug("left alone", slog.String("what", s.Place), slog.String("why", s.Why))
	}
}

// sayBudget says once that the budget cannot be met; p is nil if it is.
func (w *watchRun) sayBudget(p *plan.Prune) {
	const key = "budget"
	if p == nil {
		delete(w.said, key)
		return
	}
	w.said.say(key, func() {
		w.log.Warn("the cache does not fit its budget, and nothing more may be evicted", slog.String("size", ui.Size(p.After())), slog.String("budget", ui.Size(p.Budget)),
			slog.String("hint", "hf-cache-sync prune --dry-run says what holds the space"))
	})
}

// failed is for what ended a piece of work. It is tried again, less and less often; why is said once.
func (w *watchRun) failed(out *watchOutcome) {
	if _, busy := errors.AsType[*hfcache.BusyError](out.err); busy {
		w.said.say("busy", func() { w.log.Info("the budget is kept later", slog.Any("error", out.err)) })
		w.dirty, w.pruneAt = !w.once, w.Now().Add(pruneAgain)
		return
	}
	v, kind := explain(out.err), failureKind(out.err)
	w.metrics.Failures.WithLabelValues(kind).Inc()
	switch {
	case concernsAll(out.err, v.code):
		w.failedForAll(out, v, kind)
	case out.name == "":
		w.dirty, w.pruneAt = !w.once, w.Now().Add(longestWait)
		w.complain(engine.Failure{Err: out.err})
	default:
		w.complain(engine.Failure{Key: manifest.Key{Repo: out.repo}, Err: out.err})
		if !w.once {
			w.queue.failed(out.name, w.Now())
		}
	}
}

// concernsAll says whether an error would meet every other repository as well.
func concernsAll(err error, code int) bool {
	switch code {
	case exitUnreachable, exitDenied, exitDisk:
		return true
	}
	return errors.Is(err, store.ErrBadConfig)
}

// failedForAll has everything wait.
func (w *watchRun) failedForAll(out *watchOutcome, v verdict, kind string) {
	if w.once {
		w.failure, w.queue = out.err, newWatchQueue()
		w.dirty = false
		return
	}
	if out.name == "" {
		w.dirty = true
	} else {
		w.queue.add(out.name)
	}
	wait := w.retry.NextBackOff()
	if v.code != exitUnreachable {
		wait = longestWait // such things do not heal by themselves
	}
	w.holdOff, w.held = w.Now().Add(wait), v.message
	w.said.say("failed "+kind, func() {
		hint := v.hint
		if v.code == exitUnreachable && !errors.Is(out.err, store.ErrNoFolder) {
			hint = "check the network and the endpoint"
		}
		w.log.Error("the bucket cannot be used", slog.String("why", v.message), slog.String("hint", hint),
			slog.String("next", "it is tried again, at least every "+longestWait.String()+", and at once on SIGHUP"))
	})
	w.log.Debug("it failed again", slog.Any("error", out.err), slog.Duration("next_try_in", wait))
	h := *w.state.Load()
	if h.failingSince.IsZero() {
		h.failingSince = w.Now()
	}
	h.why = v.message
	w.state.Store(&h)
}

// recovered ends a time of failures.
func (w *watchRun) recovered() {
	w.retry.Reset()
	h := *w.state.Load()
	if h.failingSince.IsZero() {
		return
	}
	w.log.Info("it works again", slog.String("bucket", w.bucket()), slog.String("after", w.Now().Sub(h.failingSince).Round(time.Second).String()))
	h.failingSince, h.why = time.Time{}, ""
	w.state.Store(&h)
	for key := range w.said {
		if strings.HasPrefix(key, "failed ") {
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
	case exitUsage:
		return "configuration"
	}
	return "other"
}

package cli

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lmittmann/tint"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

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

// saidOnce is what has been complained of, so that each complaint is made once, or once more after very many others. It is used by one goroutine.
type saidOnce map[string]bool

// mostSaid bounds what a watcher remembers that runs for months.
const mostSaid = 10_000

// say calls f unless it was called with this key before.
func (s saidOnce) say(key string, f func()) {
	if !s[key] {
		if len(s) == mostSaid {
			clear(s)
		}
		s[key] = true
		f()
	}
}

// watchSink logs in detail what the engine reports, and remembers when that was last: work that reports nothing for very long hangs.
type watchSink struct {
	log  *slog.Logger
	now  func() time.Time
	last atomic.Int64 // in nanoseconds since 1970
}

// Event logs it.
func (s *watchSink) Event(e event.Event) {
	s.alive()
	switch e.Kind {
	case event.ItemStarted, event.ItemDone, event.Waiting:
		s.log.Debug("at work", slog.String("kind", e.Kind.String()),
			slog.String("item", e.Item), slog.String("path", e.Path), slog.String("repo", e.Repo), slog.String("text", e.Text), slog.Any("error", e.Err))
	case event.Note:
		s.log.Info("note", slog.String("repo", e.Repo), slog.String("what", e.Text))
	case event.TransferStarted, event.ItemProgress, event.TransferDone, event.Retrying, event.Phase:
		// The store's own log has what is tried again, and the rest is for bars.
	}
}

// alive says that work goes on.
func (s *watchSink) alive() { s.last.Store(s.now().UnixNano()) }

// quiet is for how long nothing was reported.
func (s *watchSink) quiet() time.Duration { return s.now().Sub(time.Unix(0, s.last.Load())) }

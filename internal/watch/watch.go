package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Options say how to watch.
type Options struct {
	// Debounce is how long nothing may have happened in a unit before it is reported.
	Debounce time.Duration
	// Rescan is how often the times of folders are compared.
	Rescan time.Duration
	// Wanted says which entries of the root are units.
	Wanted func(name string) bool
	// Log gets what goes wrong, each once. It must not be nil.
	Log *slog.Logger
	// Poll does without notifications.
	Poll bool
}

// pollEvery is how often folders are compared that the system does not watch for us, unless rescans are more often.
const pollEvery = 30 * time.Second

// Stats is what a watcher is doing.
type Stats struct {
	Folders int    // known
	Pending int    // units in which something happened, and that are not quiet yet
	Due     int    // units that are, and that nobody has taken yet
	Reports int    // taken so far
	Polling string // why there are no notifications for all folders; empty if there are
	Events  int    // notifications so far
	Rescans int
}

// Watcher watches one root. Use Run from one goroutine; Stats may be called from any.
type Watcher struct {
	options  Options
	folders  *folders
	pending  *pending
	notify   *fsnotify.Watcher // nil without notifications
	add      func(path string) error
	ready    chan []string
	missing  bool // the root, when it was last looked for
	overflow bool

	mu    sync.Mutex // guards stats
	stats Stats
}

// New prepares to watch a folder. The error wraps [fs.ErrNotExist] if there is none. Where the system has no notifications left, the watcher polls and says so in
// [Watcher.Stats] and in the log.
func New(root string, o Options) (*Watcher, error) {
	w := &Watcher{options: o, pending: newPending(o.Debounce), ready: make(chan []string), add: func(string) error { return nil }}
	w.folders = &folders{root: root, wanted: o.Wanted, known: map[string]*folder{}, watch: w.watchFolder}
	if err := w.folders.exists(); err != nil {
		return nil, fmt.Errorf("watching %s: %w", root, err)
	}
	if o.Poll {
		w.stats.Polling = "asked for"
		return w, nil
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.poll(err)
		return w, nil
	}
	w.notify, w.add = notify, notify.Add
	return w, nil
}

// Ready gives the names of units that changed and have been quiet since; right after the start, those of all, even if there are none. Whoever is busy gets all that came up meanwhile at once.
func (w *Watcher) Ready() <-chan []string { return w.ready }

// Stats says what the watcher is doing.
func (w *Watcher) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

func (w *Watcher) count(change func(*Stats)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.stats)
}

// Run watches until ctx is done, and returns its error. It must be called once.
func (w *Watcher) Run(ctx context.Context) error {
	var events chan fsnotify.Event
	var failures chan error
	if w.notify != nil {
		defer w.notify.Close() //nolint:errcheck // nothing was written
		events, failures = w.notify.Events, w.notify.Errors
	}
	due := map[string]bool{}
	w.folders.visit(".", time.Now(), func(unit string) { due[unit] = true })
	rescan := time.NewTimer(w.pause())
	defer rescan.Stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	first := true
	for {
		var ready chan []string
		if first || len(due) > 0 {
			ready = w.ready
		}
		w.count(func(s *Stats) { s.Folders, s.Pending, s.Due = len(w.folders.known), len(w.pending.last), len(due) })
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			w.event(e)
		case err, ok := <-failures:
			if !ok {
				failures = nil
				continue
			}
			w.failed(err)
		case <-rescan.C:
			w.rescan()
			rescan.Reset(w.pause())
		case <-quiet.C:
		case ready <- names(due):
			clear(due)
			first = false
			w.count(func(s *Stats) { s.Reports++ })
		}
		if w.overflow {
			w.overflow = false
			w.rescan()
		}
		now := time.Now()
		units, next := w.pending.due(now)
		for _, unit := range units {
			due[unit] = true
			// What happened so far is known now; a rescan has to tell only what comes.
			w.folders.visit(unit, now, func(string) {})
		}
		if next > 0 {
			quiet.Reset(next)
		}
	}
}

// names are the members of a set, sorted.
func names(set map[string]bool) []string {
	sorted := make([]string, 0, len(set))
	for name := range set {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	return sorted
}

// pause is how long it is to the next rescan.
func (w *Watcher) pause() time.Duration {
	if w.Stats().Polling != "" {
		return min(w.options.Rescan, max(pollEvery, w.options.Debounce))
	}
	return w.options.Rescan
}

// event takes a notification in.
func (w *Watcher) event(e fsnotify.Event) {
	w.count(func(s *Stats) { s.Events++ })
	if e.Op == fsnotify.Chmod { // times and modes: reading a file is no change
		return
	}
	rel, err := filepath.Rel(w.folders.root, e.Name)
	if err != nil || !filepath.IsLocal(rel) {
		return
	}
	rel = filepath.ToSlash(rel)
	unit := unitOf(rel)
	if unit == "" || !w.options.Wanted(unit) {
		return
	}
	now := time.Now()
	w.pending.touch(unit, now)
	if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		w.folders.forget(rel, func(string) {}) // another of the same name needs a watch of its own
	}
	if e.Has(fsnotify.Create) && w.folders.interesting(path.Dir(rel), path.Base(rel)) {
		if parent := w.folders.known[path.Dir(rel)]; parent != nil {
			parent.fresh = true // its list of folders is not what it was
		}
		w.folders.visit(rel, now, func(unit string) { w.pending.touch(unit, now) })
	}
}

// rescan compares all folders with what is known.
func (w *Watcher) rescan() {
	w.count(func(s *Stats) { s.Rescans++ })
	err := w.folders.exists()
	if missing := err != nil; missing != w.missing {
		w.missing = missing
		if missing {
			w.options.Log.Warn("the folder cannot be read; watching goes on when it is back", slog.String("folder", w.folders.root), slog.Any("error", err))
		} else {
			w.options.Log.Info("the folder is back", slog.String("folder", w.folders.root))
		}
	}
	now := time.Now()
	w.folders.visit(".", now, func(unit string) { w.pending.touch(unit, now) })
}

// watchFolder asks for notifications of one folder.
func (w *Watcher) watchFolder(rel string) {
	err := w.add(filepath.Join(w.folders.root, filepath.FromSlash(rel)))
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		w.poll(err)
	}
}

// failed takes in what the notifications complain of.
func (w *Watcher) failed(err error) {
	if errors.Is(err, fsnotify.ErrEventOverflow) {
		w.options.Log.Info("too much happened at once to be told one by one; all folders are compared")
	} else {
		// Such as that a folder was gone before its watch was (inotify_rm_watch(2), EINVAL).
		w.options.Log.Debug("notifications failed; all folders are compared", slog.Any("error", err))
	}
	w.overflow = true
}

// poll does without notifications for what the system does not watch, and says so once.
func (w *Watcher) poll(err error) {
	if w.Stats().Polling != "" {
		return
	}
	w.count(func(s *Stats) { s.Polling = err.Error() })
	attrs := []any{slog.Any("error", err), slog.Duration("every", w.pause())}
	if hint := limitHint(err); hint != "" {
		attrs = append(attrs, slog.String("hint", hint))
	}
	w.options.Log.Warn("the system does not watch all folders for us; their times are compared instead", attrs...)
}

// limitHint says what raises the limit that was met.
func limitHint(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC): // inotify_add_watch(2)
		return "sudo sysctl fs.inotify.max_user_watches=1048576"
	case errors.Is(err, syscall.EMFILE): // inotify_init1(2); also too many open files
		return "sudo sysctl fs.inotify.max_user_instances=1024, or a larger ulimit -n"
	}
	return ""
}

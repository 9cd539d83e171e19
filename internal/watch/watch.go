package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"
	"runtime"
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
	// Rescan is how often the times of folders are compared; every five minutes if it is not positive.
	Rescan time.Duration
	// Wanted says which entries of the root are units.
	Wanted func(name string) bool
	// Log gets what goes wrong, each once. It may be nil.
	Log *slog.Logger
	// Poll does without notifications.
	Poll bool
}

const (
	// rescanEvery is how often folders are compared if nobody says.
	rescanEvery = 5 * time.Minute
	// pollEvery is how often folders are compared that the system does not watch for us, unless rescans are more often.
	pollEvery = 30 * time.Second
)

// Stats is what a watcher is doing.
type Stats struct {
	Folders   int       // known
	Pending   int       // units in which something happened, and that are not quiet yet
	Due       int       // units that are, and that nobody has taken yet
	Reports   int       // taken so far
	Polling   string    // why there are no notifications for all folders; empty if there are
	Events    int       // notifications so far
	Rescans   int       // so far
	Rescanned time.Time // when the last one ended; zero before the first
}

// Watcher watches one root. Use Run from one goroutine; Stats may be called from any.
type Watcher struct {
	options Options
	notify  *fsnotify.Watcher // nil without notifications
	inbox   *inbox
	add     func(path string) error
	every   time.Duration // at most, between rescans while there are not notifications for all
	ready   chan []string

	// What follows is Run's.
	folders *folders
	pending *pending
	due     map[string]bool
	sorted  []string // the names of due; nil if they have to be sorted again
	asked   bool     // nobody was told of the start yet
	missing bool     // the root, when it was last looked for
	again   bool     // notifications were lost, so all has to be compared
	polling string
	warned  bool // of polling

	mu    sync.Mutex // guards stats
	stats Stats
}

// New prepares to watch a folder. The error wraps [fs.ErrNotExist] if there is none. Where the system has no notifications left, the watcher polls and says so in
// [Watcher.Stats] and in the log.
func New(root string, o Options) (*Watcher, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rescan <= 0 {
		o.Rescan = rescanEvery
	}
	w := &Watcher{
		options: o, pending: newPending(o.Debounce), ready: make(chan []string), every: pollEvery, inbox: newInbox(root),
		due: map[string]bool{}, asked: true, folders: newFolders(root, o.Wanted),
	}
	if err := w.folders.exists(); err != nil {
		return nil, fmt.Errorf("watching %s: %w", root, err)
	}
	if o.Poll {
		w.polling = "asked for"
	} else if takesDescriptors(runtime.GOOS) {
		w.polling = "notifications would take an open file for each file"
	} else if notify, err := fsnotify.NewWatcher(); err != nil {
		w.poll(err)
	} else {
		w.notify, w.add = notify, notify.Add
		w.folders.watch, w.folders.forgot = w.watchFolder, w.forgetFolder
	}
	w.count(0)
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

// count brings the figures up to date, all at once, so that whoever sees an event counted sees what it led to.
func (w *Watcher) count(events int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.stats
	s.Folders, s.Pending, s.Due, s.Polling = len(w.folders.known), len(w.pending.last), len(w.due), w.polling
	s.Events += events
}

// Run watches until ctx is done, and returns its error. It must be called once.
func (w *Watcher) Run(ctx context.Context) error {
	if w.notify != nil {
		var listener sync.WaitGroup
		listener.Go(func() { w.inbox.listen(w.notify.Events, w.notify.Errors) })
		defer listener.Wait()
		defer w.notify.Close() //nolint:errcheck // nothing was written
	}
	w.folders.visit(".", time.Now(), func(unit string, _ bool) { w.due[unit] = true })
	pause := w.pause()
	rescan := time.NewTimer(pause)
	defer rescan.Stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	events := 0
	for {
		if next := w.settle(time.Now()); next > 0 {
			quiet.Reset(next)
		}
		if w.again {
			w.again = false
			w.rescan()
			continue
		}
		w.resume()
		if p := w.pause(); p != pause { // it began to poll, or has no need to any more
			pause = p
			rescan.Reset(pause)
		}
		w.count(events)
		events = 0
		ready, names := w.report()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.inbox.filled:
			events = w.open(w.inbox.take())
		case <-rescan.C:
			w.rescan()
			rescan.Reset(pause)
		case <-quiet.C:
		case ready <- names:
			w.taken()
		}
	}
}

// settle moves the units that are quiet to those that are due, and says how long it is until there may be more; 0 if none is pending.
func (w *Watcher) settle(now time.Time) time.Duration {
	for {
		units, next := w.pending.due(now)
		if len(units) == 0 {
			return next
		}
		for _, unit := range units {
			// What happened so far is known now, and a rescan has to tell only what comes. Where nothing tells of changes, this is how they are seen.
			moved := false
			w.folders.visit(unit, now, func(_ string, news bool) { moved = moved || news })
			if moved {
				w.pending.touch(unit, now)
			} else {
				w.due[unit], w.sorted = true, nil
			}
		}
	}
}

// report is what there is to tell, and where to; nowhere if there is nothing.
func (w *Watcher) report() (chan<- []string, []string) {
	if len(w.due) == 0 && !w.asked {
		return nil, nil
	}
	if w.sorted == nil { // not for each event that comes while the reader is busy
		w.sorted = make([]string, 0, len(w.due))
		for name := range w.due {
			w.sorted = append(w.sorted, name)
		}
		slices.Sort(w.sorted)
	}
	return w.ready, w.sorted
}

// taken notes that somebody has what there was to tell.
func (w *Watcher) taken() {
	clear(w.due)
	w.sorted, w.asked = nil, false // the slice is the reader's
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Reports++
}

// pause is how long it is from one rescan to the next.
func (w *Watcher) pause() time.Duration {
	if w.polling != "" || w.missing {
		return min(w.options.Rescan, max(w.every, w.options.Debounce))
	}
	return w.options.Rescan
}

// open takes notifications in, and says how many.
func (w *Watcher) open(m mail) int {
	now := time.Now()
	for unit := range m.written {
		if w.folders.known[unit] != nil {
			w.pending.touch(unit, now)
		}
	}
	for _, e := range m.events {
		w.event(e, now)
	}
	if m.lost != nil {
		w.failed(m.lost)
	}
	return m.count
}

// event takes in that something was made, removed or renamed.
func (w *Watcher) event(e fsnotify.Event, now time.Time) {
	rel, err := filepath.Rel(w.folders.root, e.Name)
	if err != nil || !filepath.IsLocal(rel) {
		return
	}
	rel = filepath.ToSlash(rel)
	gone := e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)
	unit := unitOf(rel)
	if unit == "" {
		if gone { // and with it all watches, even if there is another one by now
			w.folders.forget(".", func(string, bool) {})
			w.again = true
		}
		return
	}
	if !w.options.Wanted(unit) {
		return
	}
	touch := func(unit string, _ bool) { w.pending.touch(unit, now) }
	if w.folders.known[unit] != nil {
		touch(unit, false)
	}
	if gone {
		w.folders.forget(rel, touch) // another of the same name needs a watch of its own
	}
	if e.Has(fsnotify.Create) && w.folders.interesting(path.Dir(rel), path.Base(rel)) {
		if parent := w.folders.known[path.Dir(rel)]; parent != nil {
			parent.fresh = true // its list of folders is not what it was
		}
		w.folders.visit(rel, now, touch)
	}
}

// rescan compares all folders with what is known.
func (w *Watcher) rescan() {
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
	w.folders.visit(".", now, func(unit string, _ bool) { w.pending.touch(unit, now) })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Rescans++
	w.stats.Rescanned = time.Now()
}

// watchFolder asks for notifications of one folder.
func (w *Watcher) watchFolder(rel string) bool {
	err := w.add(filepath.Join(w.folders.root, filepath.FromSlash(rel)))
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		w.poll(err)
	}
	return err == nil
}

// forgetFolder takes that back. Mostly the system has done so by itself.
func (w *Watcher) forgetFolder(rel string) {
	_ = w.notify.Remove(filepath.Join(w.folders.root, filepath.FromSlash(rel)))
}

// failed takes in what the notifications complain of.
func (w *Watcher) failed(err error) {
	if errors.Is(err, fsnotify.ErrEventOverflow) {
		w.options.Log.Info("too much happened at once to be told one by one; all folders are compared")
	} else {
		// Such as that a folder was gone before its watch was (inotify_rm_watch(2), EINVAL).
		w.options.Log.Debug("notifications failed; all folders are compared", slog.Any("error", err))
	}
	w.again = true
}

// poll does without notifications for what the system does not watch, and says so once.
func (w *Watcher) poll(err error) {
	if w.polling != "" {
		return
	}
	w.polling = err.Error()
	if w.warned {
		return
	}
	w.warned = true
	attrs := []any{slog.Any("error", err), slog.Duration("every", w.pause())}
	if hint := limitHint(err); hint != "" {
		attrs = append(attrs, slog.String("hint", hint))
	}
	w.options.Log.Warn("the system does not watch all folders for us; their times are compared instead", attrs...)
}

// resume ends polling when there are notifications for all folders after all: somebody has raised the limit, or there are fewer folders.
func (w *Watcher) resume() {
	if w.notify != nil && w.polling != "" && w.folders.blind == 0 && !w.missing {
		w.polling = ""
		w.options.Log.Debug("the system watches all folders again")
	}
}

// takesDescriptors says whether a system's notifications keep open every file in a folder that is watched, as kqueue's do (fsnotify's package documentation). A cache has too many
// of them, and a file that is open keeps its space after it was removed.
func takesDescriptors(system string) bool {
	return slices.Contains([]string{"darwin", "ios", "dragonfly", "freebsd", "netbsd", "openbsd"}, system)
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

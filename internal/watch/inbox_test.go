package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"
)

// awaitUnit takes reports until one has a unit.
func (r *running) awaitUnit(unit string) {
	r.t.Helper()
	for !slices.Contains(r.next(), unit) {
		runtime.Gosched()
	}
}

// settled takes reports until there is nothing more to come.
func (r *running) settled() {
	r.t.Helper()
	for s := r.Stats(); s.Pending+s.Due > 0; s = r.Stats() {
		r.turn()
	}
}

// Someone removes the cache and downloads anew: the new folders have watches, those of the old ones went with them.
func TestRootAnew(t *testing.T) {
	for name, away := range map[string]func(root string) error{
		"removed":    os.RemoveAll,
		"moved away": func(root string) error { return os.Rename(root, root+".away") },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, nil, Options{})
			if err := away(r.root); err != nil {
				t.Fatal(err)
			}
			mkdir(t, r.root, "models--new", "blobs")
			r.awaitUnit("models--new")
			r.settled()
			r.expectEvent("models--new", func() { create(t, r.root, "models--new", "blobs", "x") })
			mkdir(t, r.root, "models--newer")
			r.awaitUnit("models--newer")
		})
	}
}

// While the root is away it is looked for more often than a rescan is due.
func TestRootIsWaitedFor(t *testing.T) {
	r := start(t, nil, Options{})
	if err := os.RemoveAll(r.root); err != nil {
		t.Fatal(err)
	}
	for rescans := r.Stats().Rescans; r.Stats().Rescans < rescans+3; {
		r.turn()
	}
	mkdir(t, r.root, "models--a", "blobs")
	r.awaitUnit("models--a")
	r.settled()
	r.expectEvent("models--a", func() { create(t, r.root, "models--a", "blobs", "x") })
}

// A folder has one watch, whatever its name; the system would go on telling of it by the old one.
func TestRenamedRepository(t *testing.T) {
	r := start(t, nil, Options{})
	if err := os.Rename(filepath.Join(r.root, "models--a"), filepath.Join(r.root, "models--c")); err != nil {
		t.Fatal(err)
	}
	r.awaitUnit("models--c")
	r.settled()
	for _, dir := range []string{".", "blobs", "snapshots/1"} {
		r.expectEvent("models--c", func() { create(t, r.root, "models--c", dir, "x") })
	}
}

// What only looks like a repository is none.
func TestNoFolders(t *testing.T) {
	r := start(t, nil, Options{})
	if err := os.Symlink(t.TempDir(), filepath.Join(r.root, "models--link")); err != nil {
		t.Fatal(err)
	}
	create(t, r.root, "models--file")
	r.expectEvent("models--b", func() { create(t, r.root, "models--b", "x") })
}

// A change while a unit is worked on is told of after.
func TestChangeWhileWorking(t *testing.T) {
	r := start(t, nil, Options{})
	for _, name := range []string{"x", "y", "z"} {
		create(t, r.root, "models--b", name)
		r.awaitUnit("models--b")
	}
}

// Raising the limit is enough; nothing has to be started again.
func TestLimitLifted(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	r := start(t, func(w *Watcher) {
		add := w.add
		w.add = func(path string) error {
			if full.Load() {
				return syscall.ENOSPC
			}
			return add(path)
		}
	}, Options{})
	if s := r.Stats(); s.Polling != syscall.ENOSPC.Error() {
		t.Errorf("it says: %+v", s)
	}
	full.Store(false)
	for r.Stats().Polling != "" {
		r.turn()
	}
	r.settled()
	r.expectEvent("models--a", func() { create(t, r.root, "models--a", "snapshots", "1", "x") })
}

// The library tells of errors and events while it holds the lock that adding a watch needs.
func TestTellingWhileAdding(t *testing.T) {
	r := start(t, func(w *Watcher) {
		add := w.add
		w.add = func(path string) error {
			w.notify.Errors <- syscall.EINVAL
			for range 3 {
				w.notify.Events <- fsnotify.Event{Name: path, Op: fsnotify.Write}
			}
			return add(path)
		}
	}, Options{})
	mkdir(t, r.root, "models--c", "blobs")
	r.awaitUnit("models--c")
}

// One process moves folders away and removes them, as a prune does, while another one makes new ones.
func TestChurn(t *testing.T) {
	r := start(t, nil, Options{Debounce: time.Millisecond})
	out := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var failures [2]error
	writers.Go(func() {
		defer cancel()
		for i := range 1500 {
			here, there := filepath.Join(r.root, "models--a", "snapshots", strconv.Itoa(i)), filepath.Join(out, strconv.Itoa(i))
			failures[0] = errors.Join(failures[0], os.MkdirAll(here, 0o700))
			runtime.Gosched()
			failures[0] = errors.Join(failures[0], os.Rename(here, there), os.Remove(there))
		}
	})
	writers.Go(func() {
		dir := filepath.Join(r.root, "models--b", "snapshots", "n")
		for ctx.Err() == nil {
			failures[1] = errors.Join(failures[1], os.MkdirAll(dir, 0o700), os.Remove(dir))
		}
	})
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.Ready():
		case <-r.late:
			cancel()
			t.Errorf("it hangs: %+v", r.Stats())
		}
	}
	writers.Wait()
	if err := errors.Join(failures[:]...); err != nil {
		t.Fatal(err)
	}
	mkdir(t, r.root, "models--c") // and it is alive
	r.awaitUnit("models--c")
}

// Writes are a sign of life, each unit's one; what is made or goes is kept in order, up to a bound.
func TestInbox(t *testing.T) {
	root := filepath.Join("some", "where")
	b := newInbox(root + string(filepath.Separator))
	name := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	for range 1000 {
		b.put(fsnotify.Event{Name: name("r", "blobs", "x"), Op: fsnotify.Write})
		b.put(fsnotify.Event{Name: name("r", "blobs", "x"), Op: fsnotify.Chmod})
	}
	b.put(fsnotify.Event{Name: filepath.Join("some", "where-else", "x"), Op: fsnotify.Write})
	made := fsnotify.Event{Name: name("q", "refs"), Op: fsnotify.Create}
	gone := fsnotify.Event{Name: name("q", "refs"), Op: fsnotify.Remove}
	b.put(made)
	b.put(gone)
	b.put(made)
	<-b.filled
	got := b.take()
	if diff := cmp.Diff([]fsnotify.Event{made, gone, made}, got.events, cmp.Comparer(func(x, y fsnotify.Event) bool { return x == y })); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]struct{}{"r": {}}, got.written); diff != "" || got.count != 2004 || got.lost != nil {
		t.Errorf("%d, %v, written (-want +got):\n%s", got.count, got.lost, diff)
	}
	for i := range inboxSize + 1 {
		if i == inboxSize && b.mail.lost != nil {
			t.Error("it lost some without need")
		}
		b.put(made)
	}
	if got = b.take(); len(got.events) != inboxSize || !errors.Is(got.lost, fsnotify.ErrEventOverflow) {
		t.Errorf("it keeps %d, %v", len(got.events), got.lost)
	}
	if got = b.take(); got.count != 0 {
		t.Errorf("it was not emptied: %+v", got)
	}
}

func TestDefaults(t *testing.T) {
	w, err := New(t.TempDir(), Options{Poll: true})
	if err != nil {
		t.Fatal(err)
	}
	w.polling = ""
	w.poll(syscall.EIO) // it has a log
	if w.options.Rescan != rescanEvery || w.pause() != pollEvery {
		t.Errorf("every %s, polling every %s", w.options.Rescan, w.pause())
	}
}

// Whoever waits for the first report is told of an empty cache, too.
func TestEmptyRoot(t *testing.T) {
	w, err := New(t.TempDir(), Options{Poll: true, Wanted: everything})
	if err != nil {
		t.Fatal(err)
	}
	if to, names := w.report(); to == nil || len(names) > 0 {
		t.Errorf("at first it reports %v, to anybody: %t", names, to != nil)
	}
	w.taken()
	if to, _ := w.report(); to != nil {
		t.Error("it reports nothing for ever")
	}
}

// A cache at the edge of the limit would fill the log.
func TestLimitIsNamedOnce(t *testing.T) {
	var log bytes.Buffer
	w, err := New(t.TempDir(), Options{Poll: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.polling = ""
		w.poll(syscall.ENOSPC)
	}
	if n := strings.Count(log.String(), "level="); n != 1 || w.polling == "" {
		t.Errorf("polling %q, logged %d times: %s", w.polling, n, log.String())
	}
}

// When the root is told to be gone, so are all watches, although a new root may have the number of the old one.
func TestRootGoneIsForgotten(t *testing.T) {
	root := t.TempDir()
	mkdir(t, root, "r", "blobs")
	w, err := New(root, Options{Poll: true, Wanted: everything})
	if err != nil {
		t.Fatal(err)
	}
	w.folders.visit(".", time.Now(), func(string, bool) {})
	w.event(fsnotify.Event{Name: root, Op: fsnotify.Remove}, time.Now())
	if n := len(w.folders.known); n > 0 || !w.again {
		t.Errorf("it still knows %d folders; to be compared: %t", n, w.again)
	}
}

// What becomes due while the reader is busy is in the report that it takes then, and in no later one; the report is its own.
func TestReportGrows(t *testing.T) {
	w, err := New(t.TempDir(), Options{Poll: true, Wanted: everything})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	expect := func(want ...string) []string {
		t.Helper()
		w.settle(now)
		_, names := w.report()
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
		return names
	}
	w.pending.touch("b", now)
	expect("b")
	w.pending.touch("a", now)
	w.pending.touch("b", now)
	taken := expect("a", "b")
	w.taken()
	expect()
	w.pending.touch("c", now)
	expect("c")
	if diff := cmp.Diff([]string{"a", "b"}, taken); diff != "" {
		t.Errorf("what was taken is now (-want +got):\n%s", diff)
	}
}

// What a write costs while the reader is busy and a thousand units wait for it.
func BenchmarkWrite(b *testing.B) {
	for _, units := range []int{1, 1000} {
		b.Run(fmt.Sprint(units), func(b *testing.B) {
			root := b.TempDir()
			w, err := New(root, Options{Debounce: time.Hour, Poll: true, Wanted: everything})
			if err != nil {
				b.Fatal(err)
			}
			for i := range units {
				name := "models--" + strconv.Itoa(i)
				w.folders.known[name] = &folder{}
				w.due[name] = true
				w.pending.touch(name, time.Now())
			}
			e := fsnotify.Event{Name: filepath.Join(root, "models--0", "blobs", "x.incomplete"), Op: fsnotify.Write}
			b.ReportAllocs()
			for b.Loop() {
				w.inbox.put(e)
				w.count(w.open(w.inbox.take()))
				w.settle(time.Now())
				w.report()
			}
		})
	}
}

func TestTakesDescriptors(t *testing.T) {
	for system, want := range map[string]bool{"darwin": true, "freebsd": true, "linux": false, "windows": false} {
		if got := takesDescriptors(system); got != want {
			t.Errorf("%s: %t", system, got)
		}
	}
}

package watch

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"
)

func mkdir(t *testing.T, parts ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(parts...), 0o700); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, parts ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(parts...), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// age makes folders look as if nothing had happened in them for long.
func age(t *testing.T, root string) {
	t.Helper()
	then := time.Now().Add(-time.Hour)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, then, then))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// patience is for how long a watcher may be silent before a test gives it up.
const patience = 20 * time.Second

// running is a watcher at work.
type running struct {
	*Watcher
	late <-chan struct{} // closed when the test has waited for too long
	t    *testing.T
	root string
	log  *bytes.Buffer // to be read when it has stopped
	stop func()
}

// start watches a folder with two repositories and waits until it has reported both.
func start(t *testing.T, change func(*Watcher), o Options) *running {
	t.Helper()
	root := t.TempDir()
	mkdir(t, root, "models--a", "blobs")
	mkdir(t, root, "models--a", "snapshots", "1")
	mkdir(t, root, "models--b")
	mkdir(t, root, ".locks", "models--a")
	age(t, root)
	late, inTime := context.WithTimeout(t.Context(), patience)
	t.Cleanup(inTime)
	r := &running{t: t, late: late.Done(), root: root, log: &bytes.Buffer{}}
	o.Wanted = func(name string) bool { return strings.HasPrefix(name, "models--") }
	o.Log = slog.New(slog.NewTextHandler(r.log, nil))
	if o.Debounce == 0 {
		o.Debounce = 10 * time.Millisecond
	}
	if o.Rescan == 0 {
		o.Rescan = time.Hour
	}
	w, err := New(root, o)
	if err != nil {
		t.Fatal(err)
	}
	// Shorter than real ones; still far above the clock ticks of local file systems.
	w.folders.tick, w.every = 100*time.Millisecond, 5*time.Millisecond
	if change != nil {
		change(w)
	}
	r.Watcher = w
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("it does not end")
		}
	}
	t.Cleanup(r.stop)
	r.expect("models--a", "models--b")
	return r
}

// expect waits for a report and compares it.
func (r *running) expect(want ...string) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.next()); diff != "" {
		r.t.Errorf("reported (-want +got):\n%s", diff)
	}
}

// next waits for a report.
func (r *running) next() []string {
	r.t.Helper()
	select {
	case names := <-r.Ready():
		return names
	case <-r.late:
		r.t.Fatalf("nothing is reported; it says: %+v", r.Stats())
		return nil
	}
}

// turn takes a report if there is one.
func (r *running) turn() []string {
	r.t.Helper()
	select {
	case names := <-r.Ready():
		return names
	case <-r.late:
		r.t.Fatalf("what has to happen does not; it says: %+v", r.Stats())
	default:
		runtime.Gosched()
	}
	return nil
}

// await takes reports until f is true, and fails the test if one has another unit.
func (r *running) await(unit string, f func(Stats) bool) {
	r.t.Helper()
	for !f(r.Stats()) {
		if names := r.turn(); names != nil {
			if diff := cmp.Diff([]string{unit}, names); diff != "" {
				r.t.Errorf("reported (-want +got):\n%s", diff)
			}
		}
	}
}

// expectEvent makes a change and waits until the system has told of it, and the unit was reported after that.
func (r *running) expectEvent(unit string, change func()) {
	r.t.Helper()
	before := r.Stats()
	change()
	r.await(unit, func(s Stats) bool { return s.Events > before.Events })
	reports := r.Stats().Reports
	r.await(unit, func(s Stats) bool { return s.Reports > reports && s.Pending == 0 })
}

func TestNotifications(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, root string){
		"a blob": func(t *testing.T, root string) { t.Helper(); create(t, root, "models--a", "blobs", "x") },
		"a file in a folder of a snapshot": func(t *testing.T, root string) {
			t.Helper()
			mkdir(t, root, "models--a", "snapshots", "1", "sub", "deeper")
			create(t, root, "models--a", "snapshots", "1", "sub", "deeper", "x")
		},
		"a ref in a folder": func(t *testing.T, root string) {
			t.Helper()
			mkdir(t, root, "models--a", "refs", "refs", "pr")
			create(t, root, "models--a", "refs", "refs", "pr", "1")
		},
		"a rename": func(t *testing.T, root string) {
			t.Helper()
			create(t, root, "outside")
			if err := os.Rename(filepath.Join(root, "outside"), filepath.Join(root, "models--a", "blobs", "x")); err != nil {
				t.Fatal(err)
			}
		},
		"a folder that is made anew": func(t *testing.T, root string) {
			t.Helper()
			snapshot := filepath.Join(root, "models--a", "snapshots", "1")
			if err := os.Remove(snapshot); err != nil {
				t.Fatal(err)
			}
			mkdir(t, snapshot)
			create(t, snapshot, "x")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, nil, Options{})
			r.expectEvent("models--a", func() { change(t, r.root) })
			// And it is still being watched, as deep as it goes now.
			err := filepath.WalkDir(filepath.Join(r.root, "models--a"), func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					r.expectEvent("models--a", func() { create(t, path, "once more") })
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Reading a file, or changing who may, is no change of the cache.
func TestModesAreNoChange(t *testing.T) {
	r := start(t, nil, Options{})
	file := filepath.Join(r.root, "models--a", "blobs", "x")
	r.expectEvent("models--a", func() { create(t, file) })
	before := r.Stats()
	if err := os.Chmod(file, 0o400); err != nil {
		t.Fatal(err)
	}
	for r.Stats().Events == before.Events {
		runtime.Gosched()
	}
	if s := r.Stats(); s.Pending+s.Due > 0 {
		t.Errorf("it says: %+v", s)
	}
}

func TestNewRepository(t *testing.T) {
	r := start(t, nil, Options{})
	create(t, r.root, ".locks", "models--a", "x.lock") // not of interest
	mkdir(t, r.root, "unknown")
	r.expectEvent("models--c", func() { mkdir(t, r.root, "models--c", "snapshots", "1") })
	r.expectEvent("models--c", func() { create(t, r.root, "models--c", "snapshots", "1", "x") })
	if err := os.RemoveAll(filepath.Join(r.root, "models--c")); err != nil {
		t.Fatal(err)
	}
	create(t, r.root, "models--b", "x")
	for {
		names := r.next()
		if diff := cmp.Diff([]string{"models--b"}, names); diff == "" || cmp.Equal([]string{"models--b", "models--c"}, names) {
			break
		}
	}
}

// Without notifications the times of folders tell, and only they.
func TestPolling(t *testing.T) {
	r := start(t, nil, Options{Poll: true, Rescan: 5 * time.Millisecond})
	mkdir(t, r.root, "models--a", "snapshots", "1", "sub")
	r.expect("models--a")
	create(t, r.root, "models--a", "snapshots", "1", "sub", "x")
	r.expect("models--a")
	if s := r.Stats(); s.Polling != "asked for" || s.Events > 0 || s.Folders < 6 {
		t.Errorf("it says: %+v", s)
	}
}

// A limit of the system is named, with what raises it, once, and what is not watched is polled.
func TestLimit(t *testing.T) {
	for err, hint := range map[syscall.Errno]string{syscall.ENOSPC: "max_user_watches", syscall.EMFILE: "max_user_instances", syscall.EIO: ""} {
		t.Run(err.Error(), func(t *testing.T) {
			r := start(t, func(w *Watcher) {
				add := w.add
				w.add = func(path string) error {
					if strings.Contains(path, "snapshots") {
						return err
					}
					return add(path)
				}
			}, Options{Rescan: 5 * time.Millisecond})
			create(t, r.root, "models--a", "snapshots", "1", "x")
			r.expect("models--a")
			r.stop()
			if s := r.Stats(); s.Polling != err.Error() {
				t.Errorf("it says: %+v", s)
			}
			if text := r.log.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, hint) {
				t.Errorf("it logs: %s", text)
			}
		})
	}
}

// After lost notifications everything is compared.
func TestOverflow(t *testing.T) {
	var lost *fsnotify.Watcher
	r := start(t, func(w *Watcher) {
		lost = w.notify
		w.add = func(string) error { return nil } // nothing is told
	}, Options{})
	create(t, r.root, "models--b", "x")
	lost.Errors <- fsnotify.ErrEventOverflow
	r.expect("models--b")
	if s := r.Stats(); s.Rescans != 1 || s.Rescanned.IsZero() {
		t.Errorf("it says: %+v", s)
	}
}

// A root that goes, as a share that is unmounted, is waited for.
func TestRootGone(t *testing.T) {
	r := start(t, nil, Options{Poll: true, Rescan: 5 * time.Millisecond})
	away := r.root + ".away"
	if err := os.Rename(r.root, away); err != nil {
		t.Fatal(err)
	}
	for rescans := r.Stats().Rescans; r.Stats().Rescans < rescans+3; { // it has looked at least twice
		r.turn()
	}
	if err := os.Rename(away, r.root); err != nil {
		t.Fatal(err)
	}
	create(t, r.root, "models--a", "x")
	for {
		if names := r.next(); len(names) > 0 && names[0] == "models--a" {
			break
		}
	}
	r.stop()
	if text := r.log.String(); strings.Count(text, "cannot be read") != 1 || !strings.Contains(text, "is back") {
		t.Errorf("it logs: %s", text)
	}
}

func TestNoRoot(t *testing.T) {
	_, err := New(filepath.Join(t.TempDir(), "none"), Options{Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Nobody takes reports for a while: they are gathered, and each unit is in the next one once.
func TestBusyReader(t *testing.T) {
	r := start(t, nil, Options{})
	const files = 50
	for i := range files {
		create(t, r.root, "models--b", strings.Repeat("x", i+1))
	}
	create(t, r.root, "models--a", "x")
	for r.Stats().Events <= files || r.Stats().Due < 2 {
		runtime.Gosched()
	}
	r.expect("models--a", "models--b")
}

func TestPending(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(1000+seconds), 0) }
	p := newPending(30 * time.Second)
	expect := func(now int, want []string, next time.Duration) {
		t.Helper()
		names, wait := p.due(at(now))
		if diff := cmp.Diff(want, names); diff != "" || wait != next {
			t.Errorf("at %d: next in %s, want %s; due (-want +got):\n%s", now, wait, next, diff)
		}
	}
	expect(0, nil, 0)
	p.touch("b", at(0))
	p.touch("a", at(0))
	p.touch("busy", at(0))
	expect(29, nil, time.Second)
	p.touch("busy", at(29))
	p.touch("busy", at(20)) // told late
	expect(30, []string{"a", "b"}, 29*time.Second)
	p.touch("a", at(31))
	expect(59, []string{"busy"}, 2*time.Second)
	expect(61, []string{"a"}, 0)
	expect(99, nil, 0)
	p.touch("first", at(100))
	p.touch("before", at(90)) // told late
	expect(119, nil, time.Second)
	expect(120, []string{"before"}, 10*time.Second)
	expect(130, []string{"first"}, 0)
}

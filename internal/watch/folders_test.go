package watch

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func everything(string) bool { return true }

// A folder that has just changed may change again without another time.
func TestFreshFoldersAreReadAgain(t *testing.T) {
	root := t.TempDir()
	mkdir(t, root, "r", "refs")
	f := newFolders(root, everything)
	told := func(now time.Time) (n int) {
		f.visit(".", now, func(string, bool) { n++ })
		return n
	}
	info, err := os.Stat(filepath.Join(root, "r", "refs"))
	if err != nil {
		t.Fatal(err)
	}
	changed := info.ModTime()
	if told(changed) == 0 || told(changed.Add(time.Second)) == 0 || told(changed.Add(time.Hour)) == 0 {
		t.Error("it takes a folder for known that had just changed")
	}
	if n := told(changed.Add(2 * time.Hour)); n > 0 {
		t.Errorf("it reports %d old changes", n)
	}
}

// A server's clock may be ahead of ours, and people set times as they like.
func TestTimesInTheFuture(t *testing.T) {
	root := t.TempDir()
	mkdir(t, root, "r", "refs")
	now := time.Now()
	if err := os.Chtimes(filepath.Join(root, "r", "refs"), now, now.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	f := newFolders(root, everything)
	for range 2 {
		f.visit(".", now, func(string, bool) {})
		now = now.Add(time.Minute)
	}
	f.visit(".", now, func(unit string, _ bool) { t.Errorf("it reports %s for ever", unit) })
}

// What cannot be read is looked for each time, and told of when it begins and when it ends.
func TestDenied(t *testing.T) {
	root := t.TempDir()
	mkdir(t, root, "r", "refs", "sub")
	age(t, root)
	f := newFolders(root, everything)
	denied := true
	f.readDir = func(name string) ([]fs.DirEntry, error) {
		if denied && filepath.Base(name) == "refs" {
			return nil, fs.ErrPermission
		}
		return os.ReadDir(name)
	}
	told := func() (n int) {
		f.visit(".", time.Now(), func(string, bool) { n++ })
		return n
	}
	got := []int{told(), told(), told()}
	denied = false
	got = append(got, told(), told())
	if diff := cmp.Diff([]int{2, 0, 0, 2, 0}, got); diff != "" { // r and refs; nothing; refs and sub
		t.Errorf("it told (-want +got):\n%s", diff)
	}
}

// The root may be a link to another disk; repositories that are links are left alone.
func TestLinks(t *testing.T) {
	target := t.TempDir()
	mkdir(t, target, "r", "blobs")
	for name, to := range map[string]string{filepath.Join(target, "link"): t.TempDir(), filepath.Join(target, "r", "refs"): t.TempDir()} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(t.TempDir(), "hub")
	if err := os.Symlink(target, root); err != nil {
		t.Fatal(err)
	}
	f := newFolders(root, everything)
	f.visit(".", time.Now(), func(string, bool) {})
	var got []string
	for name := range f.known {
		got = append(got, name)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{".", "r", "r/blobs"}, got); diff != "" {
		t.Errorf("it knows (-want +got):\n%s", diff)
	}
}

// A folder that takes the place of another one is watched, and whatever was watched is let go once.
func TestReplacedFolders(t *testing.T) {
	root := t.TempDir()
	mkdir(t, root, "r", "blobs")
	mkdir(t, root, "new")
	age(t, root)
	f := newFolders(root, func(name string) bool { return name == "r" })
	watches := map[string]int{}
	f.watch = func(name string) bool { watches[name]++; return true }
	f.forgot = func(name string) { watches[name]-- }
	f.visit(".", time.Now(), func(string, bool) {})
	calls := 0
	f.watch = func(name string) bool { watches[name]++; calls++; return true }
	blobs := filepath.Join(root, "r", "blobs")
	if err := os.Remove(blobs); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(root, "new"), blobs); err != nil {
		t.Fatal(err)
	}
	age(t, root) // so only the folder itself tells
	f.visit(".", time.Now(), func(string, bool) {})
	if diff := cmp.Diff(map[string]int{".": 1, "r": 1, "r/blobs": 1}, watches); diff != "" || calls != 1 || f.blind != 0 {
		t.Errorf("%d calls, %d blind; it watches (-want +got):\n%s", calls, f.blind, diff)
	}
	f.forget(".", func(string, bool) {})
	if diff := cmp.Diff(map[string]int{".": 0, "r": 0, "r/blobs": 0}, watches); diff != "" || len(f.known) > 0 || f.blind != 0 {
		t.Errorf("it still knows %d, %d blind; it watches (-want +got):\n%s", len(f.known), f.blind, diff)
	}
}

// Without notifications a unit is not quiet if it is seen to have changed since.
func TestPollingSeesThatItIsNotQuiet(t *testing.T) {
	root := t.TempDir()
	mkdir(t, root, "r", "blobs")
	age(t, root)
	w, err := New(root, Options{Debounce: 30 * time.Second, Wanted: everything, Poll: true})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	w.folders.visit(".", now, func(string, bool) {})
	w.pending.touch("r", now)
	then := now.Add(-time.Minute)
	if err := os.Chtimes(filepath.Join(root, "r", "blobs"), then, then); err != nil {
		t.Fatal(err)
	}
	if next := w.settle(now.Add(30 * time.Second)); next != 30*time.Second || len(w.due) > 0 {
		t.Errorf("next in %s, due: %v", next, w.due)
	}
	if next := w.settle(now.Add(60 * time.Second)); next != 0 || !w.due["r"] {
		t.Errorf("next in %s, due: %v", next, w.due)
	}
}

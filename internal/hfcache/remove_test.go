package hfcache

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

const (
	removeGrace = time.Hour
	removeOther = scanRepo + "snapshots/" + quarantineOther + "/"
	removeBlobs = scanRepo + "blobs/"
)

// afterwards is when everything that a test has just written is old.
func afterwards() time.Time { return time.Now().Add(48 * time.Hour) }

func remover(t *testing.T, dir string) *Remover {
	t.Helper()
	c, err := Open(dir, Options{})
	finish(t, err)
	t.Cleanup(func() { finish(t, c.Close()) })
	return c.Remover(RemoveOptions{Now: afterwards, Grace: removeGrace})
}

// touch makes a file, a link or a folder young.
func touch(t *testing.T, name string) {
	t.Helper()
	finish(t, os.Chtimes(name, time.Time{}, afterwards().Add(-time.Minute)))
}

// remains lists what is there beside locks.
func remains(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for _, line := range listing(t, dir) {
		if !strings.HasPrefix(line, locksDir) {
			names = append(names, line)
		}
	}
	return names
}

// diskUse is what all files take on the disk, each counted once however many names it has.
func diskUse(t *testing.T, dir string) (sum int64) {
	t.Helper()
	seen := map[Inode]bool{}
	finish(t, filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		bytes, inode := onDisk(info)
		inode.Names = 0
		if !seen[inode] {
			seen[inode] = true
			sum += bytes
		}
		return nil
	}))
	return sum
}

// removing calls f and makes sure that it says rightly what the disk got back.
func removing(t *testing.T, dir string, f func() (Removed, error)) Removed {
	t.Helper()
	before := diskUse(t, dir)
	out, err := f()
	finish(t, err)
	if got := before - diskUse(t, dir); got != out.Bytes {
		t.Errorf("it says that %d bytes are free, and %d are", out.Bytes, got)
	}
	return out
}

// twoRevisions is a repository in which a blob belongs to both revisions, one to each, and one to none.
func twoRevisions() map[string]string {
	return map[string]string{
		removeBlobs + "both": "both", removeBlobs + "first": "first", removeBlobs + "second": "second", removeBlobs + "none": "none",
		scanSnap + "a": "->../../blobs/both", scanSnap + "sub/b": "->../../../blobs/first", scanSnap + "own": "a real file",
		removeOther + "a": "->../../blobs/both", removeOther + "c": "->../../blobs/second",
		scanRepo + "refs/main": quarantineOther, scanRepo + "refs/v1": scanCommit, scanRepo + "refs/refs/pr/1": scanCommit,
		scanRepo + "trees/" + scanCommit + ".json": scanTree, scanRepo + ".no_exist/" + scanCommit + "/sub/x": "",
		scanRepo + "trees/" + quarantineOther + ".json": "{}", scanRepo + ".no_exist/" + quarantineOther + "/y": "",
	}
}

func firstRefs() []hub.Ref { return []hub.Ref{"refs/pr/1", "v1"} }

func (r *Remover) first(t *testing.T) (Removed, error) {
	t.Helper()
	return r.Revision(t.Context(), quarantineRepo, scanCommit, firstRefs(), []string{"first"})
}

func TestRemoveRevision(t *testing.T) {
	dir := layout(t, twoRevisions())
	out := removing(t, dir, func() (Removed, error) { return remover(t, dir).first(t) })
	if out.Skipped != nil || out.Bytes == 0 {
		t.Errorf("removed %+v", out)
	}
	want := []string{
		scanRepo + ".no_exist/" + quarantineOther + "/y", removeBlobs + "both", removeBlobs + "none", removeBlobs + "second",
		scanRepo + "refs/main", removeOther + "a -> ../../blobs/both", removeOther + "c -> ../../blobs/second",
		scanRepo + "trees/" + quarantineOther + ".json",
	}
	slices.Sort(want)
	got := remains(t, dir)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the cache (-want +got):\n%s", diff)
	}
	for _, gone := range []string{".hf-cache-sync", "snapshots/" + scanCommit, ".no_exist/" + scanCommit} {
		if _, err := os.Lstat(filepath.Join(dir, scanRepo, gone)); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	again := removing(t, dir, func() (Removed, error) { return remover(t, dir).first(t) })
	if diff := cmp.Diff(Removed{}, again); diff != "" {
		t.Errorf("once more (-want +got):\n%s", diff)
	}
}

// Whatever a client has done since the cache was read is left alone, and a revision with it.
func TestRemoveRevisionInUse(t *testing.T) {
	const snapshot = scanRepo + "snapshots/" + scanCommit
	in := func(dir, name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	for _, test := range []struct {
		name string
		at   string // the step after which act is called; "" is before all
		act  func(t *testing.T, dir string)
		want []Skipped
	}{
		{"its folder is young", "", func(t *testing.T, dir string) { t.Helper(); touch(t, in(dir, snapshot)) }, []Skipped{{snapshot, whyYoung}}},
		{"a folder in it is young", "", func(t *testing.T, dir string) { t.Helper(); touch(t, in(dir, scanSnap+"sub")) }, []Skipped{{snapshot, whyYoung}}},
		{"a real file in it is young", "", func(t *testing.T, dir string) { t.Helper(); touch(t, in(dir, scanSnap+"own")) }, []Skipped{{snapshot, whyYoung}}},
		{"its listing is young", "", func(t *testing.T, dir string) { t.Helper(); touch(t, in(dir, scanRepo+"trees/"+scanCommit+".json")) }, []Skipped{{snapshot, whyYoung}}},
		{"a mark is young", "", func(t *testing.T, dir string) {
			t.Helper()
			touch(t, in(dir, scanRepo+".no_exist/"+scanCommit+"/sub/x"))
		}, []Skipped{{snapshot, whyYoung}}},
		{"it is being downloaded", "", func(t *testing.T, dir string) {
			t.Helper()
			put(t, in(dir, removeBlobs+scanSHA+".01234567.incomplete"), "he")
			touch(t, in(dir, removeBlobs+scanSHA+".01234567.incomplete"))
		}, []Skipped{{snapshot, "a client downloads blobs/" + scanSHA + ".01234567.incomplete"}}},
		{"a ref that nobody knew of", "", func(t *testing.T, dir string) { t.Helper(); put(t, in(dir, scanRepo+"refs/new"), scanCommit) }, []Skipped{{snapshot, "refs/new names it"}}},
		{"a ref that is being written", "", func(t *testing.T, dir string) {
			t.Helper()
			put(t, in(dir, scanRepo+"refs/new.01234567.tmp"), scanCommit)
			touch(t, in(dir, scanRepo+"refs/new.01234567.tmp"))
		}, []Skipped{{snapshot, "refs/new.01234567.tmp names it"}}},
		{"another snapshot is a link to it", "", func(t *testing.T, dir string) {
			t.Helper()
			symlink(t, scanCommit, in(dir, scanRepo+"snapshots/alias"))
		}, []Skipped{{snapshot, "snapshots/alias links into it"}}},
		{"a ref is renewed", "took refs/v1", func(t *testing.T, dir string) { t.Helper(); put(t, in(dir, scanRepo+"refs/v1"), scanCommit) }, []Skipped{{snapshot, "refs/v1 names it again"}}},
		{"a file comes", "took refs/v1", func(t *testing.T, dir string) { t.Helper(); symlink(t, "../../blobs/none", in(dir, scanSnap+"new")) }, []Skipped{{snapshot, whyChanged}}},
		{"a file is replaced", "took refs/v1", func(t *testing.T, dir string) {
			t.Helper()
			finish(t, os.Remove(in(dir, scanSnap+"a")))
			symlink(t, "../../blobs/both", in(dir, scanSnap+"a"))
			touch(t, in(dir, removeBlobs+"both"))
		}, []Skipped{{snapshot, whyChanged}}},
		{"a ref is renewed, and the snapshot with it", "took snapshots/" + scanCommit, func(t *testing.T, dir string) {
			t.Helper()
			put(t, in(dir, scanRepo+"refs/v1"), scanCommit)
			symlink(t, "../../../blobs/first", in(dir, scanSnap+"sub/b"))
			symlink(t, "../../blobs/none", in(dir, scanSnap+"more"))
		}, []Skipped{{snapshot, "refs/v1 names it again"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := layout(t, twoRevisions())
			r := remover(t, dir)
			if test.at == "" {
				test.act(t, dir)
			}
			before, added := remains(t, dir), int64(0)
			r.step = func(what string) {
				if what == test.at {
					used := diskUse(t, dir)
					test.act(t, dir)
					added += diskUse(t, dir) - used
					before = append(before, remains(t, dir)...)
				}
			}
			used := diskUse(t, dir)
			out, err := r.first(t)
			finish(t, err)
			if got := used + added - diskUse(t, dir); got != out.Bytes {
				t.Errorf("it says that %d bytes are free, and %d are", out.Bytes, got)
			}
			if diff := cmp.Diff(test.want, out.Skipped); diff != "" {
				t.Errorf("skipped (-want +got):\n%s", diff)
			}
			after := remains(t, dir)
			for _, name := range before {
				if !strings.Contains(name, "/.hf-cache-sync/") && !slices.Contains(after, name) {
					t.Errorf("%s is gone", name)
				}
			}
			for _, name := range after {
				if strings.Contains(name, "/.hf-cache-sync/") {
					t.Errorf("%s is left", name)
				}
			}
			if c := content(t, in(dir, scanRepo+"refs/v1")); c != scanCommit {
				t.Errorf("v1 is %q", c)
			}
		})
	}
}

// A ref that a client moves stays, whenever that happens, and the revision that it does not name any more goes.
func TestRemoveRevisionMovedRef(t *testing.T) {
	for _, at := range []string{"", "checked", "late"} {
		t.Run(at, func(t *testing.T) {
			dir := layout(t, twoRevisions())
			r := remover(t, dir)
			ref := filepath.Join(dir, scanRepo, "refs", "v1")
			move := func() { finish(t, os.WriteFile(ref, []byte(quarantineOther), 0o600)) }
			var open *os.File
			switch at {
			case "":
				move()
			case "late": // a client of old has the file open and writes into it where it stands
				var err error
				open, err = os.OpenFile(ref, os.O_WRONLY, 0)
				finish(t, err)
				t.Cleanup(func() { finish(t, open.Close()) })
			}
			r.step = func(what string) {
				switch {
				case what == "checked" && at == what:
					move()
				case what == "took snapshots/"+scanCommit && at == "late":
					_, err := open.WriteAt([]byte(quarantineOther), 0)
					finish(t, err)
				}
			}
			out := removing(t, dir, func() (Removed, error) { return r.first(t) })
			if at != "late" {
				if diff := cmp.Diff([]Skipped{{scanRepo + "refs/v1", "it names another commit by now"}}, out.Skipped); diff != "" {
					t.Errorf("skipped (-want +got):\n%s", diff)
				}
			}
			if c := content(t, ref); c != quarantineOther {
				t.Errorf("v1 is %q", c)
			}
			for _, gone := range []string{scanSnap, removeBlobs + "first", scanRepo + "refs/refs/pr/1"} {
				if _, err := os.Lstat(filepath.Join(dir, gone)); err == nil {
					t.Errorf("%s is still there", gone)
				}
			}
		})
	}
}

// What an interrupted write of a ref has left goes with the revision that it names, or a client's scan would give up the repository.
func TestRemoveRevisionStaleRef(t *testing.T) {
	dir := layout(t, twoRevisions())
	stale := filepath.Join(dir, scanRepo, "refs", "v1.01234567.tmp")
	put(t, stale, scanCommit)
	if out := removing(t, dir, func() (Removed, error) { return remover(t, dir).first(t) }); out.Skipped != nil {
		t.Errorf("skipped %v", out.Skipped)
	}
	if _, err := os.Lstat(stale); err == nil {
		t.Error("it is still there")
	}
}

func TestRemoveBlobs(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, dir string)
		locked func(t *testing.T, dir string) // called when the locks are held
		blobs  []string
		want   []Skipped
		gone   []string
	}{
		{name: "an orphan", blobs: []string{"none"}, gone: []string{removeBlobs + "none"}},
		{name: "one that is gone", blobs: []string{"nowhere"}},
		{name: "one in use", blobs: []string{"both", "none"}, want: []Skipped{{removeBlobs + "both", whyLinked}}, gone: []string{removeBlobs + "none"}},
		{name: "a young one", blobs: []string{"none"}, change: func(t *testing.T, dir string) {
			t.Helper()
			touch(t, filepath.Join(dir, removeBlobs, "none"))
		}, want: []Skipped{{removeBlobs + "none", whyYoung}}},
		{name: "a locked one", blobs: []string{"none"}, change: func(t *testing.T, dir string) {
			t.Helper()
			hold(t, filepath.Join(dir, ".locks", scanRepo, "none.lock"))
		}, want: []Skipped{{removeBlobs + "none", whyLocked}}},
		{name: "one that is linked after its lock was taken", blobs: []string{"none"}, locked: func(t *testing.T, dir string) {
			t.Helper()
			symlink(t, "../../../blobs/none", filepath.Join(dir, removeOther, "new", "x"))
		}, want: []Skipped{{removeBlobs + "none", whyLinked}}},
		{name: "one that a snapshot needs which scans do not understand", blobs: []string{"none"}, change: func(t *testing.T, dir string) {
			t.Helper()
			symlink(t, "../../blobs/none", filepath.Join(dir, scanRepo, "snapshots", "v1", "x"))
		}, want: []Skipped{{removeBlobs + "none", whyLinked}}},
		{name: "one that is needed where the cache has another path", blobs: []string{"none"}, change: func(t *testing.T, dir string) {
			t.Helper()
			symlink(t, "/root/.cache/huggingface/hub/"+removeBlobs+"none", filepath.Join(dir, removeOther, "x"))
		}, want: []Skipped{{removeBlobs + "none", whyLinked}}},
		{name: "in a folder that is a link", blobs: []string{"none"}, change: func(t *testing.T, dir string) {
			t.Helper()
			finish(t, os.Rename(filepath.Join(dir, removeBlobs), filepath.Join(dir, "elsewhere")))
			symlink(t, "../elsewhere", filepath.Join(dir, scanRepo, "blobs"))
		}, want: []Skipped{{removeBlobs + "none", whyLink}}},
		{name: "with snapshots that are a link", blobs: []string{"none"}, change: func(t *testing.T, dir string) {
			t.Helper()
			finish(t, os.Rename(filepath.Join(dir, scanRepo, "snapshots"), filepath.Join(dir, "elsewhere")))
			symlink(t, "../elsewhere", filepath.Join(dir, scanRepo, "snapshots"))
		}, want: []Skipped{{removeBlobs + "none", "snapshots is no folder, so that nobody can tell which blobs are in use"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := layout(t, twoRevisions())
			if test.change != nil {
				test.change(t, dir)
			}
			before := remains(t, dir)
			r := remover(t, dir)
			r.step = func(what string) {
				if what == "locked" && test.locked != nil {
					test.locked(t, dir)
					before = remains(t, dir)
				}
			}
			out := removing(t, dir, func() (Removed, error) { return r.Blobs(t.Context(), quarantineRepo, test.blobs) })
			if diff := cmp.Diff(test.want, out.Skipped); diff != "" {
				t.Errorf("skipped (-want +got):\n%s", diff)
			}
			want := slices.DeleteFunc(before, func(name string) bool { return slices.Contains(test.gone, name) })
			if diff := cmp.Diff(want, remains(t, dir)); diff != "" {
				t.Errorf("the cache (-want +got):\n%s", diff)
			}
		})
	}
}

// hold takes a lock as another process would: by a file opened on its own.
func hold(t *testing.T, name string) {
	t.Helper()
	finish(t, os.MkdirAll(filepath.Dir(name), 0o700))
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	finish(t, err)
	finish(t, tryLock(f, 0))
	t.Cleanup(func() { finish(t, f.Close()) })
}

// A file with two names is free when the second goes.
func TestRemoveHardLinks(t *testing.T) {
	dir := layout(t, twoRevisions())
	second := filepath.Join(dir, "models--org--second", "blobs", "none")
	finish(t, os.MkdirAll(filepath.Dir(second), 0o700))
	finish(t, os.Link(filepath.Join(dir, removeBlobs, "none"), second))
	r := remover(t, dir)
	if out := removing(t, dir, func() (Removed, error) { return r.Blobs(t.Context(), quarantineRepo, []string{"none"}) }); out.Bytes != 0 || out.Skipped != nil {
		t.Errorf("the first gave %+v", out)
	}
	other := hub.Repo{Type: hub.Model, Name: "org/second"}
	if out := removing(t, dir, func() (Removed, error) { return r.Blobs(t.Context(), other, []string{"none"}) }); out.Bytes == 0 || out.Skipped != nil {
		t.Errorf("the second gave %+v", out)
	}
}

// In a cache without links the bytes are in the snapshot, some with a second name in blobs/.
func TestRemoveWithoutSymlinks(t *testing.T) {
	dir := layout(t, map[string]string{scanSnap + "a": "its own", scanSnap + "sub/b": "linked", scanRepo + "refs/main": scanCommit, removeOther + "a": "other"})
	blob := filepath.Join(dir, removeBlobs, "first")
	finish(t, os.MkdirAll(filepath.Dir(blob), 0o700))
	finish(t, os.Link(filepath.Join(dir, scanSnap, "sub", "b"), blob))
	before := diskUse(t, dir)
	out := removing(t, dir, func() (Removed, error) {
		return remover(t, dir).Revision(t.Context(), quarantineRepo, scanCommit, []hub.Ref{"main"}, []string{"first"})
	})
	if out.Skipped != nil || out.Bytes == 0 || out.Bytes == before {
		t.Errorf("removed %+v of %d", out, before)
	}
	wantListing(t, filepath.Join(dir, scanRepo), "snapshots/"+quarantineOther+"/a")
}

// What stands in place of a folder is never followed, and what it leads to stays.
func TestRemoveHostile(t *testing.T) {
	link := func(name, text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			path := filepath.Join(dir, filepath.FromSlash(name))
			if _, err := os.Lstat(path); err == nil {
				finish(t, os.Rename(path, filepath.Join(dir, "elsewhere")))
			}
			symlink(t, strings.ReplaceAll(text, "HUB", dir), path)
		}
	}
	const snapshot = scanRepo + "snapshots/" + scanCommit
	for _, test := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   []Skipped
	}{
		{"the repository", link("models--org--name", "elsewhere"), []Skipped{{"models--org--name", whyLink}}},
		{"snapshots", link(scanRepo+"snapshots", "../elsewhere"), []Skipped{{snapshot, whyLink}}},
		{"the snapshot", link(snapshot, "../../elsewhere"), []Skipped{{snapshot, whyLink}}},
		{"the snapshot, to outside", link(snapshot, "HUB/../victim"), []Skipped{{snapshot, whyLink}}},
		{"refs", link(scanRepo+"refs", "../elsewhere"), []Skipped{{snapshot, "refs is no folder"}}},
		{"a folder of refs", link(scanRepo+"refs/refs", "../../elsewhere"), []Skipped{{snapshot, "refs/refs cannot be read"}}},
		{"marks", link(scanRepo+".no_exist", "../elsewhere"), []Skipped{{snapshot, whyLink}}},
		{"our folder", link(scanRepo+".hf-cache-sync", "HUB/../victim"), []Skipped{{snapshot, ".hf-cache-sync is no folder"}}},
		{"our trash", link(scanRepo+".hf-cache-sync/trash", "../../../victim"), []Skipped{{snapshot, ".hf-cache-sync/trash is no folder"}}},
		{"a folder in the snapshot", link(scanSnap+"out", "HUB/../victim"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := layout(t, twoRevisions())
			victim := filepath.Join(filepath.Dir(dir), "victim")
			put(t, filepath.Join(victim, "precious"), "precious")
			test.change(t, dir)
			var elsewhere []string
			if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
				elsewhere = listing(t, filepath.Join(dir, "elsewhere"))
			}
			out := removing(t, dir, func() (Removed, error) { return remover(t, dir).first(t) })
			if diff := cmp.Diff(test.want, out.Skipped); diff != "" {
				t.Errorf("skipped (-want +got):\n%s", diff)
			}
			wantListing(t, victim, "precious")
			if elsewhere != nil {
				wantListing(t, filepath.Join(dir, "elsewhere"), elsewhere...)
			}
		})
	}
	r := remover(t, layout(t, twoRevisions()))
	for _, name := range []string{"", ".", "..", "../x", "a/b", `a\b`, "x.incomplete", ".x"} {
		_, err := r.Blobs(t.Context(), quarantineRepo, []string{name})
		wantError(t, err, "no name of a blob")
	}
	for _, name := range []string{"", "..", "../x.tmp", "first"} {
		_, err := r.Temp(t.Context(), quarantineRepo, name)
		wantError(t, err, "no name of one")
	}
	_, err := r.Revision(t.Context(), quarantineRepo, "../x", nil, nil)
	wantError(t, err, "commit")
	_, err = r.Revision(t.Context(), quarantineRepo, scanCommit, []hub.Ref{"../x"}, nil)
	wantError(t, err, "ref")
	_, err = r.Blobs(t.Context(), hub.Repo{Type: hub.Model, Name: ".."}, []string{"x"})
	wantError(t, err, "no repository")
}

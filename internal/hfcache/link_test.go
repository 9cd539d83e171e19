package hfcache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

func TestLink(t *testing.T) {
	const text = "right"
	tests := map[string]struct {
		path  hub.Path
		make  func(d *RepoDir, final string)
		state LinkState
		file  bool // a real file is and stays there
	}{
		"new":       {"a", nil, Linked, false},
		"new, deep": {"b/c/d", nil, Linked, false},
		"right":     {"a", func(_ *RepoDir, final string) { symlink(t, "../../blobs/"+string(sha(text)), final) }, Kept, false},
		"absolute":  {"a", func(d *RepoDir, final string) { symlink(t, at(d, "blobs/"+string(sha(text))), final) }, Kept, false},
		"odd but right": {"a", func(_ *RepoDir, final string) {
			symlink(t, "../../../models--org--name/blobs/"+string(sha(text)), final)
		}, Kept, false},
		"other blob":  {"a", func(_ *RepoDir, final string) { symlink(t, "../../blobs/"+string(sha("other")), final) }, Linked, false},
		"dangling":    {"b/a", func(_ *RepoDir, final string) { symlink(t, "../../../blobs/gone", final) }, Linked, false},
		"outside":     {"a", func(_ *RepoDir, final string) { symlink(t, "/etc/hostname", final) }, Linked, false},
		"to a folder": {"a", func(_ *RepoDir, final string) { symlink(t, "../..", final) }, Linked, false},
		"same size":   {"a", func(_ *RepoDir, final string) { put(t, final, "RIGHT") }, Kept, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := writeRepo(t, writeCache(t), "org/name")
			publishAll(t, d, "other")
			id := publishAll(t, d, text)
			rel := "snapshots/" + string(commitA) + "/" + string(test.path)
			if test.make != nil {
				test.make(d, at(d, rel))
			}
			for i, want := range []LinkState{test.state, Kept} { // a second time nothing is to do
				state, err := d.Link(commitA, test.path, id, int64(len(text)))
				if err != nil || state != want {
					t.Fatalf("call %d: state %d, error %v", i, state, err)
				}
			}
			want := string(test.path)
			if !test.file {
				want += " -> " + strings.Repeat("../", test.path.Depth()+2) + "blobs/" + string(id)
			}
			wantListing(t, at(d, "snapshots/"+string(commitA)), want)
			wantListing(t, at(d, "blobs"), string(id), string(sha("other")))
			if got := content(t, at(d, rel)); !strings.EqualFold(got, text) {
				t.Errorf("content %q", got)
			}
		})
	}
}

func TestLinkErrors(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	id := publishAll(t, d, "right")
	snapshot := "snapshots/" + string(commitA)
	put(t, at(d, snapshot+"/foreign"), "somebody's own")
	put(t, at(d, snapshot+"/folder/x"), "")
	before := listing(t, at(d, ""))

	_, err := d.Link(commitA, "foreign", id, 5)
	foreign, ok := errors.AsType[*ForeignFileError](err)
	if !ok {
		t.Fatalf("error %v", err)
	}
	want := &ForeignFileError{Path: "models--org--name/" + snapshot + "/foreign", Size: 14, Want: 5}
	if diff := cmp.Diff(want, foreign); diff != "" {
		t.Error(diff)
	}
	_, err = d.Link(commitA, "folder", id, 5)
	wantError(t, err, snapshot+"/folder", errNotRegular.Error())
	_, err = d.Link(commitA, "foreign/below", id, 5)
	wantError(t, err, snapshot+"/foreign", ErrInTheWay.Error())
	_, err = d.Link(commitA, "new", sha("missing"), 7)
	wantError(t, err, snapshot+"/new", string(sha("missing")))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	_, err = d.Link(commitA, "new", id, 6) // it is there with another size, which is as good as not there
	wantError(t, err, "is not there")
	if diff := cmp.Diff(before, listing(t, at(d, ""))); diff != "" {
		t.Errorf("something was changed:\n%s", diff)
	}
}

// TestWithoutSymlinks is about file systems that refuse symbolic links, and then hard links as well.
func TestWithoutSymlinks(t *testing.T) {
	no := func(err error) func(*os.Root, string, string) error {
		return func(*os.Root, string, string) error { return &os.LinkError{Op: "link", Err: err} }
	}
	store := func(d *RepoDir) hub.BlobID {
		hash := strings.Repeat("cd", 32)
		put(t, filepath.Join(d.cache.dir, "blobs", "cd", hash), "right")
		symlink(t, "../../blobs/cd/"+hash, at(d, "blobs/"+string(sha("right"))))
		return sha("right")
	}
	plain := func(d *RepoDir) hub.BlobID { return publishAll(t, d, "right") }
	tests := map[string]struct {
		blob  func(*RepoDir) hub.BlobID
		setup func(*RepoDir)
		same  bool // one file with two names
	}{
		"asked for":                  {plain, func(d *RepoDir) { d.noSymlinks.Store(true) }, true},
		"not permitted":              {plain, func(d *RepoDir) { d.sys.symlink = no(syscall.EPERM) }, true},
		"not supported":              {plain, func(d *RepoDir) { d.sys.symlink = no(syscall.ENOTSUP) }, true},
		"no hard links":              {plain, func(d *RepoDir) { d.noSymlinks.Store(true); d.sys.link = no(syscall.EPERM) }, false},
		"too many hard links":        {plain, func(d *RepoDir) { d.noSymlinks.Store(true); d.sys.link = no(syscall.EMLINK) }, false},
		"blob in the shared store":   {store, func(d *RepoDir) { d.noSymlinks.Store(true) }, false},
		"neither, and a store's too": {store, func(d *RepoDir) { d.sys.symlink = no(syscall.EPERM); d.sys.link = no(syscall.EPERM) }, false},
	}
	for name, test := range tests {
		for _, over := range []bool{false, true} { // over a wrong link, as a cache from another system has them
			t.Run(name, func(t *testing.T) {
				d := writeRepo(t, writeCache(t), "org/name")
				id := test.blob(d)
				final := at(d, "snapshots/"+string(commitA)+"/sub/x")
				if over {
					symlink(t, "../../../blobs/gone", final)
				}
				test.setup(d)
				for _, want := range []LinkState{Linked, Kept} {
					if state, err := d.Link(commitA, "sub/x", id, 5); err != nil || state != want {
						t.Fatalf("state %d, error %v", state, err)
					}
				}
				info := lstat(t, final)
				if !info.Mode().IsRegular() || content(t, final) != "right" {
					t.Errorf("mode %v, content %q", info.Mode(), content(t, final))
				}
				if same := os.SameFile(info, lstat(t, at(d, "blobs/"+string(id)))); same != test.same {
					t.Errorf("one file: %t", same)
				}
				if !d.noSymlinks.Load() {
					t.Error("it will try symbolic links again")
				}
				if got := listing(t, at(d, "blobs")); len(got) != 1 {
					t.Errorf("left behind: %q", got)
				}
			})
		}
	}
}

// A folder that cannot be written to is no reason to copy anything.
func TestLinkIntoReadOnlyFolder(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	id := publishAll(t, d, "right")
	d.sys.symlink = func(*os.Root, string, string) error { return &os.LinkError{Op: "symlinkat", Err: syscall.EACCES} }
	_, err := d.Link(commitA, "x", id, 5)
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v", err)
	}
	wantListing(t, at(d, "snapshots"))
}

// What stands at the temporary name does not stay when the last step fails.
func TestLinkThatCannotBeReplaced(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	id := publishAll(t, d, "right")
	final := at(d, "snapshots/"+string(commitA)+"/x")
	symlink(t, "gone", final)
	d.sys.symlink = func(root *os.Root, text, name string) error {
		finish(t, os.Remove(final))
		finish(t, os.Mkdir(final, 0o777))
		return root.Symlink(text, name)
	}
	_, err := d.Link(commitA, "x", id, 5)
	wantError(t, err, "/x")
	wantListing(t, at(d, "blobs"), string(id))
}

// A reader that keeps opening the path while its link is replaced again and again must always find one of the two contents.
func TestLinkReplacedAtOnce(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	ids := []hub.BlobID{publishAll(t, d, "one"), publishAll(t, d, "two")}
	if _, err := d.Link(commitA, "x", ids[0], 3); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			data, err := os.ReadFile(at(d, "snapshots/"+string(commitA)+"/x"))
			if err != nil || (string(data) != "one" && string(data) != "two") {
				t.Errorf("a reader finds %q, %v", data, err)
				return
			}
		}
	}()
	for i := range 500 {
		if _, err := d.Link(commitA, "x", ids[i%2], 3); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	<-stopped
}

// A snapshot's own file needs no blob, if it is as large.
func TestLinkKeepsFilesWithoutBlobs(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	final := "snapshots/" + string(commitA) + "/x"
	put(t, at(d, final), "right")
	if state, err := d.Link(commitA, "x", sha("right"), 5); err != nil || state != Kept {
		t.Errorf("state %v, %v", state, err)
	}
	_, err := d.Link(commitA, "x", sha("right"), 6)
	wantError(t, err, "is not there")
}

func TestFitsWindows(t *testing.T) {
	for path, want := range map[hub.Path]bool{"a/b.c": true, ".hidden": true, "a b": true, "a.": false, "a./b": false, "a ": false, "a /b": false} {
		if got := fitsWindows(path); got != want {
			t.Errorf("%q: %t", path, got)
		}
	}
}

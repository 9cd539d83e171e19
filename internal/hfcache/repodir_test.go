package hfcache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

const (
	commitA = hub.Commit("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	commitB = hub.Commit("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
)

func writeCache(t *testing.T) *Cache {
	t.Helper()
	c, err := Create(filepath.Join(t.TempDir(), "hub"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func writeRepo(t *testing.T, c *Cache, name string) *RepoDir {
	t.Helper()
	d, err := c.RepoDir(hub.Repo{Type: hub.Model, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func sha(content string) hub.BlobID {
	sum := sha256.Sum256([]byte(content))
	return hub.BlobID(hex.EncodeToString(sum[:]))
}

// stageAll stages content, whole and synced.
func stageAll(t *testing.T, d *RepoDir, content string) *Staged {
	t.Helper()
	s, err := d.Stage(sha(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	return s
}

func publishAll(t *testing.T, d *RepoDir, content string) hub.BlobID {
	t.Helper()
	if err := stageAll(t, d, content).Publish(); err != nil {
		t.Fatal(err)
	}
	return sha(content)
}

// at is a path below the repository's folder, for package os.
func at(d *RepoDir, rel string) string {
	return filepath.Join(d.cache.dir, d.id.Folder(), filepath.FromSlash(rel))
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, text, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.FromSlash(text), name); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func lstat(t *testing.T, name string) fs.FileInfo {
	t.Helper()
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// listing is every path below dir; a link has its text behind it.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if rel = filepath.ToSlash(rel); e.Type()&fs.ModeSymlink != 0 {
			text, err := os.Readlink(name)
			if err != nil {
				return err
			}
			rel += " -> " + filepath.ToSlash(text)
		}
		all = append(all, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func wantListing(t *testing.T, dir string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, listing(t, dir)); diff != "" {
		t.Errorf("files below %s (-want +got):\n%s", filepath.Base(dir), diff)
	}
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

func TestRepoDirMakesFolders(t *testing.T) {
	c := writeCache(t)
	d := writeRepo(t, c, "org/name")
	for _, rel := range []string{"blobs", "snapshots"} {
		if !lstat(t, at(d, rel)).IsDir() {
			t.Errorf("%s is no folder", rel)
		}
	}
	again := writeRepo(t, c, "org/name") // what is there already is no hindrance
	publishAll(t, again, "x")
	if !d.HasBlob(sha("x"), 1) {
		t.Error("the other handle does not see the blob")
	}
}

// Nothing may be written through a link that stands where a folder should be, whether it leads out of the cache or only elsewhere in it.
func TestLinksForFoldersAreRefused(t *testing.T) {
	writes := map[string]func(d *RepoDir, id hub.BlobID) error{
		"snapshots": func(d *RepoDir, id hub.BlobID) error { _, err := d.Link(commitA, "x", id, 1); return err },
		"snapshots/" + string(commitA): func(d *RepoDir, id hub.BlobID) error {
			_, err := d.Link(commitA, "x", id, 1)
			return err
		},
		"snapshots/" + string(commitA) + "/sub": func(d *RepoDir, id hub.BlobID) error {
			_, err := d.Link(commitA, "sub/x", id, 1)
			return err
		},
		"refs":      func(d *RepoDir, _ hub.BlobID) error { return d.WriteRef("main", commitA, someTime) },
		"refs/pr":   func(d *RepoDir, _ hub.BlobID) error { return d.WriteRef("pr/1", commitA, someTime) },
		"trees":     func(d *RepoDir, _ hub.BlobID) error { return d.WriteTree(commitA, smallTree("")) },
		".no_exist": func(d *RepoDir, _ hub.BlobID) error { return d.WriteNoExist(commitA, []hub.Path{"x"}) },
		".no_exist/" + string(commitA) + "/a": func(d *RepoDir, _ hub.BlobID) error {
			return d.WriteNoExist(commitA, []hub.Path{"a/x"})
		},
	}
	for rel, write := range writes {
		for _, where := range []string{"outside", "inside"} {
			t.Run(rel+" "+where, func(t *testing.T) {
				d := writeRepo(t, writeCache(t), "org/name")
				id := publishAll(t, d, "x")
				elsewhere := t.TempDir()
				if where == "inside" {
					elsewhere = filepath.Join(d.cache.dir, d.id.Folder(), "elsewhere")
					if err := os.Mkdir(elsewhere, 0o777); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.RemoveAll(at(d, rel)); err != nil {
					t.Fatal(err)
				}
				clear(d.dirs) // as a new process would start
				symlink(t, elsewhere, at(d, rel))
				wantError(t, write(d, id), d.id.Folder()+"/"+rel, ErrInTheWay.Error())
				wantListing(t, elsewhere)
				if got := lstat(t, at(d, rel)); got.Mode()&fs.ModeSymlink == 0 {
					t.Error("the link was replaced")
				}
			})
		}
	}
}

// A link that replaces a folder which this process has found good before must not let it write outside either.
func TestFolderSwappedForLink(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	id := publishAll(t, d, "x")
	if err := d.MakeSnapshot(commitA); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	snapshot := at(d, "snapshots/"+string(commitA))
	if err := os.Remove(snapshot); err != nil {
		t.Fatal(err)
	}
	symlink(t, outside, snapshot)
	if _, err := d.Link(commitA, "x", id, 1); err == nil {
		t.Error("no error")
	}
	wantListing(t, outside)
}

func TestRepoFolderThatIsALink(t *testing.T) {
	for _, name := range []string{"models--org--name", "models--org--name/blobs"} {
		c := writeCache(t)
		elsewhere := t.TempDir()
		symlink(t, elsewhere, filepath.Join(c.dir, filepath.FromSlash(name)))
		_, err := c.RepoDir(hub.Repo{Type: hub.Model, Name: "org/name"})
		wantError(t, err, "models--org--name", ErrInTheWay.Error())
		wantListing(t, elsewhere)
	}
}

// A pruner may remove an empty folder between two files.
func TestFolderRemovedMeanwhile(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	id := publishAll(t, d, "x")
	link := func() {
		t.Helper()
		if _, err := d.Link(commitA, "sub/x", id, 1); err != nil {
			t.Fatal(err)
		}
	}
	link()
	if err := os.RemoveAll(at(d, "snapshots")); err != nil {
		t.Fatal(err)
	}
	link()
	if got := content(t, at(d, "snapshots/"+string(commitA)+"/sub/x")); got != "x" {
		t.Errorf("content %q", got)
	}
}

func TestHasBlob(t *testing.T) {
	c := writeCache(t)
	d := writeRepo(t, c, "org/name")
	payload := filepath.Join(c.dir, "blobs", "ab", strings.Repeat("ab", 32))
	put(t, payload, "payload")
	outside := filepath.Join(t.TempDir(), "outside")
	put(t, outside, "payload")
	tests := map[string]struct {
		make func(name string)
		want bool
	}{
		"nothing":         {func(string) {}, false},
		"file":            {func(name string) { put(t, name, "payload") }, true},
		"wrong size":      {func(name string) { put(t, name, "pay") }, false},
		"store link":      {func(name string) { symlink(t, "../../blobs/ab/"+strings.Repeat("ab", 32), name) }, true},
		"absolute link":   {func(name string) { symlink(t, payload, name) }, true},
		"dangling link":   {func(name string) { symlink(t, "../../blobs/cd/gone", name) }, false},
		"link outside":    {func(name string) { symlink(t, outside, name) }, false},
		"link to itself":  {func(name string) { symlink(t, filepath.Base(name), name) }, false},
		"link to folder":  {func(name string) { symlink(t, "../snapshots", name) }, false},
		"folder":          {func(name string) { _ = os.Mkdir(name, 0o777) }, false},
		"link up and out": {func(name string) { symlink(t, "../../../outside", name) }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			id := sha(name)
			test.make(at(d, "blobs/"+string(id)))
			if got := d.HasBlob(id, int64(len("payload"))); got != test.want {
				t.Errorf("HasBlob is %t", got)
			}
		})
	}
}

func TestHasBlobThatIsAFolder(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	name := at(d, "blobs/"+string(sha("x")))
	finish(t, os.Mkdir(name, 0o777))
	if d.HasBlob(sha("x"), lstat(t, name).Size()) {
		t.Error("a folder counts as a blob")
	}
}

func TestSpaceAndCase(t *testing.T) {
	c := writeCache(t)
	free, err := c.FreeSpace()
	if err != nil || free <= 0 {
		t.Errorf("%d bytes free, error %v", free, err)
	}
	other := filepath.Join(c.dir, strings.ToUpper(locksDir))
	_, err = os.Lstat(other)
	before := errors.Is(err, fs.ErrNotExist)
	got := c.CaseInsensitive()
	_, err = os.Lstat(other)
	if after := errors.Is(err, fs.ErrNotExist); !before || after == got {
		t.Errorf("CaseInsensitive is %t, but %s is missing: %t", got, other, after)
	}
	if got {
		return // two folders cannot differ only in case here
	}
	if err := os.Mkdir(other, 0o777); err != nil {
		t.Fatal(err)
	}
	if c.CaseInsensitive() {
		t.Error("two folders are taken for one")
	}
}

func TestSyncAll(t *testing.T) {
	c := writeCache(t)
	d := writeRepo(t, c, "org/name")
	for _, err := range []error{c.SyncAll(), d.SyncAll()} {
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
}

func TestProduct(t *testing.T) {
	const largest = 1<<63 - 1
	for _, test := range []struct {
		a, b uint64
		want int64
	}{{0, 4096, 0}, {3, 4096, 12288}, {1 << 51, 4096, largest}, {1<<64 - 1, 1<<64 - 1, largest}, {largest, 1, largest}} {
		if got := product(test.a, test.b); got != test.want {
			t.Errorf("product(%d, %d) is %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

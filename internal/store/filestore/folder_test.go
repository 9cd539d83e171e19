package filestore_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
)

func open(t *testing.T, dir string) *filestore.Store {
	t.Helper()
	s, err := filestore.Open(dir, filestore.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func section(data string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(data), 0, int64(len(data)))
}

func put(t *testing.T, s store.Store, key, data string, o store.PutOptions) store.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, section(data), o)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func get(t *testing.T, s store.Store, key string) string {
	t.Helper()
	rc, _, err := s.Get(t.Context(), key, store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(rc)
	if err = errors.Join(err, rc.Close()); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func keys(t *testing.T, s store.Store, prefix string) []string {
	t.Helper()
	var keys []string
	for info, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// write makes a file as other programs do.
func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tree returns the paths below a folder.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestReadingCreatesNothing(t *testing.T) {
	for _, dir := range []string{filepath.Join(t.TempDir(), "missing"), t.TempDir()} {
		parent := filepath.Dir(dir)
		before := tree(t, parent)
		s := open(t, dir)
		if _, err := s.Stat(t.Context(), "blobs/a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("stat: %v", err)
		}
		if _, _, err := s.Get(t.Context(), "blobs/a", store.Range{}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get: %v", err)
		}
		if err := s.Delete(t.Context(), "blobs/a"); err != nil {
			t.Errorf("delete: %v", err)
		}
		if got := keys(t, s, ""); got != nil {
			t.Errorf("list: %q", got)
		}
		u := store.Upload{Key: "blobs/a", ID: "ABC"}
		if _, err := s.Parts(t.Context(), u); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("parts: %v", err)
		}
		if err := s.Abort(t.Context(), u); err != nil {
			t.Errorf("abort: %v", err)
		}
		for u, err := range s.Uploads(t.Context(), "") {
			t.Errorf("upload: %+v, %v", u, err)
		}
		if diff := cmp.Diff(before, tree(t, parent)); diff != "" {
			t.Errorf("the folder has changed (-before +after):\n%s", diff)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "x")
	for _, dir := range []string{"", file} {
		if _, err := filestore.Open(dir, filestore.Options{}); !errors.Is(err, store.ErrBadConfig) {
			t.Errorf("open %q: %v", dir, err)
		}
	}
}

// operations are one of each kind, on a bucket that has the object k.
func operations(t *testing.T, s *filestore.Store) map[string]error {
	t.Helper()
	errs := map[string]error{}
	rc, _, err := s.Get(t.Context(), "k", store.Range{})
	if err == nil {
		err = rc.Close()
	}
	errs["get"] = err
	_, errs["stat"] = s.Stat(t.Context(), "k")
	errs["list"] = nil
	for _, err := range s.List(t.Context(), "") {
		errs["list"] = err
	}
	errs["uploads"] = nil
	for _, err := range s.Uploads(t.Context(), "") {
		errs["uploads"] = err
	}
	_, errs["put"] = s.Put(t.Context(), "new", section("x"), store.PutOptions{})
	errs["delete"] = s.Delete(t.Context(), "new")
	u, err := s.StartUpload(t.Context(), "k", store.PutOptions{})
	errs["start upload"] = err
	errs["abort"] = s.Abort(t.Context(), store.Upload{Key: "k", ID: u.ID + "A"})
	return errs
}

func wantAll(t *testing.T, errs map[string]error, kind error) {
	t.Helper()
	for op, err := range errs {
		if kind == nil && err != nil || !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %v", op, err, kind)
		}
	}
}

func TestMissingFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bucket")
	_, err := filestore.Open(dir, filestore.Options{})
	if !errors.Is(err, store.ErrNoFolder) || !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), dir) {
		t.Errorf("open: %v", err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
}

// A folder that is gone is not made again, and neither is what it held missing: the share was unmounted.
func TestFolderVanishes(t *testing.T) {
	for name, leaves := range map[string]bool{"with its mount point": false, "an empty mount point is left": true} {
		for _, create := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				parent := t.TempDir()
				dir, away := filepath.Join(parent, "bucket"), filepath.Join(parent, "away")
				if !create {
					makeDir(t, dir)
				}
				s, err := filestore.Open(dir, filestore.Options{Create: create})
				if err != nil {
					t.Fatal(err)
				}
				put(t, s, "k", "data", store.PutOptions{})
				rename(t, dir, away)
				if leaves {
					makeDir(t, dir)
				}
				before := tree(t, parent)
				wantAll(t, operations(t, s), store.ErrNoFolder)
				if diff := cmp.Diff(before, tree(t, parent)); diff != "" {
					t.Errorf("the folder has changed (-before +after):\n%s", diff)
				}
				if leaves {
					if err := os.Remove(dir); err != nil {
						t.Fatal(err)
					}
				}
				rename(t, away, dir)
				wantAll(t, operations(t, s), nil)
			})
		}
	}
}

// Another folder in its place that has something in it, as after a failover, is used.
func TestFolderIsReplaced(t *testing.T) {
	parent := t.TempDir()
	dir, other := filepath.Join(parent, "bucket"), filepath.Join(parent, "other")
	s := open(t, dir)
	put(t, s, "k", "data", store.PutOptions{})
	put(t, open(t, other), "k", "other", store.PutOptions{})
	rename(t, dir, filepath.Join(parent, "away"))
	rename(t, other, dir)
	if got := get(t, s, "k"); got != "other" {
		t.Errorf("it has %q", got)
	}
}

func makeDir(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestString(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b")
	if got := open(t, dir).String(); !strings.HasPrefix(got, "file:///") || !strings.HasSuffix(got, "/a%20b") {
		t.Errorf("%q is not the URL of %s", got, dir)
	}
}

func TestObjectsAreFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "bucket")
	s := open(t, dir)
	put(t, s, "blobs/a", "body", store.PutOptions{Metadata: map[string]string{"a": "b"}})
	data, err := os.ReadFile(filepath.Join(dir, "blobs", "a"))
	if err != nil || string(data) != "body" {
		t.Errorf("%q, %v", data, err)
	}
	fi, err := os.Stat(filepath.Join(dir, "blobs", "a"))
	if err != nil || fi.Mode().Perm()&0o400 == 0 || !fi.Mode().IsRegular() {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	write(t, filepath.Join(dir, "refs", "by", "hand"), "other")
	if got := get(t, s, "refs/by/hand"); got != "other" {
		t.Errorf("%q", got)
	}
	if diff := cmp.Diff([]string{"blobs/a", "refs/by/hand"}, keys(t, s, "")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{".hf-cache-sync", "blobs", "refs"}, names); diff != "" {
		t.Errorf("the folder (-want +got):\n%s", diff)
	}
}

func TestPrivateFolder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "a", "x", store.PutOptions{})
	for _, key := range []string{".hf-cache-sync", ".hf-cache-sync/tmp/x", ".HF-Cache-Sync/locks/00"} {
		_, err := s.Put(t.Context(), key, section("x"), store.PutOptions{})
		if !errors.Is(err, store.ErrBadConfig) {
			t.Errorf("put %s: %v", key, err)
		}
		if _, err = s.Stat(t.Context(), key); !errors.Is(err, store.ErrBadConfig) {
			t.Errorf("stat %s: %v", key, err)
		}
		if err = s.Delete(t.Context(), key); !errors.Is(err, store.ErrBadConfig) {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	for _, prefix := range []string{".", ".hf-cache-sync", ".hf-cache-sync/", ".hf-cache-sync/l", ".HF-cache-sync/"} {
		if got := keys(t, s, prefix); got != nil {
			t.Errorf("list %q: %q", prefix, got)
		}
	}
	put(t, s, ".hf-cache-synchronised", "x", store.PutOptions{})
	if got := keys(t, s, ".hf"); !slices.Equal(got, []string{".hf-cache-synchronised"}) {
		t.Errorf("list: %q", got)
	}
}

func TestLinks(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret"), "secret")
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "blobs/real", "real", store.PutOptions{})
	link := func(target, name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(outside, "secret"), "blobs/absolute")
	link("../../"+filepath.Base(outside)+"/secret", "blobs/relative")
	link(outside, "folder")
	link("real", "blobs/inside")
	link("blobs", "linked")
	link("nowhere", "blobs/dangling")
	link("loop", "blobs/loop")

	refused := func(what, key string, err error) {
		t.Helper()
		if err == nil || errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s %s: %v, want a refusal that names it", what, key, err)
		}
	}
	for _, key := range []string{"blobs/absolute", "blobs/relative", "folder/secret", "blobs/loop"} {
		_, err := s.Stat(t.Context(), key)
		refused("stat", key, err)
		if !errors.Is(err, store.ErrNotObject) {
			t.Errorf("stat %s: %v is of another kind", key, err)
		}
		_, _, err = s.Get(t.Context(), key, store.Range{})
		refused("get", key, err)
	}
	_, err := s.Put(t.Context(), "folder/new", section("x"), store.PutOptions{})
	refused("put", "folder/new", err)
	for _, err := range s.List(t.Context(), "folder/") {
		refused("list", "folder/", err)
	}
	if _, err = s.Stat(t.Context(), "blobs/dangling"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("stat of a dangling link: %v", err)
	}
	for _, key := range []string{"blobs/inside", "linked/real"} {
		if got := get(t, s, key); got != "real" {
			t.Errorf("get %s: %q", key, got)
		}
	}
	if diff := cmp.Diff([]string{"blobs/inside", "blobs/real"}, keys(t, s, "")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}

	// A put replaces a link, and a delete removes it, whatever it leads to.
	put(t, s, "blobs/absolute", "mine", store.PutOptions{})
	if got := get(t, s, "blobs/absolute"); got != "mine" {
		t.Errorf("%q", got)
	}
	put(t, s, "blobs/dangling", "mine too", store.PutOptions{})
	if err = s.Delete(t.Context(), "blobs/relative"); err != nil {
		t.Error(err)
	}
	if err = s.Delete(t.Context(), "folder/secret"); err == nil {
		t.Error("deleted through a link that leads out")
	}
	data, err := os.ReadFile(filepath.Join(outside, "secret"))
	if err != nil || string(data) != "secret" {
		t.Errorf("what is outside has become %q, %v", data, err)
	}
	if names := tree(t, outside); len(names) != 2 {
		t.Errorf("outside: %q", names)
	}
}

func TestLongNames(t *testing.T) {
	s := open(t, t.TempDir())
	key := "refs/" + strings.Repeat("x", 300)
	if _, err := s.Put(t.Context(), key, section("x"), store.PutOptions{}); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Stat(t.Context(), key); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("stat: %v", err)
	}
}

func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	tmp := filepath.Join(dir, ".hf-cache-sync", "tmp")
	uploads := filepath.Join(dir, ".hf-cache-sync", "uploads")
	write(t, filepath.Join(tmp, "OLD"), "x")
	write(t, filepath.Join(tmp, "YOUNG"), "x")
	write(t, filepath.Join(uploads, "HALFREMOVED", "data"), "x")
	write(t, filepath.Join(uploads, "UNFINISHED", "upload.json"), `{"key":"blobs/a"}`)
	now := time.Now()
	for name, age := range map[string]time.Duration{
		filepath.Join(tmp, "OLD"): 25 * time.Hour, filepath.Join(tmp, "YOUNG"): 23 * time.Hour,
		filepath.Join(uploads, "HALFREMOVED"): 25 * time.Hour, filepath.Join(uploads, "UNFINISHED"): 25 * time.Hour,
	} {
		if err := os.Chtimes(name, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := filestore.Open(dir, filestore.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "blobs/a", "x", store.PutOptions{})
	for name, want := range map[string]bool{
		filepath.Join(tmp, "OLD"): false, filepath.Join(tmp, "YOUNG"): true, filepath.Join(uploads, "HALFREMOVED"): false,
		filepath.Join(uploads, "UNFINISHED"): true,
	} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s: %v, should be there: %v", name, err, want)
		}
	}
}

func TestNothingIsLeft(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ctx := t.Context()
	put(t, s, "blobs/a", "x", store.PutOptions{})
	for _, o := range []store.PutOptions{{SHA256: strings.Repeat("0", 64)}, {IfAbsent: true}, {IfMatch: "x"}} {
		if _, err := s.Put(ctx, "blobs/a", section("y"), o); err == nil {
			t.Errorf("put %+v: no error", o)
		}
	}
	if _, err := s.Put(ctx, "blobs/a/b", section("y"), store.PutOptions{}); err == nil {
		t.Error("put below an object: no error")
	}
	u, err := s.StartUpload(ctx, "blobs/b", store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.PutPart(ctx, u, 1, section("part"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.Complete(ctx, u, []store.Part{p}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tmp", "uploads"} {
		if names := tree(t, filepath.Join(dir, ".hf-cache-sync", name)); len(names) != 1 {
			t.Errorf("left: %q", names)
		}
	}
}

func TestETagGrowsWithTheClockStandingStill(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	file := filepath.Join(dir, "k")
	put(t, s, "k", "version 0", store.PutOptions{})
	// The clock was ahead by two seconds when the object was written, and has been set right.
	ahead := time.Now().Add(2 * time.Second)
	if err := os.Chtimes(file, ahead, ahead); err != nil {
		t.Fatal(err)
	}
	last := ahead
	for range 5 {
		info := put(t, s, "k", "version 0", store.PutOptions{})
		if !info.Modified.After(last) {
			t.Errorf("written at %v, after one of %v", info.Modified, last)
		}
		last = info.Modified
	}
	// A clock that was wrong by more is nobody's example.
	ahead = time.Now().Add(time.Hour)
	if err := os.Chtimes(file, ahead, ahead); err != nil {
		t.Fatal(err)
	}
	if info := put(t, s, "k", "version 0", store.PutOptions{}); info.Modified.After(ahead.Add(-time.Minute)) {
		t.Errorf("written at %v, following a clock that was wrong", info.Modified)
	}
}

func TestMetadataBelongsToItsObject(t *testing.T) {
	meta := map[string]string{"resolved-at": "then"}
	const key = "refs/org__name/main"
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, dir string) string // returns the folder to look at
		want   map[string]string
	}{
		{"untouched", func(_ *testing.T, dir string) string { return dir }, meta},
		{"copied elsewhere", func(t *testing.T, dir string) string {
			t.Helper()
			to := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			return to
		}, meta},
		{"replaced by others", func(t *testing.T, dir string) string {
			t.Helper()
			write(t, filepath.Join(dir, filepath.FromSlash(key)), "othr")
			return dir
		}, nil},
		{"replaced by others, longer", func(t *testing.T, dir string) string {
			t.Helper()
			write(t, filepath.Join(dir, filepath.FromSlash(key)), "something else")
			return dir
		}, nil},
		{"metadata removed", func(t *testing.T, dir string) string {
			t.Helper()
			if err := os.RemoveAll(filepath.Join(dir, ".hf-cache-sync", "meta")); err != nil {
				t.Fatal(err)
			}
			return dir
		}, nil},
		{"metadata damaged", func(t *testing.T, dir string) string {
			t.Helper()
			names, err := filepath.Glob(filepath.Join(dir, ".hf-cache-sync", "meta", "*.json"))
			if err != nil || len(names) != 1 {
				t.Fatal(names, err)
			}
			write(t, names[0], `{"key": "refs/org`)
			return dir
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, open(t, dir), key, "body", store.PutOptions{Metadata: meta})
			info, err := open(t, tc.change(t, dir)).Stat(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, info.Metadata); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
		})
	}
}

// Whoever writes first makes the folder, and whoever has found none meanwhile does not take it for one that has vanished.
func TestFirstWritesAtOnce(t *testing.T) {
	for range 100 {
		s, err := filestore.Open(filepath.Join(t.TempDir(), "new"), filestore.Options{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		var work errgroup.Group
		for i := range 16 {
			work.Go(func() error {
				_, err := s.Put(t.Context(), fmt.Sprint("key", i), io.NewSectionReader(strings.NewReader("x"), 0, 1), store.PutOptions{})
				return err
			})
		}
		if err := work.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

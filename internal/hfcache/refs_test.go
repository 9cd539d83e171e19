package hfcache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

var someTime = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func TestWriteRef(t *testing.T) {
	tests := map[string]struct {
		before map[string]string // files below the repository's folder
		ref    hub.Ref
		want   []string // below refs/
	}{
		"new":           {nil, "main", []string{"main"}},
		"pull request":  {nil, "refs/pr/1", []string{"refs/pr/1"}},
		"moved":         {map[string]string{"refs/main": string(commitB)}, "main", []string{"main"}},
		"same":          {map[string]string{"refs/main": string(commitA)}, "main", []string{"main"}},
		"with newline":  {map[string]string{"refs/main": string(commitA) + "\n"}, "main", []string{"main"}},
		"cut off":       {map[string]string{"refs/main": "aaaa"}, "main", []string{"main"}},
		"beside others": {map[string]string{"refs/x/y": string(commitB)}, "x/z", []string{"x/y", "x/z"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := writeRepo(t, writeCache(t), "org/name")
			for rel, text := range test.before {
				put(t, at(d, rel), text)
				finish(t, os.Chtimes(at(d, rel), someTime, someTime)) // its age alone must not make it good
			}
			if err := d.WriteRef(test.ref, commitA, someTime); err != nil {
				t.Fatal(err)
			}
			file := at(d, "refs/"+string(test.ref))
			if got := content(t, file); got != string(commitA) {
				t.Errorf("content %q", got)
			}
			got, ok, err := d.Ref(test.ref)
			if err != nil || !ok {
				t.Fatalf("Ref: %t, %v", ok, err)
			}
			if diff := cmp.Diff(Ref{Name: test.ref, Commit: commitA, Learned: someTime}, got, cmp.Comparer(time.Time.Equal)); diff != "" {
				t.Error(diff)
			}
			wantListing(t, at(d, "refs"), test.want...)
			wantListing(t, at(d, "blobs"))
			if !lstat(t, at(d, "snapshots/"+string(commitA))).IsDir() {
				t.Error("the ref names a commit without a snapshot")
			}
		})
	}
}

func TestWriteRefConflicts(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	for _, r := range []hub.Ref{"a", "b/c/d"} {
		if err := d.WriteRef(r, commitA, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, d.WriteRef("a/b", commitB, time.Time{}), "refs/a/b", `there is a ref "a" already`)
	wantError(t, d.WriteRef("b/c", commitB, time.Time{}), "refs/b/c", `there are refs below "b/c/" already`)
	wantError(t, d.WriteRef("short", "abc", time.Time{}), "not a commit")
	wantListing(t, at(d, "refs"), "a", "b/c/d")
	wantListing(t, at(d, "blobs"))
}

// A ref that is a link is replaced; what it leads to stays as it is.
func TestWriteRefOverLink(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	outside := filepath.Join(t.TempDir(), "outside")
	put(t, outside, string(commitA))
	symlink(t, outside, at(d, "refs/main"))
	if err := d.WriteRef("main", commitA, time.Time{}); err != nil {
		t.Fatal(err)
	}
	wantListing(t, at(d, "refs"), "main")
	if got := content(t, outside); got != string(commitA) {
		t.Errorf("the link's target holds %q", got)
	}
}

func TestUnchangedRefStays(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	if err := d.WriteRef("main", commitA, someTime); err != nil {
		t.Fatal(err)
	}
	before := lstat(t, at(d, "refs/main"))
	for _, learned := range []time.Time{someTime, {}} {
		if err := d.WriteRef("main", commitA, learned); err != nil {
			t.Fatal(err)
		}
		if after := lstat(t, at(d, "refs/main")); !os.SameFile(before, after) || !after.ModTime().Equal(someTime) {
			t.Error("the ref was written again")
		}
	}
}

func TestRef(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	put(t, at(d, "refs/file"), string(commitA)+"\n")
	put(t, at(d, "refs/empty"), "")
	put(t, at(d, "refs/huge"), strings.Repeat("a", 4096))
	put(t, at(d, "refs/dir/x"), string(commitB))
	for r, want := range map[hub.Ref]string{
		"file": string(commitA), "dir/x": string(commitB), "none": "", "none/x": "", "dir": "", "file/x": "", "empty": "error", "huge": "error",
	} {
		ref, ok, err := d.Ref(r)
		got := string(ref.Commit)
		if err != nil {
			got = "error"
		}
		if got != want || ok != (err == nil && want != "") {
			t.Errorf("Ref(%q) is %q, %t, %v; want %q", r, ref.Commit, ok, err, want)
		}
	}
}

func TestCleanRef(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"newline":      {string(commitA) + "\n", string(commitA)},
		"line of DOS":  {string(commitA) + "\r\n", string(commitA)},
		"spaces":       {"  " + string(commitA) + "\t", string(commitA)},
		"clean":        {string(commitA), string(commitA)},
		"another's":    {string(commitB) + "\n", string(commitB)},
		"without rest": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := writeRepo(t, writeCache(t), "org/name")
			put(t, at(d, "refs/main"), test.text)
			finish(t, os.Chtimes(at(d, "refs/main"), someTime, someTime))
			if err := d.CleanRef("main"); (err != nil) != (test.want == "") {
				t.Fatal(err)
			}
			if got := content(t, at(d, "refs/main")); got != test.want {
				t.Errorf("it holds %q, want %q", got, test.want)
			}
			if got := lstat(t, at(d, "refs/main")).ModTime(); !got.Equal(someTime) {
				t.Errorf("it has the time %s, want %s", got, someTime)
			}
			wantListing(t, at(d, "refs"), "main")
		})
	}
	d := writeRepo(t, writeCache(t), "org/name")
	if err := d.CleanRef("main"); err != nil {
		t.Errorf("no ref: %v", err)
	}
}

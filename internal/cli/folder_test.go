package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func stateApp(t *testing.T) *app {
	t.Helper()
	state := t.TempDir()
	return &app{Process: Process{Env: func(name string) (string, bool) { return state, name == "XDG_STATE_HOME" }}}
}

func TestSeenFoldersAreBounded(t *testing.T) {
	a := stateApp(t)
	url := func(n int) string { return fmt.Sprintf("file:///mnt/%d", n) }
	if runtime.GOOS == "windows" {
		url = func(n int) string { return fmt.Sprintf("file:///C:/mnt/%d", n) }
	}
	const more = 3
	for n := range maxFolders + more {
		a.rememberFolder(url(n))
		a.rememberFolder(url(n)) // once is enough
	}
	a.rememberFolder(url(0) + strings.Repeat("/x", maxURL))
	got := a.seenFolders()
	if len(got) != maxFolders || got[0] != url(more) || got[len(got)-1] != url(maxFolders+more-1) {
		t.Errorf("%d are remembered, from %s to %s", len(got), got[0], got[len(got)-1])
	}
	info, err := os.Stat(a.statePath(foldersFile))
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	entries, err := os.ReadDir(filepath.Dir(a.statePath(foldersFile)))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside it: %v, %v", entries, err)
	}
}

// What is there in place of the file, or in it, costs memory of the past at most.
func TestSeenFoldersMayBeAnything(t *testing.T) {
	for name, data := range map[string]string{
		"empty": "", "no lines": strings.Repeat("x", 2*maxFolders*maxURL), "zeros": strings.Repeat("\x00", 1000), "other buckets": "s3://bucket\nfile://host/x\n",
	} {
		t.Run(name, func(t *testing.T) {
			a := stateApp(t)
			if err := replacePrivate(a.statePath(foldersFile), data); err != nil {
				t.Fatal(err)
			}
			if got := a.seenFolders(); len(got) > 0 {
				t.Errorf("%q are remembered", got)
			}
		})
	}
}

func TestWithin(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"cache/deep", "cache-two"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "cache"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"cache", "cache", true},
		{"cache/deep", "cache", true},
		{"cache", "cache/deep", false},
		{"cache-two", "cache", false},
		{"cache/new/er", "cache", true},
		{"link/new", "cache", true},
		{"link", "cache", true},
		{"cache/new", "link", true},
		{"link/../cache-two", "cache", false},
		{"none/below", "none", true},
		{"none", "cache", false},
		{"link/none/below", "cache/none", true},
		{"cache/none", "link/none", true},
	} {
		if got := within(resolved(filepath.Join(dir, c.path)), resolved(filepath.Join(dir, c.dir))); got != c.want {
			t.Errorf("%s within %s: %v", c.path, c.dir, got)
		}
	}
	// A name that the file system takes for the same folder, as where upper and lower case are one: only a comparison of the folders tells.
	if !within(filepath.Join(dir, "link", "new"), filepath.Join(dir, "cache")) {
		t.Error("one folder with two names is taken for two")
	}
}

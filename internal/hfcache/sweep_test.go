package hfcache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

const (
	sweepPlace  = "blobs/ab/" + scanXet
	sweepSecond = "models--org--second/"
	sweepUser   = removeBlobs + scanSHA
	sweepUser2  = sweepSecond + "blobs/" + scanSHA
)

var secondRepo = hub.Repo{Type: hub.Model, Name: "org/second"}

// sharedByTwo is a payload that two repositories use.
func sharedByTwo() map[string]string {
	return map[string]string{
		"blobs/.huggingface-shared-blobs": "1\n", sweepPlace: strings.Repeat("payload ", 1000), sweepPlace + ".refs": sweepUser + "\n" + sweepUser2 + "\n" + sweepUser + "\n", sweepPlace + ".lock": "",
		sweepUser: "->../../" + sweepPlace, scanSnap + "model.bin": "->../../blobs/" + scanSHA, scanRepo + "refs/main": scanCommit,
		sweepUser2: "->../../" + sweepPlace, sweepSecond + "snapshots/" + scanCommit + "/model.bin": "->../../blobs/" + scanSHA, sweepSecond + "refs/main": scanCommit,
	}
}

func evictShared(t *testing.T, r *Remover, repo hub.Repo) func() (Removed, error) {
	t.Helper()
	return func() (Removed, error) {
		return r.Revision(t.Context(), repo, scanCommit, []hub.Ref{"main"}, []string{scanSHA})
	}
}

// A payload goes with the last of its users, and not before.
func TestSweepSharedByTwo(t *testing.T) {
	dir := layout(t, sharedByTwo())
	r := remover(t, dir)
	refs := diskUse(t, filepath.Join(dir, scanRepo)) // what is the repository's own: the ref, and not the payload
	if out := removing(t, dir, evictShared(t, r, quarantineRepo)); out.Skipped != nil || out.Bytes != refs {
		t.Errorf("the first gave %+v, and its own are %d", out, refs)
	}
	if got := content(t, filepath.Join(dir, sweepSecond, "snapshots", scanCommit, "model.bin")); len(got) != 8000 {
		t.Errorf("the second repository reads %q", got)
	}
	if got := content(t, filepath.Join(dir, sweepPlace+".refs")); got != sweepUser2+"\n" {
		t.Errorf("the list of users is %q", got)
	}
	if mode := lstat(t, filepath.Join(dir, sweepPlace+".refs")).Mode().Perm(); mode != 0o666 {
		t.Errorf("its mode is %v", mode)
	}
	if out := removing(t, dir, evictShared(t, r, secondRepo)); out.Skipped != nil || out.Bytes < 8000 {
		t.Errorf("the second gave %+v", out)
	}
	want := []string{"blobs/.huggingface-shared-blobs", sweepPlace + ".lock"}
	if diff := cmp.Diff(want, remains(t, dir)); diff != "" {
		t.Errorf("the cache (-want +got):\n%s", diff)
	}
}

func TestSweep(t *testing.T) {
	unused := func() map[string]string {
		return map[string]string{"blobs/.huggingface-shared-blobs": "1\n", sweepPlace: "payload", sweepPlace + ".refs": sweepUser + "\n", sweepPlace + ".lock": ""}
	}
	used := []Skipped{{sweepPlace, "a repository uses it again"}}
	for _, test := range []struct {
		name   string
		change map[string]string // "-" removes
		act    func(t *testing.T, dir string)
		step   func(t *testing.T, dir string, what string)
		want   []Skipped
		gone   bool
		list   string // of users, where it stays
	}{
		{name: "stale lines", gone: true},
		{name: "no lock yet", change: map[string]string{sweepPlace + ".lock": "-"}, gone: true},
		{name: "an empty list", change: map[string]string{sweepPlace + ".refs": ""}, gone: true},
		{
			name: "lines that are no users", gone: true,
			change: map[string]string{
				sweepPlace + ".refs": "../x\n/etc/passwd\nmodels--org--name/blobs/a/b\nmodels--org--name/snapshots/x\nmodels--org--name/blobs/real\nmodels--org--name/blobs/other\nnonsense\n\n",
				removeBlobs + "real": "payload", removeBlobs + "other": "->../../blobs/ab/other",
			},
		},
		{name: "a user", change: map[string]string{sweepUser: "->../../" + sweepPlace}, want: used, list: sweepUser + "\n"},
		{name: "a user by an absolute link", change: map[string]string{sweepUser: "->HUB/" + sweepPlace}, want: used, list: sweepUser + "\n"},
		{name: "a user among stale lines", change: map[string]string{
			sweepUser2: "->../../" + sweepPlace, sweepPlace + ".refs": sweepUser + "\n" + sweepUser2 + "\r\n" + sweepUser2 + "\n",
		}, want: used, list: sweepUser2 + "\n"},
		{name: "a user that no list has", change: map[string]string{sweepUser2: "->../../" + sweepPlace}, want: append([]Skipped{{
			sweepPlace, "a repository links to it that is not on its list of users",
		}}, used...), list: sweepUser + "\n"},
		{name: "a user where the cache has another path", change: map[string]string{sweepUser2: "->/root/hub/" + sweepPlace}, want: append([]Skipped{{
			sweepPlace, "a repository links to it that is not on its list of users",
		}}, used...), list: sweepUser + "\n"},
		{name: "no list", change: map[string]string{sweepPlace + ".refs": "-"}, want: []Skipped{{sweepPlace, "it has no list of its users"}}},
		{
			name: "a list that is a link", change: map[string]string{sweepPlace + ".refs": "->../empty", "blobs/empty": ""},
			want: []Skipped{{sweepPlace, "the list of its users cannot be read: it is not a regular file"}}, list: "",
		},
		{name: "a list that is no text", change: map[string]string{sweepPlace + ".refs": "\xff\n"}, want: []Skipped{{sweepPlace, "the list of its users cannot be read: it is no text"}}, list: "\xff\n"},
		{name: "a line that cannot be judged", change: map[string]string{
			"models--org--name": "->/nowhere", // a repository that was moved to another disk
		}, want: []Skipped{{sweepPlace, "the list of its users cannot be read: path escapes from parent"}}, list: sweepUser + "\n"},
		{name: "a store that is not marked", change: map[string]string{"blobs/.huggingface-shared-blobs": "-"}, list: sweepUser + "\n"},
		{name: "a store of another layout", change: map[string]string{"blobs/.huggingface-shared-blobs": "2\n"}, list: sweepUser + "\n"},
		{name: "a held lock", act: func(t *testing.T, dir string) {
			t.Helper()
			hold(t, filepath.Join(dir, sweepPlace+".lock"))
		}, want: []Skipped{{sweepPlace, whyLocked}}, list: sweepUser + "\n"},
		{
			name: "a lock that is a link", change: map[string]string{sweepPlace + ".lock": "->../empty", "blobs/empty": ""},
			want: []Skipped{{sweepPlace, "it cannot be locked: it is not a regular file"}}, list: sweepUser + "\n",
		},
		{name: "a user that comes when the lock is taken", step: func(t *testing.T, dir, what string) {
			t.Helper()
			if what == "locked the store" {
				symlink(t, "../../"+sweepPlace, filepath.Join(dir, sweepUser))
			}
		}, want: used, list: sweepUser + "\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries := unused()
			for name, text := range test.change {
				if entries[name] = text; text == "-" {
					delete(entries, name)
				}
			}
			dir := layout(t, entries)
			if test.act != nil {
				test.act(t, dir)
			}
			r := remover(t, dir)
			r.step = func(what string) {
				if test.step != nil {
					test.step(t, dir, what)
				}
			}
			out := removing(t, dir, func() (Removed, error) { return r.Payload(t.Context(), sweepPlace) })
			if diff := cmp.Diff(test.want, out.Skipped); diff != "" {
				t.Errorf("skipped (-want +got):\n%s", diff)
			}
			if _, err := os.Lstat(filepath.Join(dir, sweepPlace)); (err != nil) != test.gone {
				t.Errorf("the payload: %v", err)
			}
			list, err := os.ReadFile(filepath.Join(dir, sweepPlace+".refs"))
			if string(list) != test.list || (test.gone && !os.IsNotExist(err)) {
				t.Errorf("the list is %q, %v", list, err)
			}
			if mode := lstat(t, filepath.Join(dir, sweepPlace+".lock")).Mode(); test.name == "no lock yet" && mode.Perm() != 0o666 {
				t.Errorf("the lock has mode %v", mode)
			}
		})
	}
	r := remover(t, layout(t, unused()))
	for _, place := range []string{"", "blobs/.huggingface-shared-blobs", "blobs/cd/" + scanXet, "x/../" + sweepPlace, "/" + sweepPlace, sweepPlace + ".refs", removeBlobs + scanXet} {
		_, err := r.Payload(t.Context(), place)
		wantError(t, err, "no payload")
	}
}

// Where the file system has no locks, the existence of a file is the lock.
func TestSweepSoftLock(t *testing.T) {
	for _, held := range []bool{false, true} {
		dir := layout(t, map[string]string{"blobs/.huggingface-shared-blobs": "1\n", sweepPlace: "payload", sweepPlace + ".refs": "", sweepPlace + ".lock": ""})
		soft := filepath.Join(dir, sweepPlace+".lock.soft")
		if held {
			put(t, soft, "")
		}
		r := remover(t, dir)
		r.lock = func(*os.File, int64) error { return errors.ErrUnsupported }
		r.step = func(string) { lstat(t, soft) }
		out := removing(t, dir, func() (Removed, error) { return r.Payload(t.Context(), sweepPlace) })
		if held != (len(out.Skipped) == 1) || held != (out.Bytes == 0) {
			t.Errorf("held %t: %+v", held, out)
		}
		if _, err := os.Lstat(soft); held != (err == nil) {
			t.Errorf("held %t: %v", held, err)
		}
	}
}

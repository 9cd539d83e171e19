package hfcache

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

const (
	quarantineOther = "fedcba9876543210fedcba9876543210fedcba98"
	quarantineEntry = "blobs/" + scanGit
)

func quarantineTime() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

var quarantineRepo = hub.Repo{Type: hub.Model, Name: "org/name"}

// opened opens the repository's quarantine.
func opened(t *testing.T, c *Cache) *Quarantine {
	t.Helper()
	q, err := c.Quarantine(quarantineRepo, quarantineTime)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

// suspect describes an entry of the repository as it is now.
func suspect(t *testing.T, c *Cache, entry string) Suspect {
	t.Helper()
	rel, info, err := c.resolve(scanRepo + entry)
	if err != nil {
		t.Fatal(err)
	}
	return Suspect{Entry: entry, Bytes: rel, Size: info.Size(), ModTime: info.ModTime(), Want: scanGit, Why: "for a test"}
}

// aside makes names in the quarantine the same in every run.
func aside(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for _, line := range listing(t, dir) {
		if i := strings.Index(line, "/quarantine/"+scanGit+"."); i >= 0 {
			random := i + len("/quarantine/"+scanGit+".")
			line = line[:random] + "RANDOM" + line[random+8:]
		}
		if !strings.HasPrefix(line, locksDir) {
			names = append(names, line)
		}
	}
	return names
}

func TestQuarantineBlob(t *testing.T) {
	odd := scanRepo + "snapshots/v1/x" // huggingface.js names a snapshot by an etag where the file has no commit of its own
	dir := layout(t, map[string]string{
		scanRepo + "blobs/" + scanGit: "wrong\n", scanRepo + "blobs/" + scanSHA: "hello\n",
		scanSnap + "a": "->../../blobs/" + scanGit, scanSnap + "b/c": "->HUB/" + scanRepo + "blobs/" + scanGit,
		scanRepo + "snapshots/" + quarantineOther + "/a": "->../../blobs/" + scanGit,
		odd: "->../../blobs/" + scanGit, scanSnap + "good": "->../../blobs/" + scanSHA,
		scanRepo + "refs/main": scanCommit,
	})
	c, _ := scanned(t, dir)
	got, err := opened(t, c).Put(t.Context(), suspect(t, c, quarantineEntry))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		scanRepo + ".hf-cache-sync/quarantine/" + scanGit + ".RANDOM",
		scanRepo + ".hf-cache-sync/quarantine/" + scanGit + ".RANDOM.json",
		scanRepo + "blobs/" + scanSHA,
		scanRepo + "refs/main",
		scanSnap + "good -> ../../blobs/" + scanSHA,
	}, aside(t, dir)); diff != "" {
		t.Errorf("the cache (-want +got):\n%s", diff)
	}
	if !got.Moved || content(t, filepath.Join(dir, got.Bytes)) != "wrong\n" {
		t.Errorf("moved %t to %s", got.Moved, got.Bytes)
	}
	removed := []RemovedName{
		{"snapshots/" + scanCommit + "/a", "../../blobs/" + scanGit},
		{"snapshots/" + scanCommit + "/b/c", dir + "/" + scanRepo + "blobs/" + scanGit},
		{"snapshots/" + quarantineOther + "/a", "../../blobs/" + scanGit},
		{"snapshots/v1/x", "../../blobs/" + scanGit},
	}
	if diff := cmp.Diff(removed, got.Removed); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	var r record
	if err := json.Unmarshal([]byte(content(t, filepath.Join(dir, got.Record))), &r); err != nil {
		t.Fatal(err)
	}
	want := record{Format: 1, Entry: quarantineEntry, Size: 6, Want: scanGit, Why: "for a test", Time: quarantineTime(), Removed: removed}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("the record (-want +got):\n%s", diff)
	}
	if inv, err := c.Scan(t.Context(), nil); err != nil || len(inv.Problems) != 1 { // v1
		t.Errorf("a scan has problems: %v, %v", inv.Problems, err)
	}

	missing := []SnapshotFile{{scanCommit, "a"}, {scanCommit, "b/c"}, {quarantineOther, "a"}}
	wantMissing(t, c, missing...)
	symlink(t, "../../blobs/"+scanSHA, filepath.Join(dir, scanSnap, "a"))
	wantMissing(t, c, missing[1:]...)
	if err := os.RemoveAll(filepath.Join(dir, scanRepo, "snapshots", quarantineOther)); err != nil {
		t.Fatal(err)
	}
	wantMissing(t, c, missing[1])
}

func wantMissing(t *testing.T, c *Cache, want ...SnapshotFile) {
	t.Helper()
	got, err := c.StillMissing(quarantineRepo)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("still missing (-want +got):\n%s", diff)
	}
}

func TestQuarantineRealFile(t *testing.T) {
	entry := "snapshots/" + scanCommit + "/b/model.bin"
	dir := layout(t, map[string]string{scanRepo + entry: "wrong\n"})
	c, _ := scanned(t, dir)
	got, err := opened(t, c).Put(t.Context(), suspect(t, c, entry))
	if err != nil || !got.Moved {
		t.Fatalf("%+v, %v", got, err)
	}
	if diff := cmp.Diff([]string{
		scanRepo + ".hf-cache-sync/quarantine/" + scanGit + ".RANDOM",
		scanRepo + ".hf-cache-sync/quarantine/" + scanGit + ".RANDOM.json",
	}, aside(t, dir)); diff != "" {
		t.Errorf("the cache (-want +got):\n%s", diff)
	}
	wantMissing(t, c, SnapshotFile{scanCommit, "b/model.bin"})
}

func TestQuarantineAstrayLink(t *testing.T) {
	entry := "snapshots/" + scanCommit + "/a"
	dir := layout(t, map[string]string{scanRepo + "blobs/" + scanGit: "hello\n", scanRepo + entry: "->../../blobs/" + scanGit, scanSnap + "b": "->../../blobs/" + scanGit})
	c, _ := scanned(t, dir)
	s := suspect(t, c, entry)
	s.Astray = true
	got, err := opened(t, c).Put(t.Context(), s)
	if err != nil || got.Moved {
		t.Fatalf("%+v, %v", got, err)
	}
	if diff := cmp.Diff([]string{
		scanRepo + ".hf-cache-sync/quarantine/" + scanGit + ".RANDOM.json",
		scanRepo + "blobs/" + scanGit,
		scanSnap + "b -> ../../blobs/" + scanGit,
	}, aside(t, dir)); diff != "" {
		t.Errorf("the cache (-want +got):\n%s", diff)
	}
}

// TestQuarantineAstrayPayload has the only link to a good payload in a snapshot, where it does not belong.
func TestQuarantineAstrayPayload(t *testing.T) {
	entry, payload := "snapshots/"+scanCommit+"/a", "blobs/ab/"+scanXet
	dir := layout(t, map[string]string{
		"blobs/.huggingface-shared-blobs": "1\n", payload: "hello\n", payload + ".lock": "", payload + ".refs": "", scanRepo + entry: "->../../../" + payload,
	})
	c, _ := scanned(t, dir)
	s := suspect(t, c, entry)
	s.Astray = true
	if got, err := opened(t, c).Put(t.Context(), s); err != nil || got.Moved || got.Bytes != payload {
		t.Fatalf("%+v, %v", got, err)
	}
	if content(t, filepath.Join(dir, payload)) != "hello\n" {
		t.Error("the payload is another")
	}
}

func TestQuarantineLeavesAlone(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(t *testing.T, c *Cache, dir string)
		want   error
	}{
		{"bytes that were written to since", func(t *testing.T, _ *Cache, dir string) {
			t.Helper()
			put(t, filepath.Join(dir, scanRepo, "blobs", scanGit), "another file")
		}, ErrChanged},
		{"a file of the same size in its place", func(t *testing.T, _ *Cache, dir string) {
			t.Helper()
			name := filepath.Join(dir, scanRepo, "blobs", scanGit)
			put(t, name+".new", "hello\n")
			if err := errors.Join(os.Chtimes(name+".new", time.Time{}, time.Now().Add(time.Hour)), os.Rename(name+".new", name)); err != nil {
				t.Fatal(err)
			}
		}, ErrChanged},
		{"a blob that is gone", func(t *testing.T, _ *Cache, dir string) {
			t.Helper()
			if err := os.Remove(filepath.Join(dir, scanRepo, "blobs", scanGit)); err != nil {
				t.Fatal(err)
			}
		}, ErrChanged},
		{"a blob that a client is downloading", func(t *testing.T, c *Cache, _ string) {
			t.Helper()
			unlock, err := c.LockBlob(t.Context(), quarantineRepo, scanGit, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(unlock)
		}, ErrBusy},
		{"a folder in the place of the quarantine", func(t *testing.T, _ *Cache, dir string) {
			t.Helper()
			symlink(t, "snapshots", filepath.Join(dir, scanRepo, ".hf-cache-sync"))
		}, ErrInTheWay},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := layout(t, map[string]string{
				scanRepo + "blobs/" + scanGit: "wrong\n", scanSnap + "a": "->../../blobs/" + scanGit, scanRepo + "blobs/" + scanSHA: "hello\n",
			})
			c, _ := scanned(t, dir)
			s := suspect(t, c, quarantineEntry)
			q := opened(t, c)
			test.before(t, c, dir)
			before := aside(t, dir)
			if _, err := q.Put(t.Context(), s); !errors.Is(err, test.want) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(before, aside(t, dir)); diff != "" {
				t.Errorf("it changed the cache:\n%s", diff)
			}
		})
	}
}

func TestQuarantineCancelled(t *testing.T) {
	dir := layout(t, map[string]string{scanRepo + "blobs/" + scanGit: "wrong\n"})
	c, _ := scanned(t, dir)
	s := suspect(t, c, quarantineEntry)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := opened(t, c).Put(ctx, s); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
}

// TestQuarantineUndo lets a client without locks replace the blob at the worst moment: all links are gone, the file has just been moved.
func TestQuarantineUndo(t *testing.T) {
	dir := layout(t, map[string]string{
		scanRepo + "blobs/" + scanGit: "wrong\n", scanSnap + "a": "->../../blobs/" + scanGit, scanSnap + "b": "->../../blobs/" + scanGit,
	})
	c, _ := scanned(t, dir)
	q := opened(t, c)
	before := aside(t, dir)
	s := suspect(t, c, quarantineEntry)
	s.Size++ // as if it had been another file
	m := &move{Quarantine: q, suspect: s, to: quarantineDir + "/" + quarantineName(s)}
	if err := errors.Join(m.names(q.links[scanGit]...), m.record(), m.unlink()); err != nil {
		t.Fatal(err)
	}
	if err := m.bytes(false); !errors.Is(err, ErrChanged) {
		t.Fatalf("error %v", err)
	}
	if n := len(aside(t, dir)); n != 2 { // the bytes and the record, both in the quarantine
		t.Fatalf("the cache is %q", aside(t, dir))
	}
	if err := m.undo(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, aside(t, dir)); diff != "" {
		t.Errorf("it did not put everything back:\n%s", diff)
	}
}

func TestQuarantineSharedPayload(t *testing.T) {
	payload := "blobs/ab/" + scanXet
	link := "->../../" + payload
	for _, test := range []struct {
		name  string
		more  map[string]string
		moved bool
		lock  bool
	}{
		{"nobody else", nil, true, false},
		{"another repository", map[string]string{"datasets--org--x/blobs/" + scanSHA: link}, false, false},
		{"another repository by an absolute link", map[string]string{"datasets--org--x/blobs/odd": "->HUB/" + payload}, false, false},
		{"another name in the same repository", map[string]string{scanRepo + "blobs/" + scanSHA: link}, false, false},
		{"another repository with another payload", map[string]string{"datasets--org--x/blobs/" + scanSHA: "->../../blobs/ab/other"}, true, false},
		{"a lock that is held", nil, false, true},
		{"no lock", map[string]string{payload + ".lock": "absent"}, false, false},
		{"nobody wrote down who uses it", map[string]string{payload + ".refs": "absent"}, false, false},
		{"a store of another version", map[string]string{"blobs/.huggingface-shared-blobs": "2\n"}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries := map[string]string{
				"blobs/.huggingface-shared-blobs": "1\n", payload: "wrong\n", payload + ".lock": "", payload + ".refs": scanRepo + quarantineEntry + "\n",
				scanRepo + quarantineEntry: link, scanSnap + "a": "->../../blobs/" + scanGit,
			}
			for name, text := range test.more {
				if entries[name] = text; text == "absent" {
					delete(entries, name)
				}
			}
			dir := layout(t, entries)
			c, _ := scanned(t, dir)
			if test.lock {
				f, err := os.Open(filepath.Join(dir, payload+".lock"))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = f.Close() })
				if err := tryLock(f, 0); err != nil {
					t.Fatal(err)
				}
			}
			got, err := opened(t, c).Put(t.Context(), suspect(t, c, quarantineEntry))
			if err != nil {
				t.Fatal(err)
			}
			if got.Moved != test.moved || content(t, filepath.Join(dir, got.Bytes)) != "wrong\n" {
				t.Errorf("moved %t, to %s", got.Moved, got.Bytes)
			}
			if _, err := os.Lstat(filepath.Join(dir, scanSnap, "a")); err == nil {
				t.Error("the snapshot's link is still there")
			}
			if _, err := os.Lstat(filepath.Join(dir, scanRepo, quarantineEntry)); err == nil {
				t.Error("the repository's link is still there")
			}
		})
	}
}

// TestStillMissingBelievesNoRecord gives it records that lead elsewhere, or are none.
func TestStillMissingBelievesNoRecord(t *testing.T) {
	home := scanRepo + quarantineDir + "/"
	dir := layout(t, map[string]string{
		scanSnap:          "",
		home + "a.json":   `{"format": 1, "removed": [{"file": "snapshots/` + scanCommit + `/../../../x"}, {"file": "/etc/x"}, {"file": "snapshots/` + scanCommit + `"}, {"file": "snapshots/` + scanCommit + `/good"}]}`,
		home + "b.json":   `{"format": 2, "removed": [{"file": "snapshots/` + scanCommit + `/later"}]}`,
		home + "c.json":   `{`,
		home + "d":        `{"format": 1, "removed": [{"file": "snapshots/` + scanCommit + `/d"}]}`,
		home + "e.json":   "->../../../outside.json",
		home + "f.json/x": "",
		"outside.json":    `{"format": 1, "removed": [{"file": "snapshots/` + scanCommit + `/e"}]}`,
	})
	c, _ := scanned(t, dir)
	wantMissing(t, c, SnapshotFile{scanCommit, "good"})
}

func TestMisfits(t *testing.T) {
	dir := layout(t, map[string]string{
		scanRepo + "blobs/" + scanSHA: "cut", scanSnap + "model.bin": "->../../blobs/" + scanSHA,
		scanRepo + "trees/" + scanCommit + ".json": scanTree,
	})
	c, inv := scanned(t, dir)
	rev := inv.Repos[0].Revisions[0]
	got := c.Misfits(inv.Repos[0], rev)
	for i := range got {
		got[i].ModTime = time.Time{}
	}
	want := []File{{Path: "model.bin", Size: 3, Blob: scanSHA, Bytes: scanRepo + "blobs/" + scanSHA, ID: scanSHA}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("misfits (-want +got):\n%s", diff)
	}
	if len(inv.Problems) != 1 || inv.Problems[0].Path != c.SnapshotPath(inv.Repos[0], rev, got[0]) {
		t.Errorf("problems %v", inv.Problems)
	}
}

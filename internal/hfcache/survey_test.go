package hfcache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

const (
	surveyProbe = "tmp_12345678-1234-1234-1234-123456789abc"
	surveyOther = "ffffffffffffffffffffffffffffffffffffffff"
	surveyTrash = scanRepo + ".hf-cache-sync/trash/"
	surveyQuar  = scanRepo + ".hf-cache-sync/quarantine/"
)

func surveyTime() time.Time { return time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC) }

// surveyed surveys a cache in which everything is equally old, but for what has another time in hours.
func surveyed(t *testing.T, dir string, hours map[string]int) *Survey {
	t.Helper()
	finish(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink != 0 {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		return os.Chtimes(name, time.Time{}, surveyTime().Add(time.Duration(hours[filepath.ToSlash(rel)])*time.Hour))
	}))
	c, inv := scanned(t, dir)
	s, err := c.Survey(t.Context(), inv)
	finish(t, err)
	return s
}

func TestSurveyLeftovers(t *testing.T) {
	store := map[string]string{"blobs/.huggingface-shared-blobs": "1\n", sweepPlace: "payload", sweepPlace + ".refs": "", sweepPlace + ".lock": ""}
	temp := func(places ...string) (all []Leftover) {
		for _, place := range places {
			l := Leftover{Place: place, Kind: LeftoverTemp}
			if strings.HasPrefix(place, scanRepo) {
				l.Repo = quarantineRepo
			}
			all = append(all, l)
		}
		return all
	}
	ours := func(place string, kind LeftoverKind) []Leftover {
		return []Leftover{{Repo: quarantineRepo, Place: place, Kind: kind}}
	}
	for _, test := range []struct {
		name    string
		entries map[string]string
		store   bool
		want    []Leftover
	}{
		{name: "a download of old", entries: map[string]string{"tmpab12_x9z": "x"}, want: temp("tmpab12_x9z")},
		{name: "a file of somebody", entries: map[string]string{
			"tmpfile_notes": "x", "tmpNOTES123": "x", "tmpnotes": "x", scanRepo + "tmpab12_x9z": "x", scanRepo + "tmpfile_notes": "x", scanRepo + "trees/tmpfile_notes.tmp": "x",
		}},
		{name: "a probe for links", entries: map[string]string{"tmpab12cd/dummy_file_src": "", "tmpab12cd/dummy_file_dst": "->dummy_file_src"}, want: temp("tmpab12cd")},
		{name: "an empty probe", entries: map[string]string{"tmpab12cd/": ""}, want: temp("tmpab12cd")},
		{name: "a folder of somebody", entries: map[string]string{"tmpmymodels/model.bin": "x", "tmpmymodels2/dummy_file_x/": ""}},
		{name: "a link of somebody", entries: map[string]string{"tmpab12_x9z": "->/etc", scanRepo + "tmpab12_x9z": "->/etc"}},
		{name: "probes in a repository", entries: map[string]string{
			scanRepo + surveyProbe: "", scanRepo + "tmpab12cd/dummy_file_src": "", scanRepo + "tmpzz12cd/x": "",
		}, want: temp(scanRepo+surveyProbe, scanRepo+"tmpab12cd")},
		{name: "a ref that was being written", entries: map[string]string{
			scanRepo + "refs/main.0a1b2c3d.tmp": "x", scanRepo + "refs/refs/pr/1.0a1b2c3d.tmp": "", scanRepo + "refs/a.tmp": scanCommit, scanRepo + "refs/b.0a1b2c3d.tmp/c": scanCommit,
			scanRepo + "refs/d.0a1b2c3d.tmp": "->main",
		}, want: temp(scanRepo+"refs/main.0a1b2c3d.tmp", scanRepo+"refs/refs/pr/1.0a1b2c3d.tmp")},
		{name: "a listing that was being written", entries: map[string]string{
			scanRepo + "trees/tmpab12_x9z.tmp": "x", scanRepo + "trees/other.tmp": "x", scanRepo + "trees/tmpab12cd.tmp": "->x",
		}, want: temp(scanRepo + "trees/tmpab12_x9z.tmp")},
		{name: "listings", entries: map[string]string{
			scanRepo + "trees/" + scanCommit + ".json":              "{}", // it has a snapshot
			scanRepo + "trees/" + surveyOther + ".json":             "{}",
			scanRepo + "trees/" + strings.Repeat("e", 40) + ".json": "{}", scanRepo + "refs/new": strings.Repeat("e", 40), // a client is about to make the snapshot
			scanRepo + "trees/" + strings.Repeat("d", 40) + ".json": "{}", scanRepo + ".no_exist/" + strings.Repeat("d", 40) + "/x": "",
			scanRepo + "trees/" + strings.Repeat("c", 40): "{}", scanRepo + "trees/notes.json": "{}", scanRepo + "trees/" + strings.Repeat("b", 40) + ".json/x": "",
		}, want: ours(scanRepo+"trees/"+surveyOther+".json", LeftoverTree)},
		{name: "a listing of a commit that is elsewhere", entries: map[string]string{
			scanRepo + "trees/" + surveyOther + ".json": "{}", scanRepo + "snapshots/" + surveyOther: "->/elsewhere",
		}},
		{name: "trash", entries: map[string]string{
			surveyTrash + "1/snapshot/x": "x", surveyTrash + "2": "x", surveyTrash + "3": "->/etc", surveyTrash + "4/": "",
		}, want: append(append(append(ours(surveyTrash+"1", LeftoverTrash), ours(surveyTrash+"2", LeftoverTrash)...), ours(surveyTrash+"3", LeftoverTrash)...), ours(surveyTrash+"4", LeftoverTrash)...)},
		{name: "quarantine", entries: map[string]string{
			surveyQuar + "1": "x", surveyQuar + "1.json": "{}", surveyQuar + "2/x": "x", surveyQuar + "3": "->1",
		}, want: append(ours(surveyQuar+"1", LeftoverQuarantine), ours(surveyQuar+"1.json", LeftoverQuarantine)...)},
		{name: "quarantine of a file that is still missing: the record stays", entries: map[string]string{
			scanSnap + "b": "x", surveyQuar + "1": "x", surveyQuar + "1.json": `{"format": 1, "removed": [{"file": "snapshots/` + scanCommit + `/z", "target": ""}]}`,
			surveyQuar + "2": "x", surveyQuar + "2.json": `{"format": 1, "removed": [{"file": "snapshots/` + scanCommit + `/b", "target": ""}]}`,
			surveyQuar + "3.json": `{"format": 1, "removed": [{"file": "snapshots/` + surveyOther + `/z", "target": ""}]}`,
		}, want: append(append(append(ours(surveyQuar+"1", LeftoverQuarantine), ours(surveyQuar+"2", LeftoverQuarantine)...),
			ours(surveyQuar+"2.json", LeftoverQuarantine)...), ours(surveyQuar+"3.json", LeftoverQuarantine)...)},
		{name: "an empty repository", entries: map[string]string{
			"models--org--second/blobs/": "", "models--org--second/snapshots/": "", "models--org--second/refs/refs/pr/": "",
		}, want: []Leftover{{Repo: secondRepo, Place: "models--org--second", Kind: LeftoverEmpty}}},
		{name: "a repository with no folder at all", entries: map[string]string{"models--org--second/": ""}, want: []Leftover{{Repo: secondRepo, Place: "models--org--second", Kind: LeftoverEmpty}}},
		{name: "a repository with an empty snapshot", entries: map[string]string{"models--org--second/snapshots/" + scanCommit + "/": ""}},
		{name: "a repository with marks only", entries: map[string]string{"models--org--second/.no_exist/" + scanCommit + "/x": ""}},
		{name: "a repository with a folder of somebody", entries: map[string]string{"models--org--second/snapshots/mine/": ""}},
		{name: "a repository with a file of somebody", entries: map[string]string{"models--org--second/notes.txt": "", "models--org--second/blobs/": ""}},
		{name: "a repository with a download", entries: map[string]string{"models--org--second/blobs/x.incomplete": ""}},
		{name: "a repository whose content is elsewhere", entries: map[string]string{"models--org--second/blobs": "->/elsewhere", "models--org--second/snapshots/": ""}},
		{name: "the shared store", store: true, entries: map[string]string{
			"blobs/.huggingface-shared-blobs.0a1b2c3d.tmp": "1\n", sweepPlace + ".refs.0a1b2c3d.tmp": "x", sweepPlace + ".refs.4711.tmp": "x",
			"blobs/cd/.huggingface-shared-blobs.0a1b2c3d.tmp": "x", "blobs/cd/" + scanXet + ".refs.0a1b2c3d.tmp": "x", "blobs/" + scanXet + ".refs.0a1b2c3d.tmp": "x", sweepPlace + ".lock.soft": "",
			"blobs/ab/notes.tmp": "x", "blobs/ab/" + strings.Replace(scanXet, "c", "0", 1) + ".refs.0a1b2c3d.tmp": "->x",
		}, want: temp("blobs/.huggingface-shared-blobs.0a1b2c3d.tmp", sweepPlace+".refs.0a1b2c3d.tmp", sweepPlace+".refs.4711.tmp")},
		{name: "a blobs folder of somebody", entries: map[string]string{"blobs/.huggingface-shared-blobs.0a1b2c3d.tmp": "1\n", sweepPlace + ".refs.0a1b2c3d.tmp": "x"}},
		{name: "junk", entries: map[string]string{
			"CACHEDIR.TAG": "", "version.txt": "", ".DS_Store": "", "Thumbs.db": "", ".locks/models--org--name/x.lock": "", ".locks/.hf-cache-sync/prune.lock": "", scanSHA + "x.lock": "",
			"tmpx": "", scanRepo + ".DS_Store": "", scanRepo + "refs/.DS_Store": "", scanSnap + ".DS_Store": "", scanRepo + "blobs/" + scanSHA + ".incomplete": "", scanRepo + "blobs/" + scanGit: "",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries := map[string]string{scanRepo + "blobs/keep": "keep", scanSnap + "a": "->../../blobs/keep", scanRepo + "refs/main": scanCommit}
			for _, more := range []map[string]string{test.entries, store} {
				for name, text := range more {
					if _, ofStore := store[name]; !ofStore || test.store {
						entries[name] = text
					}
				}
			}
			s := surveyed(t, layout(t, entries), nil)
			if diff := cmp.Diff(test.want, s.Leftovers, cmpopts.IgnoreFields(Leftover{}, "Disk", "ModTime")); diff != "" {
				t.Errorf("leftovers (-want +got):\n%s", diff)
			}
			if s.SharedStore != test.store || (len(s.Payloads) > 0) != test.store {
				t.Errorf("store %t, with %v", s.SharedStore, s.Payloads)
			}
		})
	}
}

// What is below a leftover counts, and makes it as young as its youngest part.
func TestSurveyLeftoverSizes(t *testing.T) {
	dir := layout(t, map[string]string{
		surveyTrash + "1/snapshot/sub/a": strings.Repeat("a", 5000), surveyTrash + "1/b": "b", scanSnap + "a": "x",
		"models--org--second/refs/deep/": "", "tmpab12_x9z": "x",
	})
	s := surveyed(t, dir, map[string]int{surveyTrash + "1/snapshot/sub": 2, surveyTrash + "1/b": 1, "models--org--second/refs/deep": 3})
	want := []Leftover{
		{quarantineRepo, strings.TrimSuffix(surveyTrash+"1", "/"), LeftoverTrash, diskUse(t, filepath.Join(dir, surveyTrash)), surveyTime().Add(2 * time.Hour)},
		{secondRepo, "models--org--second", LeftoverEmpty, 0, surveyTime().Add(3 * time.Hour)},
		{hub.Repo{}, "tmpab12_x9z", LeftoverTemp, diskUse(t, filepath.Join(dir, "tmpab12_x9z")), surveyTime()},
	}
	if diff := cmp.Diff(want, s.Leftovers, cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Errorf("leftovers (-want +got):\n%s", diff)
	}
}

func TestSurveyChanged(t *testing.T) {
	const third = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	dir := layout(t, map[string]string{
		scanSnap + "a/b/c": "x", scanSnap + "d/": "", scanSnap + "link": "->d",
		scanRepo + "snapshots/" + surveyOther + "/x": "x", scanRepo + ".no_exist/" + surveyOther + "/sub/y": "",
		scanRepo + ".no_exist/" + third + "/z": "", scanRepo + "snapshots/mine/x": "x",
	})
	s := surveyed(t, dir, map[string]int{
		scanSnap + "a/b": 5, scanSnap + "d": 4, scanSnap + "a/b/c": 9, // files do not count
		scanRepo + "snapshots/" + surveyOther: 1, scanRepo + ".no_exist/" + surveyOther + "/sub": 2, scanRepo + ".no_exist/" + third: 3, scanRepo + "snapshots": 9,
	})
	at := func(hours int) time.Time { return surveyTime().Add(time.Duration(hours) * time.Hour) }
	want := map[hub.Repo]map[hub.Commit]time.Time{quarantineRepo: {scanCommit: at(5), surveyOther: at(2), third: at(3)}}
	if diff := cmp.Diff(want, s.Changed, cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	// A client makes a folder in a revision, and nothing in it yet.
	finish(t, os.Mkdir(filepath.Join(dir, scanSnap, "d", "new"), 0o700))
	c, inv := scanned(t, dir)
	s, err := c.Survey(t.Context(), inv)
	finish(t, err)
	if got := s.Changed[quarantineRepo][scanCommit]; time.Since(got) > time.Hour {
		t.Errorf("a new folder has not changed it since %v", got)
	}
}

func TestSurveyPayloads(t *testing.T) {
	for _, test := range []struct {
		name   string
		change map[string]string // "-" removes
		listed bool
		users  []string
	}{
		{name: "two users, one named twice", listed: true, users: []string{sweepUser, sweepUser2}},
		{name: "a stale line", change: map[string]string{sweepUser2: "-"}, listed: true, users: []string{sweepUser}},
		{name: "a user whose link leads elsewhere", change: map[string]string{sweepUser2: "->../../blobs/ab/other"}, listed: true, users: []string{sweepUser}},
		{name: "a user with a file of its own", change: map[string]string{sweepUser2: "payload"}, listed: true, users: []string{sweepUser}},
		{name: "an absolute link", change: map[string]string{sweepUser2: "->HUB/" + sweepPlace}, listed: true, users: []string{sweepUser, sweepUser2}},
		{name: "an empty list", change: map[string]string{sweepPlace + ".refs": ""}, listed: true},
		{name: "lines that are no users", change: map[string]string{sweepPlace + ".refs": "../x\n\n/etc/passwd\n" + scanSnap + "model.bin\n"}, listed: true},
		{name: "no list", change: map[string]string{sweepPlace + ".refs": "-"}},
		{name: "a list that is a link", change: map[string]string{sweepPlace + ".refs": "->other.refs", "blobs/ab/other.refs": sweepUser + "\n"}},
		{name: "a list that is a folder", change: map[string]string{sweepPlace + ".refs": "-", sweepPlace + ".refs/x": ""}},
		{name: "a list that is no text", change: map[string]string{sweepPlace + ".refs": sweepUser + "\n\xff\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries := sharedByTwo()
			for name, text := range test.change {
				if entries[name] = text; text == "-" {
					delete(entries, name)
				}
			}
			dir := layout(t, entries)
			s := surveyed(t, dir, map[string]int{sweepPlace: 1})
			want := []Payload{{
				Place: sweepPlace, Size: 8000, Disk: diskOf(lstat(t, filepath.Join(dir, sweepPlace))), ModTime: surveyTime().Add(time.Hour), Listed: test.listed, Users: test.users,
			}}
			if diff := cmp.Diff(want, s.Payloads, cmp.Comparer(time.Time.Equal)); diff != "" {
				t.Errorf("payloads (-want +got):\n%s", diff)
			}
		})
	}
	// What is no payload, and in order.
	entries := map[string]string{"blobs/.huggingface-shared-blobs": "1\n"}
	second := "blobs/ab/" + strings.Replace(scanXet, "c", "0", 1)
	for _, name := range []string{sweepPlace, second, "blobs/cd/" + scanXet, "blobs/ab/" + strings.ToUpper(scanXet), "blobs/ab/x", "blobs/" + scanXet, "blobs/ab/sub/" + scanXet} {
		entries[name] = "x"
	}
	entries["blobs/ab/"+strings.Replace(scanXet, "d", "0", 1)] = "->" + scanXet
	entries["blobs/ab/"+strings.Replace(scanXet, "e", "0", 1)+"/x"] = ""
	s := surveyed(t, layout(t, entries), nil)
	if len(s.Payloads) != 2 || s.Payloads[0].Place != second || s.Payloads[1].Place != sweepPlace {
		t.Errorf("payloads: %+v", s.Payloads)
	}
}

// Where a link stands instead of a folder, what it leads to is none of our business, in or outside of the cache.
func TestSurveyFollowsNoLinks(t *testing.T) {
	elsewhere := layout(t, map[string]string{
		"1/main.0a1b2c3d.tmp": "x", "1/tmpab12_x9z.tmp": "x", "1/" + surveyOther + ".json": "{}", "1/tmpab12_x9z": "x", surveyOther + "/sub/x": "x", "1/" + scanXet: "x", "1/" + scanXet + ".refs.0a1b2c3d.tmp": "x",
	})
	for _, link := range []string{
		"refs", "refs/sub", "trees", ".hf-cache-sync", ".hf-cache-sync/trash", ".hf-cache-sync/quarantine", "snapshots", ".no_exist", "snapshots/" + surveyOther, "snapshots/" + scanCommit + "/sub",
	} {
		for _, target := range []string{elsewhere + "/1", "HUB/models--org--second/1"} {
			t.Run(link+" to "+filepath.Base(filepath.Dir(target)), func(t *testing.T) {
				entries := map[string]string{scanRepo + link: "->" + target, scanRepo + "blobs/x": "x"}
				for _, name := range listing(t, elsewhere) {
					entries["models--org--second/"+name] = "x"
				}
				dir := layout(t, entries)
				c, inv := scanned(t, dir)
				s, err := c.Survey(t.Context(), inv)
				finish(t, err)
				for _, l := range s.Leftovers {
					if l.Repo == quarantineRepo {
						t.Errorf("found %+v", l)
					}
				}
				if changed := s.Changed[quarantineRepo]; len(changed) > 1 || (len(changed) == 1 && !strings.HasSuffix(link, "/sub")) {
					t.Errorf("changed: %v", changed)
				}
			})
		}
	}
	for _, link := range []string{"blobs/ab", "blobs"} {
		entries := map[string]string{link: "->" + elsewhere + "/1", "blobs/.huggingface-shared-blobs": "1\n"}
		if link == "blobs" {
			delete(entries, "blobs/.huggingface-shared-blobs")
			put(t, filepath.Join(elsewhere, "1", sharedMarker), sharedVersion)
		}
		s := surveyed(t, layout(t, entries), nil)
		if len(s.Payloads)+len(s.Leftovers) > 0 {
			t.Errorf("%s is a link: %v, %v", link, s.Payloads, s.Leftovers)
		}
	}
}

func TestSurveyEnds(t *testing.T) {
	c, inv := scanned(t, layout(t, map[string]string{scanSnap + "a": "x"}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := c.Survey(ctx, inv); s != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", s, err)
	}
}

// The remover agrees about what is a leftover: each goes, and nothing else.
func TestSurveyAndRemover(t *testing.T) {
	dir := layout(t, map[string]string{
		scanRepo + "blobs/keep": "keep", scanSnap + "a": "->../../blobs/keep", scanRepo + "refs/main": scanCommit,
		"tmpab12_x9z": "x", "tmpab12cd/dummy_file_src": "", scanRepo + surveyProbe: "", scanRepo + "refs/main.0a1b2c3d.tmp": "x", scanRepo + "trees/tmpab12_x9z.tmp": "x",
		scanRepo + "trees/" + surveyOther + ".json": "{}", surveyTrash + "1/snapshot/x": "x", surveyQuar + "1": "x", surveyQuar + "1.json": "{}", "models--org--second/blobs/": "",
		"models--org--second/snapshots/": "", "blobs/.huggingface-shared-blobs": "1\n", "blobs/.huggingface-shared-blobs.0a1b2c3d.tmp": "1\n",
		sweepPlace + ".refs.0a1b2c3d.tmp": "x", sweepPlace + ".refs": "",
	})
	s := surveyed(t, dir, nil)
	r := remover(t, dir)
	kinds := map[LeftoverKind]int{}
	for _, l := range s.Leftovers {
		kinds[l.Kind]++
		out, err := r.Leftover(t.Context(), l)
		if err != nil || len(out.Skipped) > 0 || out.Bytes != l.Disk {
			t.Errorf("%s: %+v, %v, want %d bytes", l.Place, out, err, l.Disk)
		}
	}
	want := map[LeftoverKind]int{LeftoverTemp: 7, LeftoverTree: 1, LeftoverTrash: 1, LeftoverEmpty: 1, LeftoverQuarantine: 2}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
	keep := []string{"blobs/.huggingface-shared-blobs", sweepPlace + ".lock", sweepPlace + ".refs", scanRepo + "blobs/keep", scanRepo + "refs/main", scanSnap + "a -> ../../blobs/keep"}
	if diff := cmp.Diff(keep, remains(t, dir)); diff != "" {
		t.Errorf("the cache (-want +got):\n%s", diff)
	}
	if again := surveyed(t, dir, nil).Leftovers; len(again) > 0 {
		t.Errorf("left: %+v", again)
	}
}

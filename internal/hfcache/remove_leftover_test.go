package hfcache

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRemoveTemp(t *testing.T) {
	const (
		staged = "." + scanSHA + tempSuffix
		unique = "." + scanSHA + ".01234567" + tempSuffix
	)
	for _, test := range []struct {
		name, temp string
		others     []string
		act        func(t *testing.T, blobs, locks string)
		why        string
		gone       []string
	}{
		{name: "a client's", temp: scanSHA + ".01234567.incomplete", gone: []string{scanSHA + ".01234567.incomplete"}},
		{name: "a young one", temp: scanSHA + ".incomplete", act: func(t *testing.T, blobs, _ string) {
			t.Helper()
			touch(t, filepath.Join(blobs, scanSHA+".incomplete"))
		}, why: whyYoung},
		{name: "one whose lock is held", temp: scanSHA + ".01234567.incomplete", act: func(t *testing.T, _, locks string) {
			t.Helper()
			hold(t, filepath.Join(locks, scanSHA+".lock"))
		}, why: whyLocked},
		{name: "one of old Rust, whose lock is held", temp: scanSHA + ".sync.part", others: []string{scanSHA + ".lock"}, act: func(t *testing.T, blobs, _ string) {
			t.Helper()
			hold(t, filepath.Join(blobs, scanSHA+".lock"))
		}, why: whyLocked},
		{name: "a lock of old, held", temp: scanSHA + ".lock", act: func(t *testing.T, blobs, _ string) {
			t.Helper()
			hold(t, filepath.Join(blobs, scanSHA+".lock"))
		}, why: whyLocked},
		{name: "a lock of old", temp: scanSHA + ".lock", gone: []string{scanSHA + ".lock"}},
		{name: "ours, with its journal", temp: staged, others: []string{staged + journalSuffix}, gone: []string{staged, staged + journalSuffix}},
		{name: "ours, at work", temp: staged, others: []string{staged + journalSuffix}, act: func(t *testing.T, blobs, _ string) {
			t.Helper()
			hold(t, filepath.Join(blobs, staged))
		}, why: whyLocked},
		{name: "ours, without a journal", temp: unique, gone: []string{unique}},
		{name: "a journal alone", temp: staged + journalSuffix, gone: []string{staged + journalSuffix}},
		{name: "a journal that is of use", temp: staged + journalSuffix, others: []string{staged}, why: "it belongs to a download that can go on"},
		{name: "a folder", temp: ".folder", others: []string{".folder/x"}, why: "it is a folder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries := map[string]string{removeBlobs + "keep": "keep", scanSnap + "a": "->../../blobs/keep"}
			for _, name := range append(test.others, test.temp) {
				entries[removeBlobs+name] = "half"
			}
			if slices.Contains(test.others, test.temp+"/x") {
				delete(entries, removeBlobs+test.temp)
			}
			dir := layout(t, entries)
			blobs := filepath.Join(dir, removeBlobs)
			if test.act != nil {
				test.act(t, blobs, filepath.Join(dir, ".locks", scanRepo))
			}
			before := listing(t, blobs)
			out := removing(t, dir, func() (Removed, error) { return remover(t, dir).Temp(t.Context(), quarantineRepo, test.temp) })
			var want []Skipped
			if test.why != "" {
				want = []Skipped{{removeBlobs + test.temp, test.why}}
			}
			if diff := cmp.Diff(want, out.Skipped); diff != "" {
				t.Errorf("skipped (-want +got):\n%s", diff)
			}
			wantListing(t, blobs, slices.DeleteFunc(before, func(name string) bool { return slices.Contains(test.gone, name) })...)
		})
	}
}

func TestRemoveLeftover(t *testing.T) {
	const random = ".01234567"
	tree := scanRepo + "trees/" + scanCommit + ".json"
	repo := func(place string, kind LeftoverKind) Leftover {
		return Leftover{Repo: quarantineRepo, Place: place, Kind: kind}
	}
	for _, test := range []struct {
		name    string
		what    Leftover
		entries map[string]string
		young   string
		why     string
		gone    []string // all of them
	}{
		{name: "of a ref", what: repo(scanRepo+"refs/refs/pr/1"+random+".tmp", LeftoverTemp), entries: map[string]string{scanRepo + "refs/refs/pr/1" + random + ".tmp": "x"}, gone: []string{scanRepo + "refs/refs/pr/1" + random + ".tmp"}},
		{name: "a young one of a ref", what: repo(scanRepo+"refs/a"+random+".tmp", LeftoverTemp), entries: map[string]string{scanRepo + "refs/a" + random + ".tmp": "x"}, young: scanRepo + "refs/a" + random + ".tmp", why: whyYoung},
		{name: "a ref", what: repo(scanRepo+"refs/main", LeftoverTemp), entries: map[string]string{scanRepo + "refs/main": "x"}, why: whyUnknown},
		{name: "of a listing", what: repo(scanRepo+"trees/tmpab12_x.tmp", LeftoverTemp), entries: map[string]string{scanRepo + "trees/tmpab12_x.tmp": "x"}, gone: []string{scanRepo + "trees/tmpab12_x.tmp"}},
		{name: "a probe", what: repo(scanRepo+"tmp_01234567-0123-0123-0123-0123456789ab", LeftoverTemp), entries: map[string]string{scanRepo + "tmp_01234567-0123-0123-0123-0123456789ab": ""}, gone: []string{scanRepo + "tmp_01234567-0123-0123-0123-0123456789ab"}},
		{
			name: "a probe for links", what: repo(scanRepo+"tmpab12cd_x", LeftoverTemp),
			entries: map[string]string{scanRepo + "tmpab12cd_x/dummy_file_src": "x", scanRepo + "tmpab12cd_x/dummy_file_dst": "->dummy_file_src"},
			gone:    []string{scanRepo + "tmpab12cd_x/dummy_file_src", scanRepo + "tmpab12cd_x/dummy_file_dst -> dummy_file_src"},
		},
		{name: "something like a probe", what: repo(scanRepo+"tmpmymodels", LeftoverTemp), entries: map[string]string{scanRepo + "tmpmymodels/x": "x"}, why: "it holds more than a probe for links does"},
		{name: "a snapshot's file", what: repo(scanSnap+"a", LeftoverTemp), why: whyUnknown},
		{name: "outside", what: repo(scanRepo+"../x", LeftoverTemp), entries: map[string]string{"x": ""}, why: whyUnknown},
		{name: "another repository's", what: repo("models--org--name2/refs/a"+random+".tmp", LeftoverTemp), entries: map[string]string{"models--org--name2/refs/a" + random + ".tmp": ""}, why: whyUnknown},
		{name: "a listing", what: repo(tree, LeftoverTree), entries: map[string]string{tree: "{}"}, gone: []string{tree}},
		{name: "a listing in use", what: repo(tree, LeftoverTree), entries: map[string]string{tree: "{}", scanSnap: ""}, why: whyChanged},
		{name: "a listing that marks go with", what: repo(tree, LeftoverTree), entries: map[string]string{tree: "{}", scanRepo + ".no_exist/" + scanCommit + "/x": ""}, why: whyChanged},
		{name: "a listing that a ref goes with", what: repo(tree, LeftoverTree), entries: map[string]string{tree: "{}", scanRepo + "refs/x": scanCommit}, why: "refs/x names its commit"},
		{name: "a young listing", what: repo(tree, LeftoverTree), entries: map[string]string{tree: "{}"}, young: tree, why: whyYoung},
		{
			name: "trash", what: repo(scanRepo+trashDir+"/x", LeftoverTrash),
			entries: map[string]string{scanRepo + trashDir + "/x/snapshot/sub/f": "f", scanRepo + trashDir + "/x/snapshot/out": "->/etc", scanRepo + trashDir + "/y/f": "f"},
			gone:    []string{scanRepo + trashDir + "/x/snapshot/sub/f", scanRepo + trashDir + "/x/snapshot/out -> /etc"},
		},
		{
			name: "all trash", what: repo(scanRepo+trashDir, LeftoverTrash), entries: map[string]string{scanRepo + trashDir + "/x/f": "f", scanRepo + trashDir + "/y": "f"},
			gone: []string{scanRepo + trashDir + "/x/f", scanRepo + trashDir + "/y"},
		},
		{
			name: "a quarantined file", what: repo(scanRepo+quarantineDir+"/x", LeftoverQuarantine), entries: map[string]string{scanRepo + quarantineDir + "/x": "x", scanRepo + quarantineDir + "/y": "y"},
			gone: []string{scanRepo + quarantineDir + "/x"},
		},
		{name: "no quarantined file", what: repo(removeBlobs+"x", LeftoverQuarantine), entries: map[string]string{removeBlobs + "x": "x"}, why: whyUnknown},
		{name: "a repository with something in it", what: repo("models--org--name", LeftoverEmpty), why: "it is not empty, or changed a short time ago"},
		{name: "an empty repository", what: Leftover{Repo: secondRepo, Place: "models--org--second", Kind: LeftoverEmpty}, entries: map[string]string{"models--org--second/blobs/": "", "models--org--second/snapshots/": ""}},
		{name: "a download of old", what: Leftover{Place: "tmpab12cd_x", Kind: LeftoverTemp}, entries: map[string]string{"tmpab12cd_x": "x"}, gone: []string{"tmpab12cd_x"}},
		{name: "a folder of somebody", what: Leftover{Place: "tmpmymodels", Kind: LeftoverTemp}, entries: map[string]string{"tmpmymodels/x": "x"}, why: "it holds more than a probe for links does"},
		{name: "a marker", what: Leftover{Place: "blobs/.huggingface-shared-blobs" + random + ".tmp", Kind: LeftoverTemp}, entries: map[string]string{"blobs/.huggingface-shared-blobs" + random + ".tmp": "1"}, gone: []string{"blobs/.huggingface-shared-blobs" + random + ".tmp"}},
		{
			name: "a list of users", what: Leftover{Place: sweepPlace + ".refs" + random + ".tmp", Kind: LeftoverTemp},
			entries: map[string]string{"blobs/.huggingface-shared-blobs": "1\n", sweepPlace + ".lock": "", sweepPlace + ".refs" + random + ".tmp": "x"}, gone: []string{sweepPlace + ".refs" + random + ".tmp"},
		},
		{name: "the marker itself", what: Leftover{Place: "blobs/.huggingface-shared-blobs", Kind: LeftoverTemp}, entries: map[string]string{"blobs/.huggingface-shared-blobs": "1\n"}, why: whyUnknown},
		{name: "something of the root", what: Leftover{Place: "version.txt", Kind: LeftoverTemp}, entries: map[string]string{"version.txt": "1"}, why: whyUnknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries := map[string]string{scanRepo + "snapshots/" + quarantineOther + "/keep": "keep"}
			maps.Copy(entries, test.entries)
			dir := layout(t, entries)
			if test.young != "" {
				touch(t, filepath.Join(dir, test.young))
			}
			before := remains(t, dir)
			out := removing(t, dir, func() (Removed, error) { return remover(t, dir).Leftover(t.Context(), test.what) })
			var want []Skipped
			if test.why != "" {
				want = []Skipped{{test.what.Place, test.why}}
			}
			if test.name == "outside" {
				want[0].Place = scanRepo + "../x"
			}
			if diff := cmp.Diff(want, out.Skipped); diff != "" {
				t.Errorf("skipped (-want +got):\n%s", diff)
			}
			rest := slices.DeleteFunc(before, func(name string) bool { return slices.Contains(test.gone, name) })
			if diff := cmp.Diff(rest, remains(t, dir)); diff != "" {
				t.Errorf("the cache (-want +got):\n%s", diff)
			}
			if _, err := os.Lstat(filepath.Join(dir, "models--org--second")); err == nil {
				t.Error("the empty repository is still there")
			}
		})
	}
}

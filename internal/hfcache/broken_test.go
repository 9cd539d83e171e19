package hfcache

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// TestScanMissing looks at snapshots whose bytes are gone, in each of the ways in which they go.
func TestScanMissing(t *testing.T) {
	const (
		record = scanRepo + ".hf-cache-sync/quarantine/x.01234567.json"
		text   = `{"format": 1, "removed": [{"file": "snapshots/` + scanCommit + `/a", "target": "../../blobs/x"}, {"file": "snapshots/` + quarantineOther + `/a", "target": ""}]}`
	)
	for _, test := range []struct {
		name    string
		entries map[string]string
		want    []MissingFile
	}{
		{"a blob that was deleted", map[string]string{scanSnap + "b/c": "->../../../blobs/" + scanSHA, scanSnap + "a": "->../../blobs/" + scanGit}, []MissingFile{
			{Path: "a", Why: "it links to blob " + scanGit + ", which is not there"},
			{Path: "b/c", Why: "it links to blob " + scanSHA + ", which is not there"},
		}},
		{"a copy without the shared store", map[string]string{scanSnap + "a": "->../../blobs/" + scanSHA, scanRepo + "blobs/" + scanSHA: "->../../blobs/ab/" + scanXet}, []MissingFile{
			{Path: "a", Why: "it links to blob " + scanSHA + ", which is not there"},
		}},
		{"a link to nothing", map[string]string{scanSnap + "a": "->../../elsewhere/x"}, []MissingFile{{Path: "a", Why: "it is a link to nothing"}}},
		{"quarantined", map[string]string{record: text, scanSnap + "b": "x"}, []MissingFile{{Path: "a", Damaged: true, Why: "it was damaged, is quarantined, and did not come back"}}},
		{"quarantined, alone in its snapshot", map[string]string{record: text, scanSnap: ""}, []MissingFile{
			{Path: "a", Damaged: true, Why: "it was damaged, is quarantined, and did not come back"},
		}},
		{"quarantined, and back", map[string]string{record: text, scanSnap + "a": "x"}, nil},
		{"quarantined, back, and deleted", map[string]string{record: text, scanSnap + "a": "->../../blobs/" + scanGit}, []MissingFile{
			{Path: "a", Why: "it links to blob " + scanGit + ", which is not there"},
		}},
		{"quarantined, and the revision is removed", map[string]string{record: text, scanRepo + ".no_exist/" + scanCommit + "/x": ""}, nil},
		{"a download that goes on", map[string]string{scanSnap + "a": "->../../blobs/x.incomplete", scanRepo + "blobs/x.incomplete": "x"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, inv := scanned(t, layout(t, test.entries))
			if len(inv.Repos) != 1 || len(inv.Repos[0].Revisions) != 1 {
				t.Fatalf("%+v", inv)
			}
			rev := inv.Repos[0].Revisions[0]
			if diff := cmp.Diff(test.want, rev.Missing); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
			var broken []BrokenFile
			for _, m := range test.want {
				broken = append(broken, BrokenFile{quarantineRepo, scanCommit, m})
			}
			if diff := cmp.Diff(broken, inv.BrokenFiles()); diff != "" {
				t.Errorf("broken files (-want +got):\n%s", diff)
			}
			for _, p := range inv.Problems { // what links to nothing is said under the place that a broken file gives
				if strings.HasPrefix(p.Path, scanSnap) && !p.Lost && (len(broken) == 0 || (p.Path != broken[0].Place() && p.Path != broken[len(broken)-1].Place())) {
					t.Errorf("problem %s", p)
				}
			}
		})
	}
}

func TestBrokenRefs(t *testing.T) {
	var (
		now  = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
		gone = strings.Repeat("e", 40)
		old  = scanRepo + "snapshots/" + quarantineOther + "/"
	)
	const whyNowhere = "it names eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee, of which nothing is here"
	for _, test := range []struct {
		name    string
		entries map[string]string
		ages    map[string]time.Duration
		want    []BrokenRef // of the repository
	}{
		{name: "a good one", entries: map[string]string{"refs/main": scanCommit}},
		{
			name: "a newline, and other white space", entries: map[string]string{"refs/main": scanCommit + "\n", "refs/refs/pr/1": " " + scanCommit},
			want: []BrokenRef{
				{Name: "main", Fault: RefUnclean, Commit: scanCommit, Why: "it holds more than the commit, such as a newline, so Python clients cannot follow it"},
				{Name: "refs/pr/1", Fault: RefUnclean, Commit: scanCommit, Why: "it holds more than the commit, such as a newline, so Python clients cannot follow it"},
			},
		},
		{name: "empty, and a name", entries: map[string]string{"refs/main": "", "refs/v1": "main"}, want: []BrokenRef{
			{Name: "main", Fault: RefGarbage, Why: `not a commit: "" is not 40 lower-case hex digits`},
			{Name: "v1", Fault: RefGarbage, Why: `not a commit: "main" is not 40 lower-case hex digits`},
		}},
		{
			name: "temporary files", entries: map[string]string{"refs/main.01234567.tmp": "", "refs/v1.01234567.tmp": gone},
			ages: map[string]time.Duration{"refs/main.01234567.tmp": 25 * time.Hour, "refs/v1.01234567.tmp": time.Hour},
			want: []BrokenRef{{Name: "main.01234567.tmp", Fault: RefLeftover, Why: "a client was stopped while it wrote a ref"}},
		},
		{name: "a commit that is not here", entries: map[string]string{"refs/main": gone}, want: []BrokenRef{
			{Name: "main", Fault: RefNowhere, Commit: hub.Commit(gone), Here: []hub.Commit{scanCommit}, Why: whyNowhere + "; " + scanCommit + " is"},
		}},
		{
			name: "a commit of which only an absent file is known", entries: map[string]string{"refs/main": gone, ".no_exist/" + gone + "/x": ""},
			want: []BrokenRef{{Name: "main", Fault: RefNowhere, Commit: hub.Commit(gone), Here: []hub.Commit{scanCommit}, Why: whyNowhere + "; " + scanCommit + " is"}},
		},
		{name: "the fullest revision is named first", entries: map[string]string{"refs/main": gone, old + "a": "x", old + "b": "x"}, want: []BrokenRef{
			{Name: "main", Fault: RefNowhere, Commit: hub.Commit(gone), Here: []hub.Commit{quarantineOther, scanCommit}, Why: whyNowhere + "; " + quarantineOther + " is"},
		}},
		{name: "a commit whose files are gone", entries: map[string]string{"refs/main": gone, "snapshots/" + gone + "/a": "->../../blobs/x"}},
		{name: "a download of a new commit", entries: map[string]string{"refs/main": gone, "blobs/x.incomplete": "x"}, ages: map[string]time.Duration{"blobs/x.incomplete": time.Minute}},
		{
			name: "a download that ended long ago", entries: map[string]string{"refs/main": gone, "blobs/x.incomplete": "x"}, ages: map[string]time.Duration{"blobs/x.incomplete": 25 * time.Hour},
			want: []BrokenRef{{Name: "main", Fault: RefNowhere, Commit: hub.Commit(gone), Here: []hub.Commit{scanCommit}, Why: whyNowhere + "; " + scanCommit + " is"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries := map[string]string{scanSnap + "a": "x"}
			for name, text := range test.entries {
				entries[scanRepo+strings.TrimPrefix(name, scanRepo)] = text
			}
			dir := layout(t, entries)
			for name, age := range test.ages {
				if err := os.Chtimes(filepath.Join(dir, scanRepo+name), now.Add(-age), now.Add(-age)); err != nil {
					t.Fatal(err)
				}
			}
			_, inv := scanned(t, dir)
			for i := range test.want {
				test.want[i].Repo = quarantineRepo
			}
			if diff := cmp.Diff(test.want, inv.BrokenRefs(now)); diff != "" {
				t.Errorf("broken refs (-want +got):\n%s", diff)
			}
		})
	}

	// A repository of which there is nothing else: what a client knows of an absent file is no fault, a ref to nothing at all is.
	probed := map[string]string{scanRepo + "refs/main": gone, scanRepo + ".no_exist/" + gone + "/x": ""}
	bare := maps.Clone(probed)
	delete(bare, scanRepo+".no_exist/"+gone+"/x")
	if _, inv := scanned(t, layout(t, probed)); len(inv.BrokenRefs(now)) > 0 {
		t.Errorf("a repository that was only probed: %+v", inv.BrokenRefs(now))
	}
	_, inv := scanned(t, layout(t, bare))
	if diff := cmp.Diff([]BrokenRef{{Repo: quarantineRepo, Name: "main", Fault: RefNowhere, Commit: hub.Commit(gone), Why: whyNowhere}}, inv.BrokenRefs(now)); diff != "" {
		t.Errorf("a ref to nothing (-want +got):\n%s", diff)
	}
}

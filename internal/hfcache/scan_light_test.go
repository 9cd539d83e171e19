package hfcache

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestScanFilesLeavesOutWhatOnlyOthersNeed compares the two ways to the same inventory with each other and with the whole one.
func TestScanFilesLeavesOutWhatOnlyOthersNeed(t *testing.T) {
	dir := layout(t, map[string]string{
		scanRepo + "blobs/" + scanGit:                 "hello\n",
		scanRepo + "refs/main":                        scanCommit,
		scanRepo + "trees/" + scanCommit + ".json":    `{"format_version": 1, "files": {"a/b": {"size": 6, "blob_id": "` + scanGit + `"}, "c": {"size": 9, "blob_id": "x"}}}`,
		scanSnap + "a/b":                              "->../../../blobs/" + scanGit,
		scanRepo + ".no_exist/" + scanCommit + "/d/e": "",
	})
	c, whole := scanned(t, dir)
	repo := whole.Repos[0]
	if len(repo.Blobs) != 1 || len(repo.Revisions[0].Tree) != 2 || len(repo.Revisions[0].Files) != 1 {
		t.Fatalf("the whole inventory is %+v", repo)
	}
	files, err := c.ScanFiles(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	again.DropAllButFiles()
	if diff := cmp.Diff(again, files); diff != "" {
		t.Errorf("what is dropped and what is left out differ (-dropped +left out):\n%s", diff)
	}
	got := files.Repos[0]
	if got.Blobs != nil || got.Revisions[0].Tree != nil || got.Revisions[0].Files[0].Bytes != "" {
		t.Errorf("blobs %v, the listing %v or a place in %v are still there", got.Blobs, got.Revisions[0].Tree, got.Revisions[0].Files)
	}
	if len(got.Revisions[0].Files) != 1 || len(got.Revisions[0].NoExist) != 1 || len(got.Refs) != 1 {
		t.Errorf("what belongs there is %+v with refs %v", got.Revisions[0], got.Refs)
	}
}

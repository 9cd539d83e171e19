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

const (
	scanCommit = "0123456789abcdef0123456789abcdef01234567"
	scanGit    = "ce013625030ba8dba906f756967f9e9ca394464a"
	scanSHA    = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
	scanXet    = "abcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcd"
	scanRepo   = "models--org--name/"
	scanSnap   = scanRepo + "snapshots/" + scanCommit + "/"
)

// layout writes a cache: a text ending in "/" is a folder, one that starts with "->" a link, all else a file's content. It returns the hub folder.
func layout(tb testing.TB, entries map[string]string) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "hub")
	for name, text := range entries {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			tb.Fatal(err)
		}
		var err error
		if target, isLink := strings.CutPrefix(text, "->"); isLink {
			err = os.Symlink(strings.ReplaceAll(target, "HUB", dir), path)
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o700)
		} else {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func scanned(t *testing.T, dir string) (*Cache, *Inventory) {
	t.Helper()
	c, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	inv, err := c.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range inv.Repos { // nothing here depends on when the test runs, or on the file system's blocks
		for name, b := range r.Blobs {
			b.ModTime, b.Used, b.Disk = time.Time{}, time.Time{}, 0
			r.Blobs[name] = b
		}
		for _, rev := range r.Revisions {
			for i := range rev.Files {
				rev.Files[i].ModTime, rev.Files[i].Used, rev.Files[i].Disk = time.Time{}, time.Time{}, 0
			}
		}
		for i := range r.Refs {
			r.Refs[i].Learned = time.Time{}
		}
	}
	return c, inv
}

const scanTree = `{"format_version": 1, "files": {"model.bin": {"size": 6, "blob_id": "x", "lfs_sha256": "` + scanSHA + `", "lfs_size": 6}}}`

func TestScanFiles(t *testing.T) {
	blob := func(name string) string { return scanRepo + "blobs/" + name }
	for _, test := range []struct {
		name    string
		entries map[string]string
		want    []File
	}{
		{"a link to a git blob", map[string]string{
			blob(scanGit): "hello\n", scanSnap + "README.md": "->../../blobs/" + scanGit,
		}, []File{{Path: "README.md", Size: 6, Blob: scanGit, Bytes: blob(scanGit), ID: scanGit}}},
		{"a link in a folder, with odd names", map[string]string{
			blob(scanSHA): "hello\n", scanSnap + "a b/ü.bin": "->../../../blobs/" + scanSHA,
		}, []File{{Path: "a b/ü.bin", Size: 6, Blob: scanSHA, Bytes: blob(scanSHA), ID: scanSHA}}},
		{"an empty file", map[string]string{
			blob("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"): "", scanSnap + "empty": "->../../blobs/e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
		}, []File{{
			Path: "empty", Blob: "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", Bytes: blob("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
			ID: "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
		}}},
		{"the absolute links of 0.13", map[string]string{
			blob(scanGit): "hello\n", scanSnap + "README.md": "->HUB/" + blob(scanGit),
		}, []File{{Path: "README.md", Size: 6, Blob: scanGit, Bytes: blob(scanGit), ID: scanGit}}},
		{"the shared store: one hop for identity, all for bytes", map[string]string{
			"blobs/.huggingface-shared-blobs": "1\n", "blobs/ab/" + scanXet: "hello\n", "blobs/ab/" + scanXet + ".refs": "", "blobs/ab/" + scanXet + ".lock": "",
			blob(scanSHA): "->../../blobs/ab/" + scanXet, scanSnap + "model.bin": "->../../blobs/" + scanSHA,
		}, []File{{Path: "model.bin", Size: 6, Blob: scanSHA, Bytes: "blobs/ab/" + scanXet, ID: scanSHA}}},
		{"the shared store by an absolute link", map[string]string{
			"blobs/.huggingface-shared-blobs": "1\n", "blobs/ab/" + scanXet: "hello\n",
			blob(scanSHA): "->HUB/blobs/ab/" + scanXet, scanSnap + "model.bin": "->../../blobs/" + scanSHA,
		}, []File{{Path: "model.bin", Size: 6, Blob: scanSHA, Bytes: "blobs/ab/" + scanXet, ID: scanSHA}}},
		{"no links, with a listing", map[string]string{
			scanSnap + "model.bin": "hello\n", scanRepo + "trees/" + scanCommit + ".json": scanTree,
		}, []File{{Path: "model.bin", Size: 6, Bytes: scanSnap + "model.bin", ID: scanSHA}}},
		{"no links, no listing: nobody knows the id", map[string]string{
			scanSnap + "model.bin": "hello\n",
		}, []File{{Path: "model.bin", Size: 6, Bytes: scanSnap + "model.bin"}}},
		{"a blob named by a xet hash", map[string]string{
			blob(scanXet): "hello\n", scanSnap + "model.bin": "->../../blobs/" + scanXet, scanRepo + "trees/" + scanCommit + ".json": scanTree,
		}, []File{{Path: "model.bin", Size: 6, Blob: scanXet, Bytes: blob(scanXet), ID: scanSHA}}},
		{"a mirror's etag", map[string]string{
			blob(scanGit + "-gzip"): "hello\n", scanSnap + "README.md": "->../../blobs/" + scanGit + "-gzip",
		}, []File{{Path: "README.md", Size: 6, Blob: scanGit + "-gzip", Bytes: blob(scanGit + "-gzip")}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, inv := scanned(t, layout(t, test.entries))
			if len(inv.Problems) > 0 {
				t.Errorf("problems: %v", inv.Problems)
			}
			if len(inv.Repos) != 1 || len(inv.Repos[0].Revisions) != 1 {
				t.Fatalf("found %+v", inv.Repos)
			}
			if diff := cmp.Diff(test.want, inv.Repos[0].Revisions[0].Files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// A cache in use is full of things that are no content. None of them is a file of a revision, and none is worth a word.
func TestScanJunkIsSilent(t *testing.T) {
	entries := map[string]string{
		scanRepo + "blobs/" + scanGit: "hello\n", scanSnap + "README.md": "->../../blobs/" + scanGit, scanRepo + "refs/main": scanCommit,
	}
	for _, name := range []string{
		"CACHEDIR.TAG", "version.txt", ".DS_Store", "Thumbs.db", "._x", ".hf-cache-sync.lock", ".locks/models--org--name/x.lock", "tmpab12cd34", "tmpx_y1z2/dummy_file_1",
		scanSHA + "org-name.lock",
		scanRepo + ".DS_Store", scanRepo + "tmp_12345678-1234-1234-1234-123456789abc", scanRepo + "tmpab12cd34/dummy_file_x", scanRepo + ".hf-cache-sync/x",
		scanRepo + "refs/main.0a1b2c3d.tmp", scanRepo + "refs/.DS_Store", scanRepo + "trees/" + strings.Repeat("f", 40) + ".json", scanRepo + "trees/tmpx.tmp",
		scanRepo + "snapshots/.DS_Store", scanSnap + ".DS_Store",
	} {
		entries[name] = "x"
	}
	temps := []string{
		scanSHA + ".incomplete", scanSHA + ".0a1b2c3d.incomplete", scanSHA + ".part", scanSHA + ".sync.part", scanSHA + ".lock", scanSHA + ".downloadInProgress",
		scanSHA + ".etag", scanSHA + ".json", scanSHA + ".tmp", "." + scanSHA + ".0a1b2c3d.shared", "." + scanSHA + ".hf-cache-sync", "tmp_12345678-1234-1234-1234-123456789abc",
	}
	for _, name := range temps {
		entries[scanRepo+"blobs/"+name] = "x"
	}
	_, inv := scanned(t, layout(t, entries))
	if len(inv.Problems) > 0 {
		t.Errorf("problems: %v", inv.Problems)
	}
	repo := inv.Repos[0]
	if len(repo.Blobs) != 1 || len(repo.Refs) != 1 || len(repo.Revisions) != 1 || len(repo.Revisions[0].Files) != 1 {
		t.Errorf("found %+v", repo)
	}
	if len(repo.Temps) != len(temps) {
		t.Errorf("found %d unfinished downloads, want %d: %v", len(repo.Temps), len(temps), repo.Temps)
	}
}

func TestScanProblems(t *testing.T) {
	snap := func(name string) string { return scanSnap + name }
	for _, test := range []struct {
		name    string
		entries map[string]string
		path    string
		why     string
		lost    bool
	}{
		{"a stranger in the cache folder", map[string]string{"notes.txt": "x"}, "notes.txt", "not part of a Hub cache", false},
		{"an unmarked blobs folder", map[string]string{"blobs/ab/x": "x"}, "blobs", "not part of a Hub cache", false},
		{"a store of another version", map[string]string{"blobs/.huggingface-shared-blobs": "2\n"}, "blobs", "not part of a Hub cache", false},
		{"a repository that is a file", map[string]string{"models--a--b": "x"}, "models--a--b", "no folder", false},
		{"a repository that is a link", map[string]string{"models--a--b": "->/tmp"}, "models--a--b", "is a link", true},
		{"a stranger in a repository", map[string]string{scanRepo + "notes": "x"}, scanRepo + "notes", "not part of a repository", false},
		{"a dangling blob", map[string]string{scanRepo + "blobs/" + scanSHA: "->../../blobs/ab/" + scanXet}, scanRepo + "blobs/" + scanSHA, "gone", false},
		{"a blob outside", map[string]string{scanRepo + "blobs/" + scanSHA: "->/etc/hostname"}, scanRepo + "blobs/" + scanSHA, "outside", true},
		{"a blob in a circle", map[string]string{scanRepo + "blobs/" + scanSHA: "->" + scanSHA}, scanRepo + "blobs/" + scanSHA, "too many links", true},
		{"a dangling link", map[string]string{snap("x"): "->../../blobs/" + scanSHA}, snap("x"), "not there", false},
		{"a link outside", map[string]string{snap("x"): "->/etc/hostname"}, snap("x"), "outside", true},
		{"a relative link outside", map[string]string{snap("x"): "->../../../../../../../../../../etc/hostname"}, snap("x"), "outside", true},
		{"a link to a folder", map[string]string{snap("x"): "->../../blobs", scanRepo + "blobs/": ""}, snap("x"), "neither a file", true},
		{"a link to an unfinished download", map[string]string{
			scanRepo + "blobs/" + scanSHA + ".incomplete": "x", snap("x"): "->../../blobs/" + scanSHA + ".incomplete",
		}, snap("x"), "unfinished", true},
		{"a name with a colon", map[string]string{snap("a:b"): "x"}, snap("a:b"), "colon", true},
		{"a name with a backslash", map[string]string{snap(`a\b`): "x"}, snap(`a\b`), "backslash", true},
		{"a name in Latin-1", map[string]string{snap("a\xe9"): "x"}, snap("a\xe9"), "UTF-8", true},
		{"a commit that is a link", map[string]string{scanRepo + "snapshots/" + scanCommit: "->/tmp"}, scanRepo + "snapshots/" + scanCommit, "is a link", true},
		{"a short commit", map[string]string{scanRepo + "snapshots/0123456/x": "x"}, scanRepo + "snapshots/0123456", "not a commit", true},
		{"a commit in capitals", map[string]string{
			scanRepo + "snapshots/" + strings.ToUpper(scanCommit) + "/x": "x",
		}, scanRepo + "snapshots/" + strings.ToUpper(scanCommit), "not a commit", true},
		{"a file among the commits", map[string]string{scanRepo + "snapshots/x": "x"}, scanRepo + "snapshots/x", "not the folder", false},
		{"a size that the listing contradicts", map[string]string{
			snap("model.bin"): "hell", scanRepo + "trees/" + scanCommit + ".json": scanTree,
		}, snap("model.bin"), "4 bytes where the commit's listing says 6", true},
		{"a file that the listing does not know", map[string]string{
			snap("np/model.bin"): "x", scanRepo + "trees/" + scanCommit + ".json": scanTree,
		}, snap("np/model.bin"), "not a file of this commit", false},
		{"a listing that clients ignore", map[string]string{
			snap("x"): "x", scanRepo + "trees/" + scanCommit + ".json": `{"format_version": 2}`,
		}, scanRepo + "trees/" + scanCommit + ".json", "version 2", false},
		{"an empty ref", map[string]string{scanRepo + "refs/main": ""}, scanRepo + "refs/main", "40", false},
		{"a huge ref", map[string]string{scanRepo + "refs/main": strings.Repeat("a", 4000)}, scanRepo + "refs/main", "4000 bytes", false},
		{"a ref that is a link", map[string]string{scanRepo + "refs/main": "->/etc/hostname"}, scanRepo + "refs/main", "neither", false},
		{"too many folders", map[string]string{snap(strings.Repeat("d/", 70) + "x"): "x"}, strings.TrimSuffix(snap(strings.Repeat("d/", 65)), "/"), "64 folders", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, inv := scanned(t, layout(t, test.entries))
			if len(inv.Problems) != 1 {
				t.Fatalf("problems: %v, want one", inv.Problems)
			}
			p := inv.Problems[0]
			if p.Path != test.path || !strings.Contains(p.Why, test.why) || p.Lost != test.lost {
				t.Errorf("problem %q, lost %v; want %q … %q, lost %v", p, p.Lost, test.path, test.why, test.lost)
			}
			for _, r := range inv.Repos {
				for _, rev := range r.Revisions {
					for _, f := range rev.Files {
						if strings.HasPrefix(test.path, scanSnap) && scanSnap+string(f.Path) == test.path {
							t.Errorf("the file is in the inventory all the same: %+v", f)
						}
					}
				}
			}
		})
	}
}

func TestScanRefsAndMarks(t *testing.T) {
	_, inv := scanned(t, layout(t, map[string]string{
		scanRepo + "refs/main": scanCommit, scanRepo + "refs/refs/pr/1": scanCommit, scanRepo + "refs/feat/x": strings.Repeat("f", 40), scanRepo + "refs/v1": scanCommit + "\n",
		scanRepo + ".no_exist/" + scanCommit + "/b/adapter.json": "", scanRepo + ".no_exist/" + scanCommit + "/a.json": "",
		"datasets--squad/refs/main": scanCommit, "spaces--o--s/": "", "kernels--o--k/blobs/": "",
	}))
	if len(inv.Problems) > 0 {
		t.Errorf("problems: %v", inv.Problems)
	}
	var repos []string
	for _, r := range inv.Repos {
		repos = append(repos, r.ID.String())
	}
	if diff := cmp.Diff([]string{"org/name", "datasets/squad", "spaces/o/s", "kernels/o/k"}, repos); diff != "" {
		t.Fatalf("repositories (-want +got):\n%s", diff)
	}
	want := []Ref{
		{Name: "feat/x", Commit: hub.Commit(strings.Repeat("f", 40))},
		{Name: "main", Commit: scanCommit},
		{Name: "refs/pr/1", Commit: scanCommit},
		{Name: "v1", Commit: scanCommit, Unclean: true},
	}
	if diff := cmp.Diff(want, inv.Repos[0].Refs); diff != "" {
		t.Errorf("refs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]*Revision{{Commit: scanCommit, NoExist: []hub.Path{"a.json", "b/adapter.json"}}}, inv.Repos[0].Revisions); diff != "" {
		t.Errorf("revisions (-want +got):\n%s", diff)
	}
}

func TestIdentify(t *testing.T) {
	c, inv := scanned(t, layout(t, map[string]string{scanSnap + "a": "hello\n", scanSnap + "b": "x"}))
	if err := os.Remove(filepath.Join(inv.Dir, filepath.FromSlash(scanSnap), "b")); err != nil {
		t.Fatal(err)
	}
	repo := inv.Repos[0]
	problems, err := c.Identify(t.Context(), repo, repo.Revisions[0], make([]byte, 1024))
	if err != nil || len(problems) != 1 || !problems[0].Lost || problems[0].Path != scanSnap+"b" {
		t.Errorf("problems %v, %v; want the file that is gone", problems, err)
	}
	if files := repo.Revisions[0].Files; len(files) != 1 || files[0].ID != scanSHA {
		t.Errorf("files: %+v", files)
	}
}

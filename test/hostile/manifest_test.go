package hostile_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// files are the entries of a manifest, for tests to change.
func files(m map[string]any) []any {
	list, _ := m["files"].([]any) // Manifest makes nothing else.
	return list
}

// entry is one of them.
func entry(m map[string]any, i int) map[string]any {
	e, _ := files(m)[i].(map[string]any) // Manifest makes nothing else.
	return e
}

// hubKey is the object under the key "hub".
func hubKey(m map[string]any) map[string]any {
	h, _ := m["hub"].(map[string]any) // Manifest makes nothing else.
	return h
}

// badPaths are paths that no reader may take from a manifest.
func badPaths() map[string]string {
	return map[string]string{
		"empty": "", "dot": ".", "dot dot": "..", "parent": "../evil", "parent of the cache": "../../../../../evil",
		"hidden parent": "a/../../../evil", "parent at the end": "a/..", "dot inside": "a/./b", "empty element": "a//b",
		"slash at the end": "a/", "absolute": "/etc/evil", "two slashes": "//host/evil",
		"backslash": `a\b`, "backslash parent": `..\evil`, "UNC": `\\host\share\evil`,
		"drive": "C:evil", "absolute drive": `C:\evil`, "slash drive": "C:/evil", "stream": "config.json:evil",
		"NUL": "a\x00b", "newline": "a\nb", "escape": "a\x1b[2Jb", "DEL": "a\x7fb",
		"long": strings.Repeat("long/", 410) + "x", "long element": strings.Repeat("x", 256),
	}
}

// TestManifestPath checks that a path that could leave the snapshot, or be
// another file elsewhere, makes the whole manifest worthless.
func TestManifestPath(t *testing.T) {
	t.Parallel()
	places := map[string]func(m map[string]any, path string){
		"files": func(m map[string]any, path string) { entry(m, 0)["path"] = path },
		"tree": func(m map[string]any, path string) {
			hubKey(m)["tree"] = map[string]any{path: map[string]any{"size": 1, "blob_id": testenv.GitSHA1([]byte("x"))}}
		},
		"no_exist": func(m map[string]any, path string) { hubKey(m)["no_exist"] = []string{path} },
	}
	for place, put := range places {
		for name, path := range badPaths() {
			t.Run(place+"/"+name, func(t *testing.T) {
				t.Parallel()
				testManifest(t, func(m map[string]any) { put(m, path) })
			})
		}
	}
}

// TestManifestBody checks everything else that a manifest can have wrong, with
// the rest of it being right.
func TestManifestBody(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(m map[string]any){
		"path twice":        func(m map[string]any) { entry(m, 1)["path"] = "config.json" },
		"file and folder":   func(m map[string]any) { entry(m, 1)["path"] = "config.json/below" },
		"no path":           func(m map[string]any) { delete(entry(m, 0), "path") },
		"path of a number":  func(m map[string]any) { entry(m, 0)["path"] = 7 },
		"no blob":           func(m map[string]any) { delete(entry(m, 0), "blob") },
		"short blob":        func(m map[string]any) { entry(m, 0)["blob"] = "abc" },
		"blob of capitals":  func(m map[string]any) { entry(m, 0)["blob"] = strings.Repeat("AB", 20) },
		"blob with a path":  func(m map[string]any) { entry(m, 0)["blob"] = "../manifests/" + strings.Repeat("a", 27) },
		"negative size":     func(m map[string]any) { entry(m, 0)["size"] = -1 },
		"size as text":      func(m map[string]any) { entry(m, 0)["size"] = "21" },
		"broken size":       func(m map[string]any) { entry(m, 0)["size"] = 20.5 },
		"size beyond all":   func(m map[string]any) { entry(m, 0)["size"] = json.Number("1e30") },
		"blob of two sizes": func(m map[string]any) { entry(m, 1)["blob"] = entry(m, 0)["blob"] },
		"entry of a number": func(m map[string]any) { files(m)[0] = 7 },
		"files of a text":   func(m map[string]any) { m["files"] = "config.json" },
		"other repository":  func(m map[string]any) { m["repo"] = "org/other" },
		"no repository":     func(m map[string]any) { delete(m, "repo") },
		"climbing repo":     func(m map[string]any) { m["repo"] = "../../evil" },
		"unknown type":      func(m map[string]any) { m["repo_type"] = "bucket" },
		"other revision":    func(m map[string]any) { m["revision"] = testenv.Commit("other") },
		"short revision":    func(m map[string]any) { m["revision"] = "main" },
		"no revision":       func(m map[string]any) { delete(m, "revision") },
		"hub of a number":   func(m map[string]any) { m["hub"] = 7 },
		"tree twice":        func(m map[string]any) { hubKey(m)["tree"] = map[string]any{"a": treeEntry(), "a/b": treeEntry()} },
		"tree with no size": func(m map[string]any) { hubKey(m)["tree"] = map[string]any{"a": map[string]any{"blob_id": "x"}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testManifest(t, change)
		})
	}
}

// TestManifestOfDataset checks a key that 0.1.0 uses for a model and for a
// dataset: the body alone says which it is.
func TestManifestOfDataset(t *testing.T) {
	t.Parallel()
	s, r := newSandbox(t), testenv.Sample()
	r.WriteBucket(t, s.bucket)
	m := r.Manifest()
	m["repo_type"] = "dataset"
	testenv.WriteFile(t, filepath.Join(s.bucket, filepath.FromSlash(r.ManifestKey())), testenv.JSON(t, m))
	outcome{6, []string{r.ManifestKey(), "dataset"}}.check(t, s.pull(t, "pull", r.Repo))
	checkEmpty(t, s)
	r.Type = "dataset"
	outcome{code: 0}.check(t, s.pull(t, "pull", "datasets/"+r.Repo))
	r.Compare(t, s.cache)
	testenv.AuditCache(t, s.cache)
}

func treeEntry() map[string]any {
	return map[string]any{"size": 1, "blob_id": testenv.GitSHA1([]byte("x"))}
}

// testManifest checks that a pull refuses the sample's manifest once it is
// changed, and that pull-all and list go on without it.
func testManifest(t *testing.T, change func(m map[string]any)) {
	t.Helper()
	r := testenv.Sample()
	m := r.Manifest()
	change(m)
	testRefused(t, testenv.JSON(t, m))
}

func testRefused(t *testing.T, body []byte) {
	t.Helper()
	s, r := newSandbox(t), testenv.Sample()
	r.WriteBucket(t, s.bucket)
	testenv.WriteFile(t, filepath.Join(s.bucket, filepath.FromSlash(r.ManifestKey())), body)
	outcome{6, []string{r.ManifestKey()}}.check(t, s.pull(t, "pull", r.Repo))
	checkEmpty(t, s)
	outcome{6, []string{r.ManifestKey()}}.check(t, s.pull(t, "pull", r.Repo, "-r", r.Commit))
	checkEmpty(t, s)

	good := testenv.Sample()
	good.Repo = "zeta/good"
	good.WriteBucket(t, s.bucket)
	outcome{3, []string{r.ManifestKey()}}.check(t, s.pull(t, "pull-all"))
	good.Compare(t, s.cache)
	s.audit.Cache(t, s.cache)
	if _, err := os.Lstat(filepath.Join(s.cache, r.Folder())); !os.IsNotExist(err) {
		t.Errorf("the folder of the refused repository: %v", err)
	}
	listed := s.pull(t, "list", "--remote")
	outcome{3, []string{r.ManifestKey()}}.check(t, listed)
	if !strings.Contains(listed.Stdout, good.Repo) {
		t.Errorf("the good repository is not listed: %s", listed)
	}
}

// checkEmpty fails unless nothing is in the cache.
func checkEmpty(t *testing.T, s *sandbox) {
	t.Helper()
	if tree := testenv.Tree(t, s.cache); len(tree) > 0 {
		t.Fatalf("the cache has: %v", slices.Sorted(maps.Keys(tree)))
	}
}

// TestManifestBytes checks bodies that are no manifest at all.
func TestManifestBytes(t *testing.T) {
	t.Parallel()
	good := testenv.JSON(t, testenv.Sample().Manifest())
	for name, body := range map[string][]byte{
		"empty":            {},
		"cut":              good[:len(good)/2],
		"with a tail":      append(bytes.Clone(good), "{}"...),
		"with a BOM":       append([]byte("\xef\xbb\xbf"), good...),
		"null":             []byte("null"),
		"a list":           []byte("[]"),
		"a text":           []byte(`"manifest"`),
		"an error page":    []byte("<html><body>503 Service Unavailable</body></html>"),
		"zeros":            make([]byte, len(good)),
		"nested":           nested(good, 200_000),
		"path in Latin-1":  bytes.Replace(good, []byte(`"config.json"`), []byte("\"config\xe4.json\""), 1),
		"half a surrogate": bytes.Replace(good, []byte(`"config.json"`), []byte(`"config\ud800.json"`), 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testRefused(t, body)
		})
	}
}

// nested puts lists in lists below an unknown key of a manifest.
func nested(good []byte, depth int) []byte {
	deep := append([]byte(`{"later": `), bytes.Repeat([]byte("["), depth)...)
	deep = append(append(deep, bytes.Repeat([]byte("]"), depth)...), ',')
	return append(deep, bytes.TrimPrefix(bytes.TrimSpace(good), []byte("{"))...)
}

// TestManifestHuge checks that a manifest beyond the limit is refused by its
// size, and not read.
func TestManifestHuge(t *testing.T) {
	t.Parallel()
	s, r := newSandbox(t), testenv.Sample()
	r.WriteBucket(t, s.bucket)
	// A hole takes no space.
	if err := os.Truncate(filepath.Join(s.bucket, filepath.FromSlash(r.ManifestKey())), 128<<20+1); err != nil {
		t.Fatal(err)
	}
	outcome{6, []string{r.ManifestKey(), "134217729"}}.check(t, s.pull(t, "pull", r.Repo))
	checkEmpty(t, s)
}

// TestManifestHarmless checks what looks odd and is allowed.
func TestManifestHarmless(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(r *testenv.Revision, m map[string]any){
		"unknown keys": func(_ *testenv.Revision, m map[string]any) {
			m["later"] = map[string]any{"a": []int{1}}
			hubKey(m)["later"] = "x"
		},
		"unknown keys of an entry": func(_ *testenv.Revision, m map[string]any) { entry(m, 0)["later"] = "x" },
		"no type":                  func(_ *testenv.Revision, m map[string]any) { delete(m, "repo_type") },
		"paths that differ in case": func(r *testenv.Revision, m map[string]any) {
			r.Files[1].Path = "CONFIG.json"
			entry(m, 1)["path"] = "CONFIG.json"
			delete(m, "hub")
		},
		"names that other systems reserve": func(r *testenv.Revision, m map[string]any) {
			r.Files[0].Path, r.Files[1].Path = "CON", "trailing dot. /x. "
			entry(m, 0)["path"], entry(m, 1)["path"] = r.Files[0].Path, r.Files[1].Path
			delete(m, "hub")
		},
		"a name like a temporary one": func(r *testenv.Revision, m map[string]any) {
			r.Files[0].Path, r.Files[1].Path = ".x.hf-cache-sync", "-rf"
			entry(m, 0)["path"], entry(m, 1)["path"] = r.Files[0].Path, r.Files[1].Path
			delete(m, "hub")
		},
		"markup": func(r *testenv.Revision, m map[string]any) {
			r.Files[0].Path, r.Files[1].Path = "<b>&%s$(x)`y`", "日本語/ünï \u202etxt"
			entry(m, 0)["path"], entry(m, 1)["path"] = r.Files[0].Path, r.Files[1].Path
			delete(m, "hub")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			r.WriteBucket(t, s.bucket)
			m := r.Manifest()
			change(&r, m)
			testenv.WriteFile(t, filepath.Join(s.bucket, filepath.FromSlash(r.ManifestKey())), testenv.JSON(t, m))
			outcome{code: 0}.check(t, s.pull(t, "pull", r.Repo))
			r.Compare(t, s.cache)
			testenv.AuditCache(t, s.cache)
		})
	}
}

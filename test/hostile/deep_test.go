package hostile_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// deep is a path of that many folders and a file.
func deep(folders int) string { return strings.Repeat("d/", folders) + "x" }

// TestDeepTrees puts more folders into each other than anybody has, in every
// place of a cache where folders are read. The rest is pushed, and what is left
// out is named.
func TestDeepTrees(t *testing.T) {
	t.Parallel()
	r := testenv.Sample()
	snapshot := "snapshots/" + r.Commit + "/"
	for name, c := range map[string]struct {
		path string
		text string
		want outcome
	}{
		"snapshot at the limit": {snapshot + deep(60), "x", outcome{0, []string{"d/d/d"}}}, // A file that the listing does not have.
		"snapshot":              {snapshot + deep(100), "x", outcome{3, []string{"more than 64 folders deep"}}},
		"snapshot, very":        {snapshot + deep(1000), "x", outcome{3, []string{"more than 64 folders deep"}}},
		"refs":                  {"refs/" + deep(100), r.Commit, outcome{0, nil}}, // It is a name as good as any.
		"no_exist":              {".no_exist/" + r.Commit + "/" + deep(1000), "", outcome{3, []string{".no_exist/"}}},
		"trees":                 {"trees/" + deep(1000), "{}", outcome{0, nil}},
		"blobs":                 {"blobs/" + deep(1000), "x", outcome{0, nil}},
		"repository":            {deep(1000), "x", outcome{0, nil}},
		"shared store":          {"../blobs/" + deep(1000), "x", outcome{0, nil}},
		"locks":                 {"../.locks/" + r.Folder() + "/" + deep(1000), "", outcome{0, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			r.WriteCache(t, s.cache)
			writeDeep(t, in(s.cache, r.Folder()), c.path, c.text)
			got, memory := s.measured(t, "push")
			c.want.check(t, got)
			if memory > mostMemory {
				t.Errorf("it took %d MiB", memory)
			}
			s.checkKeysOf(t, r)
			other := s.elsewhere()
			outcome{code: 0}.check(t, other.pull(t, "pull", r.Repo, "-r", r.Commit))
			r.CompareFiles(t, other.cache, allBut(r)...)

			// Neither looking nor deleting needs more.
			for _, args := range [][]string{{"list"}, {"verify"}, {"prune", "--max-size", "0", "--evict-active", "--unsafe", "--yes", "--grace", "0s"}} {
				if got, memory = s.measured(t, args...); got.Code < 0 || got.Code == 1 || strings.Contains(got.Stderr, "panic:") || memory > mostMemory {
					t.Errorf("%q took %d MiB: %s", args, memory, got)
				}
			}
		})
	}
}

// writeDeep writes a file below folders that together are longer than a path
// can be.
func writeDeep(t *testing.T, dir, path, text string) {
	t.Helper()
	testenv.Mkdir(t, dir)
	root, err := os.OpenRoot(dir)
	if strings.HasPrefix(path, "../") {
		root, err = os.OpenRoot(filepath.Dir(dir))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	for elements := strings.Split(strings.TrimPrefix(path, "../"), "/"); len(elements) > 0; elements = elements[1:] {
		if len(elements) == 1 {
			err = root.WriteFile(elements[0], []byte(text), 0o644)
		} else if err = root.Mkdir(elements[0], 0o755); err == nil || os.IsExist(err) {
			var below *os.Root
			if below, err = root.OpenRoot(elements[0]); err == nil {
				_ = root.Close()
				root = below
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// checkKeysOf fails unless the bucket has the objects of r, whatever else.
func (s *sandbox) checkKeysOf(t *testing.T, r testenv.Revision) {
	t.Helper()
	have := map[string]bool{}
	for _, key := range testenv.Keys(t, s.bucket) {
		have[key] = true
	}
	for _, key := range testenv.ObjectKeys(r) {
		if !have[key] {
			t.Errorf("%s is not in the bucket", key)
		}
	}
}

// wide is the sample with one file under many names.
func wide(n int) testenv.Revision {
	r := testenv.Sample()
	f := r.Files[0]
	for i := range n {
		r.Files = append(r.Files, testenv.Content{Path: fmt.Sprintf("wide/%06d.json", i), Data: f.Data})
	}
	return r
}

// TestWide pushes and pulls a folder with more files than anybody has, and then
// reads manifests, listings and refs of more entries yet, which are too many.
func TestWide(t *testing.T) {
	t.Parallel()
	t.Run("files", func(t *testing.T) {
		t.Parallel()
		n := proof.Times(5_000, 100_000)
		s, r := newSandbox(t), wide(n)
		r.WriteCache(t, s.cache)
		got, memory := s.measured(t, "push")
		outcome{code: 0}.check(t, got)
		other := s.elsewhere()
		got, pulled := other.measured(t, "pull", r.Repo)
		outcome{code: 0}.check(t, got)
		if most := int64(mostMemory + n/1000*2); max(memory, pulled) > most { // Some entries of a map for each.
			t.Errorf("%d files took %d and %d MiB", n, memory, pulled)
		}
		if names, err := os.ReadDir(in(other.cache, r.Folder(), "snapshots", r.Commit, "wide")); err != nil || len(names) != n {
			t.Errorf("%d files, %v", len(names), err)
		}
	})
	t.Run("manifest of too many", func(t *testing.T) {
		t.Parallel()
		s, r := newSandbox(t), testenv.Sample()
		r.WriteBucket(t, s.bucket)
		head := fmt.Sprintf(`{"repo":%q,"revision":%q,"files":[`, r.Repo, r.Commit)
		entries := strings.Repeat(fmt.Sprintf(`{"path":"x","blob":%q,"size":1},`, r.Files[0].ID()), 1_000_001)
		testenv.WriteFile(t, in(s.bucket, r.ManifestKey()), []byte(head+strings.TrimSuffix(entries, ",")+"]}"))
		got, memory := s.measured(t, "pull", r.Repo)
		outcome{6, []string{r.ManifestKey(), "more than 1000000 files"}}.check(t, got)
		if memory > 3*mostMemory {
			t.Errorf("it took %d MiB", memory)
		}
		checkEmpty(t, s)
	})
	t.Run("manifest of empty entries", func(t *testing.T) {
		t.Parallel()
		s, r := newSandbox(t), testenv.Sample()
		r.WriteBucket(t, s.bucket)
		head := fmt.Sprintf(`{"repo":%q,"revision":%q,"files":[`, r.Repo, r.Commit)
		testenv.WriteFile(t, in(s.bucket, r.ManifestKey()), []byte(head+strings.Repeat("{},", 40<<20)+"{}]}"))
		got, memory := s.measured(t, "pull", r.Repo)
		outcome{6, []string{r.ManifestKey()}}.check(t, got)
		if memory > 3*mostMemory {
			t.Errorf("it took %d MiB", memory)
		}
		checkEmpty(t, s)
	})
	t.Run("listing in the cache", func(t *testing.T) {
		t.Parallel()
		s, r := newSandbox(t), testenv.Sample()
		r.WriteCache(t, s.cache)
		testenv.WriteFile(t, in(s.cache, r.Folder(), "trees", r.Commit+".json"), []byte(`{"format_version":1,"files":{`+strings.Repeat(`"a":{},`, 15<<20)+`"a":{}}}`))
		got, memory := s.measured(t, "push")
		outcome{0, []string{"trees/"}}.check(t, got)
		if memory > 3*mostMemory {
			t.Errorf("it took %d MiB", memory)
		}
	})
	t.Run("refs", func(t *testing.T) {
		t.Parallel()
		s, r := newSandbox(t), testenv.Sample()
		l := newLiar(t, s, r)
		n := proof.Times(2_000, 20_000)
		for i := range n {
			l.objects[fmt.Sprintf("refs/%s/b%06d", r.Key(), i)] = []byte(testenv.Commit("other"))
		}
		got, memory := s.measured(t, "pull", r.Repo)
		outcome{code: 0}.check(t, got)
		r.Compare(t, s.cache)
		if memory > mostMemory {
			t.Errorf("it took %d MiB", memory)
		}
	})
	t.Run("path of many folders", func(t *testing.T) {
		t.Parallel()
		s, r := newSandbox(t), testenv.Sample()
		r.Bare = true
		r.Files[0].Path = deep(200)
		r.WriteBucket(t, s.bucket)
		outcome{code: 0}.check(t, s.pull(t, "pull", r.Repo))
		r.Compare(t, s.cache)
		if got := s.pull(t, "pull", r.Repo); got.Code != 0 || !strings.Contains(got.Stdout, "everything was here") {
			t.Errorf("it pulled the same again: %s", got)
		}
		// What it does not read again is named, and the manifest keeps it.
		outcome{3, []string{"more than 64 folders deep"}}.check(t, s.push(t, "push"))
		outcome{code: 0}.check(t, s.elsewhere().pull(t, "pull", r.Repo))
		r.Compare(t, s.elsewhere().cache)
	})
}

// TestCase pulls commits whose paths are one name on a file system that ignores
// case. This one may not, so that the folder that the question is asked with is
// a file of two names here.
func TestCase(t *testing.T) {
	t.Parallel()
	for name, c := range map[string][2]string{
		"letters":            {"README.md", "readme.MD"},
		"folders":            {"Deep/a", "deep/A"},
		"file and folder":    {"notes", "Notes/a"},
		"folder and file":    {"Notes/a/b", "notes/A"},
		"umlauts":            {"Ünï.txt", "ünÏ.txt"},
		"final sigma":        {"λόγος", "λόγοσ"},
		"long s":             {"straſe", "strase"},
		"sign for kelvin":    {"\u212a", "k"},
		"titlecase digraphs": {"ǅ", "ǆ"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			r.Files[0].Path, r.Files[1].Path = c[0], c[1]
			r.WriteBucket(t, s.bucket)
			good := testenv.Sample()
			good.Repo = "zeta/good"
			good.WriteBucket(t, s.bucket)
			testenv.WriteFile(t, in(s.cache, ".locks"), nil)
			if err := os.Link(in(s.cache, ".locks"), in(s.cache, ".LOCKS")); err != nil {
				t.Fatal(err)
			}
			outcome{3, []string{quoted(t, c[0]), quoted(t, c[1]), "ignores case"}}.check(t, s.pull(t, "pull", r.Repo))
			if tree := testenv.Tree(t, in(s.cache, r.Folder())); len(tree) > 0 {
				t.Errorf("the cache has %v", tree)
			}
			outcome{3, []string{quoted(t, c[0]), quoted(t, c[1])}}.check(t, s.pull(t, "pull-all"))
			good.Compare(t, s.cache)

			// One of them alone is fine.
			outcome{code: 0}.check(t, s.pull(t, "pull", r.Repo, "--exclude", c[1]))
			r.CompareFiles(t, s.cache, allBut(r, c[1])...)

			// Where there are two names there are two files.
			other := s.elsewhere()
			distinct := r
			if name != "file and folder" && name != "folder and file" {
				outcome{code: 0}.check(t, other.pull(t, "pull", r.Repo))
				distinct.Compare(t, other.cache)
			}
		})
	}
}

// quoted is a path as messages have it.
func quoted(t *testing.T, path string) string {
	t.Helper()
	text, err := json.Marshal(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(text), `"`)
}

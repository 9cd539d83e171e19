package hostile_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// xetHash stands for the hash by which the shared store of a cache knows a
// file.
func xetHash() string { return strings.Repeat("0123456789abcdef", 4) }

// junk is what released clients, other tools and file managers leave in a
// cache, and what no push may take for content. Names end in a slash for a
// folder, and hold " -> " for a link.
func junk(r testenv.Revision) []string {
	id := r.Files[2].ID()
	repo, store := r.Folder()+"/", "blobs/"+xetHash()[:2]+"/"+xetHash()
	names := []string{
		"CACHEDIR.TAG", "version.txt", ".DS_Store", "Thumbs.db", "desktop.ini", "._" + r.Folder(), ".hf-cache-sync.lock",
		".locks/" + repo + id + ".lock", ".locks/" + repo, "tmpab12cd34", "tmpab12cd34ef/dummy_file_src", id + "org-name.lock",
		store + ".refs", store + ".lock", store + ".lock.soft", store + ".refs.0123abcd.tmp", store + ".refs.4711.tmp",
		"blobs/.huggingface-shared-blobs.0123abcd.tmp", "blobs/not a store's",
		repo + "tmpab12cd34/dummy_file_dst", repo + "tmp_01234567-89ab-cdef-0123-456789abcdef", repo + ".DS_Store", repo + ".hf-cache-sync/state",
		repo + "blobs/tmp_01234567-89ab-cdef-0123-456789abcdef", repo + "blobs/.DS_Store", repo + "blobs/._" + id,
		repo + "blobs/." + id + ".0123abcd.shared -> nowhere", repo + "blobs/." + id + ".0123abcd.shared2 -> /etc/passwd",
		repo + "blobs/." + id + ".hf-cache-sync", repo + "blobs/." + id + ".hf-cache-sync.parts", repo + "blobs/." + id + ".0123abcd.hf-cache-sync",
		repo + "trees/tmpab12cd34.tmp", repo + "trees/" + testenv.Commit("deleted") + ".json", repo + "trees/.DS_Store",
		repo + "refs/main.0123abcd.tmp", repo + "refs/.DS_Store", repo + "refs/refs/pr/1.0123abcd.tmp",
		repo + "snapshots/.DS_Store", repo + "snapshots/" + r.Commit + "/.DS_Store", repo + "snapshots/" + r.Commit + "/._config.json",
		repo + "snapshots/" + r.Commit + "/empty folder/",
	}
	for _, suffix := range []string{
		".incomplete", ".0123abcd.incomplete", ".part", ".sync.part", ".lock", ".downloadInProgress", ".etag", ".json", ".0123abcd.new", ".0123abcd.old",
	} {
		name := id + suffix
		if strings.HasPrefix(suffix, ".0") && !strings.HasSuffix(suffix, "incomplete") {
			name = "." + name
		}
		names = append(names, repo+"blobs/"+name)
	}
	return names
}

func (s *sandbox) litter(t *testing.T, names []string) {
	t.Helper()
	for _, name := range names {
		name, target, isLink := strings.Cut(name, " -> ")
		path := filepath.Join(s.cache, filepath.FromSlash(name))
		switch {
		case isLink:
			testenv.Symlink(t, target, path)
		case strings.HasSuffix(name, "/"):
			testenv.Mkdir(t, path)
		default:
			testenv.WriteFile(t, path, []byte(secret))
		}
	}
	testenv.WriteFile(t, filepath.Join(s.cache, "blobs", ".huggingface-shared-blobs"), []byte("1\n"))
}

// checkKeys fails unless the bucket has exactly the objects of these revisions.
func (s *sandbox) checkKeys(t *testing.T, revisions ...testenv.Revision) {
	t.Helper()
	if diff := cmp.Diff(testenv.ObjectKeys(revisions...), testenv.Keys(t, s.bucket)); diff != "" {
		t.Errorf("the objects in the bucket (-want +got):\n%s", diff)
	}
}

// paths are the paths that the manifest of r in the bucket lists.
func (s *sandbox) paths(t *testing.T, r testenv.Revision) []string {
	t.Helper()
	var m struct{ Files []struct{ Path string } }
	data, err := os.ReadFile(filepath.Join(s.bucket, filepath.FromSlash(r.ManifestKey())))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		t.Error(err)
	}
	var paths []string
	for _, f := range m.Files {
		paths = append(paths, f.Path)
	}
	return paths
}

// TestPushJunk checks that all that clients leave behind is passed over, without
// a word that would worry anybody.
func TestPushJunk(t *testing.T) {
	t.Parallel()
	s, r := newSandbox(t), testenv.Sample()
	r.WriteCache(t, s.cache)
	s.litter(t, junk(r))
	got := s.push(t, "push")
	outcome{code: 0}.check(t, got)
	s.checkKeys(t, r)
	if strings.Contains(got.Stderr, "left out") || strings.Contains(got.Stderr, "failed") {
		t.Errorf("it complains about junk: %s", got)
	}
}

// pushCase is a cache with two repositories, of which the first has something
// wrong. The second is pushed whatever happens.
type pushCase struct {
	spoil  func(t *testing.T, s *sandbox, repo string)
	code   int
	stderr []string
	// missing are the paths that the manifest of the first must not list. With
	// all of them it must not exist.
	missing []string
	// noRef says that the ref must not be written, though all files are there.
	noRef bool
	// noTree says that the listing could not be read, so that nobody knows
	// whether the snapshot is whole.
	noTree bool
}

func in(parts ...string) string { return filepath.Join(parts...) }

// pushCases is about the repository of Sample.
func pushCases() map[string]pushCase {
	r := testenv.Sample()
	snapshot := "snapshots/" + r.Commit
	weights := r.Files[2]
	everything := allBut(r)
	link := func(target, path string) func(*testing.T, *sandbox, string) {
		return func(t *testing.T, s *sandbox, repo string) {
			t.Helper()
			testenv.Symlink(t, strings.ReplaceAll(target, "OUTSIDE", s.outside), in(repo, path))
		}
	}
	file := func(path string, data []byte) func(*testing.T, *sandbox, string) {
		return func(t *testing.T, _ *sandbox, repo string) {
			t.Helper()
			testenv.WriteFile(t, in(repo, path), data)
		}
	}
	pipe := func(path string) func(*testing.T, *sandbox, string) {
		return func(t *testing.T, _ *sandbox, repo string) {
			t.Helper()
			if err := os.RemoveAll(in(repo, path)); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(in(repo, path), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	move := func(path string) func(*testing.T, *sandbox, string) {
		return func(t *testing.T, s *sandbox, repo string) {
			t.Helper()
			if err := os.Rename(in(repo, path), in(s.outside, "moved")); err != nil {
				t.Fatal(err)
			}
			testenv.Symlink(t, in(s.outside, "moved"), in(repo, path))
		}
	}
	return map[string]pushCase{
		// Links of a snapshot.
		"file links outside":          {spoil: link("OUTSIDE/secret", snapshot+"/passwd"), code: 3, stderr: []string{"passwd", "outside"}},
		"file links to /etc/passwd":   {spoil: link("/etc/passwd", snapshot+"/passwd"), code: 3, stderr: []string{"passwd", "outside"}},
		"file links up and out":       {spoil: link("../../../../../outside/secret", snapshot+"/passwd"), code: 3, stderr: []string{"passwd", "outside"}},
		"file links to the token":     {spoil: link("../../../../token", snapshot+"/token"), code: 3, stderr: []string{"token", "outside"}},
		"folder links outside":        {spoil: link("OUTSIDE", snapshot+"/folder"), code: 3, stderr: []string{"folder", "outside"}},
		"listed file links outside":   {spoil: link("OUTSIDE/secret", snapshot+"/config.json"), code: 3, stderr: []string{"config.json", "outside"}, missing: []string{"config.json"}},
		"file links to itself":        {spoil: link("config.json", snapshot+"/config.json"), code: 3, stderr: []string{"config.json"}, missing: []string{"config.json"}},
		"file links to a folder":      {spoil: link("..", snapshot+"/config.json"), code: 3, stderr: []string{"config.json"}, missing: []string{"config.json"}},
		"file links to a device":      {spoil: link("/dev/zero", snapshot+"/config.json"), code: 3, stderr: []string{"config.json"}, missing: []string{"config.json"}},
		"file links to no blob":       {spoil: link("../../blobs/"+testenv.Commit("no such blob"), snapshot+"/config.json"), stderr: []string{"config.json"}, missing: []string{"config.json"}},
		"file links to an unfinished": {spoil: link("../../blobs/x.incomplete", snapshot+"/config.json"), code: 3, stderr: []string{"config.json"}, missing: []string{"config.json"}},
		"file is a pipe":              {spoil: pipe(snapshot + "/config.json"), code: 3, stderr: []string{"config.json"}, missing: []string{"config.json"}},
		"snapshot links outside":      {spoil: move(snapshot), code: 3, stderr: []string{r.Commit}, missing: everything},
		"snapshots link outside":      {spoil: move("snapshots"), code: 3, stderr: []string{"snapshots"}, missing: everything},
		"file of a tool":              {spoil: file(snapshot+"/np/weights", []byte(secret)), stderr: []string{"np/weights"}},
		"file with a backslash":       {spoil: file(snapshot+`/a\b`, []byte("x")), code: 3, stderr: []string{`a\b`}},
		"file with a line break":      {spoil: file(snapshot+"/a\nb", []byte("x")), code: 3, stderr: []string{"snapshots"}},
		"file with a name in Latin-1": {spoil: file(snapshot+"/a\xe4", []byte("x")), code: 3, stderr: []string{"snapshots"}},
		"snapshot is no commit":       {spoil: file("snapshots/main/config.json", []byte("x")), code: 3, stderr: []string{"snapshots/main"}},
		"file where snapshots should be": {spoil: func(t *testing.T, _ *sandbox, repo string) {
			t.Helper()
			testenv.WriteFile(t, in(repo, "snapshots"), nil)
		}, code: 3, stderr: []string{"snapshots"}, missing: everything},

		// Blobs.
		"blob is damaged":       {spoil: file("blobs/"+weights.ID(), make([]byte, len(weights.Data))), code: 6, stderr: []string{weights.Path}, missing: []string{weights.Path}},
		"small blob is damaged": {spoil: file("blobs/"+r.Files[0].ID(), make([]byte, len(r.Files[0].Data))), code: 6, stderr: []string{r.Files[0].Path}, missing: []string{r.Files[0].Path}},
		"blob is cut":           {spoil: file("blobs/"+weights.ID(), weights.Data[:1000]), code: 3, stderr: []string{weights.Path}, missing: []string{weights.Path}},
		"blob links outside":    {spoil: link("OUTSIDE/secret", "blobs/"+weights.ID()), code: 3, stderr: []string{weights.ID(), "outside"}, missing: []string{weights.Path}},
		"blob links to nothing": {spoil: link("../../blobs/01/"+xetHash(), "blobs/"+weights.ID()), stderr: []string{weights.ID()}, missing: []string{weights.Path}},
		"blob is a pipe":        {spoil: pipe("blobs/" + weights.ID()), stderr: []string{weights.ID()}, missing: []string{weights.Path}},
		"blob is a folder": {spoil: func(t *testing.T, _ *sandbox, repo string) {
			t.Helper()
			if err := os.Remove(in(repo, "blobs", weights.ID())); err != nil {
				t.Fatal(err)
			}
			testenv.WriteFile(t, in(repo, "blobs", weights.ID(), "x"), []byte(secret))
		}, stderr: []string{weights.ID()}, missing: []string{weights.Path}},
		"blobs link outside": {spoil: move("blobs"), code: 3, stderr: []string{"blobs"}, missing: everything},

		// Refs.
		"ref is junk":           {spoil: file("refs/main", []byte("junk")), stderr: []string{"refs/main"}, noRef: true},
		"ref is empty":          {spoil: file("refs/main", nil), stderr: []string{"refs/main"}, noRef: true},
		"ref is large":          {spoil: file("refs/main", make([]byte, 1<<20)), stderr: []string{"refs/main"}, noRef: true},
		"ref links outside":     {spoil: link("OUTSIDE/secret", "refs/main"), stderr: []string{"refs/main"}, noRef: true},
		"ref is a pipe":         {spoil: pipe("refs/main"), stderr: []string{"refs/main"}, noRef: true},
		"refs link outside":     {spoil: move("refs"), code: 3, stderr: []string{"refs"}, noRef: true},
		"ref with a bad name":   {spoil: file(`refs/a\b`, []byte(r.Commit)), stderr: []string{`a\b`}},
		"ref of no snapshot":    {spoil: file("refs/main", []byte(testenv.Commit("none"))), noRef: true},
		"ref with a line break": {spoil: file("refs/main", []byte(r.Commit+"\n"))},

		// Listings.
		"tree is junk":   {spoil: file("trees/"+r.Commit+".json", []byte("{")), stderr: []string{"trees/"}, noTree: true},
		"tree is a list": {spoil: file("trees/"+r.Commit+".json", []byte("[]")), stderr: []string{"trees/"}, noTree: true},
		"tree of later":  {spoil: file("trees/"+r.Commit+".json", []byte(`{"format_version": 2, "files": {}}`)), stderr: []string{"trees/"}, noTree: true},
		"tree climbs":    {spoil: file("trees/"+r.Commit+".json", []byte(`{"format_version": 1, "files": {"../x": {"size": 1, "blob_id": "x"}}}`)), stderr: []string{"trees/"}, noTree: true},
		"tree is nested": {spoil: file("trees/"+r.Commit+".json", []byte(strings.Repeat("[", 1<<20))), stderr: []string{"trees/"}, noTree: true},
		"tree links out": {spoil: link("OUTSIDE/secret", "trees/"+r.Commit+".json"), stderr: []string{"trees/"}, noTree: true},
		"tree is a pipe": {spoil: pipe("trees/" + r.Commit + ".json"), stderr: []string{"trees/"}, noTree: true},
		"tree is too large": {spoil: func(t *testing.T, _ *sandbox, repo string) {
			t.Helper()
			if err := os.Truncate(in(repo, "trees", r.Commit+".json"), 128<<20+1); err != nil {
				t.Fatal(err)
			}
		}, stderr: []string{"trees/"}, noTree: true},
		"no_exist climbs":        {spoil: file(".no_exist/"+r.Commit+`/a\b`, nil), code: 3, stderr: []string{`a\b`}},
		"trees link outside":     {spoil: move("trees"), noTree: true, stderr: []string{"trees"}},
		"no_exist links outside": {spoil: link("OUTSIDE/folder", ".no_exist"), code: 3, stderr: []string{".no_exist"}},
	}
}

// TestPush checks caches with something wrong in them.
func TestPush(t *testing.T) {
	t.Parallel()
	for name, c := range pushCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			r.WriteCache(t, s.cache)
			// It shares no blob with the first.
			good := testenv.Revision{
				Type: "dataset", Repo: "zeta/good", Commit: testenv.Commit("good"), Refs: []string{"main"},
				Files: []testenv.Content{{Path: "good.txt", Data: []byte("good\n")}},
			}
			good.WriteCache(t, s.cache)
			c.spoil(t, s, filepath.Join(s.cache, r.Folder()))
			got := s.push(t, "push")
			outcome{c.code, c.stderr}.check(t, got)
			want := r
			want.Files = slices.DeleteFunc(slices.Clone(r.Files), func(f testenv.Content) bool { return slices.Contains(c.missing, f.Path) })
			if c.noRef || (len(c.missing) > 0 && c.code == 6) {
				want.Refs = nil
			}
			if len(want.Files) > 0 {
				s.checkKeys(t, want, good)
				if diff := cmp.Diff(allBut(want), s.paths(t, r)); diff != "" {
					t.Errorf("the paths of the manifest (-want +got):\n%s", diff)
				}
			} else {
				s.checkKeys(t, good)
			}

			// Another machine gets what is there, and what it gets is right.
			other := s.elsewhere()
			testenv.Mkdir(t, other.cache)
			outcome{code: 0}.check(t, other.pull(t, "pull", "datasets/zeta/good"))
			good.Compare(t, other.cache)
			if len(want.Files) > 0 {
				got = other.pull(t, "pull", r.Repo, "-r", r.Commit)
				outcome{code: 0}.check(t, got)
				want.Compare(t, other.cache)
				said := "offline: ready"
				switch {
				case c.noTree:
					said = "offline: unknown"
				case len(c.missing) > 0:
					said = fmt.Sprintf("offline: partial (%d of %d files)", len(want.Files), len(r.Files))
				}
				if !strings.Contains(got.Stdout, said) {
					t.Errorf("it should say %q: %s", said, got)
				}
			}
		})
	}
}

// TestPushLargeDamaged checks a damaged blob that is moved in parts: nothing of
// it may stay in the bucket.
func TestPushLargeDamaged(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"file", "S3"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			if where == "S3" {
				s.onServer(t)
			}
			r.Files = append(r.Files, large())
			r.WriteCache(t, s.cache)
			data := slices.Clone(large().Data)
			data[len(data)-1] ^= 1
			testenv.WriteFile(t, filepath.Join(s.cache, r.Folder(), "blobs", large().ID()), data)
			outcome{6, []string{"large.bin", large().ID()}}.check(t, s.push(t, "push"))
			want := testenv.Sample()
			want.Refs = nil
			s.checkKeys(t, want)
			walk(t, filepath.Dir(s.bucket), func(path string, size int64) {
				if size > 1<<20 {
					t.Errorf("%s with %d bytes is left", path, size)
				}
			})
		})
	}
}

// walk calls visit for every regular file below dir.
func walk(t *testing.T, dir string, visit func(path string, size int64)) {
	t.Helper()
	for path, text := range testenv.Tree(t, dir) {
		var mode string
		var size int64
		if _, err := fmt.Sscan(text, &mode, &size); err == nil && strings.HasPrefix(mode, "-") && !strings.Contains(path, "home") {
			visit(path, size)
		}
	}
}

// TestPushNames checks blobs whose names are no digest of their bytes, though
// they are good.
func TestPushNames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		blob   string
		bare   bool
		code   int
		pushed bool
	}{
		"an odd etag":                 {blob: "d41d8-odd-etag-gzip", pushed: true},
		"an odd etag, no listing":     {blob: "d41d8-odd-etag-gzip", bare: true, pushed: true},
		"a xet hash":                  {blob: xetHash(), pushed: true},
		"a xet hash, no listing":      {blob: xetHash(), bare: true, code: 6},
		"an MD5":                      {blob: strings.Repeat("0123456789abcdef", 2), bare: true, pushed: true},
		"capitals":                    {blob: strings.ToUpper(testenv.Sample().Files[2].ID()), bare: true, pushed: true},
		"git's digest of a large one": {blob: testenv.GitSHA1(testenv.Sample().Files[2].Data), bare: true, pushed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			r.Bare = c.bare
			r.WriteCache(t, s.cache)
			repo, f := filepath.Join(s.cache, r.Folder()), r.Files[2]
			if err := os.Rename(in(repo, "blobs", f.ID()), in(repo, "blobs", c.blob)); err != nil {
				t.Fatal(err)
			}
			testenv.Symlink(t, "../../blobs/"+c.blob, in(repo, "snapshots", r.Commit, f.Path))
			outcome{code: c.code}.check(t, s.push(t, "push"))
			want := r
			want.Files = slices.Clone(r.Files)
			if !c.pushed {
				want.Files, want.Refs = slices.Delete(want.Files, 2, 3), nil
			} else if c.blob == testenv.GitSHA1(f.Data) {
				want.Files[2].LFS = false
			}
			s.checkKeys(t, want)
		})
	}
}

// TestPushSharedStore checks the shared store of a cache with a payload that is
// missing, and with one that lies outside.
func TestPushSharedStore(t *testing.T) {
	t.Parallel()
	store := "blobs/" + xetHash()[:2] + "/" + xetHash()
	for name, c := range map[string]struct {
		payload func(t *testing.T, s *sandbox, f testenv.Content)
		code    int
		pushed  bool
	}{
		"right": {func(t *testing.T, s *sandbox, f testenv.Content) {
			t.Helper()
			testenv.WriteFile(t, in(s.cache, store), f.Data)
		}, 0, true},
		"missing": {func(*testing.T, *sandbox, testenv.Content) {}, 0, false},
		"wrong": {func(t *testing.T, s *sandbox, f testenv.Content) {
			t.Helper()
			testenv.WriteFile(t, in(s.cache, store), make([]byte, len(f.Data)))
		}, 6, false},
		"outside": {func(t *testing.T, s *sandbox, f testenv.Content) {
			t.Helper()
			testenv.WriteFile(t, in(s.outside, "payload"), f.Data)
			testenv.Symlink(t, in(s.outside, "payload"), in(s.cache, store))
		}, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			r.WriteCache(t, s.cache)
			f := r.Files[2]
			testenv.WriteFile(t, in(s.cache, "blobs", ".huggingface-shared-blobs"), []byte("1\n"))
			testenv.Symlink(t, "../../"+store, in(s.cache, r.Folder(), "blobs", f.ID()))
			c.payload(t, s, f)
			outcome{code: c.code}.check(t, s.push(t, "push"))
			want := r
			if !c.pushed {
				want.Files = slices.Delete(slices.Clone(r.Files), 2, 3)
				if c.code == 6 {
					want.Refs = nil
				}
			}
			s.checkKeys(t, want)
		})
	}
}

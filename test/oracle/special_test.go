package oracle_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestOraclePullOne pulls one revision at a time, in each way to name one,
// instead of everything at once.
func TestOraclePullOne(t *testing.T) {
	t.Parallel()
	reader := testenv.Python(t, "2.4.0")
	s := fill(t, newWorld(t), reader.Name, reader)
	remote, home := testenv.FileRemote(t), t.TempDir()
	remote.Sync(t, s.home, "push", "--yes")
	for _, f := range append(slices.Clip(s.fetches), s.partial) {
		args := []string{"pull", f.repo, "-r", f.revision}
		switch {
		case f.kind == fakehub.Dataset:
			args = []string{"pull", "datasets/" + f.repo}
		case f.kind != fakehub.Model:
			args = []string{"pull", "hf://" + string(f.kind) + "s/" + f.repo + "@" + f.revision}
		case f.revision == f.commit.ID():
			args[3] = f.revision[:9]
		case f.revision == "main":
			args = args[:2]
		}
		remote.Sync(t, home, args...)
	}
	judge(t, s, home, references(t, s))
}

// references is what each reader says of the cache as its writer left it.
func references(t *testing.T, s *source) map[string]report {
	t.Helper()
	want := map[string]report{}
	for _, reader := range readers(t) {
		want[reader.Name] = inspect(t, s, s.plain, reader)
	}
	return want
}

// TestOraclePullIntoSharedStore pulls into a cache that has a shared blob
// store already, which must stay as it is; afterwards a client with Xet
// switched on finds everything in place.
func TestOraclePullIntoSharedStore(t *testing.T) {
	t.Parallel()
	writer := testenv.Python(t, "2.4.0")
	s := shared(t, writer)
	remote := testenv.FileRemote(t)
	remote.Sync(t, s.home, "push", "--yes")

	home := t.TempDir()
	w := newWorld(t)
	data := w.whole[5]
	if data.kind != fakehub.Dataset {
		t.Fatalf("%s is not the dataset", data.name())
	}
	writer.Run(t, home, w.url, data.step("download"))
	var moved []string
	writer.Run(t, home, "", testenv.Step{"do": "share"})[0].Decode(t, &moved)
	if len(moved) != 1 {
		t.Fatalf("in the shared store: %v", moved)
	}
	before := contents(t, filepath.Join(hubDir(home), "blobs"))

	pullEverything(t, s, remote, home)
	if diff := cmp.Diff(before, contents(t, filepath.Join(hubDir(home), "blobs"))); diff != "" {
		t.Errorf("the shared store (-before +after the pull):\n%s", diff)
	}
	if link, err := os.Readlink(filepath.Join(hubDir(home), moved[0])); err != nil || !strings.HasPrefix(link, "../../blobs/") {
		t.Errorf("the dataset's blob links to %q, %v", link, err)
	}
	reader := writer.With("HF_HUB_DISABLE_XET=0")
	checkFiles(t, s, reader, inspect(t, s, home, reader))
	checkOnline(t, s, home, reader)
}

// TestOraclePullWithoutSymlinks pulls where symbolic links are switched off;
// the judge is what the same clients download there.
func TestOraclePullWithoutSymlinks(t *testing.T) {
	t.Parallel()
	const off = "HF_HUB_DISABLE_SYMLINKS=1"
	writer := testenv.Python(t, "2.4.0").With(off)
	s := fill(t, newWorld(t), "no symlinks", writer)
	remote, home := testenv.FileRemote(t), t.TempDir()
	remote.Env = []string{off}
	remote.Sync(t, s.home, "push", "--yes")
	pullEverything(t, s, remote, home)
	for name := range contents(t, hubDir(home)) {
		if info, err := os.Lstat(filepath.Join(hubDir(home), name)); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s is no regular file: %v", name, err)
		}
	}
	for _, reader := range readers(t) {
		reader = reader.With(off)
		got := inspect(t, s, home, reader)
		if diff := cmp.Diff(inspect(t, s, s.home, reader), got); diff != "" {
			t.Errorf("%s sees (-downloaded +pulled):\n%s", reader.Name, diff)
		}
		checkFiles(t, s, reader, got)
	}
	for _, reader := range readers(t) {
		checkOnline(t, s, home, reader.With(off))
	}
}

// TestOraclePushesThePulled shows that nothing is lost on the way: what was
// pulled makes the same bucket again.
func TestOraclePushesThePulled(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2.4.0", "0.36.2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			writer := testenv.Python(t, version)
			s := fill(t, newWorld(t), writer.Name, writer)
			first, second, home := testenv.FileRemote(t), testenv.FileRemote(t), t.TempDir()
			first.Sync(t, s.home, "push", "--yes")
			pullEverything(t, s, first, home)
			second.Sync(t, home, "push", "--yes")
			if diff := cmp.Diff(objects(t, first), objects(t, second)); diff != "" {
				t.Errorf("bucket (-first +second):\n%s", diff)
			}
		})
	}
}

// TestOracleOnlyMissing pushes a repository of which a client knows nothing
// but that a file is missing: a ref without a snapshot, which scans call
// corrupt. It must not spread that way.
func TestOracleOnlyMissing(t *testing.T) {
	t.Parallel()
	client := testenv.Python(t, "2.4.0")
	w := newWorld(t)
	source, home := t.TempDir(), t.TempDir()
	step := w.missing.step("file")
	step["path"] = missingFile
	outcomes := client.Run(t, source, w.url, step, w.partial.step("download"))
	if !strings.HasSuffix(outcomes[0].Error, "EntryNotFoundError") || outcomes[1].Error != "" {
		t.Fatal(outcomes)
	}
	remote := testenv.FileRemote(t)
	remote.Sync(t, source, "push", "--yes")
	remote.Sync(t, home, "pull-all", "--all-refs")
	testenv.AuditCache(t, hubDir(home))
	var scan struct {
		Warnings []string `json:"warnings"`
	}
	client.Run(t, home, "", testenv.Step{"do": "scan"})[0].Decode(t, &scan)
	if len(scan.Warnings) > 0 {
		t.Errorf("scan: %v", scan.Warnings)
	}
	client.Run(t, home, "", w.partial.step("offline"))[0].Decode(t, &struct{}{})
}

// TestOracleKernel does a kernel repository, which the old clients do not
// know.
func TestOracleKernel(t *testing.T) {
	t.Parallel()
	client := testenv.Python(t, "2.4.0")
	w := newWorld(t)
	repo := w.hub.Repo(fakehub.Kernel, "acme/kernel")
	c := repo.Commit("main", fakehub.Git("build/a.py", []byte("pass\n")), noise(t, "build/lib.so", 8, 30_000))
	f := fetch{kind: fakehub.Kernel, repo: repo.ID(), revision: "main", commit: c}
	source, home := t.TempDir(), t.TempDir()
	if o := client.Run(t, source, w.url, f.step("download"))[0]; o.Error != "" {
		t.Fatal(o)
	}
	remote := testenv.FileRemote(t)
	remote.Sync(t, source, "push", "--yes")
	remote.Sync(t, home, "pull-all", "--all-refs")
	see := func(home string) []string {
		var out []string
		for _, o := range client.Run(t, home, "", testenv.Step{"do": "scan"}, f.step("offline")) {
			out = append(out, canonical(t, o))
		}
		return out
	}
	if diff := cmp.Diff(see(source), see(home)); diff != "" {
		t.Errorf("(-downloaded +pulled):\n%s", diff)
	}
	w.hub.Reset()
	client.Run(t, home, w.url, f.step("download"))
	if got := w.hub.Downloads(); len(got) > 0 {
		t.Errorf("downloaded again: %v", got)
	}
}

// objects is what the bucket in a folder holds, with the metadata of the
// objects but for their ETags, which are new with each write.
func objects(t *testing.T, remote testenv.Remote) map[string]string {
	t.Helper()
	etag := regexp.MustCompile(`"etag": *"[^"]*"`)
	out := contents(t, strings.TrimPrefix(remote.URL, "file://"))
	for name, data := range out {
		if strings.HasPrefix(name, ".hf-cache-sync/locks/") {
			delete(out, name)
		} else if strings.HasPrefix(name, ".hf-cache-sync/") {
			out[name] = etag.ReplaceAllString(data, `"etag": ""`)
		}
	}
	return out
}

// contents is every file below root by its path: its bytes, or where it links.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			out[name], err = os.Readlink(path)
			return err
		}
		data, err := os.ReadFile(path)
		out[name] = string(data)
		if len(data) > 4096 {
			sum := sha256.Sum256(data)
			out[name] = hex.EncodeToString(sum[:])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

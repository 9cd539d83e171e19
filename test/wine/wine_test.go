//go:build linux

// Package wine_test runs the program for Windows under Wine, which scripts/wine.sh
// puts below .cache. It has no symbolic links there, as people without developer
// mode have none on Windows: snapshots are hard links.
package wine_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// windows is a folder that is Z:\work to the program.
type windows struct{ dir string }

// program is the file that TestMain builds.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "hf-cache-sync-wine-")
		if err != nil {
			panic(err) // There is no test yet to fail.
		}
		defer func() { _ = os.RemoveAll(dir) }() // Nobody is left to tell.
		program = filepath.Join(dir, "hf-cache-sync.exe")
		cmd := exec.Command("go", "build", "-trimpath", "-o", program, "./cmd/hf-cache-sync")
		cmd.Dir = filepath.Join("..", "..")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=windows", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			panic(fmt.Sprintf("building for Windows: %v\n%s", err, out))
		}
		return m.Run()
	}())
}

func newWindows(t *testing.T) windows {
	t.Helper()
	w := windows{t.TempDir()}
	if err := os.Link(program, filepath.Join(w.dir, "hf-cache-sync.exe")); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w windows) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// run runs the program, with the folder bucket as its bucket and hub as its cache,
// and fails the test unless it ends with code.
func (w windows) run(t *testing.T, code int, args ...string) testenv.Result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Tool(t, "wine/run.sh"), append([]string{w.dir, `Z:\work\hf-cache-sync.exe`}, args...)...)
	cmd.Env = append(os.Environ(), `HF_HUB_CACHE=Z:\work\hub`, "HF_CACHE_SYNC_REMOTE=file:///Z:/work/bucket", `XDG_STATE_HOME=Z:\work\state`, `XDG_CACHE_HOME=Z:\work\cache`)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	result := testenv.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	if result.Code != code {
		t.Fatalf("hf-cache-sync.exe %q: want exit code %d: %s (%v)", args, code, result, err)
	}
	return result
}

// odd is a revision with names that are fine on Windows, and strange.
func odd() testenv.Revision {
	r := testenv.Sample()
	for i, path := range []string{
		"Ünïcödé/模型.json", "with space/a b.txt", "dots.in.name/.hidden", "CONsole.txt", "nul_.bin",
		strings.Repeat("a-folder-with-a-long-name/", 12) + "file.txt", // Beyond the 260 characters of old.
		strings.Repeat("n", 200) + ".json",
	} {
		r.Files = append(r.Files, testenv.Content{Path: path, Data: fmt.Append(nil, "odd ", i)})
	}
	return r
}

func TestDemo(t *testing.T) {
	got := newWindows(t).run(t, 0, "demo")
	if !strings.Contains(got.Stdout, "10 files, all the same.") {
		t.Errorf("the demo: %s", got)
	}
}

// TestRoundTrip pushes a cache that was written elsewhere, pulls it into another,
// and has the program for Linux look at all of it.
func TestRoundTrip(t *testing.T) {
	w, r := newWindows(t), odd()
	r.WriteCache(t, w.path("hub"))
	testenv.Mkdir(t, w.path("bucket"))
	w.run(t, 0, "push", "--yes")
	if diff := cmp.Diff(testenv.ObjectKeys(r), testenv.Keys(t, w.path("bucket"))); diff != "" {
		t.Errorf("the objects in the bucket (-want +got):\n%s", diff)
	}
	new(testenv.Auditor).Bucket(t, w.path("bucket"))
	if got := w.run(t, 0, "push", "--yes"); !strings.Contains(got.Stdout, "nothing to push") {
		t.Errorf("pushed again: %s", got)
	}

	if err := os.Rename(w.path("hub"), w.path("theirs")); err != nil {
		t.Fatal(err)
	}
	got := w.run(t, 0, "pull", r.Repo, "--json")
	if strings.Contains(got.Stdout, "\r") || !strings.Contains(got.Stdout, `"resumed_bytes"`) {
		t.Errorf("its JSON: %q", got.Stdout)
	}
	r.Compare(t, w.path("hub"))
	for _, f := range r.Files {
		info, err := os.Lstat(w.path("hub", r.Folder(), "snapshots", r.Commit, filepath.FromSlash(f.Path)))
		if err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: %v, %v", f.Path, info, err)
		}
	}
	if got = w.run(t, 0, "pull", r.Repo); !strings.Contains(got.Stdout, "everything was here") {
		t.Errorf("pulled again: %s", got)
	}
	w.run(t, 0, "verify")
	// Linux takes what Windows has made, and has nothing to add to it.
	remote := testenv.Remote{Name: "file", URL: "file://" + w.path("bucket")}
	if got = remote.Sync(t, w.dir, "diff", "--exit-code"); got.Code != 0 {
		t.Errorf("Linux sees a difference: %s", got)
	}

	w.run(t, 0, "list")
	w.run(t, 0, "status")
	w.run(t, 0, "prune", "--max-size", "0", "--evict-active", "--grace", "0s", "--yes")
	if left := testenv.Tree(t, w.path("hub", r.Folder(), "snapshots")); len(left) > 0 {
		t.Errorf("prune left %v", left)
	}
	w.run(t, 0, "pull", r.Repo)
	r.Compare(t, w.path("hub"))
}

// TestDamageIsFound: what differs from its name is set aside and fetched again.
func TestDamageIsFound(t *testing.T) {
	w, r := newWindows(t), testenv.Sample()
	r.WriteBucket(t, w.path("bucket"))
	w.run(t, 0, "pull", r.Repo)
	large := r.Files[2]
	testenv.WriteFile(t, w.path("hub", r.Folder(), "blobs", large.ID()), append([]byte("x"), large.Data[1:]...))
	w.run(t, 6, "verify")
	w.run(t, 0, "pull", r.Repo)
	r.Compare(t, w.path("hub"))
}

// TestNamesThatWindowsCannotHave: a file that cannot be there is named, and the
// others of the repository do not get a name that is not theirs.
func TestNamesThatWindowsCannotHave(t *testing.T) {
	for name, path := range map[string]string{
		"device": "CON", "device with an extension": "folder/aux.txt", "dot at the end": "folder/name.", "space at the end": "name ",
		"question mark": "what?.txt", "case": "CONFIG.json",
	} {
		t.Run(name, func(t *testing.T) {
			w, r := newWindows(t), testenv.Sample()
			r.Bare = true
			r.Files = append(r.Files, testenv.Content{Path: path, Data: []byte("odd")})
			r.WriteBucket(t, w.path("bucket"))
			got := w.run(t, 3, "pull", r.Repo)
			if !strings.Contains(got.Stderr, path) {
				t.Errorf("it does not name %q: %s", path, got)
			}
			for at, content := range testenv.Tree(t, w.path("hub")) {
				if strings.Contains(content, "odd") {
					t.Errorf("%s is there: %s", at, content)
				}
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	w, r := newWindows(t), testenv.Sample()
	r.WriteBucket(t, w.path("bucket"))
	r.Commit, r.Repo = testenv.Commit("stream"), "org/stream"
	r.Files[0].Path = "file:stream"
	r.WriteBucket(t, w.path("bucket"))
	w.run(t, 6, "pull", r.Repo)
	w.run(t, 0, "version")
	w.run(t, 2, "pull", "no such", "arguments")
	w.run(t, 5, "pull", "org/missing")
	w.run(t, 2, "--remote", "file://Z:/work/bucket", "list", "--remote")
}

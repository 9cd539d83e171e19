package e2e_test

import (
	"errors"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// missingFolder is a bucket whose folder does not exist.
func missingFolder(t *testing.T) (remote testenv.Remote, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "nas", "hf")
	return testenv.Remote{Name: "file", URL: "file://" + filepath.ToSlash(dir)}, dir
}

func wantAbsent(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there: %v", path, err)
	}
}

// TestFallbackFromMissingFolder pulls from the Hub what a folder does not give
// that is not there, as for a service that cannot be reached. Nobody agreed to
// a new bucket, so the backfill does not make one.
func TestFallbackFromMissingFolder(t *testing.T) {
	t.Parallel()
	hub := fakehub.New()
	server := httptest.NewServer(hub)
	t.Cleanup(server.Close)
	r := testenv.Sample()
	var files []fakehub.File
	for _, f := range r.Files {
		if f.LFS {
			files = append(files, fakehub.LFS(f.Path, f.Data))
		} else {
			files = append(files, fakehub.Git(f.Path, f.Data))
		}
	}
	r.Commit, r.Refs = hub.Repo(fakehub.Model, r.Repo).Commit("main", files...).ID(), []string{"main"}
	for _, flag := range []string{"--fallback=hf-hub", "--backfill"} {
		remote, dir := missingFolder(t)
		remote.Env = []string{"HF_ENDPOINT=" + server.URL}
		home := t.TempDir()
		pull := remote.Sync(t, home, "pull", r.Repo, flag)
		r.Compare(t, filepath.Join(home, "hub"))
		wantAbsent(t, filepath.Dir(dir))
		for _, said := range []string{"it comes from the Hub", dir + " does not exist: is it mounted?"} {
			if !strings.Contains(pull.Stderr, said) {
				t.Errorf("%s: %q is not said: %s", flag, said, pull)
			}
		}
		if flag == "--backfill" && !strings.Contains(pull.Stderr, "note: the bucket did not get it: ") {
			t.Errorf("nothing is said of the backfill: %s", pull)
		}
	}
}

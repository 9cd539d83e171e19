// Package oracle_test lets real Hub clients judge what hf-cache-sync leaves
// behind: a cache that one of them wrote is pushed, pulled elsewhere, and must
// then look to every one of them as if it had been downloaded.
package oracle_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// sources are the caches that are pushed: one of each writer, and the special
// forms that the newest one can take.
func sources(t *testing.T) map[string]func(*testing.T) *source {
	t.Helper()
	out := map[string]func(*testing.T) *source{}
	for _, writer := range readers(t) {
		out[writer.Name] = func(t *testing.T) *source {
			t.Helper()
			return fill(t, newWorld(t), writer.Name, writer)
		}
	}
	newest := testenv.Python(t, "2.4.0")
	out["hub-2.4.0 shared store"] = func(t *testing.T) *source {
		t.Helper()
		return shared(t, newest)
	}
	for _, writer := range []testenv.Client{newest, testenv.Python(t, "1.29.0")} {
		name := writer.Name + " no symlinks"
		out[name] = func(t *testing.T) *source {
			t.Helper()
			w := newWorld(t)
			s := fill(t, w, name, writer.With("HF_HUB_DISABLE_SYMLINKS=1"))
			s.plain = fill(t, w, name, writer).home
			links, err := filepath.Glob(filepath.Join(hubDir(s.home), "*", "blobs", "*"))
			if err != nil || len(links) > 0 {
				t.Fatalf("blobs of a cache without symlinks: %v %v", links, err)
			}
			return s
		}
	}
	return out
}

// shared is a cache whose large files are in the shared blob store.
func shared(t *testing.T, writer testenv.Client) *source {
	t.Helper()
	w := newWorld(t)
	s := fill(t, w, "shared store", writer)
	s.plain = fill(t, w, "shared store", writer).home
	var moved []string
	writer.Run(t, s.home, "", testenv.Step{"do": "share"})[0].Decode(t, &moved)
	// The weights, which the model has twice and the dataset has too.
	if len(moved) != 2 {
		t.Fatalf("in the shared store: %v", moved)
	}
	if _, err := os.Stat(filepath.Join(hubDir(s.home), "blobs", ".huggingface-shared-blobs")); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOraclePull(t *testing.T) {
	for name, fill := range sources(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fill(t)
			want := references(t, s)
			loads := 0
			for _, remote := range []testenv.Remote{testenv.FileRemote(t), server.Remote(t)} {
				t.Run(remote.Name, func(t *testing.T) {
					home := t.TempDir()
					remote.Sync(t, s.home, "push", "--yes")
					pullEverything(t, s, remote, home)
					loads += judge(t, s, home, want)
				})
			}
			proof.Row{
				Class: proof.Clients, Times: loads,
				Tried: "revision of a cache of " + name + ", pushed to a folder or an S3 server and pulled elsewhere, loaded by one of " + strconv.Itoa(len(want)) + " clients",
			}.Record(t)
		})
	}
}

// pullEverything pulls all refs, then the revisions that no ref names.
func pullEverything(t *testing.T, s *source, remote testenv.Remote, home string) {
	t.Helper()
	remote.Sync(t, home, "pull-all", "--all-refs")
	for _, f := range append(slices.Clip(s.fetches), s.partial) {
		if f.revision == f.commit.ID() {
			remote.Sync(t, home, "pull", f.repo, "-r", f.revision, "--repo-type", string(f.kind))
		}
	}
}

// judge fails the test unless the cache below home is what s.plain is. It
// returns how many times a client has loaded a revision.
func judge(t *testing.T, s *source, home string, want map[string]report) (loads int) {
	t.Helper()
	testenv.AuditCache(t, hubDir(home))
	if diff := cmp.Diff(trees(t, s.plain), trees(t, home)); diff != "" {
		t.Errorf("trees (-downloaded +pulled):\n%s", diff)
	}
	for _, reader := range readers(t) {
		got := inspect(t, s, home, reader)
		if diff := cmp.Diff(want[reader.Name], got); diff != "" {
			t.Errorf("%s sees (-downloaded +pulled):\n%s", reader.Name, diff)
		}
		checkFiles(t, s, reader, got)
		loads += len(s.fetches)
	}
	for _, reader := range readers(t) {
		checkOnline(t, s, home, reader)
	}
	return loads
}

// trees is the listings of whole commits in the cache below home.
func trees(t *testing.T, home string) map[string]any {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(hubDir(home), "*", "trees", "*"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for _, path := range paths {
		name, err := filepath.Rel(hubDir(home), path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err = json.Unmarshal(data, &v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		out[name] = v
	}
	return out
}

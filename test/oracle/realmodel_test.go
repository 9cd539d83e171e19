package oracle_test

import (
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestRealModel takes a real model all the way: from a Hub that redirects its
// weights to a CDN, through the bucket, to a machine without a network, where
// the libraries that use it read it.
func TestRealModel(t *testing.T) {
	t.Parallel()
	hub := fakehub.New()
	hubServer, cdn := httptest.NewServer(hub), httptest.NewServer(hub.CDNHandler())
	t.Cleanup(hubServer.Close)
	t.Cleanup(cdn.Close)
	hub.CDN = cdn.URL
	const id = "sentence-transformers/all-MiniLM-L6-v2"
	commit := hub.Repo(fakehub.Model, id).Commit("main", modelFiles(t)...)
	f := fetch{kind: fakehub.Model, repo: id, revision: "main", commit: commit}

	client := testenv.Python(t, "2.4.0")
	source, home := t.TempDir(), t.TempDir()
	if o := client.Run(t, source, hubServer.URL, f.step("download"))[0]; o.Error != "" {
		t.Fatal(o)
	}
	remote := server.Remote(t)
	remote.Sync(t, source, "push", "--yes")
	remote.Sync(t, home, "pull", id)
	testenv.AuditCache(t, hubDir(home))

	steps := []testenv.Step{
		f.step("offline"),
		{"do": "tensors", "repo": id, "path": "model.safetensors"},
		{"do": "encode", "repo": id, "path": "tokenizer.json", "text": "Hello, world of caches!"},
		{"do": "scan"},
	}
	downloaded, pulled := client.Run(t, source, "", steps...), client.Run(t, home, "", steps...)
	for i := range steps {
		if diff := cmp.Diff(canonical(t, downloaded[i]), canonical(t, pulled[i])); diff != "" {
			t.Errorf("%v (-downloaded +pulled):\n%s", steps[i], diff)
		}
	}
	var snapshot struct {
		Files map[string]string `json:"files"`
	}
	pulled[0].Decode(t, &snapshot)
	if diff := cmp.Diff(commit.Digests(), snapshot.Files); diff != "" {
		t.Errorf("files (-hub +cache):\n%s", diff)
	}
	var weights struct {
		Names []string `json:"names"`
		First struct {
			Shape  []int `json:"shape"`
			Finite bool  `json:"finite"`
		} `json:"first"`
	}
	pulled[1].Decode(t, &weights)
	if !slices.Contains(weights.Names, "embeddings.word_embeddings.weight") || !weights.First.Finite {
		t.Errorf("tensors: %+v", weights)
	}
	var text struct {
		Tokens []string `json:"tokens"`
	}
	pulled[2].Decode(t, &text)
	want := []string{"[CLS]", "hello", ",", "world", "of", "cache", "##s", "!", "[SEP]"}
	if diff := cmp.Diff(want, text.Tokens[:min(len(want), len(text.Tokens))]); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
	hub.Reset()
	client.Run(t, home, hubServer.URL, f.step("download"))
	if got := hub.Downloads(); len(got) > 0 {
		t.Errorf("downloaded again: %v", got)
	}
}

// modelFiles is the model that the package of test data holds: its weights as
// an LFS file, the rest in git.
func modelFiles(t *testing.T) []fakehub.File {
	t.Helper()
	var root string
	var files []fakehub.File
	err := filepath.WalkDir(testenv.Tool(t, "minilm"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "model.safetensors" {
			root = filepath.Dir(path)
		}
		return err
	})
	if err != nil || root == "" {
		t.Fatalf("no model.safetensors in the test data: %v", err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if name != "model.safetensors" {
			var data []byte
			data, err = os.ReadFile(path)
			files = append(files, fakehub.Git(name, data))
			return err
		}
		weights, err := os.Open(path)
		if err != nil {
			return err
		}
		t.Cleanup(func() {
			if closeErr := weights.Close(); closeErr != nil {
				t.Error(closeErr)
			}
		})
		info, err := weights.Stat()
		if err != nil {
			return err
		}
		f, err := fakehub.LFSFrom(name, weights, info.Size())
		files = append(files, f.WithXet())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

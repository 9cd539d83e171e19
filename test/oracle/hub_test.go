package oracle_test

import (
	"net/http/httptest"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// fetch is one thing that a writer downloads: a repository at a revision,
// whole or in part.
type fetch struct {
	kind     fakehub.Type
	repo     string
	revision string
	allow    []string // Glob patterns; nil is everything.
	commit   *fakehub.Commit
}

// step is the arguments that every step about a fetch has.
func (f fetch) step(do string) testenv.Step {
	s := testenv.Step{"do": do, "repo": f.repo, "type": f.kind, "revision": f.revision}
	if f.allow != nil {
		s["allow"] = f.allow
	}
	return s
}

func (f fetch) name() string { return string(f.kind) + " " + f.repo + "@" + f.revision }

// world is a Hub that has one of everything, and what there is to fetch.
type world struct {
	hub *fakehub.Server
	url string
	// whole is fetched by every writer, odd by those that escape addresses.
	whole, odd []fetch
	// partial is fetched in part.
	partial fetch
	// missing is a file that no commit of its repository has.
	missing fetch
}

// missingFile is asked for where it does not exist, so that clients remember
// that it does not.
const missingFile = "adapter_config.json"

// modelID is the id of a model and of a dataset.
const modelID = "acme/tiny-model"

// newWorld serves a new Hub. Its contents, commit ids included, are the same
// every time, so that what one writer downloaded from one Hub can be compared
// with, and completed from, another.
func newWorld(t *testing.T) *world {
	t.Helper()
	hub := fakehub.New()
	hub.PageSize = 4 // So that clients have to follow the pages.
	w := &world{hub: hub}
	w.addModel(t)
	weights := noise(t, "data/part-0.parquet", 1, 300_000).WithXet()

	data := hub.Repo(fakehub.Dataset, modelID)
	w.add(data, "main", data.Commit("main",
		fakehub.Git("README.md", []byte("a dataset of the same id as a model\n")),
		weights, // The bytes of the model's weights.
		noise(t, "data/part-1.parquet", 2, 70_000),
	))
	space := hub.Repo(fakehub.Space, "acme/tiny-space")
	w.add(space, "main", space.Commit("main", fakehub.Git("app.py", []byte("print()\n"))))
	legacy := hub.Repo(fakehub.Model, "tiny-legacy")
	w.add(legacy, "main", legacy.Commit("main",
		fakehub.Git("config.json", []byte(`{"legacy":true}`)), noise(t, "model.bin", 3, 40_000)))
	// Its folder name and its key in the bucket are near to the first model's.
	near := hub.Repo(fakehub.Model, "acme__tiny-model")
	w.add(near, "main", near.Commit("main", fakehub.Git("config.json", []byte(`{"near":true}`))))

	half := hub.Repo(fakehub.Model, "acme/half")
	w.partial = fetch{fakehub.Model, "acme/half", "main", []string{"*.json"}, half.Commit("main",
		fakehub.Git("config.json", []byte(`{"half":true}`)),
		fakehub.Git("sub/tokenizer.json", []byte(`{"half":2}`)),
		noise(t, "model.safetensors", 4, 50_000).WithXet())}

	odd := hub.Repo(fakehub.Model, "Acme.Corp/odd-names_v1.0")
	w.odd = []fetch{{fakehub.Model, odd.ID(), "main", nil, odd.Commit("main",
		fakehub.Git("100% sure?.txt", []byte("1")),
		fakehub.Git("#hash&amp;=+.txt", []byte("2")),
		fakehub.Git(`quote'".txt`, []byte("3")),
		fakehub.Git("-dash", []byte("4")),
		fakehub.Git("~tilde/$HOME/{a,b}/*.txt", []byte("5")),
		fakehub.Git(".hidden/.gitattributes", []byte("6")),
		fakehub.Git("a%2Fb", []byte("7")),
		fakehub.Git("x.incomplete", []byte("8")),
		fakehub.Git("refs/main", []byte("9")),
		fakehub.Git("blobs/deadbeef.lock", []byte("10")),
	)}}
	server := httptest.NewServer(hub)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// addModel adds the model with every kind of ref, and of file.
func (w *world) addModel(t *testing.T) {
	t.Helper()
	model := w.hub.Repo(fakehub.Model, modelID)
	first := model.Commit("main",
		fakehub.Git("README.md", []byte("# tiny\n")),
		fakehub.Git("config.json", []byte(`{"layers":1}`)),
		fakehub.Git("empty.txt", nil),
		fakehub.Git("sub dir/deeper/a file.txt", []byte("nested\n")),
		fakehub.Git("ünï/日本語.txt", []byte("unicode\n")),
		noise(t, "model.safetensors", 1, 300_000).WithXet(),
		noise(t, "copy/of model.safetensors", 1, 300_000).WithXet(),
		noise(t, "onnx/model.onnx", 5, 20_000),
	)
	// It differs in two files; all other blobs are shared.
	detached := model.Commit("main", fakehub.Git("README.md", []byte("# tiny, better\n")))
	head := model.Commit("main", noise(t, "onnx/model.onnx", 6, 20_000), fakehub.Delete("empty.txt"))
	model.Tag("v1.0", first)
	model.Branch("feat/x", first)
	feature := model.Commit("feat/x", fakehub.Git("feature.txt", []byte("x")))
	model.Branch("refs/pr/1", head)
	pull := model.Commit("refs/pr/1", fakehub.Git("config.json", []byte(`{"layers":2}`)))
	w.add(model, "main", head)
	w.add(model, "v1.0", first)
	w.add(model, "feat/x", feature)
	w.add(model, "refs/pr/1", pull)
	w.add(model, detached.ID(), detached) // No ref names this one.
	w.missing = w.whole[0]
}

func (w *world) add(r *fakehub.Repo, revision string, c *fakehub.Commit) {
	w.whole = append(w.whole, fetch{r.Type(), r.ID(), revision, nil, c})
}

// noise is a large file of made-up bytes.
func noise(t *testing.T, path string, seed uint64, size int64) fakehub.File {
	t.Helper()
	f, err := fakehub.LFSFrom(path, fakehub.Noise(seed, size), size)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Package compat_test shows that hf-cache-sync and its Python namesake, version
// 0.1.0, can share a bucket, so that a team can move from one to the other
// machine by machine.
package compat_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// fetch is a repository at a revision.
type fetch struct {
	kind     fakehub.Type
	repo     string
	revision string
	commit   *fakehub.Commit
}

func (f fetch) step(do string) testenv.Step {
	return testenv.Step{"do": do, "repo": f.repo, "type": f.kind, "revision": f.revision}
}

// rig is a Hub, a client that downloads from it, and a bucket that both tools
// use.
type rig struct {
	client testenv.Client
	url    string
	bucket string
	ours   testenv.Remote
	// Models at main, which is all that 0.1.0 pulls by name.
	tiny, legacy fetch
	// The model at other refs, and a dataset: 0.1.0 pushes those too.
	others []fetch
	// Datasets that 0.1.0 cannot handle well, and that are in none of the
	// above: one with the model's id, one without a small file.
	sameID, weightsOnly fetch
	checked             int // How many revisions were loaded.
}

func newRig(t *testing.T) *rig {
	t.Helper()
	hub := fakehub.New()
	model := hub.Repo(fakehub.Model, "acme/tiny")
	first := model.Commit("main",
		fakehub.Git("README.md", []byte("# tiny\n")), fakehub.Git("config.json", []byte("{}")),
		fakehub.Git("sub dir/ünï.txt", []byte("u")), fakehub.Git("empty", nil),
		weights(t, "model.safetensors", 1), weights(t, "onnx/model.onnx", 2))
	model.Tag("v1.0", first)
	head := model.Commit("main", fakehub.Git("README.md", []byte("# tiny, better\n")), weights(t, "onnx/model.onnx", 3))
	model.Branch("refs/pr/1", head)
	pull := model.Commit("refs/pr/1", fakehub.Git("pr.txt", []byte("1")))
	legacy := hub.Repo(fakehub.Model, "tiny-legacy").Commit("main", weights(t, "pytorch_model.bin", 4))
	data := hub.Repo(fakehub.Dataset, "acme/data").Commit("main",
		fakehub.Git("README.md", []byte("# data\n")), weights(t, "data.parquet", 1))
	same := hub.Repo(fakehub.Dataset, "acme/tiny").Commit("main", fakehub.Git("data.csv", []byte("1,2\n")))
	alone := hub.Repo(fakehub.Dataset, "acme/weights").Commit("main", weights(t, "data.parquet", 5))
	web := httptest.NewServer(hub)
	t.Cleanup(web.Close)
	bucket := server.Bucket(t)
	r := &rig{
		client: testenv.Python(t, "2.4.0"), url: web.URL, bucket: bucket,
		ours:   testenv.Remote{Name: "s3", URL: "s3://" + bucket, Env: server.Env()},
		tiny:   fetch{fakehub.Model, "acme/tiny", "main", head},
		legacy: fetch{fakehub.Model, "tiny-legacy", "main", legacy},
		sameID: fetch{fakehub.Dataset, "acme/tiny", "main", same}, weightsOnly: fetch{fakehub.Dataset, "acme/weights", "main", alone},
		others: []fetch{
			{fakehub.Model, "acme/tiny", "v1.0", first},
			{fakehub.Model, "acme/tiny", "refs/pr/1", pull},
			{fakehub.Dataset, "acme/data", "main", data},
		},
	}
	t.Cleanup(func() {
		if r.checked > 0 {
			proof.Row{
				Class: proof.Clients, Times: r.checked, Tried: "revision loaded by huggingface_hub 2.4.0 after the Python tool 0.1.0 and ours had used one bucket in turns",
			}.Record(t)
		}
	})
	return r
}

func weights(t *testing.T, path string, seed uint64) fakehub.File {
	t.Helper()
	const size = 200_000
	f, err := fakehub.LFSFrom(path, fakehub.Noise(seed, size), size)
	if err != nil {
		t.Fatal(err)
	}
	return f.WithXet()
}

func (r *rig) models() []fetch { return []fetch{r.tiny, r.legacy} }
func (r *rig) all() []fetch    { return append(r.models(), r.others...) }

// download fills a new cache with what is asked for.
func (r *rig) download(t *testing.T, fetches ...fetch) (home string) {
	t.Helper()
	home = t.TempDir()
	var steps []testenv.Step
	for _, f := range fetches {
		steps = append(steps, f.step("download"))
	}
	for i, o := range r.client.Run(t, home, r.url, steps...) {
		if o.Error != "" {
			t.Fatalf("%v: %s", steps[i], o)
		}
	}
	return home
}

// downloadPart fills a new cache with the small files of the model.
func (r *rig) downloadPart(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	step := r.tiny.step("download")
	step["allow"] = []string{"*.json", "*.md"}
	if o := r.client.Run(t, home, r.url, step)[0]; o.Error != "" {
		t.Fatal(o)
	}
	return home
}

// python runs 0.1.0 on the cache below home and fails the test unless it ends
// well.
func (r *rig) python(t *testing.T, home string, args ...string) {
	t.Helper()
	runPython(t, t.TempDir(), home, append(server.Env(), "B2_BUCKET="+r.bucket), args...)
}

func runPython(t *testing.T, dir, home string, env []string, args ...string) {
	t.Helper()
	p := testenv.Program{
		Args: []string{testenv.Tool(t, "venv/py-hf-cache-sync/bin/hf-cache-sync")},
		Env:  append(env, "HF_HUB_CACHE="+filepath.Join(home, "hub"), "COLUMNS=200"),
		Dir:  dir,
	}
	result := p.Run(t, nil, args...)
	if result.Code != 0 {
		t.Fatalf("hf-cache-sync 0.1.0 %q: %s", args, result)
	}
}

// check fails the test unless the fetches are in the cache below home, byte
// for byte, and a client reads them there without a network and without
// complaints.
func (r *rig) check(t *testing.T, home string, fetches ...fetch) {
	t.Helper()
	steps := []testenv.Step{{"do": "scan"}}
	for _, f := range fetches {
		steps = append(steps, f.step("offline"))
	}
	outcomes := r.client.Run(t, home, "", steps...)
	var scan struct {
		Warnings []string `json:"warnings"`
	}
	outcomes[0].Decode(t, &scan)
	if len(scan.Warnings) > 0 {
		t.Errorf("scan: %v", scan.Warnings)
	}
	for i, f := range fetches {
		if outcomes[i+1].Error != "" {
			t.Errorf("%s@%s: %s", f.repo, f.revision, outcomes[i+1])
			continue
		}
		var got struct {
			Commit string            `json:"commit"`
			Files  map[string]string `json:"files"`
		}
		outcomes[i+1].Decode(t, &got)
		r.checked++
		if got.Commit != f.commit.ID() {
			t.Errorf("%s@%s is %s, want %s", f.repo, f.revision, got.Commit, f.commit.ID())
		}
		if diff := cmp.Diff(f.commit.Digests(), got.Files); diff != "" {
			t.Errorf("%s@%s: files (-hub +cache):\n%s", f.repo, f.revision, diff)
		}
	}
}

// pullOurs pulls everything with our binary into a new cache, audited.
func (r *rig) pullOurs(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	r.ours.Sync(t, home, "pull-all", "--all-refs")
	testenv.AuditCache(t, filepath.Join(home, "hub"))
	return home
}

// pullPython pulls the models with 0.1.0 into a new cache.
func (r *rig) pullPython(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	for _, f := range r.models() {
		r.python(t, home, "pull", f.repo)
	}
	return home
}

// trees counts the listings of whole commits in the cache below home.
func trees(t *testing.T, home string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(home, "hub", "*", "trees", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func TestCompatPythonPushes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.python(t, r.download(t, r.all()...), "push")
	r.check(t, r.pullOurs(t), r.all()...)

	// By name too, in the ways that 0.1.0 does not know.
	home := t.TempDir()
	r.ours.Sync(t, home, "pull", "acme/tiny")
	r.ours.Sync(t, home, "pull", "acme/tiny", "-r", "v1.0")
	r.ours.Sync(t, home, "pull", "acme/tiny", "-r", r.others[1].commit.ID())
	r.ours.Sync(t, home, "pull", "datasets/acme/data")
	byCommit := r.others[1]
	byCommit.revision = byCommit.commit.ID()
	r.check(t, home, r.tiny, r.others[0], byCommit, r.others[2])
	missing := r.ours.TrySync(t, home, "pull", "acme/data")
	if missing.Code == 0 {
		t.Errorf("a dataset was pulled as a model: %s", missing)
	}
}

func TestCompatPythonPulls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ours.Sync(t, r.download(t, r.all()...), "push", "--yes")
	r.check(t, r.pullPython(t), r.models()...)

	home := t.TempDir()
	r.python(t, home, "pull", "acme/tiny", "--revision", r.others[0].commit.ID())
	byCommit := r.others[0]
	byCommit.revision = byCommit.commit.ID()
	r.check(t, home, byCommit)

	home = t.TempDir()
	r.python(t, home, "pull-all")
	r.check(t, home, r.models()...)
}

func TestCompatBothPush(t *testing.T) {
	t.Parallel()
	python := func(t *testing.T, r *rig, home string) { t.Helper(); r.python(t, home, "push") }
	ours := func(t *testing.T, r *rig, home string) { t.Helper(); r.ours.Sync(t, home, "push", "--yes") }
	tests := []struct {
		name  string
		push  []func(*testing.T, *rig, string)
		trees bool // Our last word is in the bucket.
	}{
		{"python then ours", []func(*testing.T, *rig, string){python, ours}, true},
		{"ours then python", []func(*testing.T, *rig, string){ours, python}, false},
		{"ours then python then ours", []func(*testing.T, *rig, string){ours, python, ours}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			source := r.download(t, r.all()...)
			for _, push := range tt.push {
				push(t, r, source)
			}
			home := r.pullOurs(t)
			r.check(t, home, r.all()...)
			if tt.trees && trees(t, home) != trees(t, source) {
				t.Errorf("%d listings were pulled of %d", trees(t, home), trees(t, source))
			}
			r.check(t, r.pullPython(t), r.models()...)
		})
	}
}

// TestCompatPartOverwritesWhole has a machine that still runs 0.1.0 replace a
// whole manifest by a part of it, which it does without looking. The next push
// from a machine with everything mends it.
func TestCompatPartOverwritesWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	whole := r.download(t, r.tiny)
	r.ours.Sync(t, whole, "push", "--yes")
	r.python(t, r.downloadPart(t), "push")
	if n := strings.Count(string(manifest(t, r)), `"path"`); n != 2 {
		t.Fatalf("0.1.0 left a manifest of %d files", n)
	}
	r.ours.Sync(t, whole, "push", "--yes")
	r.check(t, r.pullOurs(t), r.tiny)

	// The other way round: ours holds less, and takes nothing away.
	r.ours.Sync(t, r.downloadPart(t), "push", "--yes")
	r.check(t, r.pullOurs(t), r.tiny)
}

// TestCompatSharedStore has 0.1.0 push a cache with a shared blob store, whose
// files it leaves out, and ours make the revision whole.
func TestCompatSharedStore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	source := r.download(t, r.all()...)
	var moved []string
	r.client.Run(t, source, "", testenv.Step{"do": "share"})[0].Decode(t, &moved)
	if len(moved) == 0 {
		t.Fatal("nothing is in the shared store")
	}
	r.python(t, source, "push")
	if strings.Contains(string(manifest(t, r)), "model.safetensors") {
		t.Fatal("0.1.0 did not leave the weights out")
	}
	r.ours.Sync(t, source, "push", "--yes")
	r.check(t, r.pullOurs(t), r.all()...)
	r.check(t, r.pullPython(t), r.models()...)
}

// manifest is what the bucket holds about the model's main.
func manifest(t *testing.T, r *rig) []byte {
	t.Helper()
	name := fmt.Sprintf("acme__tiny@%s.json", r.tiny.commit.ID())
	data, err := os.ReadFile(filepath.Join(server.Path(r.bucket), "manifests", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestCompatPrefix has both tools use a part of the bucket: 0.1.0 by its config
// file, in which the prefix may have slashes around it.
func TestCompatPrefix(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ours.URL += "/teams/ml"
	dir := t.TempDir()
	config := fmt.Sprintf("storage:\n  bucket: %s\nteam:\n  prefix: /teams/ml/\n", r.bucket)
	if err := os.WriteFile(filepath.Join(dir, ".hf-cache-sync.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	r.ours.Sync(t, r.download(t, r.tiny), "push", "--yes")
	runPython(t, dir, r.download(t, r.legacy), server.Env(), "push")
	found, err := filepath.Glob(filepath.Join(server.Path(r.bucket), "teams", "ml", "manifests", "*"))
	if err != nil || len(found) != 2 {
		t.Errorf("manifests below the prefix: %v, %v", found, err)
	}
	home := t.TempDir()
	r.ours.Sync(t, home, "pull", r.legacy.repo)
	runPython(t, dir, home, server.Env(), "pull", r.tiny.repo)
	r.check(t, home, r.models()...)
}

// TestCompatConfig has both tools live from one configuration file, which says
// all: where the bucket is, the keys, the prefix and the cache. They take turns
// on it in both orders.
func TestCompatConfig(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	env := map[string]string{}
	for _, variable := range server.Env() {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	write := func(home string) (dir string) {
		dir = t.TempDir()
		config := fmt.Sprintf(`storage:
  endpoint: %s
  bucket: %s
  region: %s
  access_key: %q
  secret_key: %q
cache:
  max_local_gb: 1.5
  sync_xet: false
  hf_cache_dir: %s
team:
  prefix: /teams/ml/
  allow_gated: true
`, env["B2_ENDPOINT"], r.bucket, env["B2_REGION"], env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], filepath.Join(home, "hub"))
		if err := os.WriteFile(filepath.Join(dir, ".hf-cache-sync.yaml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	run := func(home string, p testenv.Program, args ...string) {
		t.Helper()
		p.Dir = write(home)
		if result := p.Run(t, nil, args...); result.Code != 0 {
			t.Fatalf("%q: %s", args, result)
		}
	}
	theirs := testenv.Program{Args: []string{testenv.Tool(t, "venv/py-hf-cache-sync/bin/hf-cache-sync")}, Env: []string{"COLUMNS=200"}}
	run(r.download(t, r.tiny), testenv.Binary(t), "push", "--yes")
	run(r.download(t, r.legacy), theirs, "push")
	for _, p := range []testenv.Program{testenv.Binary(t), theirs} {
		home := t.TempDir()
		for _, f := range r.models() {
			run(home, p, "pull", f.repo)
		}
		r.check(t, home, r.models()...)
	}
}

// TestCompatSameID has a dataset with the id of the model, for which 0.1.0 has
// one ref between them.
func TestCompatSameID(t *testing.T) {
	t.Parallel()
	for _, pythonFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("python first %t", pythonFirst), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			source := r.download(t, r.tiny, r.sameID)
			if pythonFirst {
				r.python(t, source, "push")
			}
			r.ours.Sync(t, source, "push", "--yes")
			if !pythonFirst {
				r.python(t, source, "push")
			}
			r.check(t, r.pullOurs(t), r.tiny, r.sameID)
			home := t.TempDir()
			r.python(t, home, "pull", r.tiny.repo)
			r.check(t, home, r.tiny)
		})
	}
}

// TestCompatRefWithoutManifest has 0.1.0 push a ref and no manifest, as it does
// for a repository all of whose files are in a shared blob store. Until someone
// mends it, pull-all brings the rest and says what it could not bring; once
// ours has pushed the repository, nothing is amiss.
func TestCompatRefWithoutManifest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	source := r.download(t, r.tiny, r.weightsOnly)
	r.client.Run(t, source, "", testenv.Step{"do": "share"})
	r.python(t, source, "push")
	home := t.TempDir()
	result := r.ours.TrySync(t, home, "pull-all")
	if result.Code != 3 || !strings.Contains(result.Stderr, "acme__weights") {
		t.Errorf("pull-all of a ref without its manifest: %s", result)
	}
	r.ours.Sync(t, source, "push", "--yes")
	r.check(t, r.pullOurs(t), r.tiny, r.weightsOnly)
}

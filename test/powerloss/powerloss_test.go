//go:build linux && (amd64 || arm64)

package powerloss_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/powerloss"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

func TestMain(m *testing.M) {
	powerloss.Launch()
	os.Exit(m.Run())
}

// model has two blobs that are moved in parts and some that are moved in groups.
func model() testenv.Revision {
	r := testenv.Revision{Repo: "org/name", Commit: testenv.Commit("powerloss"), Refs: []string{"main", "v1.0"}}
	for i := range 2 {
		r.Files = append(r.Files, testenv.Content{
			Path: fmt.Sprintf("model-%05d.safetensors", i), Data: testenv.Noise(uint64(i), 17<<20+i), LFS: true,
		})
	}
	for i := range 16 {
		r.Files = append(r.Files, testenv.Content{
			Path: fmt.Sprintf("parts/%d/%03d.json", i%3, i), Data: testenv.Noise(uint64(1000+i), 1500*i), LFS: i%4 == 0,
		})
	}
	return r
}

// scenario is a command that loses power.
type scenario struct {
	name    string
	tried   string // for the proof
	prepare func(t *testing.T, w *world)
	args    []string
	env     []string
	// killed is a kill after which the command is recorded a second time.
	killed func(*powerloss.Disk) bool
	// right looks at the world after a run that came to its end.
	right func(t *testing.T, w *world)
	// audit looks at the world after a power loss.
	audit func(t *testing.T, w *world)
	// kept are the folders in which everything has to be durable at the end.
	kept []string
}

// world is all that the command may change.
type world struct {
	dir      string
	revision testenv.Revision
}

func (w *world) cache() string  { return filepath.Join(w.dir, "hub") }
func (w *world) work() string   { return filepath.Join(w.dir, "work") }
func (w *world) bucket() string { return filepath.Join(w.dir, "bucket", "deep") }

// auditor is one without a memory: two disks may differ in nothing that it knows
// a file by.
func (w *world) auditor() *testenv.Auditor { return &testenv.Auditor{} }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: filepath.Join(t.TempDir(), "world"), revision: model()}
	for _, dir := range []string{"home", "work", "hub", "bucket"} {
		testenv.Mkdir(t, filepath.Join(w.dir, dir))
	}
	return w
}

func (w *world) env() []string {
	return []string{
		"HOME=" + filepath.Join(w.dir, "home"), "HF_CACHE_SYNC_CACHE_DIR=" + w.cache(), "HF_CACHE_SYNC_REMOTE=file://" + filepath.ToSlash(w.bucket()),
	}
}

// age makes everything old enough for a prune.
func (w *world) age(t *testing.T) {
	t.Helper()
	then := time.Now().Add(-30 * 24 * time.Hour)
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSymlink == 0 {
			err = os.Chtimes(path, then, then)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refs says whether the cache has refs of the repository.
func (w *world) refs(t *testing.T) bool {
	t.Helper()
	refs, err := os.ReadDir(filepath.Join(w.cache(), w.revision.Folder(), "refs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return len(refs) > 0
}

// blobs audits the blobs of the cache, and what its refs lead to.
func (w *world) blobs(t *testing.T) {
	t.Helper()
	w.blobsBut(t, "", nil)
	if w.refs(t) {
		r := w.revision
		r.Refs = nil // Which of them are there is chance.
		r.Compare(t, w.cache())
	}
}

// blobsBut audits the blobs of the cache, but one that may hold something wrong.
func (w *world) blobsBut(t *testing.T, id string, wrong []byte) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.cache(), "*", "blobs", "[0-9a-f]*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		name := filepath.Base(path)
		got := testenv.GitSHA1(data)
		if len(name) > len(got) {
			got = testenv.SHA256(data)
		}
		if err != nil || got != name && (name != id || string(data) != string(wrong)) {
			t.Errorf("%s holds %s, %v", path, got, err)
		}
	}
}

// pulled is right if the cache has it all.
func pulled(t *testing.T, w *world) {
	t.Helper()
	w.auditor().Cache(t, w.cache())
	w.revision.Compare(t, w.cache())
}

// pushed is right if the bucket has it all.
func pushed(t *testing.T, w *world) {
	t.Helper()
	w.auditor().Bucket(t, w.bucket())
	if diff := cmp.Diff(testenv.ObjectKeys(w.revision), testenv.Keys(t, w.bucket())); diff != "" {
		t.Errorf("the objects in the bucket (-want +got):\n%s", diff)
	}
}

// auditBucket is for a bucket that may not be there yet.
func auditBucket(t *testing.T, w *world) {
	t.Helper()
	if _, err := os.Stat(w.bucket()); err == nil {
		w.auditor().Bucket(t, w.bucket())
	}
}

func inBucket(t *testing.T, w *world) {
	t.Helper()
	w.revision.WriteBucket(t, w.bucket())
}

func inCache(t *testing.T, w *world) {
	t.Helper()
	w.revision.WriteCache(t, w.cache())
}

func scenarios(t *testing.T) []scenario {
	t.Helper()
	pull := scenario{
		name: "pull", tried: "power lost during `pull`", prepare: inBucket, args: []string{"pull", "org/name"},
		right: pulled, audit: auditCache,
	}
	push := scenario{
		name: "push", tried: "power lost during `push` to a folder", prepare: inCache, args: []string{"push", "--create"},
		right: pushed, audit: auditBucket, kept: []string{"bucket"},
	}
	resumedPull, resumedPush, watch := pull, push, push
	resumedPull.name, resumedPull.tried = "pull-resumed", "power lost during a `pull` that goes on where a killed one was"
	resumedPull.killed = func(d *powerloss.Disk) bool { return d.Wrote(".parts", 2) }
	resumedPush.name, resumedPush.tried = "push-resumed", "power lost during a `push` to a folder that goes on where a killed one was"
	resumedPush.killed = func(d *powerloss.Disk) bool { return d.Wrote(".part", 1) }
	watch.name, watch.tried, watch.args = "watch", "power lost during `watch --once` to a folder", []string{"watch", "--once", "--create"}
	return []scenario{pull, resumedPull, push, resumedPush, watch, fallback(t), prune(), verify(), initialise(), reuse()}
}

func auditCache(t *testing.T, w *world) { t.Helper(); w.blobs(t) }

// fallback pulls from a Hub, by way of an empty bucket.
func fallback(t *testing.T) scenario {
	t.Helper()
	hub := fakehub.New()
	server := httptest.NewServer(hub)
	t.Cleanup(server.Close)
	r := model()
	var files []fakehub.File
	for _, f := range r.Files {
		if f.LFS {
			files = append(files, fakehub.LFS(f.Path, f.Data))
		} else {
			files = append(files, fakehub.Git(f.Path, f.Data))
		}
	}
	r.Commit, r.Refs = hub.Repo(fakehub.Model, r.Repo).Commit("main", files...).ID(), []string{"main"}
	return scenario{
		name: "pull-fallback", tried: "power lost during `pull --fallback hf-hub`",
		prepare: func(t *testing.T, w *world) {
			t.Helper()
			w.revision = r
			testenv.Mkdir(t, w.bucket())
		},
		args: []string{"pull", "org/name", "--fallback", "hf-hub"}, env: []string{"HF_ENDPOINT=" + server.URL},
		right: pulled,
		audit: func(t *testing.T, w *world) {
			t.Helper()
			w.blobs(t)
			auditBucket(t, w)
		},
	}
}

// prune evicts a revision that the bucket has.
func prune() scenario {
	return scenario{
		name: "prune", tried: "power lost during `prune --evict-active`",
		prepare: func(t *testing.T, w *world) {
			t.Helper()
			inCache(t, w)
			inBucket(t, w)
			w.age(t)
		},
		args: []string{"prune", "--max-size", "0", "--evict-active"},
		right: func(t *testing.T, w *world) {
			t.Helper()
			w.auditor().Cache(t, w.cache())
			left, err := filepath.Glob(filepath.Join(w.cache(), "models--*", "*", "*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left: %q, %v", left, err)
			}
		},
		audit: auditCache,
	}
}

// verify repairs a blob that is damaged.
func verify() scenario {
	id := model().Files[1].ID()
	wrong := testenv.Noise(99, len(model().Files[1].Data))
	return scenario{
		name: "verify-repair", tried: "power lost during `verify --repair`",
		prepare: func(t *testing.T, w *world) {
			t.Helper()
			inCache(t, w)
			inBucket(t, w)
			testenv.WriteFile(t, filepath.Join(w.cache(), w.revision.Folder(), "blobs", id), wrong)
		},
		args:  []string{"verify", "--repair"},
		right: func(t *testing.T, w *world) { t.Helper(); w.revision.Compare(t, w.cache()); w.blobsBut(t, "", nil) },
		audit: func(t *testing.T, w *world) { t.Helper(); w.blobsBut(t, id, wrong) },
	}
}

// initialise writes a configuration. It is right if there is one that is read.
func initialise() scenario {
	return scenario{
		name: "init", tried: "power lost during `init`", prepare: inBucket, args: []string{"init", "--provider", "file", "--folder", "../bucket/deep"},
		right: func(t *testing.T, w *world) {
			t.Helper()
			if result := w.binary(t).Run(t, nil, "list", "--remote"); result.Code != 0 {
				t.Errorf("the configuration is of no use: %s", result)
			}
		},
		audit: func(t *testing.T, w *world) {
			t.Helper()
			if data, err := os.ReadFile(filepath.Join(w.work(), ".hf-cache-sync.yaml")); err == nil && !strings.Contains(string(data), "storage:") {
				t.Errorf("the configuration is damaged: %.60q", data)
			}
		},
	}
}

// reuse pulls a repository whose blobs another one of the cache has.
func reuse() scenario {
	return scenario{
		name: "pull-reuse", tried: "power lost during a `pull` of blobs that another repository of the cache has",
		prepare: func(t *testing.T, w *world) {
			t.Helper()
			inBucket(t, w)
			other := w.revision
			other.Repo = "org/other"
			other.WriteCache(t, w.cache())
		},
		args: []string{"pull", "org/name"}, right: pulled, audit: auditCache,
	}
}

func (w *world) binary(t *testing.T) testenv.Program {
	t.Helper()
	p := testenv.Binary(t)
	p.Dir = w.work()
	return p.With(w.env()[:2]...)
}

// run runs the command in peace.
func (s *scenario) run(t *testing.T, w *world) testenv.Result {
	t.Helper()
	p := testenv.Binary(t, append(w.env(), s.env...)...)
	if s.name == "init" {
		p.Env = w.env()[:2]
	}
	p.Dir = w.work()
	return p.Run(t, nil, s.args...)
}

// record runs the command under the eyes of the recorder.
func (s *scenario) record(t *testing.T, w *world, d *powerloss.Disk, kill func(*powerloss.Disk) bool) (int, string) {
	t.Helper()
	output, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close() //nolint:errcheck // It is read for messages alone.
	env := append(w.env(), s.env...)
	if s.name == "init" {
		env = w.env()[:2]
	}
	code, err := d.Record(append(testenv.Binary(t).Args, s.args...), append(env, "PATH="+os.Getenv("PATH")), output, output, kill)
	text, readErr := os.ReadFile(output.Name())
	if err = errors.Join(err, readErr); err != nil {
		t.Fatalf("recording %q: %v\n%s", s.args, err, text)
	}
	return code, string(text)
}

// TestPowerLoss records commands and takes the power away from them.
func TestPowerLoss(t *testing.T) {
	order := proof.Row{Class: proof.Crashes, Tried: "the order in which files were written, synced and named, held against what a power loss may undo"}
	var names, refs, removed int
	var mu sync.Mutex // guards what is summed up
	t.Run("of", func(t *testing.T) {
		for _, s := range scenarios(t) {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel() // Most of the time the disk is waited for.
				checked := s.test(t)
				mu.Lock()
				defer mu.Unlock()
				names, refs, removed = names+checked.Renames, refs+checked.Refs, removed+checked.Removed
				order.Lost += len(checked.Wrong)
			})
		}
	})
	order.Times = names + removed
	order.Figures = fmt.Sprintf("%d files given their final names, %d of them refs and manifests, and %d blobs removed", names, refs, removed)
	order.Record(t)
}

func (s *scenario) test(t *testing.T) powerloss.Checked {
	t.Helper()
	w := newWorld(t)
	s.prepare(t, w)
	d, err := powerloss.NewDisk(w.dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if s.killed != nil {
		if code, output := s.record(t, w, d, s.killed); code != -1 {
			t.Fatalf("it was to be killed, and ended with %d:\n%s", code, output)
		}
	}
	if code, output := s.record(t, w, d, nil); code != 0 {
		t.Fatalf("under the recorder it ended with %d:\n%s", code, output)
	}
	s.right(t, w)

	checked := d.Check()
	for _, dir := range s.kept {
		for _, lost := range d.Volatile(dir) {
			checked.Wrong = append(checked.Wrong, fmt.Sprintf("%s was not durable at the end, though the command said that it was done", lost))
		}
	}
	for i, wrong := range checked.Wrong {
		if i == 10 {
			t.Errorf("... and %d more", len(checked.Wrong)-i)
			break
		}
		t.Error(wrong)
	}
	if checked.Renames == 0 && checked.Removed == 0 {
		t.Error("the record has nothing to check")
	}
	after := w.dir + ".after"
	if err = os.Rename(w.dir, after); err != nil {
		t.Fatal(err)
	}
	states, lost := s.states(d), 0
	for _, state := range states {
		if !s.survives(t, w, d, state, after) {
			lost++
		}
		if lost == 3 {
			break // More of the same.
		}
	}
	proof.Row{
		Class: proof.Crashes, Tried: s.tried + ", each time on a disk built from the record", Times: len(states), Lost: lost,
		Figures: fmt.Sprintf("at %d of %d moments", moments(states), len(d.Moments())),
	}.Record(t)
	return checked
}

// moments is at how many different moments the states are.
func moments(states []powerloss.State) int {
	set := map[int]bool{}
	for _, s := range states {
		set[s.At] = true
	}
	return len(set)
}

// states are the disks to build: some of all moments with some of all kinds of
// loss, or all moments with each kind in turn.
func (s *scenario) states(d *powerloss.Disk) []powerloss.State {
	all := d.States()
	random := rand.New(rand.NewPCG(17, 3))
	var some []powerloss.State
	n := proof.Times(min(8, len(all)), len(all))
	for i := range n {
		lo, hi := i*len(all)/n, (i+1)*len(all)/n
		some = append(some, all[lo+random.IntN(hi-lo)])
	}
	return some
}

// survives builds the disk, audits it, and runs the command on it.
func (s *scenario) survives(t *testing.T, w *world, d *powerloss.Disk, state powerloss.State, after string) bool {
	t.Helper()
	return t.Run(fmt.Sprint(state.At, "/", state.Keep, "/", state.Damage), func(t *testing.T) {
		if err := os.RemoveAll(w.dir); err != nil {
			t.Fatal(err)
		}
		if err := d.Rebuild(state, w.dir, after); err != nil {
			t.Fatal(err)
		}
		s.audit(t, w)
		result := s.run(t, w)
		again := s.name == "init" && result.Code == 2 && strings.Contains(result.Stderr, "exists")
		if result.Code != 0 && !again {
			t.Errorf("%s: the next run: %s", state, result)
		}
		s.right(t, w)
		if t.Failed() {
			t.Logf("%s", state)
		}
	})
}

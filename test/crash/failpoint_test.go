package crash_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// The sizes of the parts in which the large blob is moved.
const (
	uploadPart   = 16 << 20
	downloadPart = 8 << 20
)

// world is what a command works on, made anew for each time that it is killed.
type world struct {
	home   string
	bucket bucket
	env    []string
}

func (w world) cache() string { return filepath.Join(w.home, "hub") }

// scene is a command and what has to be true when it is done.
type scene struct {
	name  string
	args  []string
	args2 []string // Of the run after the kill, if they are others.
	set   func(t *testing.T, kind string) world
	done  func(t *testing.T, w world)
	// Where it is done with a part of the large blob, and where the next run moves
	// one, if that is counted.
	part, moves string
}

// small is what the scenes move: one blob in several parts, one of a part, and
// some small ones.
func small() testenv.Revision {
	r := testenv.Revision{Repo: "org/name", Commit: testenv.Commit("failpoint"), Refs: []string{"main", "v1.0"}, Files: []testenv.Content{
		{Path: "model.safetensors", Data: testenv.Noise(1, 40<<20), LFS: true},
		{Path: "adapter.safetensors", Data: testenv.Noise(2, 3<<20), LFS: true},
	}}
	for i := range 6 {
		r.Files = append(r.Files, testenv.Content{Path: fmt.Sprintf("parts/%d.json", i), Data: testenv.Noise(uint64(10+i), 900*(i+1))})
	}
	return r
}

// tagged is the binary with the failpoints.
var tagged = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "hf-cache-sync")
	cmd := exec.Command("go", "build", "-tags", "failpoint", "-o", path, "./cmd/hf-cache-sync")
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the binary: %w\n%s", err, out)
	}
	return path, nil
})

// run runs a command in w with more in its environment.
func (w world) run(t *testing.T, args []string, env ...string) testenv.Result {
	t.Helper()
	return w.killed(t, 0, args, env...)
}

// killed is run, with a process that is killed after a while, if that is not 0 and
// it has not ended by then.
func (w world) killed(t *testing.T, after time.Duration, args []string, env ...string) testenv.Result {
	t.Helper()
	path, err := tagged()
	if err != nil {
		t.Fatal(err)
	}
	program := testenv.Binary(t, w.bucket.Env...)
	bucket := "--remote"
	if args[0] == "verify" {
		bucket = "--from" // It would verify the bucket otherwise.
	}
	args = append(slices.Clip(args), "--json", bucket, w.bucket.URL, "--cache-dir", w.cache())
	cmd := exec.CommandContext(t.Context(), path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir = &stdout, &stderr, t.TempDir()
	cmd.Env = slices.Concat([]string{"HOME=" + w.home}, program.Env, w.env, env)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if after > 0 {
		time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // It may have ended.
	}
	if err := cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return testenv.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// scenes are the commands that change a cache or a bucket.
func scenes(t *testing.T) []scene {
	t.Helper()
	r := small()
	source := t.TempDir()
	r.WriteCache(t, filepath.Join(source, "hub"))
	pushed := func(t *testing.T, w world) {
		t.Helper()
		if diff := cmp.Diff(testenv.ObjectKeys(r), testenv.Keys(t, w.bucket.dir)); diff != "" {
			t.Errorf("the objects in the bucket (-want +got):\n%s", diff)
		}
	}
	pulled := func(t *testing.T, w world) {
		t.Helper()
		r.Compare(t, w.cache())
	}
	fromCache := func(t *testing.T, kind string) world {
		t.Helper()
		return world{home: source, bucket: newBucket(t, kind)}
	}
	full := map[string]bucket{"file": newBucket(t, "file"), "s3": newBucket(t, "s3")}
	for _, b := range full {
		r.WriteBucket(t, b.dir)
		pruned()[1].WriteBucket(t, b.dir)
	}
	return []scene{
		{name: "push", args: []string{"push"}, part: "part sent", moves: "part sent", set: fromCache, done: pushed},
		{name: "watch", args: []string{"watch", "--once", "--debounce", "1ms"}, set: fromCache, done: pushed},
		{name: "pull", args: []string{"pull", r.Repo}, part: "part noted", moves: "part asked for", done: pulled, set: func(t *testing.T, kind string) world {
			t.Helper()
			w := world{home: t.TempDir(), bucket: full[kind]}
			// Of two files, one leads to the other's blob.
			one, two := r.Files[2], r.Files[3]
			testenv.WriteFile(t, filepath.Join(w.cache(), r.Folder(), "blobs", one.ID()), one.Data)
			testenv.Mkdir(t, filepath.Join(w.cache(), r.Folder(), "snapshots", r.Commit, "parts"))
			testenv.Symlink(t, "../../../blobs/"+one.ID(), filepath.Join(w.cache(), r.Folder(), "snapshots", r.Commit, filepath.FromSlash(two.Path)))
			return w
		}},
		fallback(t),
		prune(full),
		repair(r, full),
	}
}

// fallback pulls from a Hub what the bucket lacks, and gives it to the bucket.
func fallback(t *testing.T) scene {
	t.Helper()
	hub := fakehub.New()
	server := httptest.NewServer(hub)
	t.Cleanup(server.Close)
	r := small()
	files := make([]fakehub.File, len(r.Files))
	for i, f := range r.Files {
		if files[i] = fakehub.Git(f.Path, f.Data); f.LFS {
			files[i] = fakehub.LFS(f.Path, f.Data)
		}
	}
	repo := hub.Repo(fakehub.Model, r.Repo)
	commit := repo.Commit("main", files...)
	repo.Branch("main", commit)
	r.Commit, r.Refs = commit.ID(), []string{"main"}
	return scene{
		name: "fallback", args: []string{"pull", r.Repo, "--fallback", "hf-hub", "--backfill"},
		set: func(t *testing.T, kind string) world {
			t.Helper()
			return world{home: t.TempDir(), bucket: newBucket(t, kind), env: []string{"HF_ENDPOINT=" + server.URL}}
		},
		// A lease of the one that was killed would have to run out first.
		args2: []string{"pull", r.Repo, "--fallback", "hf-hub", "--backfill", "--no-lease"},
		done: func(t *testing.T, w world) {
			t.Helper()
			r.Compare(t, w.cache())
			keys := slices.DeleteFunc(testenv.Keys(t, w.bucket.dir), func(key string) bool { return strings.HasPrefix(key, "leases/") })
			for _, key := range testenv.ObjectKeys(r) {
				if !slices.Contains(keys, key) {
					t.Errorf("the bucket lacks %s", key)
				}
			}
		},
	}
}

// pruned are a part of the revision that the bucket has, and one that no ref names.
func pruned() [2]testenv.Revision {
	part, other := small(), testenv.Revision{Repo: "org/other", Commit: testenv.Commit("other"), Files: small().Files[2:5]}
	part.Files = part.Files[1:]
	return [2]testenv.Revision{part, other}
}

// prune empties a cache whose revisions are all in the bucket, which it asks.
func prune(full map[string]bucket) scene {
	args := []string{"prune", "--max-size", "0", "--evict-active", "--grace", "0s"}
	return scene{
		name: "prune", args: args,
		set: func(t *testing.T, kind string) world {
			t.Helper()
			w := world{home: t.TempDir(), bucket: full[kind]}
			for _, r := range pruned() {
				r.WriteCache(t, w.cache())
			}
			return w
		},
		done: func(t *testing.T, w world) {
			t.Helper()
			for path, content := range testenv.Tree(t, w.cache()) {
				if strings.Contains(path, "/blobs/") || strings.Contains(path, "/snapshots/") || strings.Contains(path, "/refs/") || strings.Contains(path, "/trash/") {
					t.Errorf("%s is left: %s", path, content)
				}
			}
		},
	}
}

// repair replaces a damaged blob.
func repair(r testenv.Revision, full map[string]bucket) scene {
	return scene{
		name: "verify", args: []string{"verify", "--repair"},
		set: func(t *testing.T, kind string) world {
			t.Helper()
			w := world{home: t.TempDir(), bucket: full[kind]}
			r.WriteCache(t, w.cache())
			bad := bytes.Clone(r.Files[1].Data)
			bad[99] ^= 1
			testenv.WriteFile(t, filepath.Join(w.cache(), r.Folder(), "blobs", r.Files[1].ID()), bad)
			return w
		},
		done: func(t *testing.T, w world) {
			t.Helper()
			r.Compare(t, w.cache())
		},
	}
}

// TestFailpoints kills each command at each place that the source names, audits
// what is left, and runs the command again.
func TestFailpoints(t *testing.T) {
	reached, ran := map[string]bool{}, 0
	var resent, needed int64
	list := scenes(t)
	for _, s := range list {
		for _, kind := range []string{"file", "s3"} {
			t.Run(s.name+"/"+kind, func(t *testing.T) {
				ran++
				all := s.places(t, kind)
				for _, place := range all {
					name, _, _ := strings.Cut(place, "#")
					reached[name] = true
				}
				row := proof.Row{
					Class: proof.Crashes, Tried: "kill of " + s.name + " at a named point, bucket: " + kind,
					Figures: fmt.Sprintf("points by name: %d", len(names(all))),
				}
				defer recordEnd(t, &row)
				for _, place := range choose(all, kind) {
					died, again, of := s.kill(t, kind, place)
					resent, needed = resent+again, needed+of
					if died {
						row.Times++
					}
					if again > 0 {
						t.Errorf("%d bytes were moved again", again)
					}
					if t.Failed() {
						t.Fatalf("killed at %q", place)
					}
				}
			})
		}
	}
	if ran < 2*len(list) {
		return // Somebody wants to see a part of it.
	}
	t.Run("moved again", func(t *testing.T) {
		proof.Row{
			Class: proof.Crashes, Times: int(needed >> 20), Tried: "MiB of a large blob that were moved when a push or pull was killed",
			Figures: fmt.Sprintf("%d MiB of these moved again", resent>>20),
		}.Record(t)
	})
	for name := range sourceNames(t) {
		if !reached[name] {
			t.Errorf("no command came by the failpoint %q", name)
		}
	}
}

// places runs the command undisturbed and returns where it came by.
func (s scene) places(t *testing.T, kind string) []string {
	t.Helper()
	w := s.set(t, kind)
	log := filepath.Join(t.TempDir(), "log")
	if result := w.run(t, s.args, "HFCS_FAILPOINT_LOG="+log); result.Code != 0 {
		t.Fatal(result)
	}
	s.done(t, w)
	return readLines(t, log)
}

func readLines(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// names are the places without their numbers.
func names(places []string) map[string]int {
	counts := map[string]int{}
	for _, place := range places {
		name, number, _ := strings.Cut(place, "#")
		if n, err := strconv.Atoi(number); err == nil {
			counts[name] = max(counts[name], n)
		}
	}
	return counts
}

// choose takes every step of a removal, and else the first time at each place and, with a folder as the bucket, the
// last; in a run of the proof, some between them too.
func choose(places []string, kind string) []string {
	most := proof.Times(1, 6)
	if kind == "file" {
		most = max(most, 2)
	}
	var chosen []string
	counts := names(places)
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		step := counts[name]
		if name == "removal" {
			step = 1 // Each is another step, and they take no time.
		} else if most > 1 {
			step = max(1, (counts[name]-1)/(most-1))
		}
		for n := 1; n <= counts[name]; n += step {
			chosen = append(chosen, fmt.Sprintf("%s#%d", name, n))
		}
	}
	return chosen
}

// kill has the command die at a place, audits, and runs it again. It returns how
// many bytes of the large blob that were there it moved again, and how many there
// were. Timing decides how often some places are met: parts, groups; then it may
// not die.
func (s scene) kill(t *testing.T, kind, place string) (died bool, again, there int64) {
	t.Helper()
	w := s.set(t, kind)
	log := filepath.Join(t.TempDir(), "log")
	result := w.run(t, s.args, "HFCS_FAILPOINT="+place, "HFCS_FAILPOINT_LOG="+log)
	second, died := s.next(t, w, result)
	if died {
		again, there = s.again(names(readLines(t, log)), second)
	}
	return died, again, there
}

// next looks at what a run has left that was killed, or had come to its end, and
// runs the command again. It returns where that came by, and how often.
func (s scene) next(t *testing.T, w world, first testenv.Result) (places map[string]int, died bool) {
	t.Helper()
	if first.Code == 0 {
		s.done(t, w)
		return nil, false
	}
	if first.Code != -1 {
		t.Fatalf("it was not killed: %s", first)
	}
	var audit testenv.Auditor
	audit.Bucket(t, w.bucket.dir)
	if s.name != "verify" { // Its cache is damaged to begin with.
		audit.Cache(t, w.cache())
	}
	args := s.args
	if s.args2 != nil {
		args = s.args2
	}
	log := filepath.Join(t.TempDir(), "log")
	if result := w.run(t, args, "HFCS_FAILPOINT_LOG="+log); result.Code != 0 {
		t.Fatalf("the next run: %s", result)
	}
	audit.Bucket(t, w.bucket.dir)
	audit.Cache(t, w.cache())
	s.done(t, w)
	return names(readLines(t, log)), true
}

// TestKillOthers kills at random moments what TestKill does not.
func TestKillOthers(t *testing.T) {
	random := rand.New(rand.NewPCG(17, 19))
	for _, s := range scenes(t) {
		if s.name == "push" || s.name == "pull" || s.name == "watch" {
			continue
		}
		for _, kind := range []string{"file", "s3"} {
			t.Run(s.name+"/"+kind, func(t *testing.T) {
				begin := time.Now()
				s.places(t, kind)
				took := time.Since(begin)
				row := proof.Row{Class: proof.Crashes, Tried: "kill of " + s.name + " at a random moment, bucket: " + kind}
				defer recordEnd(t, &row)
				wanted := proof.Times(3, 40)
				for tries := 0; row.Times < wanted && tries < 10*wanted; tries++ {
					w := s.set(t, kind)
					moment := 1 + time.Duration(random.Int64N(int64(took)))
					if _, died := s.next(t, w, w.killed(t, moment, s.args)); died {
						row.Times++
					}
					if t.Failed() {
						t.Fatalf("killed after %s of %s", moment, took)
					}
				}
			})
		}
	}
}

// recordEnd records a row at the end of a test, also of one that has failed.
func recordEnd(t *testing.T, row *proof.Row) {
	t.Helper()
	if t.Failed() {
		row.Times, row.Lost = max(row.Times, 1), 1
	}
	row.Record(t)
}

// again is how many bytes of the large blob two runs moved that had been moved
// before, and how many there were for the second to build on, by the parts that
// each says it was done with.
func (s scene) again(first, second map[string]int) (again, there int64) {
	size := int64(len(small().Files[0].Data))
	part := int64(uploadPart)
	if s.part == "part noted" {
		part = downloadPart
	}
	if s.part == "" {
		return 0, 0
	}
	all := int((size + part - 1) / part)
	return int64(max(0, first[s.part]+second[s.moves]-all)) * part, int64(first[s.part]) * part
}

// sourceNames are the failpoints that the source has.
func sourceNames(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(filepath.Join("..", "..", "internal"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Hit" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); !ok || x.Name != "failpoint" {
				return true
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok {
				if name, err := strconv.Unquote(lit.Value); err == nil {
					found[name] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("no failpoints in the source: %v", err)
	}
	return found
}

// TestNoFailpoints: the binary that people get knows nothing of all that.
func TestNoFailpoints(t *testing.T) {
	program := testenv.Binary(t)
	data, err := os.ReadFile(program.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("HFCS_FAILPOINT")) {
		t.Error("the binary has failpoints")
	}
}

// Package crash_test kills the binary at random moments, again and again, and
// looks each time at what is left: whatever has a final name must be right and
// whole, and running the same command again must carry on and finish.
package crash_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// Each command is killed this often on each kind of bucket. After so many kills
// in a row it is left in peace, and then starts from nothing again.
const inRow = 4

func kills() int { return proof.Times(8, 45) }

// server is the S3 server of all tests in this package, and scratch a folder for
// what they build; TestMain sets both.
var (
	server  *testenv.S3
	scratch string
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "hf-cache-sync-failpoint-"); err != nil {
			panic(err) // There is no test yet to fail.
		}
		defer func() { _ = os.RemoveAll(scratch) }() // Nobody is left to tell.
		return testenv.MainWithS3(m, func(s *testenv.S3) { server = s })
	}())
}

// model is large enough that every stage of moving it takes a while: two blobs
// of more than 100 MB, one of 40 MB, and 200 small ones.
func model() testenv.Revision {
	r := testenv.Revision{Repo: "org/name", Commit: testenv.Commit("crash"), Refs: []string{"main", "v1.0"}}
	for i, size := range []int{110 << 20, 104 << 20, 40 << 20} {
		r.Files = append(r.Files, testenv.Content{
			Path: fmt.Sprintf("model-%05d.safetensors", i), Data: testenv.Noise(uint64(i), size), LFS: true,
		})
	}
	for i := range 200 {
		r.Files = append(r.Files, testenv.Content{
			Path: fmt.Sprintf("parts/%02d/%03d.json", i%10, i), Data: testenv.Noise(uint64(1000+i), 500*i), LFS: i%4 == 0,
		})
	}
	return r
}

// TestKill kills pushes and pulls. The work is disk and hashing, so one is
// under way at a time.
func TestKill(t *testing.T) {
	r := model()
	source := t.TempDir()
	r.WriteCache(t, filepath.Join(source, "hub"))
	for _, kind := range []string{"file", "s3"} {
		full := newBucket(t, kind)
		r.WriteBucket(t, full.dir)
		t.Run("push/"+kind, func(t *testing.T) {
			c := &crash{revision: r, home: source, args: []string{"push"}}
			c.check = c.checkPushed
			c.reset = func() { c.bucket = newBucket(t, kind) }
			c.run(t)
		})
		t.Run("pull/"+kind, func(t *testing.T) {
			c := &crash{revision: r, home: t.TempDir(), bucket: full, args: []string{"pull", r.Repo}}
			c.check = c.checkPulled
			c.reset = func() {
				if err := os.RemoveAll(c.cache()); err != nil {
					t.Fatal(err)
				}
			}
			c.run(t)
		})
	}
}

// bucket is a remote and the folder in which its objects are files.
type bucket struct {
	testenv.Remote
	dir string
}

func newBucket(t *testing.T, kind string) bucket {
	t.Helper()
	if kind == "file" {
		remote := testenv.FileRemote(t)
		return bucket{remote, filepath.FromSlash(strings.TrimPrefix(remote.URL, "file://"))}
	}
	remote := server.Remote(t)
	return bucket{remote, server.Path(strings.TrimPrefix(remote.URL, "s3://"))}
}

// crash is one command that is killed over and over.
type crash struct {
	revision testenv.Revision
	home     string
	bucket   bucket
	args     []string
	check    func(t *testing.T, done bool)
	reset    func() // Makes the command's work undone.
	audit    testenv.Auditor
}

func (c *crash) cache() string { return filepath.Join(c.home, "hub") }

// run kills the command at moments spread over the time that it takes
// undisturbed. A run that is quicker than its killer must be right, and the next
// starts from nothing.
func (c *crash) run(t *testing.T) {
	t.Helper()
	c.reset()
	begin := time.Now()
	c.finish(t, c.start(t, nil))
	took := time.Since(begin)
	c.reset()

	random := rand.New(rand.NewPCG(7, uint64(len(c.args))))
	var inARow int
	var resumed int64
	row := proof.Row{Class: proof.Crashes, Tried: "kill of a " + c.args[0] + " at a random moment, bucket: " + c.bucket.Name}
	defer recordEnd(t, &row)
	for row.Times < kills() {
		var killer func(*os.Process)
		moment := time.Duration(random.Int64N(int64(took)))
		if inARow < inRow {
			killer = func(p *os.Process) {
				time.AfterFunc(moment, func() { _ = p.Kill() }) // It may have ended.
			}
		}
		result := c.start(t, killer)
		if result.Code != -1 {
			resumed += c.finish(t, result)
			c.reset()
			inARow = 0
			continue
		}
		row.Times++
		inARow++
		c.check(t, false)
		if t.Failed() {
			t.Fatalf("killed after %s of %s: %s", moment, took, result)
		}
	}
	resumed += c.finish(t, c.start(t, nil))
	row.Figures = fmt.Sprintf("%d MiB of unfinished blobs carried on with", resumed>>20)
	if resumed == 0 {
		t.Error("nothing was ever resumed")
	}
}

// start runs the command to its end. killer, if not nil, is given the process.
func (c *crash) start(t *testing.T, killer func(*os.Process)) testenv.Result {
	t.Helper()
	program := testenv.Binary(t, c.bucket.Env...)
	args := append(append([]string{}, program.Args...), c.args...)
	args = append(args, "--json", "--remote", c.bucket.URL, "--cache-dir", c.cache())
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir = &stdout, &stderr, t.TempDir()
	cmd.Env = append([]string{"HOME=" + t.TempDir()}, program.Env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if killer != nil {
		killer(cmd.Process)
	}
	if err := cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return testenv.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// finish checks a run that came to its end, and returns how many bytes of its
// work earlier runs had done.
func (c *crash) finish(t *testing.T, result testenv.Result) int64 {
	t.Helper()
	var summary struct {
		Resumed int64 `json:"resumed_bytes"`
	}
	if err := json.Unmarshal([]byte(result.Stdout), &summary); err != nil || result.Code != 0 {
		t.Fatalf("%v: %s", err, result)
	}
	c.check(t, true)
	if t.Failed() {
		t.Fatalf("it ended well, and it is not: %s", result)
	}
	return summary.Resumed
}

// checkPushed audits the bucket, in which everything must be once it is done.
func (c *crash) checkPushed(t *testing.T, done bool) {
	t.Helper()
	c.audit.Bucket(t, c.bucket.dir)
	if !done {
		return
	}
	if diff := cmp.Diff(testenv.ObjectKeys(c.revision), testenv.Keys(t, c.bucket.dir)); diff != "" {
		t.Errorf("the objects in the bucket (-want +got):\n%s", diff)
	}
}

// checkPulled audits the cache, in which everything must be once it is done, or
// once a ref says so.
func (c *crash) checkPulled(t *testing.T, done bool) {
	t.Helper()
	c.audit.Cache(t, c.cache())
	refs, err := os.ReadDir(filepath.Join(c.cache(), c.revision.Folder(), "refs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	r := c.revision
	if !done {
		r.Refs = nil
	}
	if done || len(refs) > 0 {
		r.Compare(t, c.cache())
	}
}

// TestSignals asks the binary to stop when it has a part of a large blob: it
// says so by its exit code, and what it has is of use.
func TestSignals(t *testing.T) {
	r := model()
	source := newBucket(t, "file")
	r.WriteBucket(t, source.dir)
	for signal, code := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		t.Run(signal.String(), func(t *testing.T) {
			c := &crash{revision: r, home: t.TempDir(), bucket: source, args: []string{"pull", r.Repo}}
			stop := make(chan struct{})
			result := c.start(t, func(p *os.Process) {
				go signalOnce(stop, p, signal, filepath.Join(c.cache(), r.Folder(), "blobs"))
			})
			close(stop)
			if result.Code != code || !strings.Contains(result.Stderr, "hf-cache-sync: stopped by signal: ") || !strings.Contains(result.Stderr, "\nhint: ") {
				t.Errorf("want exit code %d and a hint: %s", code, result)
			}
			c.checkPulled(t, false)
			if resumed := c.finishPull(t); resumed == 0 {
				t.Error("nothing was resumed")
			}
		})
	}
}

// finishPull pulls the rest.
func (c *crash) finishPull(t *testing.T) int64 {
	t.Helper()
	c.check = c.checkPulled
	return c.finish(t, c.start(t, nil))
}

// signalOnce signals p as soon as a journal in dir says that a part of a blob
// is there.
func signalOnce(stop <-chan struct{}, p *os.Process, signal os.Signal, dir string) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		journals, err := filepath.Glob(filepath.Join(dir, ".*.parts"))
		if err != nil {
			return
		}
		for _, journal := range journals {
			if data, err := os.ReadFile(journal); err == nil && bytes.Count(data, []byte("\n")) > 1 {
				_ = p.Signal(signal) // It may have ended.
				return
			}
		}
	}
}

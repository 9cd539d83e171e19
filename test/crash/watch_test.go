package crash_test

import (
	"bufio"
	"bytes"
	"errors"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestKillWatch kills a watcher again and again while it pushes what appears in
// the cache: at no time does the bucket have a ref without its blobs, and a
// watcher that is left in peace finishes the work.
func TestKillWatch(t *testing.T) {
	for _, kind := range []string{"file", "s3"} {
		t.Run(kind, func(t *testing.T) {
			home, b := t.TempDir(), newBucket(t, kind)
			cache := filepath.Join(home, "hub")
			random := rand.New(rand.NewPCG(11, 13))
			var audit testenv.Auditor
			var written []testenv.Revision
			row := proof.Row{Class: proof.Crashes, Tried: "kill of a watch at a random moment, bucket: " + kind}
			defer recordEnd(t, &row)
			for n := range kills() {
				if n%4 == 0 { // What a client downloads meanwhile.
					r := testenv.Revision{
						Repo: "org/watched", Commit: testenv.Commit(kind + string(rune('a'+n))), Refs: []string{"main"},
						Files: []testenv.Content{
							{Path: "model.safetensors", Data: testenv.Noise(uint64(n), 40<<20), LFS: true},
							{Path: "same.safetensors", Data: testenv.Noise(99, 20<<20), LFS: true},
							{Path: "config.json", Data: testenv.Noise(uint64(100+n), 700)},
						},
					}
					r.WriteCache(t, cache)
					written = append(written, r)
				}
				killWatch(t, b, cache, time.Duration(random.Int64N(int64(400*time.Millisecond))))
				row.Times++
				audit.Bucket(t, b.dir)
				if t.Failed() {
					t.Fatalf("after %d kills", n+1)
				}
			}
			b.Sync(t, home, "watch", "--once")
			audit.Bucket(t, b.dir)
			for i := range written[:len(written)-1] {
				written[i].Refs = nil // The branch has moved on.
			}
			if diff := cmp.Diff(testenv.ObjectKeys(written...), testenv.Keys(t, b.dir)); diff != "" {
				t.Errorf("the objects in the bucket (-want +got):\n%s", diff)
			}
		})
	}
}

// killWatch starts a watcher and kills it some time after it has begun to
// watch.
func killWatch(t *testing.T, b bucket, cache string, after time.Duration) {
	t.Helper()
	program := testenv.Binary(t, b.Env...)
	args := append(append([]string{}, program.Args[1:]...), "watch", "--debounce", "10ms", "--remote", b.URL, "--cache-dir", cache)
	cmd := exec.CommandContext(t.Context(), program.Args[0], args...)
	cmd.Dir, cmd.Env = t.TempDir(), append([]string{"HOME=" + t.TempDir()}, program.Env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "msg=watching") {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // Nothing else ends it.
		}
	}
	err = cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); !ok || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("it was not killed: %v:\n%s", err, &said)
	}
}

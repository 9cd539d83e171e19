// Package examples_test runs and reads what is below examples/, and runs the
// commands that the guides in docs/ show.
package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// server is the S3 server of all tests in this package; TestMain sets it.
var server *testenv.S3

func TestMain(m *testing.M) {
	os.Exit(testenv.MainWithS3(m, func(s *testenv.S3) { server = s }))
}

// binDir is a folder for PATH with the program in it, and scripts.
func binDir(t *testing.T, scripts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	testenv.Symlink(t, testenv.Binary(t).Args[0], filepath.Join(dir, "hf-cache-sync"))
	for name, text := range scripts {
		testenv.WriteFile(t, filepath.Join(dir, name), []byte(text))
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// node is a compute node with the prolog: its configuration, cache and state.
type node struct {
	dir, bucket string
	bin         string
}

func newNode(t *testing.T, config ...string) *node {
	t.Helper()
	n := &node{dir: t.TempDir(), bucket: t.TempDir(), bin: binDir(t, nil)}
	testenv.Sample().WriteBucket(t, n.bucket)
	config = append([]string{
		"HF_CACHE_SYNC_REMOTE=file://" + n.bucket, "HF_HUB_CACHE=" + n.hub(), "PRELOAD_STATE=" + filepath.Join(n.dir, "state"),
	}, config...)
	testenv.WriteFile(t, filepath.Join(n.dir, "slurm.conf"), []byte(strings.Join(config, "\n")+"\n"))
	return n
}

func (n *node) hub() string { return filepath.Join(n.dir, "hub") }

// prolog runs the prolog as slurmd does for a job: with few variables, and without
// a search path. It must end with 0 however it goes.
func (n *node) prolog(t *testing.T, job string, env ...string) {
	t.Helper()
	p := testenv.Program{Args: []string{"../../examples/slurm/prolog.sh"}, Env: append([]string{
		"PATH=", "SLURM_JOB_ID=" + job, "SLURM_JOB_USER=alice", "SLURM_JOB_UID=1000", "SLURMD_NODENAME=gpu-7", "SLURM_SCRIPT_CONTEXT=prolog_slurmd",
		"HF_PRELOAD_CONF=" + filepath.Join(n.dir, "slurm.conf"), "HF_PRELOAD_PATH=" + n.bin,
	}, env...)}
	if got := p.Run(t, nil); got.Code != 0 || got.Stdout+got.Stderr != "" {
		t.Errorf("the prolog of job %s: %s", job, got)
	}
}

func (n *node) log(t *testing.T) string {
	t.Helper()
	return read(t, filepath.Join(n.dir, "state", "log"))
}

// TestPrologTogether starts two jobs on a node at once: one of them brings the
// model, the other waits and finds it.
func TestPrologTogether(t *testing.T) {
	t.Parallel()
	n := newNode(t, "PRELOAD='org/name@main'")
	var group sync.WaitGroup
	for _, job := range []string{"1001", "1002"} {
		group.Go(func() { n.prolog(t, job) })
	}
	group.Wait()
	testenv.Sample().Compare(t, n.hub())
	log := n.log(t)
	for text, want := range map[string]int{"pulled org/name@": 1, ": org/name@main: exit code 0": 1, ": org/name@main: there already": 1} {
		if got := strings.Count(log, text); got != want {
			t.Errorf("%q is %d times in the log, not %d:\n%s", text, got, want, log)
		}
	}
	for _, job := range []string{"job 1001", "job 1002"} {
		if !strings.Contains(log, job) {
			t.Errorf("the log does not name %s:\n%s", job, log)
		}
	}
}

// TestPrologComment takes from a job's comment what is a name of a repository, and
// nothing else, and only where the site wants that.
func TestPrologComment(t *testing.T) {
	t.Parallel()
	comment := "SLURM_JOB_COMMENT=hf:$(touch$IFS./pwned),--cache-dir=/etc,../../etc,*,org/name;,org/name,org/name"
	n := newNode(t, "PRELOAD_COMMENT=1")
	n.prolog(t, "7", comment)
	testenv.Sample().Compare(t, n.hub())
	if got := strings.Count(n.log(t), "exit code"); got != 1 {
		t.Errorf("%d pulls:\n%s", got, n.log(t))
	}
	if _, err := os.Stat("pwned"); err == nil {
		t.Error("a comment was run")
	}
	n = newNode(t)
	n.prolog(t, "8", comment)
	if _, err := os.Stat(n.hub()); err == nil {
		t.Error("a comment counts although the site did not say so")
	}
}

// TestPrologFails lets a job start although the bucket cannot give what is wanted,
// and tries again with the next job.
func TestPrologFails(t *testing.T) {
	t.Parallel()
	n := newNode(t, "PRELOAD='org/absent org/name'")
	n.prolog(t, "1")
	n.prolog(t, "2")
	if got := strings.Count(n.log(t), "org/absent: exit code 5"); got != 2 {
		t.Errorf("want two attempts:\n%s", n.log(t))
	}
	testenv.Sample().Compare(t, n.hub())
	// A node without a configuration is none of its business.
	n = newNode(t)
	testenv.WriteFile(t, filepath.Join(n.dir, "slurm.conf"), []byte("PRELOAD_STATE="+n.dir+"/state\n"))
	n.prolog(t, "3")
}

// srun runs a command as so many tasks as it is told, all at once and here.
const srun = `#!/bin/bash
n=$SLURM_NTASKS
while [[ $1 == --* ]]; do
	[[ $1 != --ntasks=* ]] || n=${1#*=}
	shift
done
pids=()
for ((i = 0; i < n; i++)); do
	SLURM_PROCID=$i "$@" &
	pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || exit; done
`

// TestBatchJob runs the batch script with an srun whose nodes share one disk, so
// that its lock is put to the test as well.
func TestBatchJob(t *testing.T) {
	t.Parallel()
	bucket, local := t.TempDir(), t.TempDir()
	testenv.Sample().WriteBucket(t, bucket)
	bin := binDir(t, map[string]string{"srun": srun, "train": "#!/bin/sh\necho \"task $SLURM_PROCID offline=$HF_HUB_OFFLINE $1\"\nls \"$HF_HUB_CACHE\"/models--org--name/refs\n"})
	p := testenv.Program{Args: []string{"bash", "../../examples/slurm/job.sbatch", "train", "two words"}, Env: []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "USER=alice", "LOCAL=" + local, "MODEL=org/name", "HF_CACHE_SYNC_REMOTE=file://" + bucket,
		"SLURM_JOB_NUM_NODES=2", "SLURM_NTASKS=3",
	}}
	got := p.Run(t, nil)
	if got.Code != 0 || strings.Count(got.Stdout, "4 blobs (300.0K) downloaded") != 1 || strings.Count(got.Stdout, "offline: ready") != 2 ||
		strings.Count(got.Stdout, "offline=1 two words\nmain\n") == 0 || strings.Count(got.Stdout, "two words") != 3 {
		t.Errorf("the job: %s", got)
	}
	testenv.Sample().Compare(t, filepath.Join(local, "huggingface", "hub"))
	// A model that is not there ends the job before its tasks start.
	got = p.With("MODEL=org/absent").Run(t, nil)
	if got.Code != 5 || strings.Contains(got.Stdout, "two words") {
		t.Errorf("the job without its model: %s", got)
	}
}

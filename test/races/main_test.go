// Package races_test lets several processes of the binary work at once on one
// bucket, or on one cache, beside the real client where it matters. Whatever the
// order, nothing that one of them has done may be lost, and what is found
// half way is whole.
//
// The binary is built with the race detector for it: a report of that ends the
// process and fails the test.
package races_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// server is the S3 server of all tests in this package; TestMain sets it.
var server *testenv.S3

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "races-")
	if err == nil {
		defer os.RemoveAll(dir) //nolint:errcheck // The system's own clean-up is the second try.
		err = build(filepath.Join(dir, "hf-cache-sync"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return testenv.MainWithS3(m, func(s *testenv.S3) { server = s })
}

// build makes a binary with the race detector and tells testenv of it. The cost
// is that of linking where the unit tests have run with -race before.
func build(path string) error {
	cmd := exec.Command("go", "build", "-race", "-o", path, "./cmd/hf-cache-sync")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building with -race, which takes a C compiler: %w\n%s", err, out)
	}
	if err := os.Setenv("HFCS_BIN", path); err != nil {
		return fmt.Errorf("naming the binary: %w", err)
	}
	return nil
}

// raceExit is the exit code of a process in which the race detector found
// something.
const raceExit = 66

// bucket is a remote and the folder in which its objects are files.
type bucket struct {
	testenv.Remote
	dir string
}

// newBucket is an empty bucket: "file", "s3", or "unconditional", which is an S3
// server that has no conditional writes.
func newBucket(t *testing.T, kind string) bucket {
	t.Helper()
	switch kind {
	case "file":
		remote := testenv.FileRemote(t)
		return bucket{remote, filepath.FromSlash(strings.TrimPrefix(remote.URL, "file://"))}
	case "unconditional":
		b, _ := behindProxy(t, refuseConditions)
		return b
	}
	remote := server.Remote(t)
	return bucket{remote, server.Path(strings.TrimPrefix(remote.URL, "s3://"))}
}

func kinds() []string { return []string{"file", "s3", "unconditional"} }

// process is a run of the binary beside others.
type process struct {
	what   string
	cmd    *exec.Cmd
	output bytes.Buffer
}

// start runs the binary on the cache below home. Call wait.
func (b bucket) start(t *testing.T, home string, args ...string) *process {
	t.Helper()
	program := testenv.Binary(t)
	args = append(args, "--remote", b.URL, "--cache-dir", cacheOf(home), "--no-progress")
	p := &process{what: fmt.Sprintf("hf-cache-sync %q", args)}
	p.cmd = exec.CommandContext(t.Context(), program.Args[0], append(program.Args[1:], args...)...)
	p.cmd.Dir = t.TempDir() // Without a configuration file.
	p.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8",
		// By default a process sleeps for a second at its end.
		fmt.Sprintf("GORACE=exitcode=%d halt_on_error=1 atexit_sleep_ms=0", raceExit),
	}, b.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// wait waits for the end and returns the exit code, which is -1 for one that was
// killed. A race that was detected fails the test, as does a crash.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Wait(); err != nil {
		if _, ended := errors.AsType[*exec.ExitError](err); !ended {
			t.Errorf("%s: %v", p.what, err)
		}
	}
	code := p.cmd.ProcessState.ExitCode()
	for _, sign := range []string{"WARNING: DATA RACE", "panic:", "fatal error:"} {
		if code == raceExit || strings.Contains(p.output.String(), sign) {
			t.Errorf("%s crashed with exit code %d:\n%s", p.what, code, &p.output)
			break
		}
	}
	return code
}

// mustWait is wait for a process that has to end well. It says whether it did.
func (p *process) mustWait(t *testing.T) bool {
	t.Helper()
	code := p.wait(t)
	if code != 0 {
		t.Errorf("%s: exit code %d:\n%s", p.what, code, &p.output)
	}
	return code == 0
}

// must runs the binary to its end, which has to be a good one.
func (b bucket) must(t *testing.T, home string, args ...string) bool {
	t.Helper()
	return b.start(t, home, args...).mustWait(t)
}

// cacheOf is the cache below an HF_HOME.
func cacheOf(home string) string { return filepath.Join(home, "hub") }

// tally counts what went wrong, from many goroutines.
type tally struct {
	mu   sync.Mutex
	lost int
}

// count notes one more if ok is false.
func (c *tally) count(ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ok {
		c.lost++
	}
}

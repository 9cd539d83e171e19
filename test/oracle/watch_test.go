package oracle_test

import (
	"bytes"
	"errors"
	"os/exec"
	"syscall"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// watcher is a watch command at work.
type watcher struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

// startWatch watches the cache below home. It is impatient, so that a test
// sees much of it.
func startWatch(t *testing.T, remote testenv.Remote, home string) *watcher {
	t.Helper()
	program := testenv.Binary(t, remote.Env...)
	args := append(append([]string{}, program.Args[1:]...), "watch", "--debounce", "500ms", "--rescan", "2s", "--remote", remote.URL, "--cache-dir", hubDir(home))
	testenv.Mkdir(t, hubDir(home))
	w := &watcher{cmd: exec.CommandContext(t.Context(), program.Args[0], args...)}
	w.cmd.Dir, w.cmd.Stderr = t.TempDir(), &w.stderr
	w.cmd.Env = append([]string{"HOME=" + t.TempDir()}, program.Env...)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// stop ends the watcher and returns its exit code.
func (w *watcher) stop(t *testing.T) int {
	t.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("%v: %s", err, &w.stderr)
	}
	if err := w.cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	t.Logf("watch said:\n%s", &w.stderr)
	return w.cmd.ProcessState.ExitCode()
}

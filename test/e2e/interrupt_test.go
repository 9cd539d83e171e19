//go:build unix

package e2e_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

const mib = 1 << 20

// large is a model with one blob that is moved in several parts.
func large() testenv.Revision {
	return testenv.Revision{
		Repo: "org/name", Commit: testenv.Commit("large"), Refs: []string{"main"},
		Files: []testenv.Content{
			{Path: "config.json", Data: []byte("{}\n")},
			{Path: "model.safetensors", Data: testenv.Noise(1, 40*mib), LFS: true},
		},
	}
}

// running is hf-cache-sync at work, with its events.
type running struct {
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	stderr strings.Builder
}

// happening is one event.
type happening struct {
	Kind, Text string
	Bytes      int64
}

// start runs a command that reports events.
func start(t *testing.T, r testenv.Remote, home string, stdout io.Writer, args ...string) *running {
	t.Helper()
	args = append(args, "--json-events", "--remote", r.URL, "--cache-dir", filepath.Join(home, "hub"))
	run := &running{cmd: exec.CommandContext(t.Context(), testenv.Binary(t).Args[0], args...)}
	run.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, r.Env...)
	run.cmd.Dir, run.cmd.Stdout = t.TempDir(), stdout
	stderr, err := run.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	run.lines = bufio.NewScanner(stderr)
	if err := run.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return run
}

// await reads events until one is what the caller waits for.
func (r *running) await(t *testing.T, is func(happening) bool) {
	t.Helper()
	for r.lines.Scan() {
		r.stderr.WriteString(r.lines.Text() + "\n")
		var e happening
		if err := json.Unmarshal(r.lines.Bytes(), &e); err != nil {
			t.Fatalf("%q on standard error: %v", r.lines.Text(), err)
		}
		if is(e) {
			return
		}
	}
	t.Fatalf("it ended before that:\n%s", &r.stderr)
}

func (r *running) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// end waits for the end and returns how it came.
func (r *running) end(t *testing.T) syscall.WaitStatus {
	t.Helper()
	for r.lines.Scan() {
		r.stderr.WriteString(r.lines.Text() + "\n")
	}
	if err := r.cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		t.Fatalf("no status: %v", r.cmd.ProcessState)
	}
	return status
}

// TestInterrupt sends one signal when the first part of a large blob has been
// moved. The command must say so, end by itself with the right code and a word
// on how to go on; the same command again must carry on from that part.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	const slow = "9MB" // Few enough that one part follows the other.
	r := large()
	source := t.TempDir()
	r.WriteCache(t, filepath.Join(source, "hub"))
	for _, remote := range []testenv.Remote{testenv.FileRemote(t), server.Remote(t)} {
		for _, tc := range []struct {
			name string
			home string
			args []string
			part int64
			sig  os.Signal
			code int
			said string
		}{
			{"push", source, []string{"push"}, 16 * mib, os.Interrupt, 130, "stopping; press Ctrl-C again to stop at once"},
			{"pull", t.TempDir(), []string{"pull", r.Repo}, 8 * mib, syscall.SIGTERM, 143, "stopping"},
		} {
			// In this order: the second needs what the first has pushed.
			t.Run(tc.name+"/"+remote.Name, func(t *testing.T) {
				run := start(t, remote, tc.home, nil, append(tc.args, "--bwlimit", slow)...)
				var moved int64
				run.await(t, func(e happening) bool {
					if e.Kind == "item_progress" {
						moved += e.Bytes
					}
					return moved > tc.part+mib // The next part has begun.
				})
				run.signal(t, tc.sig)
				run.await(t, func(e happening) bool { return e.Kind == "note" && e.Text == tc.said })
				run.await(t, func(e happening) bool { return e.Kind == "error" })
				run.await(t, func(e happening) bool {
					return e.Kind == "hint" && strings.HasPrefix(e.Text, "run the same command again; it carries on")
				})
				if status := run.end(t); status.ExitStatus() != tc.code {
					t.Errorf("it ended with %v, not %d:\n%s", status.ExitStatus(), tc.code, &run.stderr)
				}

				var report struct {
					Resumed int64 `json:"resumed_bytes"`
				}
				result := remote.Sync(t, tc.home, append(tc.args, "--json")...)
				if err := json.Unmarshal([]byte(result.Stdout), &report); err != nil {
					t.Fatal(err)
				}
				if report.Resumed < tc.part {
					t.Errorf("the next run found %d bytes, not the part of %d", report.Resumed, tc.part)
				}
				if tc.name == "pull" {
					r.Compare(t, filepath.Join(tc.home, "hub"))
				}
			})
		}
	}
}

// TestInterruptTwice sends a second signal to a command that cannot end: its
// standard output is a pipe that is full and that nobody reads.
func TestInterruptTwice(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	testenv.Sample().WriteCache(t, filepath.Join(home, "hub"))
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // Nothing was written that matters.
	defer in.Close()  //nolint:errcheck // Likewise.
	fill(t, in)
	run := start(t, testenv.FileRemote(t), home, in, "push")
	run.await(t, func(e happening) bool { return e.Kind == "transfer_done" })
	run.signal(t, os.Interrupt)
	run.await(t, func(e happening) bool { return e.Kind == "note" && strings.HasPrefix(e.Text, "stopping; ") })
	run.signal(t, os.Interrupt)
	if status := run.end(t); status.ExitStatus() != 130 {
		t.Errorf("it ended with %v:\n%s", status, &run.stderr)
	}
}

// fill writes to a pipe until nothing more goes in.
func fill(t *testing.T, in *os.File) {
	t.Helper()
	raw, err := in.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var full error
	if err := raw.Control(func(fd uintptr) {
		for full == nil {
			_, full = syscall.Write(int(fd), make([]byte, 1<<10))
		}
		for full = error(nil); full == nil; { // What is left of a page.
			_, full = syscall.Write(int(fd), []byte{0})
		}
	}); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(full, syscall.EAGAIN) {
		t.Fatal(full)
	}
}

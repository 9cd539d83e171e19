//go:build unix

package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"github.com/hinshun/vt10x"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// The size of the terminal, and one that is so wide that nothing wraps: what is
// to the right of the former there would have wrapped.
const (
	columns, lines = 80, 24
	wide           = 400
)

// terminal is hf-cache-sync in a terminal of its own.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	tty    *os.File
	screen vt10x.Terminal
	wide   vt10x.Terminal
	raw    strings.Builder
	buf    []byte
}

// inTerminal starts a command. Standard error goes to the file if there is one.
func inTerminal(t *testing.T, r testenv.Remote, home string, stderr *os.File, env []string, args ...string) *terminal {
	t.Helper()
	args = append(args, "--remote", r.URL, "--cache-dir", filepath.Join(home, "hub"))
	term := &terminal{
		t: t, cmd: exec.CommandContext(t.Context(), testenv.Binary(t).Args[0], args...), buf: make([]byte, 4<<10),
		screen: vt10x.New(vt10x.WithSize(columns, lines)), wide: vt10x.New(vt10x.WithSize(wide, lines)),
	}
	term.cmd.Dir = t.TempDir()
	term.cmd.Env = append(append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TERM=xterm-256color"}, r.Env...), env...)
	if stderr != nil {
		term.cmd.Stderr = stderr
	}
	tty, err := pty.StartWithSize(term.cmd, &pty.Winsize{Cols: columns, Rows: lines})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() }) // The test has read all of it.
	term.tty = tty
	return term
}

// drawn matches a line of the bars, which go again and so must not wrap. What
// stays may.
var drawn = regexp.MustCompile(`^ *(\[=*>|[0-9]+% )`)

// read takes in what the command writes next and says whether there is more.
func (term *terminal) read() bool {
	n, err := term.tty.Read(term.buf)
	data := term.buf[:n]
	term.raw.Write(data)
	for _, vt := range []vt10x.Terminal{term.screen, term.wide} {
		if _, err := vt.Write(data); err != nil {
			term.t.Fatal(err)
		}
	}
	for line := range strings.Lines(term.wide.String()) {
		line = strings.TrimRight(line, " \n\x00")
		if width := utf8.RuneCountInString(line); width > columns && drawn.MatchString(line) {
			term.t.Fatalf("a line of the bars is %d wide: %q", width, line)
		}
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, io.EOF), errors.Is(err, syscall.EIO), errors.Is(err, fs.ErrClosed): // Systems differ in what the end is.
		return false
	}
	term.t.Fatal(err)
	return false
}

// shown is what the screen shows, without empty lines and ends of lines.
func (term *terminal) shown() []string { return rows(term.screen) }

func rows(screen vt10x.Terminal) []string {
	var shown []string
	for line := range strings.Lines(screen.String()) {
		if line = strings.TrimRight(line, " \n\x00"); line != "" {
			shown = append(shown, line)
		}
	}
	return shown
}

// await reads until a line of the screen matches each of the patterns at the
// same time.
func (term *terminal) await(patterns ...string) {
	term.t.Helper()
	for {
		missing := ""
		for _, p := range patterns {
			if !regexp.MustCompile("(?m)" + p).MatchString(strings.Join(term.shown(), "\n")) {
				missing = p
			}
		}
		if missing == "" {
			return
		}
		if !term.read() {
			term.t.Fatalf("%q was never on the screen:\n%s\nall of it: %q", missing, strings.Join(term.shown(), "\n"), &term.raw)
		}
	}
}

// typed sends what somebody types.
func (term *terminal) typed(text string) {
	term.t.Helper()
	if _, err := io.WriteString(term.tty, text); err != nil {
		term.t.Fatal(err)
	}
}

// end reads to the end and returns the exit code.
func (term *terminal) end() int {
	term.t.Helper()
	for term.read() { // Reading is all there is to do.
	}
	if err := term.cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			term.t.Fatal(err)
		}
	}
	return term.cmd.ProcessState.ExitCode()
}

// wantScreen compares the screen with patterns, line by line, as it would be
// if no line had wrapped.
func (term *terminal) wantScreen(patterns ...string) {
	term.t.Helper()
	shown := rows(term.wide)
	for i, p := range patterns {
		if i < len(shown) && regexp.MustCompile(p).MatchString(shown[i]) {
			shown[i] = p
		}
	}
	if diff := cmp.Diff(patterns, shown); diff != "" {
		term.t.Errorf("the screen (-want +got):\n%s", diff)
	}
}

// shards is a model with some large files whose names are longer than there is
// room for.
func shards() testenv.Revision {
	r := testenv.Revision{Repo: "an-organization/with-a-name", Commit: testenv.Commit("shards"), Refs: []string{"main"}}
	for i := range 3 {
		r.Files = append(r.Files, testenv.Content{
			Path: fmt.Sprintf("a/folder/in/it/model-0000%d-of-00003.safetensors", i+1), Data: testenv.Noise(uint64(i), 9*mib), LFS: true,
		})
	}
	return r
}

// overall is the line of the whole transfer, item that of one file.
const (
	overall = `^(\[=*> *\] )? +[0-9]+%% %s [0-9.]+M of 28\.3M, [0-9.]+M/s, [0-9]+s left, [0-3] of 3 files$`
	item    = `^  \[=*> *\]  +[0-9]+%    9\.4M  ….*model-0000[123]-of-00003\.safetensors$`
)

// TestTerminal looks at a push and a pull as somebody before a terminal does:
// at the question, the bars, and what is left when they are gone.
func TestTerminal(t *testing.T) {
	t.Parallel()
	r := shards()
	source, sink, remote := t.TempDir(), t.TempDir(), testenv.FileRemote(t)
	r.WriteCache(t, filepath.Join(source, "hub"))

	push := inTerminal(t, remote, source, nil, nil, "push", "--bwlimit", "12MB")
	push.await(`Push them\? \[y/N\]$`)
	push.typed("y\r")
	push.await(fmt.Sprintf(overall, "pushing"), item)
	if code := push.end(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	push.wantScreen(
		`^About to push to file:///.*, where everybody who may read it can read:$`,
		`^  - an-organization/with-a-name \(28\.3M\)$`,
		`^1 repository, 28\.3M in all\. Push them\? \[y/N\]$`,
		`^y$`,
		`^pushed 3 blobs \(28\.3M\) in [0-9.]+s, [0-9.]+M/s, 1 manifest, 1 ref; 0 revisions up to date$`,
	)

	pull := inTerminal(t, remote, sink, nil, nil, "pull", r.Repo, "--bwlimit", "12MB")
	pull.await(fmt.Sprintf(overall, "pulling"), item)
	if code := pull.end(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	pull.wantScreen(
		`^pulled an-organization/with-a-name@[0-9a-f]{12}: 3 files, 3 blobs \(28\.3M\) downloaded in [0-9.]+s, [0-9.]+M/s$`,
		`^offline: ready$`,
	)
	r.Compare(t, filepath.Join(sink, "hub"))
}

// TestTerminalInterrupt presses Ctrl-C beside bars, and at a question.
func TestTerminalInterrupt(t *testing.T) {
	t.Parallel()
	r := shards()
	home, remote := t.TempDir(), testenv.FileRemote(t)
	r.WriteCache(t, filepath.Join(home, "hub"))
	const (
		said    = `^stopping; press Ctrl-C again to stop at once$`
		stopped = `^hf-cache-sync: stopped by signal: interrupt$`
		hint    = `^hint: run the same command again; it carries on where it stopped$`
	)
	push := inTerminal(t, remote, home, nil, nil, "push", "--yes", "--bwlimit", "1MB")
	push.await(fmt.Sprintf(overall, "pushing"), item)
	push.typed("\x03")
	if code := push.end(); code != 130 {
		t.Errorf("it ended with %d", code)
	}
	// The terminal echoes ^C where it stands. Nothing must be left of that, nor
	// of the bars.
	shown := strings.Join(push.shown(), "\n")
	for _, p := range []string{said, stopped, hint} {
		if !regexp.MustCompile("(?m)" + p).MatchString(shown) {
			t.Errorf("%q is not on the screen:\n%s", p, shown)
		}
	}
	if strings.ContainsAny(shown, "%^[") {
		t.Errorf("bars are left:\n%s", shown)
	}

	question := inTerminal(t, remote, home, nil, nil, "push")
	question.await(`Push them\? \[y/N\]$`)
	question.typed("\x03")
	if code := question.end(); code != 130 {
		t.Errorf("at a question it ended with %d:\n%s", code, strings.Join(question.shown(), "\n"))
	}
}

// TestTerminalUnsafePrune is asked whether the only copy may be evicted.
func TestTerminalUnsafePrune(t *testing.T) {
	t.Parallel()
	r := shards()
	home, remote := t.TempDir(), testenv.FileRemote(t)
	r.WriteCache(t, filepath.Join(home, "hub"))
	for _, c := range []struct {
		answer string
		code   int
	}{{"n\r", 2}, {"y\r", 0}} {
		r.Compare(t, filepath.Join(home, "hub"))
		prune := inTerminal(t, remote, home, nil, nil, "prune", "--max-size", "0", "--evict-active", "--unsafe", "--grace", "0s")
		prune.await(`Remove it\? \[y/N\]$`)
		prune.typed(c.answer)
		code, shown := prune.end(), strings.Join(rows(prune.wide), "\n")
		if code != c.code || !strings.Contains(shown, "active (ref main), used within a day; the bucket was not asked (--unsafe)") {
			t.Errorf("after %q it ended with %d:\n%s", c.answer, code, shown)
		}
	}
	if _, err := os.Stat(filepath.Join(home, "hub", r.Folder(), "snapshots", r.Commit)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was not evicted: %v", err)
	}
}

// TestTerminalColour looks for what colours are switched on by: NO_COLOR and a
// file as standard error forbid it, and a file has no bars either.
func TestTerminalColour(t *testing.T) {
	t.Parallel()
	colour := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	r := shards()
	home := t.TempDir()
	r.WriteCache(t, filepath.Join(home, "hub"))
	for _, tc := range []struct {
		name          string
		file          bool
		env, args     []string
		colours, bars bool
	}{
		{name: "log", args: []string{"-v"}, colours: true},
		{name: "log without colour", env: []string{"NO_COLOR=1"}, args: []string{"-v"}},
		{name: "bars without colour", env: []string{"NO_COLOR=1"}, bars: true},
		{name: "dumb terminal", env: []string{"TERM=dumb"}},
		{name: "no progress", args: []string{"--no-progress"}},
		{name: "quiet", args: []string{"-q"}},
		{name: "events", args: []string{"--json-events"}},
		{name: "file", file: true},
		{name: "log in a file", file: true, args: []string{"-v"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var file *os.File
			if tc.file {
				var err error
				if file, err = os.Create(filepath.Join(t.TempDir(), "stderr")); err != nil {
					t.Fatal(err)
				}
				defer file.Close() //nolint:errcheck // Only the command writes to it.
			}
			term := inTerminal(t, testenv.FileRemote(t), home, file, tc.env, append(tc.args, "push", "--yes", "--bwlimit", "30MB")...)
			if code := term.end(); code != 0 {
				t.Fatalf("it ended with %d: %q", code, &term.raw)
			}
			written := term.raw.String()
			if !strings.Contains(written, "pushed 3 blobs") {
				t.Errorf("the result is missing: %q", written)
			}
			if file != nil {
				data, err := os.ReadFile(file.Name())
				if err != nil {
					t.Fatal(err)
				}
				written += string(data)
			}
			if got := colour.MatchString(written); got != tc.colours {
				t.Errorf("colours: %v, want %v: %q", got, tc.colours, written)
			}
			if got := regexp.MustCompile(`\[=*> *\]`).MatchString(written); got != tc.bars {
				t.Errorf("bars: %v, want %v: %q", got, tc.bars, written)
			}
			if !tc.bars && !tc.colours && strings.Contains(written, "\x1b") {
				t.Errorf("escape sequences: %q", written)
			}
		})
	}
}

//go:build unix

package e2e_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// afterwards is a shell that runs a command as a user's shell does: it outlives
// the command, whatever signal ends that, and so the terminal stays as the
// command left it. If the first process of a terminal ended, the system would
// set it right, and there would be nothing to see. It then writes how the
// terminal is, and ends as the command did.
const afterwards = `trap : INT TERM; "$@"; code=$?; stty -a >"$STATE"; exit "$code"`

const (
	initFile   = ".hf-cache-sync.yaml"
	initSecret = "Secret/Key+that=nobody-sees"
)

// asking is init at its questions.
type asking struct {
	*terminal
	dir   string // where it runs
	state string // where the shell says how the terminal is
}

// initInTerminal starts init in a folder. It needs no bucket. Standard error
// goes to the file if there is one.
func initInTerminal(t *testing.T, dir string, stderr *os.File, args ...string) *asking {
	t.Helper()
	q := &asking{dir: dir, state: filepath.Join(t.TempDir(), "stty")}
	args = append([]string{"-c", afterwards, "sh", testenv.Binary(t).Args[0], "init"}, args...)
	q.terminal = &terminal{
		t: t, cmd: exec.CommandContext(t.Context(), "sh", args...), buf: make([]byte, 4<<10),
		screen: vt10x.New(vt10x.WithSize(columns, lines)), wide: vt10x.New(vt10x.WithSize(wide, lines)),
	}
	q.cmd.Dir = dir
	q.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TERM=xterm-256color", "STATE=" + q.state}
	if stderr != nil {
		q.cmd.Stderr = stderr
	}
	tty, err := pty.StartWithSize(q.cmd, &pty.Winsize{Cols: columns, Rows: lines})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() }) // The test has read all of it.
	q.tty = tty
	return q
}

// answer waits for a question and types an answer.
func (q *asking) answer(question, answer string) {
	q.t.Helper()
	q.await(question)
	q.typed(answer)
}

// wantEnd waits for the end, and compares the exit code and whether what is
// typed is shown again.
func (q *asking) wantEnd(code int) {
	q.t.Helper()
	if got := q.end(); got != code {
		q.t.Errorf("it ended with %d, not %d:\n%s", got, code, strings.Join(q.shown(), "\n"))
	}
	state, err := os.ReadFile(q.state)
	if err != nil {
		q.t.Fatal(err)
	}
	if !showsInput(string(state)) {
		q.t.Errorf("the terminal shows nothing of what is typed:\n%s", state)
	}
}

// showsInput reads what stty says about a terminal.
func showsInput(state string) bool {
	words := strings.FieldsFunc(state, func(r rune) bool { return strings.ContainsRune(" ;\n", r) })
	return slices.Contains(words, "echo")
}

// wantNothing looks for what a run that was broken off may have left.
func (q *asking) wantNothing() {
	q.t.Helper()
	for _, name := range []string{initFile, ".gitignore"} {
		if _, err := os.Lstat(filepath.Join(q.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			q.t.Errorf("%s is left: %v", name, err)
		}
	}
}

// worktree is a folder that git would take for a work tree.
func worktree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The questions, in their order. The line that asks for the secret key ends
// there: nothing is shown behind it.
const (
	askBucket   = `^Bucket: *$`
	askRegion   = `^Region \[us-east-1\]: *$`
	askEndpoint = `^Endpoint \[http://localhost:9000\]: *$`
	askKeyID    = `^Key ID \(empty: from the environment\): *$`
	askSecret   = `^Secret key \(not shown\): *$`
	askIgnore   = `\[Y/n\]: *$`
)

// upTo answers the questions that come before one.
func (q *asking) upTo(question string) {
	q.t.Helper()
	for _, step := range []struct{ question, answer string }{
		{askBucket, "team-hf-cache\r"},
		{askRegion, "\r"},
		{askEndpoint, "https://minio.example:9000\r"},
		{askKeyID, "the-key-id\r"},
		{askSecret, initSecret + "\r"},
		{askIgnore, "\r"},
	} {
		if step.question == question {
			break
		}
		q.answer(step.question, step.answer)
	}
	q.await(question)
}

// TestInitTerminal answers all questions. What is typed at the one for the
// secret key must be in the file and nowhere on the screen.
func TestInitTerminal(t *testing.T) {
	t.Parallel()
	q := initInTerminal(t, worktree(t), nil, "--provider", "minio")
	q.upTo(askIgnore)
	q.typed("\r")
	q.wantEnd(0)
	if strings.Contains(q.raw.String(), initSecret) {
		t.Errorf("the secret was shown: %q", &q.raw)
	}
	shown := strings.Join(q.shown(), "\n")
	for _, p := range []string{`^Bucket: team-hf-cache$`, `^wrote \.hf-cache-sync\.yaml$`, `^Next: `} {
		if !regexp.MustCompile("(?m)" + p).MatchString(shown) {
			t.Errorf("%q is not on the screen:\n%s", p, shown)
		}
	}
	path := filepath.Join(q.dir, initFile)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the mode of the file is %v", info.Mode())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`bucket: "team-hf-cache"`, `region: "us-east-1"`, `endpoint: "https://minio.example:9000"`,
		`access_key: "the-key-id"`, `secret_key: "` + initSecret + `"`,
	} {
		if !strings.Contains(string(text), "\n  "+line+"\n") {
			t.Errorf("%s is not in the file:\n%s", line, text)
		}
	}
	if list, err := os.ReadFile(filepath.Join(q.dir, ".gitignore")); err != nil || string(list) != initFile+"\n" {
		t.Errorf(".gitignore holds %q, %v", list, err)
	}
}

// TestInitTerminalBreakOff breaks off at each kind of question. Nothing may be
// left, and the terminal must be as it was.
func TestInitTerminalBreakOff(t *testing.T) {
	t.Parallel()
	const interrupt, endOfFile = "\x03", "\x04"
	for _, tc := range []struct {
		name, question string
		key            string // that is pressed; without one it is sent SIGTERM
		code           int
		said           []string
	}{
		{"Ctrl-C at the first", askBucket, interrupt, 130, []string{`^hf-cache-sync: stopped by signal: interrupt$`}},
		{"Ctrl-C at the secret", askSecret, interrupt, 130, []string{`^hf-cache-sync: stopped by signal: interrupt$`}},
		{"Ctrl-C in the middle of the secret", askSecret, initSecret + interrupt, 130, []string{`^hf-cache-sync: stopped by signal: interrupt$`}},
		{"Ctrl-C at the last", askIgnore, interrupt, 130, []string{`^hf-cache-sync: stopped by signal: interrupt$`}},
		{"SIGTERM at the first", askBucket, "", 143, []string{`^hf-cache-sync: stopped by signal: terminated$`}},
		{"SIGTERM at the secret", askSecret, "", 143, []string{`^hf-cache-sync: stopped by signal: terminated$`}},
		{"Ctrl-D at the first", askBucket, endOfFile, 2, []string{`^hf-cache-sync: init: no answer, nothing was written$`, `^hint: with --yes it asks nothing$`}},
		{"Ctrl-D at the secret", askSecret, endOfFile, 2, []string{`^hf-cache-sync: init: no answer, nothing was written$`, `^hint: with --yes it asks nothing$`}},
		{"Ctrl-D at the last", askIgnore, endOfFile, 2, []string{`^hf-cache-sync: init: no answer, nothing was written$`, `^hint: with --yes it asks nothing$`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			q := initInTerminal(t, worktree(t), nil, "--provider", "minio")
			q.upTo(tc.question)
			if tc.key != "" {
				q.typed(tc.key)
			} else if err := syscall.Kill(-q.cmd.Process.Pid, syscall.SIGTERM); err != nil { // The shell has a group of its own, and catches it.
				t.Fatal(err)
			}
			q.wantEnd(tc.code)
			q.wantNothing()
			shown := strings.Join(q.shown(), "\n")
			for _, p := range tc.said {
				if !regexp.MustCompile("(?m)" + p).MatchString(shown) {
					t.Errorf("%q is not on the screen:\n%s", p, shown)
				}
			}
			if strings.Contains(q.raw.String(), initSecret) {
				t.Errorf("the secret was shown: %q", &q.raw)
			}
		})
	}
}

// TestInitTerminalMistake gives an answer that makes no sense. That is said
// before anybody types a key for it.
func TestInitTerminalMistake(t *testing.T) {
	t.Parallel()
	q := initInTerminal(t, worktree(t), nil, "--provider", "minio", "--region", "here", "--endpoint", "http://localhost:9000")
	q.answer(askBucket, "s3://bucket\r\x04") // Ctrl-D is for a question that should not come.
	q.wantEnd(2)
	q.wantNothing()
	if shown := strings.Join(q.shown(), "\n"); strings.Contains(shown, "Key ID") || !strings.Contains(shown, "hf-cache-sync: init: the bucket is a name, not a URL") {
		t.Errorf("the screen:\n%s", shown)
	}
}

// TestInitTerminalInterruptTwice presses Ctrl-C a second time while init cannot
// end, because the terminal that it writes to takes nothing more. The first one
// must have set the other terminal right by then.
func TestInitTerminalInterruptTwice(t *testing.T) {
	t.Parallel()
	output, stderr, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close() //nolint:errcheck // The test has read what it wants.
	defer stderr.Close() //nolint:errcheck // Likewise.
	said := &terminal{
		t: t, tty: output, buf: make([]byte, 4<<10),
		screen: vt10x.New(vt10x.WithSize(columns, lines)), wide: vt10x.New(vt10x.WithSize(wide, lines)),
	}
	q := initInTerminal(t, worktree(t), stderr, "--quiet", "--provider", "minio", "--bucket", "name", "--region", "here", "--endpoint", "http://localhost:9000")
	said.await(askKeyID)
	q.typed("the-key-id\r")
	said.await(`Secret key \(not shown\): *$`) // in the same line: what was typed went to the other terminal
	if q.echoes() {
		t.Fatal("what is typed is shown")
	}
	said.stop(stderr.Name())
	q.typed("\x03")
	for tries := 0; !q.echoes(); tries++ { // It ends when the first Ctrl-C has done what it must.
		if tries == 5000 {
			t.Fatal("what is typed is not shown again")
		}
	}
	q.typed("\x03")
	q.wantEnd(130)
	q.wantNothing()
	if strings.Contains(said.raw.String(), "stopped by signal") {
		t.Errorf("it ended by itself: %q", &said.raw)
	}
}

// stop presses Ctrl-S, and returns when whoever writes to the terminal has to
// wait.
func (term *terminal) stop(name string) {
	term.t.Helper()
	probe, err := os.OpenFile(name, os.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		term.t.Fatal(err)
	}
	defer probe.Close() //nolint:errcheck // What was written to it is nothing.
	raw, err := probe.SyscallConn()
	if err != nil {
		term.t.Fatal(err)
	}
	term.typed("\x13")
	for {
		var written error
		if err := raw.Control(func(fd uintptr) { _, written = syscall.Write(int(fd), []byte{0}) }); err != nil {
			term.t.Fatal(err)
		}
		switch {
		case errors.Is(written, syscall.EAGAIN):
			return
		case written != nil:
			term.t.Fatal(written)
		}
		term.read() // Or it would be full, and not stopped.
	}
}

// echoes says whether the terminal shows what is typed.
func (q *asking) echoes() bool {
	q.t.Helper()
	cmd := exec.CommandContext(q.t.Context(), "stty", "-a")
	cmd.Stdin = q.tty
	state, err := cmd.Output()
	if err != nil {
		q.t.Fatal(err)
	}
	return showsInput(string(state))
}

// Package action_test runs the steps of the GitHub Action as a runner does: in the
// order of action.yml, each in a shell of its own, with the files through which
// steps speak to the runner. The release that it installs comes from a server of
// the test, the bucket is on an S3 server, and the Hub is test/fakehub.
package action_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/hf-cache-sync/hf-cache-sync/test/release"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// server is the S3 server of all tests in this package; TestMain sets it.
var server *testenv.S3

func TestMain(m *testing.M) {
	os.Exit(testenv.MainWithS3(m, func(s *testenv.S3) { server = s }))
}

// action is what the runner reads of an action.yml.
type action struct {
	Name        string
	Description string
	Branding    map[string]string
	Inputs      map[string]struct {
		Description string
		Required    bool
		Default     string
	}
	Outputs map[string]struct{ Description, Value string }
	Runs    struct {
		Using string
		Steps []step
	}
}

type step struct {
	Name  string
	ID    string
	Shell string
	Run   string
	Env   map[string]string
}

func readAction(t *testing.T, dir string) action {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var a action
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err = decoder.Decode(&a); err != nil {
		t.Fatal(err)
	}
	if a.Runs.Using != "composite" || len(a.Runs.Steps) == 0 {
		t.Fatalf("not a composite action: %+v", a.Runs)
	}
	return a
}

// runner is a machine for one job: what its steps share.
type runner struct {
	root  string // The folder of the action, as checked out by the runner.
	home  string
	temp  string
	work  string
	env   map[string]string // Of the job, and what steps have added.
	path  []string          // That steps have put before PATH, the last first.
	event map[string]string // Of the github context.
}

func newRunner(t *testing.T, r *release.Server, env ...string) *runner {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m := &runner{
		root: root, home: filepath.Join(dir, "home"), temp: filepath.Join(dir, "temp with space"), work: filepath.Join(dir, "work"),
		env: map[string]string{}, event: map[string]string{},
	}
	for _, folder := range []string{m.home, m.temp, m.work} {
		testenv.Mkdir(t, folder)
	}
	for _, variable := range append([]string{"HF_CACHE_SYNC_DOWNLOAD_URL=" + r.URL, "GITHUB_REPOSITORY=team/app"}, env...) {
		name, value, _ := strings.Cut(variable, "=")
		m.env[name] = value
	}
	return m
}

// hub is the Hub cache of the machine.
func (m *runner) hub() string { return filepath.Join(m.home, ".cache", "huggingface", "hub") }

// job is what one use of an action left behind.
type job struct {
	code    int // Of the step that ended it, or 0.
	output  string
	outputs map[string]string
	summary string
}

func (j job) String() string {
	return fmt.Sprintf("exit code %d\noutputs: %q\nsummary:\n%s\noutput:\n%s", j.code, j.outputs, j.summary, j.output)
}

// uses runs the steps of the action in a folder below the root, as `uses:` does.
func (m *runner) uses(t *testing.T, dir string, inputs map[string]string) job {
	t.Helper()
	dir = filepath.Join(m.root, dir)
	a := readAction(t, dir)
	values := map[string]string{}
	for name, value := range m.event {
		values["github."+name] = value
	}
	for name, input := range a.Inputs {
		values["inputs."+name] = input.Default
	}
	for name, value := range inputs {
		if _, ok := a.Inputs[name]; !ok {
			t.Fatalf("the action has no input %q", name)
		}
		values["inputs."+name] = value
	}
	var done job
	for _, s := range a.Runs.Steps {
		if strings.Contains(s.Run, "${{") {
			t.Errorf("step %q: an expression in shell text: %s", s.Name, s.Run)
		}
		outputs := m.step(t, dir, s, values, &done)
		for name, value := range outputs {
			values["steps."+s.ID+".outputs."+name] = value
		}
		if done.code != 0 {
			break
		}
	}
	done.outputs = map[string]string{}
	for name, output := range a.Outputs {
		done.outputs[name] = evaluate(output.Value, values)
	}
	return done
}

// evaluate replaces expressions, which are names here and nothing else. One that
// is not known is empty, as on the runner.
func evaluate(text string, values map[string]string) string {
	return regexp.MustCompile(`\$\{\{ *([^ }]+) *\}\}`).ReplaceAllStringFunc(text, func(expression string) string {
		return values[strings.TrimSpace(strings.Trim(expression, "${}"))]
	})
}

// step runs one step, adds what it printed to done, and returns its outputs.
func (m *runner) step(t *testing.T, dir string, s step, values map[string]string, done *job) map[string]string {
	t.Helper()
	if s.Shell != "bash" {
		t.Fatalf("step %q: shell %q", s.Name, s.Shell)
	}
	files := t.TempDir()
	script := filepath.Join(files, "step.sh")
	testenv.WriteFile(t, script, []byte(s.Run+"\n"))
	// As the runner calls it for `shell: bash`.
	cmd := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-e", "-o", "pipefail", script)
	cmd.Dir = m.work
	env := map[string]string{
		"HOME": m.home, "RUNNER_TEMP": m.temp, "LANG": "C.UTF-8", "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_ACTION_PATH": dir,
		"PATH": strings.Join(append(m.path, os.Getenv("PATH")), string(filepath.ListSeparator)),
	}
	maps.Copy(env, m.env)
	for name, text := range s.Env {
		env[name] = evaluate(text, values)
	}
	for _, file := range []string{"ENV", "OUTPUT", "PATH", "STEP_SUMMARY"} {
		env["GITHUB_"+file] = filepath.Join(files, file)
		testenv.WriteFile(t, filepath.Join(files, file), nil)
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	output, err := cmd.CombinedOutput()
	done.code = cmd.ProcessState.ExitCode()
	if err != nil && done.code <= 0 {
		t.Fatalf("step %q: %v: %s", s.Name, err, output)
	}
	done.output += string(output)
	read := func(name string) string {
		data, readErr := os.ReadFile(filepath.Join(files, name))
		if readErr != nil {
			t.Fatal(readErr)
		}
		return string(data)
	}
	done.summary += read("STEP_SUMMARY")
	maps.Copy(m.env, assignments(t, read("ENV")))
	for line := range strings.Lines(read("PATH")) {
		m.path = append([]string{strings.TrimSuffix(line, "\n")}, m.path...)
	}
	return assignments(t, read("OUTPUT"))
}

// assignments reads a file of name=value lines and name<<mark blocks.
func assignments(t *testing.T, text string) map[string]string {
	t.Helper()
	found := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines) && text != ""; i++ {
		name, mark, ok := strings.Cut(lines[i], "<<")
		if !ok {
			name, value, isAssignment := strings.Cut(lines[i], "=")
			if !isAssignment {
				t.Fatalf("neither name=value nor name<<mark: %q", lines[i])
			}
			found[name] = value
			continue
		}
		var value []string
		for i++; i < len(lines) && lines[i] != mark; i++ {
			value = append(value, lines[i])
		}
		if i == len(lines) {
			t.Fatalf("%s: the mark %s does not come again", name, mark)
		}
		found[name] = strings.Join(value, "\n")
	}
	return found
}

// platform is that of this machine, as release archives are named.
func platform() string { return runtime.GOOS + "_" + runtime.GOARCH }

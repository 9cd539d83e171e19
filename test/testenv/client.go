package testenv

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

// Client is a real library that fills and reads Hub caches, run by one of the
// drivers in test/clients/drivers, which tell what steps there are.
type Client struct {
	Name    string
	program Program
}

// Python is huggingface_hub of the given version.
func Python(t *testing.T, version string) Client {
	t.Helper()
	return Client{"hub-" + version, Program{Args: []string{
		Tool(t, "venv/hub-"+version+"/bin/python"), "-B", "-W", "ignore", driver(t, "hub.py"),
	}}}
}

// JavaScript is @huggingface/hub on Node.
func JavaScript(t *testing.T) Client {
	t.Helper()
	npm := filepath.Dir(filepath.Dir(filepath.Dir(Tool(t, "npm/node_modules/@huggingface/hub"))))
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("%v: install Node 20 or newer", err)
	}
	return Client{"js", Program{Args: []string{node, driver(t, "hub.mjs")}, Env: []string{"HFCS_NPM=" + npm}}}
}

func driver(t *testing.T, name string) string {
	t.Helper()
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "test", "clients", "drivers", name)
}

// With returns c with more variables in its environment.
func (c Client) With(env ...string) Client {
	c.program = c.program.With(env...)
	return c
}

// Step is one call: "do" and the arguments, as the drivers describe them.
type Step map[string]any

// Outcome is what a step gave: a value in JSON, or the class of an exception
// and its message.
type Outcome struct {
	OK      json.RawMessage `json:"ok"`
	Error   string          `json:"error"`
	Message string          `json:"message"`
}

// String is the outcome for messages of tests.
func (o Outcome) String() string {
	if o.Error != "" {
		return o.Error + ": " + o.Message
	}
	return string(o.OK)
}

// Decode reads the value of a step that must have gone well into v.
func (o Outcome) Decode(t *testing.T, v any) {
	t.Helper()
	if o.Error != "" {
		t.Fatalf("%s: %s", o.Error, o.Message)
	}
	if err := json.Unmarshal(o.OK, v); err != nil {
		t.Fatalf("%v in %s", err, o.OK)
	}
}

// Run carries the steps out in one process whose HF_HOME is home, so that the
// cache is its folder "hub". The Hub is at endpoint; an empty one means
// offline mode.
func (c Client) Run(t *testing.T, home, endpoint string, steps ...Step) []Outcome {
	t.Helper()
	stdin, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{
		"HF_HOME=" + home, "HF_HUB_DISABLE_TELEMETRY=1", "HF_HUB_DISABLE_XET=1", "HF_HUB_DISABLE_PROGRESS_BARS=1",
		"HF_HUB_DISABLE_UPDATE_CHECK=1", "HF_HUB_DISABLE_IMPLICIT_TOKEN=1",
	}
	if endpoint == "" {
		// The address leads nowhere, should a client ask it all the same.
		env = append(env, "HF_HUB_OFFLINE=1", "HF_ENDPOINT=http://127.0.0.1:9")
	} else {
		env = append(env, "HF_ENDPOINT="+endpoint)
	}
	// Variables of With come later and win.
	program := c.program
	program.Env = append(env, program.Env...)
	result := program.Run(t, bytes.NewReader(stdin))
	var outcomes []Outcome
	if err = json.Unmarshal([]byte(result.Stdout), &outcomes); err != nil || len(outcomes) != len(steps) {
		t.Fatalf("%s: %v, %d outcomes of %d steps: %s", c.Name, err, len(outcomes), len(steps), result)
	}
	return outcomes
}

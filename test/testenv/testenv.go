// Package testenv gives the tests of this module what they run: the
// hf-cache-sync binary, the real clients, and an S3 server.
//
// Everything runs with an environment of its own, made from nothing, so that
// what happens to be set on a machine (credentials, proxies, HF_TOKEN) neither
// helps nor hinders. Nothing is built or installed here: what is missing is an
// error that says which command makes it.
//
// HFCS_BIN is the binary to test, by default bin/hf-cache-sync of the
// repository. HFCS_CACHE is the folder with the tools and the clients, by
// default .cache of the repository; scripts/clients.sh fills it.
package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Result is what a program left behind.
type Result struct {
	Stdout string
	Stderr string
	Code   int // The exit code; -1 if a signal ended the program.
}

// String is the result for a message of a test.
func (r Result) String() string {
	return fmt.Sprintf("exit code %d\nstdout:\n%s\nstderr:\n%s", r.Code, r.Stdout, r.Stderr)
}

// Program is something to run: the words of its command line, to which a call
// adds its own, and the variables of its environment.
type Program struct {
	Args []string
	Env  []string
	Dir  string // Where it runs; "" is where the test runs.
}

// With returns p with more variables in its environment, later ones winning.
func (p Program) With(env ...string) Program {
	p.Env = append(slices.Clip(p.Env), env...)
	return p
}

// Run carries p out and waits for its end. That a program ends with an error
// is a result; that it cannot be started fails the test.
func (p Program) Run(t *testing.T, stdin io.Reader, args ...string) Result {
	t.Helper()
	args = append(slices.Clip(p.Args), args...)
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Dir = stdin, &stdout, &stderr, p.Dir
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + t.TempDir(), "LANG=C.UTF-8", "LC_ALL=C.UTF-8",
	}, p.Env...)
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatalf("running %s: %v", args[0], err)
		}
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// Binary is hf-cache-sync itself, with the given environment.
func Binary(t *testing.T, env ...string) Program {
	t.Helper()
	path, err := locate("HFCS_BIN", "bin/hf-cache-sync")
	if err != nil {
		t.Fatal(err)
	}
	return Program{Args: []string{path}, Env: env}
}

// Tool is the path of name below the cache of tools.
func Tool(t *testing.T, name string) string {
	t.Helper()
	path, err := tool(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func tool(name string) (string, error) {
	root, err := locate("HFCS_CACHE", ".cache")
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, filepath.FromSlash(name))
	if _, err = os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run `make test`, which installs it", err)
	}
	return path, nil
}

// locate is the absolute path that the variable holds, or else the one with
// the given name in the repository. It must exist.
func locate(variable, name string) (string, error) {
	path := os.Getenv(variable)
	if path == "" {
		root, err := repository()
		if err != nil {
			return "", err
		}
		path = filepath.Join(root, filepath.FromSlash(name))
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("locating %s: %w", name, err)
	}
	if _, err = os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run `make test`, which makes it, or set %s", err, variable)
	}
	return path, nil
}

// repository is the root of the repository, found upwards from the package
// under test.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err = os.Stat(filepath.Join(at, "test", "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("finding the repository: %s is not inside of it", dir)
		}
	}
}

package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestCommandRun(t *testing.T) {
	dir := t.TempDir()
	// The grandchild counts, too, and the launcher's own memory is not the program's.
	c := Command{Args: []string{"/bin/sh", "-c", "sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'; echo $WORD"}, Env: []string{"WORD=here"}, Dir: dir, Stdout: filepath.Join(dir, "out")}
	ballast := make([]byte, 256<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	usage, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if usage.Wall <= 0 || usage.CPU <= 0 || usage.RSS <= 0 {
		t.Errorf("usage is %+v", usage)
	}
	if usage.RSS > 100<<20 {
		t.Errorf("a shell took %d bytes; the harness has %d", usage.RSS, len(ballast))
	}
	out, err := os.ReadFile(c.Stdout)
	if err != nil || string(out) != "here\n" {
		t.Errorf("it printed %q, %v", out, err)
	}
}

func TestCommandRunFails(t *testing.T) {
	c := Command{Args: []string{"/bin/sh", "-c", "echo why >&2; exit 7"}, Dir: t.TempDir()}
	_, err := c.Run(t.Context())
	failed, ok := errors.AsType[*ProgramError](err)
	if !ok || failed.Code != 7 || failed.Output != "why" {
		t.Errorf("got %v", err)
	}
	c.Args = []string{"/nonexistent/program"}
	if _, err = c.Run(t.Context()); err == nil {
		t.Error("a program that is not there ran")
	}
}

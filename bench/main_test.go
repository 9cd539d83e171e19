package main

import (
	"io"
	"os"
	"testing"
)

// TestMain lets the tests' binary be the launcher, as the harness itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "launch" {
		os.Exit(run(os.Args[1:], os.Stderr))
	}
	os.Exit(m.Run())
}

func TestFlags(t *testing.T) {
	tests := map[string]struct {
		args []string
		code int
	}{
		"help":         {[]string{"-help"}, 0},
		"wrong regexp": {[]string{"-cases", "("}, 2},
		"no rounds":    {[]string{"-rounds", "0"}, 2},
		"an argument":  {[]string{"2gib"}, 2},
		"nothing here": {[]string{"-top", "/nonexistent"}, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if code := run(test.args, io.Discard); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
		})
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Usage is what one run of a program took.
type Usage struct {
	Wall float64 `json:"wall_seconds"`
	CPU  float64 `json:"cpu_seconds"`    // User and system, its children included.
	RSS  int64   `json:"peak_rss_bytes"` // Of the largest process, should there be several.
}

// Command is a program to measure. It gets no variables but Env, and no input.
type Command struct {
	Args   []string // Args[0] is a path.
	Env    []string
	Dir    string
	Stdout string // A file to make; empty for none.
}

// String is the command as a reader would type it: programs by their names alone.
func (c *Command) String() string {
	words := make([]string, len(c.Args))
	for i, arg := range c.Args {
		if i == 0 {
			arg = filepath.Base(arg)
		}
		if strings.ContainsAny(arg, " *$") || arg == "" {
			arg = "'" + arg + "'"
		}
		words[i] = arg
	}
	return strings.Join(words, " ")
}

// ProgramError is a measured program that failed.
type ProgramError struct {
	Command string
	Code    int
	Output  string // The end of its standard error.
}

// Error names the program and what it said.
func (e *ProgramError) Error() string {
	return fmt.Sprintf("%s: exit code %d: %s", e.Command, e.Code, e.Output)
}

// launchReport is what the launcher tells the harness.
type launchReport struct {
	Usage Usage
	Code  int
	Err   string
}

// Run runs c to its end and measures it.
//
// A launcher, which is this program anew, starts c: Linux takes the memory that
// the starting process held for memory of the started one, and the harness may
// hold more than what it measures.
func (c *Command) Run(ctx context.Context) (usage Usage, err error) {
	self, err := os.Executable()
	if err != nil {
		return Usage{}, fmt.Errorf("looking for the harness itself: %w", err)
	}
	stderr, err := os.CreateTemp(c.Dir, "stderr-")
	if err != nil {
		return Usage{}, fmt.Errorf("a file for messages: %w", err)
	}
	defer func() { err = errors.Join(err, stderr.Close(), os.Remove(stderr.Name())) }()
	read, write, err := os.Pipe()
	if err != nil {
		return Usage{}, fmt.Errorf("a pipe to the launcher: %w", err)
	}
	launcher := exec.CommandContext(ctx, self, append([]string{"launch"}, c.Args...)...)
	launcher.Env, launcher.Dir, launcher.Stderr, launcher.ExtraFiles = c.Env, c.Dir, stderr, []*os.File{write}
	if c.Stdout != "" {
		out, createErr := os.Create(c.Stdout)
		if createErr != nil {
			return Usage{}, errors.Join(createErr, read.Close(), write.Close())
		}
		defer func() { err = errors.Join(err, out.Close()) }()
		launcher.Stdout = out
	}
	release, err := startBound(launcher)
	defer release()
	if err != nil {
		return Usage{}, errors.Join(fmt.Errorf("starting the launcher: %w", err), read.Close(), write.Close())
	}
	closeErr := write.Close()
	said, readErr := io.ReadAll(read)
	waitErr := launcher.Wait()
	if err = errors.Join(closeErr, readErr, read.Close(), context.Cause(ctx), waitErr); err != nil {
		return Usage{}, fmt.Errorf("running %s: %w", c, err)
	}
	var report launchReport
	if err = json.Unmarshal(said, &report); err != nil {
		return Usage{}, fmt.Errorf("running %s: the launcher's report: %w", c, err)
	}
	if report.Err != "" {
		return Usage{}, fmt.Errorf("running %s: %s", c, report.Err)
	}
	if report.Code != 0 {
		return Usage{}, &ProgramError{c.String(), report.Code, lastOf(stderr.Name())}
	}
	return report.Usage, nil
}

// lastOf is the end of the file, as much as a message may hold.
func lastOf(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data[max(0, len(data)-2000):]))
}

// startBound starts cmd, which is killed should the harness end before it. Call
// release when it has ended.
func startBound(cmd *exec.Cmd) (release func(), err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		// Linux ends the child with the thread that started it, so the thread is
		// kept.
		runtime.LockOSThread()
		started <- cmd.Start()
		<-ended
	}()
	return func() { close(ended) }, <-started
}

// launch runs the program args, measures it, and reports to file descriptor 3.
func launch(args []string) error {
	syscall.CloseOnExec(3)
	report := launchReport{}
	start := time.Now()
	// Not exec.Cmd: nothing but the start and the wait is between the clock's readings.
	process, err := os.StartProcess(args[0], args, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		report.Err = err.Error()
	} else {
		state, waitErr := process.Wait()
		report.Usage.Wall = time.Since(start).Seconds()
		if waitErr != nil {
			return fmt.Errorf("waiting for %s: %w", args[0], waitErr)
		}
		report.Code = state.ExitCode()
		report.Usage.CPU = (state.UserTime() + state.SystemTime()).Seconds()
		if rusage, ok := state.SysUsage().(*syscall.Rusage); ok {
			report.Usage.RSS = rusage.Maxrss << 10
		}
	}
	pipe := os.NewFile(3, "report")
	return errors.Join(json.NewEncoder(pipe).Encode(report), pipe.Close())
}

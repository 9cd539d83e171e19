package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// Process is everything that a run takes from its surroundings.
type Process struct {
	Args   []string // without the program's name
	Env    config.Lookup
	Home   string // the user's home folder
	Dir    string // the working folder; empty means that of the process
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Now    func() time.Time
	// Interactive says that somebody reads standard error and can answer on standard input.
	Interactive bool
	// Signals delivers interrupts; nil means none can come.
	Signals <-chan os.Signal
	// Exit ends the process at once, with a second interrupt's exit code.
	Exit func(code int)
	// Hangups asks to be told of hangup signals, which otherwise end the process; nil means that none can come. A program that runs for long takes them for the wish that it
	// read its configuration again.
	Hangups func() <-chan os.Signal
}

// How much the heap may grow before it is collected, in percent of what is in use. That is little while data moves, because buffers are few and shared, and much only while a whole
// cache or bucket is looked at: Go's own 100 would take twice the memory that the inventory needs, on a machine whose memory is for a model. With 70 a scan takes as long; the
// manifests of a bucket come over a network, which is worth a few percent more of the processor.
const (
	gcPercent       = 70
	gcPercentBucket = 40
)

// collectAt sets the percentage, unless the user has an opinion of it.
func collectAt(percent int, env config.Lookup) {
	if _, given := env("GOGC"); !given {
		debug.SetGCPercent(percent)
	}
}

// System is the process that the operating system started.
func System() Process {
	collectAt(gcPercent, os.LookupEnv)
	home, err := os.UserHomeDir()
	if err != nil {
		home = "." // a container without HOME; the cache folder can still be named
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	return Process{
		Args: os.Args[1:], Env: os.LookupEnv, Home: home,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Now: time.Now, Signals: signals, Exit: os.Exit, Hangups: hangups,
		Interactive: ui.IsTerminal(os.Stdin) && ui.IsTerminal(os.Stderr),
	}
}

func hangups() <-chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	return signals
}

// interruptError is the cause of a context that a signal ended.
type interruptError struct{ signal os.Signal }

// Error names the signal.
func (e *interruptError) Error() string { return "stopped by signal: " + e.signal.String() }

// Main runs one command and returns the process's exit code.
func Main(p Process) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	a := &app{Process: p}
	if p.Signals != nil {
		ended := make(chan struct{})
		defer close(ended)
		go a.heed(cancel, ended)
	}
	err := a.root().ExecuteContext(ctx)
	if interrupt, ok := errors.AsType[*interruptError](context.Cause(ctx)); ok && err != nil {
		err = interrupt
	}
	if err == nil {
		return exitDone
	}
	return a.end(explain(err))
}

// heed stops the command at the first signal, and the process at the second: everything on disk can be resumed at any instant. It keeps listening by itself, because to give the
// second one back to the system would lose one that comes meanwhile.
func (a *app) heed(cancel context.CancelCauseFunc, ended <-chan struct{}) {
	select {
	case s := <-a.Signals:
		if show := a.echo.Load(); show != nil {
			_ = (*show)() // a second signal would leave a terminal that shows nothing
		}
		go func() { // Who reads standard error may have stopped.
			a.stopping(s) // first: the end may come sooner than the word
			cancel(&interruptError{s})
		}()
	case <-ended:
		return
	}
	select {
	case s := <-a.Signals:
		a.Exit(explain(&interruptError{s}).code)
	case <-ended:
	}
}

// stopping answers the first signal at once: to end what is under way may take a moment.
func (a *app) stopping(s os.Signal) {
	switch {
	case !a.prepared.Load(): // it has not begun
	case s == os.Interrupt:
		a.note("stopping; press Ctrl-C again to stop at once")
	default:
		a.note("stopping")
	}
}

// end says why a command failed, and what to do about it.
func (a *app) end(v verdict) int {
	if a.events != nil {
		a.events.Say("error", v.message)
	} else {
		for line := range strings.Lines(v.message) {
			a.warn("hf-cache-sync: %s", strings.TrimSuffix(line, "\n"))
		}
	}
	switch {
	case v.hint == "":
	case a.events != nil:
		a.events.Say("hint", v.hint)
	default:
		a.warn("hint: %s", v.hint)
	}
	return v.code
}

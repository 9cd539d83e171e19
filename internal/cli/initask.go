package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// asks says whether there is somebody to ask, who wants to be asked.
func (o *initOptions) asks() bool { return o.Interactive && !o.yes && !o.json && o.events == nil }

// ask returns what the user answers, or the default.
func (o *initOptions) ask(ctx context.Context, question, preset string) (string, error) {
	if !o.asks() {
		return preset, nil
	}
	if preset != "" {
		question += " [" + preset + "]"
	}
	_, _ = fmt.Fprintf(o.Stderr, "%s: ", question) // nobody to tell if it fails
	line, err := answered(ctx, func() (string, error) { return o.answer.ReadString('\n') })
	switch line = strings.TrimSpace(line); {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		_, _ = fmt.Fprintln(o.Stderr) // the question stands there without an end of line
		return "", &usageError{errors.New("init: no answer, nothing was written"), "with --yes it asks nothing"}
	case line == "":
		return preset, nil
	}
	return line, nil
}

// askSecret is ask without showing what is typed.
func (o *initOptions) askSecret(ctx context.Context, question string) (string, error) {
	f, ok := o.Stdin.(*os.File)
	if !ok || !o.asks() || !term.IsTerminal(int(f.Fd())) {
		return o.ask(ctx, question, "")
	}
	// Before the question: who answers at once must not see the answer either. And not in the read, which may begin after an interrupt has ended the question,
	// and would leave the user with a terminal that shows nothing.
	restore, err := hush(int(f.Fd()))
	if err != nil {
		return "", fmt.Errorf("init: reading the key: %w", err)
	}
	o.echo.Store(&restore)
	defer o.echo.Store(nil)
	_, _ = fmt.Fprintf(o.Stderr, "%s (not shown): ", question) // nobody to tell if it fails
	secret, err := answered(ctx, func() (string, error) { return o.answer.ReadString('\n') })
	// Before anything else is said: a second interrupt ends the process wherever it is.
	if restored := restore(); restored != nil {
		return "", errors.Join(err, fmt.Errorf("init: showing again what is typed: %w", restored))
	}
	_, _ = fmt.Fprintln(o.Stderr) // the one that was typed is not shown either
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "", &usageError{errors.New("init: no answer, nothing was written"), "with --yes it asks nothing"}
	}
	return strings.TrimSpace(secret), nil
}

// answered returns what read returns, or the context's error if that ends first: somebody who interrupts a question has answered it.
func answered(ctx context.Context, read func() (string, error)) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // it may stay behind: nothing ends a read of a terminal but the end of the process
		text, err := read()
		answers <- answer{text, err}
	}()
	select {
	case got := <-answers:
		return got.text, got.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

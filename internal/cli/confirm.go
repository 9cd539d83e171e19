package cli

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// A bare push offers everything in the cache, private repositories too. So the first one from a machine to a bucket says what would go and asks, if
// there is somebody to ask. The buckets that were agreed to are remembered, one a line.
const agreedFile = "hf-cache-sync/agreed"

// statePath is where the program keeps what it remembers, by the XDG base directory specification.
func (a *app) statePath(name string) string {
	if dir, ok := a.Env("XDG_STATE_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, filepath.FromSlash(name))
	}
	return filepath.Join(a.Home, ".local", "state", filepath.FromSlash(name))
}

// confirm returns nil if the push may go on.
func (o *pushOptions) confirm(ctx context.Context, bucket string, p *plan.Push) error {
	uploads, bytes := p.Uploads()
	if o.yes || !o.Interactive || len(o.selected) > 0 || !o.filter.Empty() || len(uploads) == 0 {
		return nil
	}
	agreed, err := os.ReadFile(o.statePath(agreedFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if slices.Contains(strings.Split(string(agreed), "\n"), bucket) {
		return nil
	}
	sizes := map[hub.Repo]int64{}
	var repos []hub.Repo
	for _, b := range uploads {
		if _, seen := sizes[b.Repo]; !seen {
			repos = append(repos, b.Repo)
		}
		sizes[b.Repo] += b.File.Size
	}
	o.warn("About to push to %s, where everybody who may read it can read:", bucket)
	for _, repo := range repos {
		o.warn("  - %s (%s)", repo, ui.Size(sizes[repo]))
	}
	o.warn("%s, %s in all. Push them? [y/N]", ui.Plural(len(repos), "repository"), ui.Size(bytes))
	answer, err := o.readLine(ctx)
	if ctx.Err() != nil {
		return err
	}
	if err != nil || !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))) {
		return &usageError{errors.New("push: not confirmed, nothing was pushed"), "name what to push, use --exclude, or agree with --yes"}
	}
	return o.remember(append(agreed, bucket+"\n"...))
}

// readLine reads an answer, or returns the context's error if that ends first: somebody who interrupts a question has answered it.
func (a *app) readLine(ctx context.Context) (string, error) {
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // it may stay behind: nothing ends a read of a terminal but the end of the process
		text, err := bufio.NewReader(a.Stdin).ReadString('\n')
		answers <- answer{text, err}
	}()
	select {
	case got := <-answers:
		return got.text, got.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (o *pushOptions) remember(agreed []byte) error {
	path := o.statePath(agreedFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, agreed, 0o600) //nolint:gosec // the folder is the user's to name, by the XDG specification
}

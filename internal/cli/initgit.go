package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ignore keeps a file that is yet to be written out of the commits of the git work tree that it will be in, if it will be in one.
func (o *initOptions) ignore(ctx context.Context, path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	dir, name := filepath.Split(abs)
	dir = filepath.Clean(dir)
	root, found := workTree(dir)
	if !found || ignored(dir, root, name) {
		return nil
	}
	add := o.yes
	if o.asks() {
		answer, err := o.ask(ctx, "This is a git work tree. Add the file to .gitignore, so that keys are never committed? [Y/n]", "")
		if err != nil {
			return err
		}
		add = answer == "" || strings.HasPrefix(strings.ToLower(answer), "y")
	}
	if !add {
		o.note("hint: this is a git work tree: add %s to .gitignore", name)
		return nil
	}
	if err := appendLine(filepath.Join(dir, ".gitignore"), name); err != nil {
		return fmt.Errorf("init: keeping the file out of git: %w", err)
	}
	o.note("added %s to .gitignore", name)
	return nil
}

// appendLine adds a line to a file, which is made if it is missing.
func appendLine(path, line string) error {
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(before) > 0 && before[len(before)-1] != '\n' {
		line = "\n" + line
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666) //nolint:gosec // as git would make it
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// workTree finds the git work tree that a folder is in. In a linked work tree and in a submodule .git is a file.
func workTree(dir string) (root string, found bool) {
	for {
		if exists(filepath.Join(dir, ".git")) {
			return dir, true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}

// ignored says whether a .gitignore from dir up to root names the file, by the rules of gitignore(5): the nearest list comes first, and in it the last line;
// a name with a slash is that of one place. Globs that would match are not looked for: a line too many does no harm.
func ignored(dir, root, name string) bool {
	for place := name; ; {
		text, _ := os.ReadFile(filepath.Join(dir, ".gitignore")) // what cannot be read ignores nothing
		verdict, named := false, false
		for line := range strings.Lines(string(text)) {
			pattern, again := strings.CutPrefix(strings.TrimRight(line, " \r\n"), "!")
			if pattern == name || strings.TrimPrefix(pattern, "/") == place {
				verdict, named = !again, true
			}
		}
		parent := filepath.Dir(dir)
		if named || dir == root || dir == parent {
			return verdict
		}
		place = filepath.Base(dir) + "/" + place
		dir = parent
	}
}

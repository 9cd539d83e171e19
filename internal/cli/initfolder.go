package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

// askFolder asks whether the bucket's folder is to be made if it does not exist. Without an answer it is left to the first push, which wants --create.
func (o *initOptions) askFolder(ctx context.Context, url string) error {
	where, err := config.ParseRemote(url)
	if err != nil {
		return nil //nolint:nilerr // that is said of the file as a whole
	}
	if _, err := os.Stat(where.Path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	o.missing = where.Path
	if o.asks() {
		o.warn("The folder %s does not exist.", where.Path)
	}
	answer, err := o.ask(ctx, "Make it? [y/N]", "")
	o.makes = strings.HasPrefix(strings.ToLower(answer), "y")
	return err
}

// makeFolder makes the bucket's folder if that was agreed to.
func (o *initOptions) makeFolder(shown string) error {
	switch {
	case o.missing == "":
		return nil
	case !o.makes:
		o.note("note: the folder %s does not exist; mount the disk or the share, or make a new bucket there with: hf-cache-sync push --create", o.missing)
		return nil
	}
	if err := os.MkdirAll(o.missing, 0o777); err != nil { //nolint:gosec // the umask decides who shares a bucket
		return fmt.Errorf("init: %s is written, but not the bucket's folder: %w", shown, err)
	}
	return nil
}

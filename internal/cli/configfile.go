package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

// What a command says about the configuration file, as the annotation "config". Without one the file is read, and a mistake in it ends the command.
const (
	annotationConfig = "config"
	configNone       = "none"     // the command has no use for it
	configOptional   = "optional" // the command itself tells the user what is wrong with it
)

// readConfig sets a.file, which is never nil afterwards.
func (a *app) readConfig(cmd *cobra.Command) error {
	a.file = &config.File{}
	use := cmd.Annotations[annotationConfig]
	switch cmd.Name() { // cobra's own
	case "help", "completion", "bash", "zsh", "fish", "powershell":
		use = configNone
	case cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
		use = configOptional
	}
	if use == configNone {
		return nil
	}
	file, mode, err := a.findConfig()
	switch {
	case err != nil && use == configOptional:
		a.fileErr = err
	case err != nil:
		return err
	case file != nil:
		a.file = file
		if file.HoldsSecret() && othersCanRead(mode) {
			a.fileWarning = fmt.Sprintf("%s holds a secret key and its mode is %04o, so that others can read it: chmod 600 %s", file.Path, mode.Perm(), file.Path)
			if use != configOptional {
				a.note("warning: %s", a.fileWarning)
			}
		}
	}
	return nil
}

// othersCanRead says whether a mode lets anybody but the owner do anything. Windows has no such modes.
func othersCanRead(mode fs.FileMode) bool { return runtime.GOOS != "windows" && mode.Perm()&0o077 != 0 }

// findConfig reads the first configuration file that there is. Without any, file is nil.
func (a *app) findConfig() (file *config.File, mode fs.FileMode, err error) {
	paths, origin := config.FilePaths(a.config, a.Env, a.Home)
	for _, path := range paths {
		at := path
		if !filepath.IsAbs(at) {
			at = filepath.Join(a.Dir, at)
		}
		data, mode, err := readSmall(at)
		if errors.Is(err, fs.ErrNotExist) && origin == config.Default {
			continue
		}
		if err != nil {
			return nil, 0, &usageError{fmt.Errorf("the configuration file (from %s): %w", origin, err), "hf-cache-sync init writes one"}
		}
		if file, err = config.ParseFile(path, data); err != nil {
			return nil, 0, &usageError{err, "hf-cache-sync doctor shows which values are used, and where each comes from"}
		}
		return file, mode, nil
	}
	return nil, 0, nil
}

// readSmall reads a regular file that is no larger than a configuration. A pipe, which a path such as /dev/fd/63 names, is read as well.
func readSmall(path string) (data []byte, mode fs.FileMode, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	mode = info.Mode()
	if !mode.IsRegular() {
		mode &^= fs.ModePerm // nothing that lies around for others to read
	}
	data, err = io.ReadAll(io.LimitReader(f, config.MaxFileSize+1))
	return data, mode, err
}

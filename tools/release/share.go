package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// share fills a folder with what goes beside the program: man/ for archives,
// man-gz/ for packages, completions/ and, for packages, systemd/.
func share(program, units, out string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	man := filepath.Join(out, "man")
	for _, dir := range []string{man, filepath.Join(out, "man-gz"), filepath.Join(out, "completions"), filepath.Join(out, "systemd/system"), filepath.Join(out, "systemd/user")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if _, err := output(program, "man", "--dir", man); err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(man, "*.1"))
	if err != nil || len(pages) == 0 {
		return errors.Join(err, errors.New("the program has written no manual pages"))
	}
	for _, page := range pages {
		if err = compress(page, filepath.Join(out, "man-gz", filepath.Base(page)+".gz")); err != nil {
			return err
		}
	}
	// By the names under which shells look for them.
	for shell, name := range map[string]string{
		"bash": "hf-cache-sync.bash", "zsh": "_hf-cache-sync", "fish": "hf-cache-sync.fish", "powershell": "hf-cache-sync.ps1",
	} {
		script, runErr := output(program, "completion", shell)
		if runErr != nil {
			return runErr
		}
		if err = write(filepath.Join(out, "completions", name), script); err != nil {
			return err
		}
	}
	return packagedUnits(units, filepath.Join(out, "systemd"))
}

// output runs the program without any variable, so that nothing which is set here
// gets into a page.
func output(program string, args ...string) ([]byte, error) {
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = []string{"HOME=" + os.TempDir()}
	if date, ok := os.LookupEnv("SOURCE_DATE_EPOCH"); ok {
		cmd.Env = append(cmd.Env, "SOURCE_DATE_EPOCH="+date)
	}
	// A Windows program does not start without it.
	if root, ok := os.LookupEnv("SYSTEMROOT"); ok {
		cmd.Env = append(cmd.Env, "SYSTEMROOT="+root)
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, &stderr)
	}
	return out, nil
}

// compress writes a page as packages have it, without a name and a time of its own.
func compress(from, to string) error {
	page, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err = w.Write(page); err != nil {
		return err
	}
	if err = w.Close(); err != nil {
		return err
	}
	return write(to, packed.Bytes())
}

// packagedUnits writes the units as a package has them: the program is in /usr/bin,
// and nobody needs to copy them anywhere. Those with @ are the system's, the others
// a user's.
func packagedUnits(from, to string) error {
	units, err := filepath.Glob(filepath.Join(from, "hf-cache-sync-*"))
	if err != nil || len(units) == 0 {
		return errors.Join(err, fmt.Errorf("there are no units in %s", from))
	}
	for _, path := range units {
		unit, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var text strings.Builder
		for line := range strings.Lines(string(unit)) {
			if !strings.Contains(line, "cp contrib/") {
				text.WriteString(strings.Replace(line, "ExecStart=/usr/local/bin/", "ExecStart=/usr/bin/", 1))
			}
		}
		kind, name := "user", filepath.Base(path)
		if strings.Contains(name, "@") {
			kind = "system"
		}
		if err = write(filepath.Join(to, kind, name), []byte(text.String())); err != nil {
			return err
		}
	}
	return nil
}

// write makes a file that everybody may read, whatever the umask is.
func write(path string, data []byte) error {
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

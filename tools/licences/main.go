// Command licences tells under which licences the modules are that are linked
// into hf-cache-sync, on any platform that it is released for:
//
//	go run ./licences -root .. [-write]
//
// It fails on a module whose licence it cannot tell or is not permissive, and on
// docs/dependencies.md or THIRD_PARTY_LICENSES that are not as they should be,
// which -write writes.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

func main() {
	root := flag.String("root", ".", "the repository")
	write := flag.Bool("write", false, "write the files instead of checking them")
	flag.Parse()
	if err := run(*root, *write); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

// permissive are the licences that ask for nothing but to be named and kept with
// the program, by their SPDX identifiers.
func permissive() []string {
	return []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "Unlicense", "Zlib"}
}

// covered is how much of a licence's file, in percent, its known words must be.
const covered = 75

// module is one that is linked in.
type module struct {
	Path    string
	Version string
	Dir     string
	Main    bool

	packages []string // Their folders.
	texts    []text
}

// text is a file with a licence.
type text struct {
	name     string // From the module's folder.
	data     string
	licences []string
}

func run(root string, write bool) error {
	modules, err := linked(root)
	if err != nil {
		return err
	}
	var problems []error
	for _, m := range modules {
		if err = m.read(); err != nil {
			problems = append(problems, err)
		}
	}
	if err = errors.Join(problems...); err != nil {
		return err
	}
	for name, content := range map[string]string{"docs/dependencies.md": table(modules), "THIRD_PARTY_LICENSES": texts(modules)} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if write {
			if err = os.WriteFile(path, []byte(content), 0o644); err != nil {
				return err
			}
			continue
		}
		if have, readErr := os.ReadFile(path); readErr != nil || string(have) != content {
			problems = append(problems, fmt.Errorf("%s does not tell what is linked in: run `scripts/supply.sh licences -write`", name))
		}
	}
	fmt.Printf("licences: %d modules, all of them permissive\n", len(modules))
	return errors.Join(problems...)
}

// linked lists the modules whose packages the program has in it, Go itself first.
func linked(root string) ([]*module, error) {
	goroot, err := output(root, "", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	goItself := &module{Path: "The Go standard library and runtime", Dir: strings.TrimSpace(string(goroot))}
	found := map[string]*module{}
	for _, system := range []string{"linux", "darwin", "windows"} {
		for _, arch := range []string{"amd64", "arm64"} {
			out, err := output(root, system+"/"+arch, "list", "-deps", "-json=Dir,Module", "./cmd/hf-cache-sync")
			if err != nil {
				return nil, err
			}
			for d := json.NewDecoder(bytes.NewReader(out)); ; {
				var p struct {
					Dir    string
					Module *module
				}
				if err = d.Decode(&p); errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return nil, err
				}
				if p.Module == nil || p.Module.Main {
					continue
				}
				m := found[p.Module.Path]
				if m == nil {
					m = p.Module
					found[m.Path] = m
				}
				if !slices.Contains(m.packages, p.Dir) {
					m.packages = append(m.packages, p.Dir)
				}
			}
		}
	}
	modules := slices.SortedFunc(maps.Values(found), func(a, b *module) int { return cmp.Compare(a.Path, b.Path) })
	return append([]*module{goItself}, modules...), nil
}

// output runs the go command for a platform.
func output(root, platform string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if system, arch, ok := strings.Cut(platform, "/"); ok {
		cmd.Env = append(cmd.Env, "GOOS="+system, "GOARCH="+arch)
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// read finds the licences of the module's folder, and of the folders between it
// and each package that is linked in.
func (m *module) read() error {
	dirs := map[string]bool{m.Dir: true}
	for _, dir := range m.packages {
		for ; dir != m.Dir && strings.HasPrefix(dir, m.Dir); dir = filepath.Dir(dir) {
			dirs[dir] = true
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if err := m.readDir(dir); err != nil {
			return fmt.Errorf("%s %s: %w", m.Path, m.Version, err)
		}
	}
	if len(m.licences()) == 0 {
		return fmt.Errorf("%s %s has no licence that can be told", m.Path, m.Version)
	}
	return nil
}

func (m *module) readDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	isLicence := regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense|notice|patents)([-._].*)?$`)
	isCode := regexp.MustCompile(`\.(go|s|c|h|py|sh|js)$`)
	for _, e := range entries {
		if !e.Type().IsRegular() || !isLicence.MatchString(e.Name()) || isCode.MatchString(e.Name()) {
			continue
		}
		data, err := fs.ReadFile(os.DirFS(dir), e.Name())
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(m.Dir, filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		t := text{name: filepath.ToSlash(rel), data: string(data)}
		if lower := strings.ToLower(e.Name()); !strings.HasPrefix(lower, "notice") && !strings.HasPrefix(lower, "patents") {
			if t.licences, err = judge(data); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
		m.texts = append(m.texts, t)
	}
	return nil
}

// judge names the licences that a text is made of, which must all be permissive.
func judge(data []byte) ([]string, error) {
	found := licensecheck.Scan(data)
	var ids []string
	for _, match := range found.Match {
		if !slices.Contains(ids, match.ID) {
			ids = append(ids, match.ID)
		}
	}
	slices.Sort(ids)
	if found.Percent < covered {
		return nil, fmt.Errorf("only %.0f%% of it are the words of known licences (%s)", found.Percent, strings.Join(ids, ", "))
	}
	for _, id := range ids {
		if !slices.Contains(permissive(), id) {
			return nil, fmt.Errorf("%s is not one of the licences that may be linked in: %s", id, strings.Join(permissive(), ", "))
		}
	}
	return ids, nil
}

// licences are those of all the module's texts.
func (m *module) licences() []string {
	var ids []string
	for _, t := range m.texts {
		ids = append(ids, t.licences...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// table is docs/dependencies.md.
func table(modules []*module) string {
	var b strings.Builder
	b.WriteString("# What is linked into the program\n\n<!-- Written by `scripts/supply.sh licences -write`, and checked by `scripts/supply.sh`. -->\n\n" +
		"These modules are in the released binaries, on at least one platform. Their licences are in [THIRD_PARTY_LICENSES](../THIRD_PARTY_LICENSES).\n" +
		"Only these licences may be linked in: " + strings.Join(permissive(), ", ") + ".\n\n| module | version | licence |\n|---|---|---|\n")
	for _, m := range modules {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m.Path, m.Version, strings.Join(m.licences(), ", "))
	}
	return b.String()
}

// texts is THIRD_PARTY_LICENSES.
func texts(modules []*module) string {
	const rule = "\n================================================================================\n"
	var b strings.Builder
	b.WriteString("hf-cache-sync is linked with the modules below, under the licences that follow each.\n")
	for _, m := range modules {
		for _, t := range m.texts {
			fmt.Fprintf(&b, "%s%s: %s\n\n%s\n", rule, strings.TrimSpace(m.Path+" "+m.Version), t.name, strings.TrimSpace(strings.ReplaceAll(t.data, "\r\n", "\n")))
		}
	}
	return b.String()
}

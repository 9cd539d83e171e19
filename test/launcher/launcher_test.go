// Package launcher_test tries the shell script at the root of the repository: as
// the hf command line of huggingface_hub runs it, and on machines where tools are
// missing or other programs have its name. Releases come from a server of the test.
package launcher_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/release"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// nowhere is an address that answers nothing.
const nowhere = "http://127.0.0.1:9"

// tools are what the launcher runs.
const tools = "sh awk cat chmod cut dd find gzip mkdir mktemp mv rm sed tail tar tr uname unzip"

// whole is the requests of somebody who has nothing yet.
func whole(archive string) []string {
	return []string{
		"/releases/latest", "/releases/tag/v1.2.3", "/releases/download/v1.2.3/checksums.txt",
		"/releases/download/v1.2.3/hf-cache-sync_1.2.3_" + archive,
	}
}

// here is the archive for this machine.
func here() string { return runtime.GOOS + "_" + runtime.GOARCH }

// machine is a home folder and a PATH with the launcher and the tools that it runs,
// and nothing else.
type machine struct {
	home     string
	bin      string // On PATH, after own.
	own      string // On PATH, with the launcher.
	launcher string
}

func newMachine(t *testing.T, with ...string) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{home: filepath.Join(dir, "home"), bin: filepath.Join(dir, "bin"), own: filepath.Join(dir, "own dir")}
	m.launcher = filepath.Join(m.own, "hf-cache-sync")
	script, err := os.ReadFile("../../hf-cache-sync")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Mkdir(t, m.home)
	m.script(t, m.launcher, string(script))
	for _, name := range append(strings.Fields(tools), with...) {
		path, lookErr := exec.LookPath(name)
		if lookErr != nil {
			t.Fatal(lookErr)
		}
		testenv.Symlink(t, path, filepath.Join(m.bin, name))
	}
	return m
}

// script puts an executable text into a file.
func (m *machine) script(t *testing.T, path, text string) {
	t.Helper()
	testenv.Mkdir(t, filepath.Dir(path))
	testenv.WriteFile(t, path, []byte(text))
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

// program is the launcher, with releases at an address.
func (m *machine) program(url string, env ...string) testenv.Program {
	return testenv.Program{Args: []string{m.launcher}, Env: append([]string{
		"PATH=" + m.own + ":" + m.bin, "HOME=" + m.home, "HF_CACHE_SYNC_DOWNLOAD_URL=" + url,
	}, env...)}
}

// kept is what is in the folder of releases.
func (m *machine) kept(t *testing.T) []string {
	t.Helper()
	root := filepath.Join(m.home, ".cache", "hf-cache-sync", "bin")
	names := []string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() || err == nil && strings.HasPrefix(d.Name(), ".") {
			names = append(names, strings.TrimPrefix(path, root+"/"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// succeeds fails unless the result is that of `hf-cache-sync version`.
func succeeds(t *testing.T, got testenv.Result) {
	t.Helper()
	if got.Code != 0 || !strings.HasPrefix(got.Stdout, "hf-cache-sync ") || !strings.Contains(got.Stdout, runtime.GOOS+"/"+runtime.GOARCH) {
		t.Fatalf("version: %s", got)
	}
}

func same(t *testing.T, what string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// install is the installer of huggingface_hub, but for its requests to GitHub: the
// file at the root of the repository comes from the disk.
const install = `
import sys
from types import SimpleNamespace
from huggingface_hub.cli import extensions

def request(method, url, **kwargs):
    if url == "https://raw.githubusercontent.com/owner/hf-cache-sync/HEAD/hf-cache-sync":
        return SimpleNamespace(content=open(sys.argv[1], "rb").read())
    if url.endswith("/info/refs"):
        return SimpleNamespace(text="0" * 40 + " HEAD\x00")
    raise OSError(url)

extensions._github_request = request
owner, repo, name = extensions._normalize_repo_id("owner/hf-cache-sync")
print(extensions._install_extension(owner=owner, repo_name=repo, short_name=name).executable_path)
`

// TestExtension installs the launcher with the code of huggingface_hub, and calls
// it by its command line.
func TestExtension(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "curl", "sha256sum")
	server := release.Start(t, here())
	python := testenv.Tool(t, "venv/hub-2.4.0/bin/python")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + m.home, "HF_HUB_DISABLE_UPDATE_CHECK=1", "HF_HUB_DISABLE_TELEMETRY=1"}
	installed := testenv.Program{Args: []string{python, "-c", install, filepath.Join(root, "hf-cache-sync")}, Env: env}.Run(t, nil)
	want := filepath.Join(m.home, ".local", "share", "hf", "extensions", "hf-cache-sync", "hf-cache-sync")
	if installed.Code != 0 || strings.TrimSpace(installed.Stdout) != want {
		t.Fatalf("want the launcher at %s: %s", want, installed)
	}

	hf := testenv.Program{Args: []string{filepath.Join(filepath.Dir(python), "hf")}, Env: env}
	hf = hf.With("PATH="+m.bin, "HF_CACHE_SYNC_DOWNLOAD_URL="+server.URL)
	succeeds(t, hf.Run(t, nil, "cache-sync", "version"))
	same(t, "requests", whole(here()+".tar.gz"), server.Seen())

	// From here on without a network.
	hf = hf.With("HF_CACHE_SYNC_DOWNLOAD_URL="+nowhere, "HF_HUB_OFFLINE=1")
	if demo := hf.Run(t, nil, "cache-sync", "demo"); demo.Code != 0 || !strings.Contains(demo.Stdout, "offline: ready") || demo.Stderr != "" {
		t.Errorf("demo: %s", demo)
	}
	// Arguments and exit codes go through unchanged.
	wrong := hf.Run(t, nil, "cache-sync", "pull", "not a repository", "--remote", "file://"+t.TempDir())
	if wrong.Code != 2 || !strings.Contains(wrong.Stderr, "not a repository") {
		t.Errorf("a mistake: %s", wrong)
	}
	if list := hf.Run(t, nil, "extensions", "list"); list.Code != 0 || !strings.Contains(list.Stdout, "hf cache-sync") {
		t.Errorf("the list of extensions: %s", list)
	}
	same(t, "what is kept", []string{"1.2.3/hf-cache-sync", "newest"}, m.kept(t))
}

// TestInstalled prefers a program that is installed, and takes no script for one:
// neither itself, nor the Python tool of the same name.
func TestInstalled(t *testing.T) {
	t.Parallel()
	server := release.Start(t, here())
	m := newMachine(t, "curl", "sha256sum")
	m.script(t, filepath.Join(m.bin, "hf-cache-sync"), "#!/usr/bin/env python3\nraise SystemExit(99)\n")
	installed := filepath.Join(t.TempDir(), "hf-cache-sync")
	testenv.Symlink(t, testenv.Binary(t).Args[0], installed)

	succeeds(t, m.program(server.URL, "PATH="+m.own+":"+m.bin+":"+filepath.Dir(installed)).Run(t, nil, "version"))
	succeeds(t, m.program(server.URL, "HF_CACHE_SYNC_BIN="+installed).Run(t, nil, "version"))
	same(t, "requests", nil, server.Seen())
	if got := m.program(server.URL, "HF_CACHE_SYNC_BIN="+m.launcher).Run(t, nil, "version"); got.Code != 2 {
		t.Errorf("itself by HF_CACHE_SYNC_BIN: %s", got)
	}

	// Without one it fetches, and does not call itself. What lies in the working
	// folder is not run.
	p := m.program(server.URL, "PATH=:.:"+m.own+":"+m.bin+":")
	p.Dir = filepath.Dir(installed)
	succeeds(t, p.Run(t, nil, "version"))
	same(t, "requests", whole(here()+".tar.gz"), server.Seen())
}

// TestNewest asks for the newest release once, and again when the launcher was
// replaced; without a network it uses what is there.
func TestNewest(t *testing.T) {
	t.Parallel()
	server := release.Start(t, here())
	m := newMachine(t, "curl", "sha256sum")
	succeeds(t, m.program(server.URL).Run(t, nil, "version"))
	same(t, "first requests", whole(here()+".tar.gz"), server.Seen())
	succeeds(t, m.program(server.URL).Run(t, nil, "version"))
	same(t, "requests of a second run", nil, server.Seen())

	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(m.launcher, later, later); err != nil {
		t.Fatal(err)
	}
	succeeds(t, m.program(nowhere).Run(t, nil, "version"))
	succeeds(t, m.program(server.URL).Run(t, nil, "version"))
	same(t, "requests after an update", whole("")[:2], server.Seen())

	// One that is named is fetched even if another is there, and a v does no harm.
	succeeds(t, m.program(server.URL, "HF_CACHE_SYNC_RELEASE=v1.2.3").Run(t, nil, "version"))
	same(t, "requests for one that is there", nil, server.Seen())
}

// TestPlatforms fetches as other systems would, and with other tools.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	server := release.Start(t, here(), "darwin_arm64", "windows_amd64")
	for name, test := range map[string]struct {
		with    []string
		system  string
		machine string
		archive string
		program string
	}{
		"macOS":            {[]string{"curl", "shasum", "perl"}, "Darwin", "arm64", "darwin_arm64.tar.gz", "1.2.3/hf-cache-sync"},
		"Git for Windows":  {[]string{"curl", "sha256sum"}, "MINGW64_NT-10.0-26100", "x86_64", "windows_amd64.zip", "1.2.3/hf-cache-sync.exe"},
		"wget and openssl": {[]string{"wget", "openssl"}, "", "", here() + ".tar.gz", "1.2.3/hf-cache-sync"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, test.with...)
			if test.system != "" {
				testenv.WriteFile(t, filepath.Join(m.bin, "uname"), nil)
				m.script(t, filepath.Join(m.bin, "uname"), "#!/bin/sh\ncase $1 in -s) echo "+test.system+" ;; -m) echo "+test.machine+" ;; esac\n")
			}
			got := m.program(server.URL, "HF_CACHE_SYNC_FETCH_ONLY=1").Run(t, nil)
			want := filepath.Join(m.home, ".cache", "hf-cache-sync", "bin", test.program)
			if got.Code != 0 || got.Stdout != want+"\n" {
				t.Fatalf("want %s: %s", want, got)
			}
			succeeds(t, testenv.Program{Args: []string{want}}.Run(t, nil, "version"))
		})
	}
}

// TestTogether starts some at once on a machine that has nothing.
func TestTogether(t *testing.T) {
	t.Parallel()
	server := release.Start(t, here())
	m := newMachine(t, "curl", "sha256sum")
	var group sync.WaitGroup
	results := make([]testenv.Result, 4)
	for i := range results {
		group.Go(func() { results[i] = m.program(server.URL).Run(t, nil, "version") })
	}
	group.Wait()
	for _, got := range results {
		succeeds(t, got)
	}
	same(t, "what is kept", []string{"1.2.3/hf-cache-sync", "newest"}, m.kept(t))
}

// TestRefusals names what is wrong, and leaves nothing behind.
func TestRefusals(t *testing.T) {
	t.Parallel()
	good := release.Start(t, here())
	damaged := release.Start(t, here())
	damaged.Damage = true
	unlisted := release.Start(t, here())
	unlisted.Omit = true
	all := []string{"curl", "sha256sum"}
	for name, test := range map[string]struct {
		with  []string
		url   string
		env   string
		uname string
		code  int
		says  string
	}{
		"damaged":           {all, damaged.URL, "", "", 6, "checksums.txt says"},
		"unlisted":          {all, unlisted.URL, "", "", 5, "checksums.txt: does not say what hf-cache-sync_1.2.3_" + here()},
		"unreachable":       {all, nowhere, "", "", 7, nowhere + "/releases/latest: cannot be fetched"},
		"no such release":   {all, good.URL, "HF_CACHE_SYNC_RELEASE=3.0.0", "", 7, "/releases/download/v3.0.0/checksums.txt: cannot be fetched"},
		"a path":            {all, good.URL, "HF_CACHE_SYNC_RELEASE=1.2.3/../..", "", 2, "not the number of a release"},
		"shell text":        {all, good.URL, "HF_CACHE_SYNC_RELEASE=1$(touch pwned)", "", 2, "not the number of a release"},
		"another system":    {all, good.URL, "", "Plan9", 2, "there is no release for Plan9"},
		"no way to fetch":   {all[1:], good.URL, "", "", 2, "neither curl nor wget"},
		"no way to check":   {all[:1], good.URL, "", "", 2, "neither sha256sum, shasum nor openssl"},
		"no program at all": {all, good.URL, "HF_CACHE_SYNC_BIN=/nonexistent", "", 2, "HF_CACHE_SYNC_BIN: not a program"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, test.with...)
			if test.uname != "" {
				m.script(t, filepath.Join(m.bin, "uname"), "#!/bin/sh\necho "+test.uname+"\n")
			}
			got := m.program(test.url, test.env).Run(t, nil, "version")
			if got.Code != test.code || !strings.Contains(got.Stderr, "hf-cache-sync: ") || !strings.Contains(got.Stderr, test.says) || got.Stdout != "" {
				t.Errorf("want exit code %d and %q: %s", test.code, test.says, got)
			}
			same(t, "what is kept", []string{}, m.kept(t))
		})
	}
}

// TestNoCollision sees to it that a build in the root of the repository does not
// replace the launcher by what it builds.
func TestNoCollision(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	testenv.WriteFile(t, filepath.Join(dir, "go.mod"), []byte("module example.com/hf-cache-sync\n\ngo 1.26\n"))
	testenv.WriteFile(t, filepath.Join(dir, "cmd", "hf-cache-sync", "main.go"), []byte("package main\n\nfunc main() {}\n"))
	script, err := os.ReadFile("../../hf-cache-sync")
	if err != nil {
		t.Fatal(err)
	}
	testenv.WriteFile(t, filepath.Join(dir, "hf-cache-sync"), script)
	cmd := exec.CommandContext(t.Context(), "go", "build", "./cmd/hf-cache-sync")
	cmd.Dir = dir
	output, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "already exists and is not an object file") {
		t.Errorf("go build: %v, %s", err, output)
	}
	after, err := os.ReadFile(filepath.Join(dir, "hf-cache-sync"))
	if err != nil || string(after) != string(script) {
		t.Errorf("go build changed the launcher: %v", err)
	}
}

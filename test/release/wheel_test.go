package release_test

import (
	"bytes"
	"crypto/sha256"
	"debug/macho"
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// tags are what the wheel of each platform says it runs on.
func tags() map[string]string {
	return map[string]string{
		"linux_amd64":   "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64",
		"linux_arm64":   "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
		"darwin_amd64":  "macosx_12_0_x86_64",
		"darwin_arm64":  "macosx_12_0_arm64",
		"windows_amd64": "win_amd64",
		"windows_arm64": "win_arm64",
	}
}

// wheelName is the name of the wheel with the given tags.
func wheelName(tags string) string { return "hf_cache_sync-1.2.3-py3-none-" + tags + ".whl" }

// wheels looks at the content of every wheel, and compares each file with RECORD.
func (r *made) wheels(t *testing.T) {
	t.Parallel()
	for platform, tags := range tags() {
		name := wheelName(tags)
		files := unzip(t, filepath.Join(r.dist, "wheels", name))
		exe := ""
		if strings.HasPrefix(platform, "windows") {
			exe = ".exe"
		}
		info, program := "hf_cache_sync-1.2.3.dist-info/", "hf_cache_sync-1.2.3.data/scripts/hf-cache-sync"+exe
		want := []string{
			program, info + "METADATA", info + "RECORD", info + "WHEEL", info + "licenses/LICENSE",
			info + "licenses/THIRD_PARTY_LICENSES", info + "sboms/hf-cache-sync.cdx.json", "hf_cache_sync/__init__.py", "hf_cache_sync/__main__.py",
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(files))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if !bytes.Equal(files[program].data, r.programs[platform]) || files[program].mode != 0o755 {
			t.Errorf("%s: its program has mode %o, or is not that of the archive", name, files[program].mode)
		}
		rows, err := csv.NewReader(bytes.NewReader(files[info+"RECORD"].data)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		recorded, sums := map[string]string{}, map[string]string{info + "RECORD": " "}
		for _, row := range rows {
			recorded[row[0]] = row[1] + " " + row[2]
		}
		for name, f := range files {
			if name != info+"RECORD" {
				sum := sha256.Sum256(f.data)
				sums[name] = fmt.Sprintf("sha256=%s %d", base64.RawURLEncoding.EncodeToString(sum[:]), len(f.data))
			}
		}
		if diff := cmp.Diff(sums, recorded); diff != "" {
			t.Errorf("%s: RECORD (-want +got):\n%s", name, diff)
		}
		text := "Wheel-Version: 1.0\nGenerator: hf-cache-sync tools/release\nRoot-Is-Purelib: false\n"
		for tag := range strings.SplitSeq(tags, ".") {
			text += "Tag: py3-none-" + tag + "\n"
		}
		if diff := cmp.Diff(text, string(files[info+"WHEEL"].data)); diff != "" {
			t.Errorf("%s: WHEEL (-want +got):\n%s", name, diff)
		}
		about, readme, _ := strings.Cut(string(files[info+"METADATA"].data), "\n\n")
		if !strings.HasPrefix(about, "Metadata-Version: 2.4\nName: hf-cache-sync\nVersion: 1.2.3\n") || !strings.HasPrefix(readme, "# hf-cache-sync\n") || strings.Contains(readme, "](docs/") {
			t.Errorf("%s: METADATA: %.3000s", name, files[info+"METADATA"].data)
		}
	}
	r.macOS(t)
}

// macOS compares the tags of wheels for macOS with what the programs in them ask
// for: the linker writes the oldest version into the file.
func (r *made) macOS(t *testing.T) {
	t.Helper()
	for _, platform := range []string{"darwin_amd64", "darwin_arm64"} {
		f, err := macho.NewFile(bytes.NewReader(r.programs[platform]))
		if err != nil {
			t.Fatal(err)
		}
		var oldest string
		for _, load := range f.Loads {
			// LC_BUILD_VERSION: command, size, platform, oldest system.
			if raw := load.Raw(); f.ByteOrder.Uint32(raw) == 0x32 {
				n := f.ByteOrder.Uint32(raw[12:])
				oldest = fmt.Sprintf("macosx_%d_%d_", n>>16, n>>8&0xff)
			}
		}
		if oldest == "" || !strings.HasPrefix(tags()[platform], oldest) {
			t.Errorf("%s runs on %q, its wheel on %s", platform, oldest, tags()[platform])
		}
	}
}

// python is an environment, whose commands must end well.
type python struct{ dir string }

// run returns what it printed.
func (p python) run(t *testing.T, args ...string) string {
	t.Helper()
	return p.call(t, args...).Stdout
}

func (p python) call(t *testing.T, args ...string) testenv.Result {
	t.Helper()
	name := filepath.Join(p.dir, "bin", args[0])
	got := testenv.Program{Args: []string{name}, Env: []string{"PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_INDEX=1", "PYTHONDONTWRITEBYTECODE=1"}}.Run(t, nil, args[1:]...)
	if got.Code != 0 {
		t.Fatalf("%q: %s", args, got)
	}
	return got
}

// pip installs the wheel of this machine into an environment of its own, without an
// index, and calls it in each way that there is.
func (r *made) pip(t *testing.T) {
	t.Parallel()
	p := python{filepath.Join(t.TempDir(), "venv")}
	python3 := testenv.Tool(t, "venv/py-hf-cache-sync/bin/python")
	run(t, "", nil, python3, "-m", "venv", p.dir)
	p.run(t, "python", "-m", "pip", "install", "--quiet", "--find-links", filepath.Join(r.dist, "wheels"), "hf-cache-sync")
	p.run(t, "python", "-m", "pip", "check")
	want := fmt.Sprintf("hf-cache-sync v1.2.3 (%s, %s/%s)\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if got := p.run(t, "hf-cache-sync", "version"); got != want {
		t.Errorf("the command says %q, and not %q", got, want)
	}
	if got := p.run(t, "python", "-m", "hf_cache_sync", "version"); got != want {
		t.Errorf("the module says %q, and not %q", got, want)
	}
	// Exit codes are passed on, and arguments with spaces in them.
	bad := testenv.Program{Args: []string{filepath.Join(p.dir, "bin/python")}}.Run(t, nil, "-m", "hf_cache_sync", "pull", "no such repository")
	if bad.Code != 2 || !strings.Contains(bad.Stderr, `"no such repository"`) {
		t.Errorf("a mistake: %s", bad)
	}
	// By --target, where pip's record does not say where it has put the program.
	target := filepath.Join(t.TempDir(), "target")
	p.run(t, "python", "-m", "pip", "uninstall", "--quiet", "--yes", "hf-cache-sync")
	p.run(t, "python", "-m", "pip", "install", "--quiet", "--find-links", filepath.Join(r.dist, "wheels"), "--target", target, "hf-cache-sync")
	got := testenv.Program{Args: []string{filepath.Join(p.dir, "bin/python")}, Env: []string{"PYTHONPATH=" + target}}.Run(t, nil, "-m", "hf_cache_sync", "version")
	if got.Stdout != want {
		t.Errorf("with --target: %s", got)
	}
}

// replaces upgrades an environment that has the Python tool 0.1.0.
func (r *made) replaces(t *testing.T) {
	t.Parallel()
	old := filepath.Dir(filepath.Dir(testenv.Tool(t, "venv/py-hf-cache-sync/bin/python")))
	p := python{filepath.Join(t.TempDir(), "venv")}
	if err := os.CopyFS(p.dir, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	command := filepath.Join(p.dir, "bin/hf-cache-sync")
	if script := read(t, command); !bytes.HasPrefix(script, []byte("#!")) {
		t.Fatalf("the Python tool's command is no script: %.20q", script)
	}
	said := p.call(t, "python", "-m", "pip", "install", "--upgrade", "--find-links", filepath.Join(r.dist, "wheels"), "hf-cache-sync[fallback,watch]")
	if !strings.Contains(said.Stdout, "Successfully installed hf-cache-sync-1.2.3") || strings.Contains(said.Stderr, "does not provide the extra") {
		t.Errorf("pip: %s", said)
	}
	if !bytes.Equal(read(t, command), r.programs[here]) {
		t.Error("the command is not ours")
	}
	if got := p.run(t, "hf-cache-sync", "version"); !strings.HasPrefix(got, "hf-cache-sync v1.2.3 (") {
		t.Errorf("the command says %q", got)
	}
	if left, err := filepath.Glob(filepath.Join(p.dir, "lib/python3*/site-packages/hf_cache_sync/cli.py")); err != nil || len(left) > 0 {
		t.Errorf("the Python tool is still there: %q, %v", left, err)
	}
	p.run(t, "python", "-m", "pip", "check")
	p.run(t, "python", "-m", "pip", "uninstall", "--quiet", "--yes", "hf-cache-sync")
	if _, err := os.Lstat(command); err == nil {
		t.Error("the command is still there")
	}
}

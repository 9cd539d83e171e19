package release_test

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/release"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// here is the platform of this machine, as archives are named.
const here = runtime.GOOS + "_" + runtime.GOARCH

// TestRelease makes a release of the work tree as it is, with a tag of its own, and
// looks at all of it. Only publishing is left out.
func TestRelease(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tree")
	checkout(t, dir)
	build(t, dir, "check")
	build(t, dir, "wheels")
	r := &made{root: dir, dist: filepath.Join(dir, "dist"), programs: map[string][]byte{}}
	if !t.Run("checksums", r.checksums) || !t.Run("archives", r.archives) {
		return
	}
	t.Run("sbom", r.sboms)
	t.Run("deb", r.debs)
	t.Run("rpm", r.rpms)
	t.Run("apk", r.apks)
	t.Run("wheels", r.wheels)
	t.Run("install", r.install)
	t.Run("pip", r.pip)
	t.Run("replaces", r.replaces)
	t.Run("launcher", r.launcher)
	t.Run("damaged", r.damaged)
	t.Run("twice", r.twice)
}

// made is a release.
type made struct {
	root, dist string
	// programs are the programs in the archives, by platform; archives fills it.
	programs map[string][]byte
	// man, completions are the files that every archive has, by their names.
	man, completions map[string][]byte
}

// checkout makes a repository of the files that would be committed now, in which the
// release's tag is checked out.
func checkout(t *testing.T, dir string) {
	t.Helper()
	testenv.Mkdir(t, dir)
	list := run(t, "../..", nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		path := filepath.Join("../..", name)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue // Deleted, and not yet committed.
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		testenv.WriteFile(t, filepath.Join(dir, name), data)
		if err = os.Chmod(filepath.Join(dir, name), info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	date := []string{"GIT_AUTHOR_DATE=2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z", "GIT_CONFIG_GLOBAL=/dev/null"}
	run(t, dir, date, "git", "init", "--quiet")
	run(t, dir, date, "git", "add", "--all")
	run(t, dir, date, "git", "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message", "all")
	run(t, dir, date, "git", "tag", "v"+release.Version)
	run(t, dir, date, "git", "remote", "add", "origin", "https://github.com/hf-cache-sync/hf-cache-sync.git")
}

// build calls scripts/release.sh.
func build(t *testing.T, dir string, args ...string) {
	t.Helper()
	env := []string{"GORELEASER=" + testenv.Tool(t, "bin/goreleaser"), "GITHUB_TOKEN=", "GIT_CONFIG_GLOBAL=/dev/null"}
	run(t, dir, env, "scripts/release.sh", args...)
}

// run runs what must end well and returns what it wrote. Go's caches are the user's.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, &stdout, &stderr, append(os.Environ(), env...)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, &stdout, &stderr)
	}
	return stdout.String()
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// platforms are those that there is a release for.
func platforms() []string {
	var all []string
	for _, system := range []string{"darwin", "linux", "windows"} {
		all = append(all, system+"_amd64", system+"_arm64")
	}
	return all
}

// archive is the name of a platform's archive.
func archive(platform string) string {
	ext := ".tar.gz"
	if strings.HasPrefix(platform, "windows") {
		ext = ".zip"
	}
	return "hf-cache-sync_" + release.Version + "_" + platform + ext
}

// checksums looks at checksums.txt: it names what is there, all of it and nothing
// else, and says what that is.
func (r *made) checksums(t *testing.T) {
	got := map[string]string{}
	for line := range strings.Lines(string(read(t, r.dist, "checksums.txt"))) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok {
			t.Fatalf("checksums.txt has the line %q", line)
		}
		got[name] = sum
	}
	var names []string
	for _, platform := range platforms() {
		names = append(names, archive(platform), "hf-cache-sync_"+release.Version+"_"+platform+".cdx.json")
	}
	names = append(names,
		"hf-cache-sync_1.2.3_amd64.deb", "hf-cache-sync_1.2.3_arm64.deb",
		"hf-cache-sync-1.2.3-1.x86_64.rpm", "hf-cache-sync-1.2.3-1.aarch64.rpm",
		"hf-cache-sync_1.2.3_x86_64.apk", "hf-cache-sync_1.2.3_aarch64.apk")
	want := map[string]string{}
	for _, name := range names {
		want[name] = testenv.SHA256(read(t, r.dist, name))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("checksums.txt (-want +got):\n%s", diff)
	}
}

// file is what an archive or a package says of a file in it.
type file struct {
	mode fs.FileMode
	data []byte
}

// sums are files for comparing: mode and digest by name.
func sums(files map[string]file) map[string]string {
	short := map[string]string{}
	for name, f := range files {
		short[name] = fmt.Sprintf("%o %s", f.mode, testenv.SHA256(f.data))
	}
	return short
}

// archives looks at what is in each archive, and whether the program in it is the
// one that `go build` makes of the tag.
func (r *made) archives(t *testing.T) {
	for _, platform := range platforms() {
		name, exe := archive(platform), ""
		var files map[string]file
		if strings.HasSuffix(name, ".zip") {
			files, exe = unzip(t, filepath.Join(r.dist, name)), ".exe"
		} else {
			files = untar(t, gunzip(t, read(t, r.dist, name)))
		}
		program := files["hf-cache-sync"+exe].data
		r.programs[platform] = program
		if r.man == nil {
			r.man, r.completions = beside(files, "man/"), beside(files, "completions/")
		}
		want := map[string]file{"hf-cache-sync" + exe: {0o755, program}}
		for _, name := range []string{"LICENSE", "THIRD_PARTY_LICENSES", "README.md", "CHANGELOG.md"} {
			want[name] = file{0o644, read(t, r.root, name)}
		}
		for name, data := range r.man {
			want["man/"+name] = file{0o644, data}
		}
		for name, data := range r.completions {
			want["completions/"+name] = file{0o644, data}
		}
		if diff := cmp.Diff(sums(want), sums(files)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		system, arch, _ := strings.Cut(platform, "_")
		info, err := buildinfo.Read(bytes.NewReader(program))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		got := []string{info.Main.Version, settings["GOOS"], settings["GOARCH"], settings["CGO_ENABLED"], settings["vcs.modified"], settings["-trimpath"]}
		if diff := cmp.Diff([]string{"v" + release.Version, system, arch, "0", "false", "true"}, got); diff != "" {
			t.Errorf("%s: how it was built (-want +got):\n%s", name, diff)
		}
		if bytes.Contains(program, []byte(r.root)) {
			t.Errorf("%s: the program names the folder that it was built in", name)
		}
	}
	if diff := cmp.Diff([]string{"_hf-cache-sync", "hf-cache-sync.bash", "hf-cache-sync.fish", "hf-cache-sync.ps1"}, slices.Sorted(maps.Keys(r.completions))); diff != "" {
		t.Errorf("completions (-want +got):\n%s", diff)
	}
	r.pages(t)
	// What docs/install.md says to those who do not trust the builder.
	mine := filepath.Join(t.TempDir(), "hf-cache-sync")
	run(t, r.root, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", mine, "./cmd/hf-cache-sync")
	if !bytes.Equal(read(t, mine), r.programs[here]) {
		t.Error("the program of the release is not what `go build` makes of its tag")
	}
}

// beside returns the files below a folder, by their names in it.
func beside(files map[string]file, folder string) map[string][]byte {
	found := map[string][]byte{}
	for name, f := range files {
		if rest, ok := strings.CutPrefix(name, folder); ok {
			found[rest] = f.data
		}
	}
	return found
}

// pages says whether there is a manual page for every command that the program's
// help names, of this version and of the commit's month.
func (r *made) pages(t *testing.T) {
	t.Helper()
	help := testenv.Binary(t).Run(t, nil, "--help")
	_, list, _ := strings.Cut(help.Stdout, "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	commands := regexp.MustCompile(`(?m)^  ([a-z-]+) `).FindAllStringSubmatch(list, -1)
	if len(commands) < 10 {
		t.Fatalf("the help names %d commands: %s", len(commands), help)
	}
	for _, command := range commands {
		if command[1] == "help" {
			continue
		}
		page := string(r.man["hf-cache-sync-"+command[1]+".1"])
		if !strings.Contains(page, `"Jan 2026" "hf-cache-sync v1.2.3"`) || !strings.Contains(page, "\n.SH EXIT STATUS\n") {
			t.Errorf("the page of %s is not one of this release: %.200q", command[1], page)
		}
	}
}

// sboms compares each list of modules with what the linker has recorded in the
// program.
func (r *made) sboms(t *testing.T) {
	t.Parallel()
	for _, platform := range platforms() {
		var bom struct {
			Format   string `json:"bomFormat"`
			Metadata struct {
				Component struct {
					Version string
					Hashes  []struct{ Alg, Content string }
				}
			}
			Components []struct {
				Name, Version, Purl string
				Licenses            []struct{ Expression string }
			}
			Dependencies []struct {
				Ref       string
				DependsOn []string
			}
		}
		if err := json.Unmarshal(read(t, r.dist, "hf-cache-sync_"+release.Version+"_"+platform+".cdx.json"), &bom); err != nil {
			t.Fatal(err)
		}
		info, err := buildinfo.Read(bytes.NewReader(r.programs[platform]))
		if err != nil {
			t.Fatal(err)
		}
		want, got := []string{"std " + strings.TrimPrefix(info.GoVersion, "go")}, []string{}
		for _, m := range info.Deps {
			want = append(want, m.Path+" "+m.Version)
		}
		for i, c := range bom.Components {
			got = append(got, c.Name+" "+c.Version)
			if len(c.Licenses) != 1 || c.Licenses[0].Expression == "" || c.Purl != "pkg:golang/"+c.Name+"@"+c.Version || bom.Dependencies[0].DependsOn[i] != c.Purl {
				t.Errorf("%s: component %+v", platform, c)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: modules (-linked +listed):\n%s", platform, diff)
		}
		subject := bom.Metadata.Component
		if len(want) < 20 || bom.Format != "CycloneDX" || subject.Version != "v"+release.Version || len(subject.Hashes) != 1 ||
			subject.Hashes[0].Alg != "SHA-256" || subject.Hashes[0].Content != testenv.SHA256(r.programs[platform]) {
			t.Errorf("%s: %s of %+v", platform, bom.Format, subject)
		}
	}
}

// launcher has the script at the root of the repository fetch this release, as its
// users do.
func (r *made) launcher(t *testing.T) {
	t.Parallel()
	server := release.Serve(t, r.dist)
	script := testenv.Program{
		Args: []string{"sh", filepath.Join(r.root, "hf-cache-sync")},
		Env:  []string{"HF_CACHE_SYNC_DOWNLOAD_URL=" + server.URL, "HF_CACHE_SYNC_RELEASE=" + release.Version},
	}
	got := script.Run(t, nil, "version")
	if got.Code != 0 || !strings.HasPrefix(got.Stdout, "hf-cache-sync v"+release.Version+" ") {
		t.Errorf("the launcher: %s", got)
	}
	if diff := cmp.Diff([]string{"/releases/download/v1.2.3/checksums.txt", "/releases/download/v1.2.3/" + archive(here)}, server.Seen()); diff != "" {
		t.Errorf("what it asked for (-want +got):\n%s", diff)
	}
}

// damaged makes wheels of releases that are not whole.
func (r *made) damaged(t *testing.T) {
	t.Parallel()
	tool := filepath.Join(r.root, ".cache/release/release")
	try := func(want string, damage func(dist string)) {
		t.Helper()
		dist := t.TempDir()
		for _, platform := range platforms() {
			testenv.Symlink(t, filepath.Join(r.dist, archive(platform)), filepath.Join(dist, archive(platform)))
		}
		testenv.WriteFile(t, filepath.Join(dist, "checksums.txt"), read(t, r.dist, "checksums.txt"))
		damage(dist)
		out := filepath.Join(dist, "wheels")
		got := testenv.Program{Args: []string{tool}}.Run(t, nil, "wheels", "-dist", dist, "-root", r.root, "-out", out)
		left, err := filepath.Glob(filepath.Join(out, "*linux*x86_64*"))
		if got.Code == 0 || !strings.Contains(got.Stderr, want) || err != nil || len(left) > 0 {
			t.Errorf("want %q: %s, and wheels %q, %v", want, got, left, err)
		}
	}
	edit := func(from, to string) func(string) {
		return func(dist string) {
			path := filepath.Join(dist, "checksums.txt")
			testenv.WriteFile(t, path, regexp.MustCompile(from).ReplaceAll(read(t, path), []byte(to)))
		}
	}
	try("its SHA-256 is", edit(`(?m)^[0-9a-f]{64}(  .*_linux_amd64\.tar\.gz)$`, strings.Repeat("0", 64)+"$1"))
	try("names no archive for linux_amd64", edit(`(?m)^.*_linux_amd64\.tar\.gz\n`, ""))
	try("is neither 1.2.3 nor", edit(`_1\.2\.3_`, "_1.2.3-oddly_"))
	try("its SHA-256 is", func(dist string) {
		data := read(t, dist, archive("linux_amd64"))
		data[len(data)/2] ^= 1
		if err := os.Remove(filepath.Join(dist, archive("linux_amd64"))); err != nil {
			t.Fatal(err)
		}
		testenv.WriteFile(t, filepath.Join(dist, archive("linux_amd64")), data)
	})
}

// twice makes the release again: in another folder, at another time, in another
// time zone, with a umask that keeps others out. All of it has to be the same.
func (r *made) twice(t *testing.T) {
	t.Parallel()
	again := filepath.Join(t.TempDir(), "another", "tree")
	run(t, r.root, nil, "git", "clone", "--quiet", r.root, again)
	run(t, again, nil, "git", "remote", "set-url", "origin", "https://github.com/hf-cache-sync/hf-cache-sync.git")
	env := []string{"GORELEASER=" + testenv.Tool(t, "bin/goreleaser"), "GITHUB_TOKEN=", "TZ=Asia/Kathmandu", "LC_ALL=C"}
	run(t, again, env, "sh", "-c", "umask 077 && scripts/release.sh check && scripts/release.sh wheels")
	one, other := digests(t, r.dist), digests(t, filepath.Join(again, "dist"))
	if len(one) != 25 {
		t.Errorf("the release has %d files: %q", len(one), slices.Sorted(maps.Keys(one)))
	}
	if diff := cmp.Diff(one, other); diff != "" {
		t.Errorf("two builds of one commit differ (-one +another):\n%s", diff)
	}
}

// digests are the digests of what is published, by name.
func digests(t *testing.T, dist string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"hf-cache-sync?1.2.3*", "checksums.txt", "wheels/*.whl"} {
		paths, err := filepath.Glob(filepath.Join(dist, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			sum := sha256.Sum256(read(t, path))
			found[filepath.Base(path)] = hex.EncodeToString(sum[:])
		}
	}
	return found
}

package release_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// date is when the release's commit was made.
func date() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// unzip returns the files of an archive, and fails for one of another time.
func unzip(t *testing.T, name string) map[string]file {
	t.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = z.Close() }()
	files := map[string]file{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			t.Fatalf("%s: %s: %v", name, f.Name, err)
		}
		if !f.Modified.Equal(date()) {
			t.Errorf("%s: %s is of %s", name, f.Name, f.Modified)
		}
		files[f.Name] = file{f.Mode(), data}
	}
	return files
}

func gunzip(t *testing.T, data []byte) []byte {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(gz)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// untar returns the files of an archive, and fails for one that is of another time
// or another owner, or says another digest than its own.
func untar(t *testing.T, data []byte) map[string]file {
	t.Helper()
	files := map[string]file{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if strings.HasPrefix(name, ".PKGINFO") || name == "control" || name == "md5sums" {
			h.Uname, h.Gname, h.ModTime = "root", "root", date() // It is never unpacked.
		}
		if !h.ModTime.Equal(date()) || h.Uname != "root" || h.Gname != "root" || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s is of %s, and of %s:%s (%d:%d)", h.Name, h.ModTime, h.Uname, h.Gname, h.Uid, h.Gid)
		}
		if h.Typeflag == tar.TypeDir {
			if h.Mode&0o7777 != 0o755 {
				t.Errorf("%s has mode %o", h.Name, h.Mode)
			}
			continue
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if said := h.PAXRecords["APK-TOOLS.checksum.SHA1"]; said != "" {
			if sum := sha1.Sum(content); said != hex.EncodeToString(sum[:]) {
				t.Errorf("%s: its SHA-1 is not %s", h.Name, said)
			}
		}
		if _, twice := files[name]; twice || h.Typeflag != tar.TypeReg {
			t.Errorf("%s: type %c, twice: %t", h.Name, h.Typeflag, twice)
		}
		files[name] = file{fs.FileMode(h.Mode), content}
	}
}

// installed is what a package puts on a machine; its format makes a difference to
// where licences and completions of zsh are, and whether there are units.
func (r *made) installed(t *testing.T, format, platform string) map[string]file {
	t.Helper()
	licence, zsh := "usr/share/licenses/hf-cache-sync/LICENSE", "usr/share/zsh/site-functions/_hf-cache-sync"
	if format == "deb" {
		licence, zsh = "usr/share/doc/hf-cache-sync/copyright", "usr/share/zsh/vendor-completions/_hf-cache-sync"
	}
	files := map[string]file{
		"usr/bin/hf-cache-sync":                                  {0o755, r.programs[platform]},
		"usr/share/bash-completion/completions/hf-cache-sync":    {0o644, r.completions["hf-cache-sync.bash"]},
		"usr/share/fish/vendor_completions.d/hf-cache-sync.fish": {0o644, r.completions["hf-cache-sync.fish"]},
		"usr/share/doc/hf-cache-sync/THIRD_PARTY_LICENSES":       {0o644, read(t, r.root, "THIRD_PARTY_LICENSES")},
		licence: {0o644, read(t, r.root, "LICENSE")},
		zsh:     {0o644, r.completions["_hf-cache-sync"]},
	}
	// Compressed, which the caller undoes.
	for name, page := range r.man {
		files["usr/share/man/man1/"+name] = file{0o644, page}
	}
	if format == "apk" {
		return files
	}
	units, err := filepath.Glob(filepath.Join(r.root, "contrib/systemd/*"))
	if err != nil || len(units) < 6 {
		t.Fatalf("units %q, %v", units, err)
	}
	for _, unit := range units {
		var text strings.Builder
		for line := range strings.Lines(string(read(t, unit))) {
			if !strings.Contains(line, "cp contrib") {
				text.WriteString(strings.ReplaceAll(line, "/usr/local/bin/", "/usr/bin/"))
			}
		}
		kind := "user"
		if strings.Contains(unit, "@") {
			kind = "system"
		}
		files["usr/lib/systemd/"+kind+"/"+filepath.Base(unit)] = file{0o644, []byte(text.String())}
	}
	return files
}

// compare compares the files of a package with what it should have.
func (r *made) compare(t *testing.T, format, platform string, files map[string]file) {
	t.Helper()
	got := map[string]file{}
	for name, f := range files {
		if page, ok := strings.CutSuffix(name, ".gz"); ok {
			name, f.data = page, gunzip(t, f.data)
		}
		got[strings.TrimPrefix(name, "/")] = f
	}
	if diff := cmp.Diff(sums(r.installed(t, format, platform)), sums(got)); diff != "" {
		t.Errorf("%s for %s (-want +got):\n%s", format, platform, diff)
	}
}

// debs reads the packages for Debian, which are ar archives of two tars.
func (r *made) debs(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"amd64", "arm64"} {
		deb := filepath.Join(r.dist, "hf-cache-sync_1.2.3_"+arch+".deb")
		members := map[string][]byte{}
		rest, ok := strings.CutPrefix(string(read(t, deb)), "!<arch>\n")
		for ok && len(rest) >= 60 {
			size, err := strconv.Atoi(strings.TrimSpace(rest[48:58]))
			if err != nil {
				t.Fatal(err)
			}
			members[strings.Trim(rest[:16], " /")] = []byte(rest[60 : 60+size])
			rest = rest[min(60+size+size%2, len(rest)):]
		}
		if diff := cmp.Diff([]string{"control.tar.gz", "data.tar.gz", "debian-binary"}, slices.Sorted(maps.Keys(members))); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", deb, diff)
		}
		r.compare(t, "deb", "linux_"+arch, untar(t, gunzip(t, members["data.tar.gz"])))
		control := string(untar(t, gunzip(t, members["control.tar.gz"]))["control"].data)
		for _, line := range []string{"Package: hf-cache-sync\n", "Version: 1.2.3\n", "Architecture: " + arch + "\n", "Recommends: ca-certificates\n"} {
			if !strings.Contains("\n"+control, "\n"+line) {
				t.Errorf("control does not say %q: %s", line, control)
			}
		}
	}
}

// apks reads the packages for Alpine: the description and the files are two tars,
// compressed one by one, and the first says what the second is.
func (r *made) apks(t *testing.T) {
	t.Parallel()
	for _, arch := range [][2]string{{"x86_64", "amd64"}, {"aarch64", "arm64"}} {
		data := read(t, r.dist, "hf-cache-sync_1.2.3_"+arch[0]+".apk")
		in := bytes.NewReader(data)
		gz, err := gzip.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		gz.Multistream(false)
		control, err := io.ReadAll(gz)
		if err != nil {
			t.Fatal(err)
		}
		rest := data[len(data)-in.Len():]
		about := string(untar(t, control)[".PKGINFO"].data)
		for _, line := range []string{"pkgname = hf-cache-sync\n", "pkgver = 1.2.3\n", "arch = " + arch[0] + "\n", "depend = ca-certificates-bundle\n", "datahash = " + testenv.SHA256(rest) + "\n"} {
			if !strings.Contains(about, line) {
				t.Errorf("%s: .PKGINFO does not say %q: %s", arch[0], line, about)
			}
		}
		r.compare(t, "apk", "linux_"+arch[1], untar(t, gunzip(t, rest)))
	}
}

// rpms reads the packages for Fedora and its like: what the header says of each file,
// and the files of the cpio archive.
func (r *made) rpms(t *testing.T) {
	t.Parallel()
	for _, arch := range [][2]string{{"x86_64", "amd64"}, {"aarch64", "arm64"}} {
		data := read(t, r.dist, "hf-cache-sync-1.2.3-1."+arch[0]+".rpm")
		_, size := rpmHeader(t, data[96:])
		start := 96 + (size+7)/8*8
		header, size := rpmHeader(t, data[start:])
		about := []any{header[1000], header[1001], header[1002], header[1022], header[1006], header[1007]}
		if diff := cmp.Diff([]any{[]string{"hf-cache-sync"}, []string{"1.2.3"}, []string{"1"}, []string{arch[0]}, []int{int(date().Unix())}, []string{"localhost"}}, about); diff != "" {
			t.Errorf("%s: name, version, release, arch, time and host (-want +got):\n%s", arch[0], diff)
		}
		files := cpio(t, gunzip(t, data[start+size:]))
		r.compare(t, "rpm", "linux_"+arch[1], files)
		dirs, bases, digests := header[1118].([]string), header[1117].([]string), header[1035].([]string)
		if len(bases) != len(files) {
			t.Errorf("%s: the header names %d files, and there are %d", arch[0], len(bases), len(files))
		}
		for i, dir := range header[1116].([]int) {
			name := dirs[dir] + bases[i]
			if digests[i] != testenv.SHA256(files[name].data) {
				t.Errorf("%s: %s: its SHA-256 is not %s", arch[0], name, digests[i])
			}
		}
	}
}

// rpmHeader reads the values of a header by their tags, and says how long it is
// (https://rpm-software-management.github.io/rpm/manual/format_header.html).
func rpmHeader(t *testing.T, data []byte) (values map[int]any, size int) {
	t.Helper()
	word := func(at int) int { return int(binary.BigEndian.Uint32(data[at:])) }
	if !bytes.HasPrefix(data, []byte("\x8e\xad\xe8\x01")) {
		t.Fatalf("no header: % x", data[:8])
	}
	count, length := word(8), word(12)
	values = map[int]any{}
	store := data[16+16*count:][:length]
	for i := range count {
		at := 16 + 16*i
		kind, offset, n := word(at+4), word(at+8), word(at+12)
		switch kind {
		case 4:
			var numbers []int
			for k := range n {
				numbers = append(numbers, int(binary.BigEndian.Uint32(store[offset+4*k:])))
			}
			values[word(at)] = numbers
		case 6, 8, 9:
			texts := strings.SplitN(string(store[offset:]), "\x00", n+1)
			values[word(at)] = texts[:n]
		}
	}
	return values, 16 + 16*count + length
}

// cpio returns the files of an archive in the new ASCII format, by absolute names.
func cpio(t *testing.T, data []byte) map[string]file {
	t.Helper()
	files := map[string]file{}
	for {
		if !bytes.HasPrefix(data, []byte("07070")) {
			t.Fatalf("no entry: %.20q", data)
		}
		field := func(i int) int {
			n, err := strconv.ParseUint(string(data[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		mode, size, length := field(1), field(6), field(11)
		name := string(data[110 : 110+length-1])
		if name == "TRAILER!!!" {
			return files
		}
		body := (110 + length + 3) / 4 * 4
		if mode&0o170000 == 0o100000 {
			files[path.Join("/", name)] = file{fs.FileMode(mode & 0o7777), data[body : body+size]}
		}
		data = data[(body+size+3)/4*4:]
	}
}

// install has dpkg install the package for this machine below a folder, calls what
// was installed, and has it removed again.
func (r *made) install(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	testenv.WriteFile(t, filepath.Join(root, "var/lib/dpkg/status"), nil)
	for _, dir := range []string{"updates", "info", "triggers"} {
		testenv.Mkdir(t, filepath.Join(root, "var/lib/dpkg", dir))
	}
	// dpkg wants tools of administrators on its path, and runs none of them here.
	env := []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
	dpkg := func(args ...string) string {
		t.Helper()
		return run(t, root, env, "dpkg", append([]string{"--root=" + root, "--force-not-root", "--log=" + filepath.Join(root, "log")}, args...)...)
	}
	dpkg("--install", filepath.Join(r.dist, "hf-cache-sync_1.2.3_"+strings.TrimPrefix(here, "linux_")+".deb"))
	if said := dpkg("--verify", "hf-cache-sync"); said != "" {
		t.Errorf("what was installed is not what the package says: %s", said)
	}
	program := testenv.Program{Args: []string{filepath.Join(root, "usr/bin/hf-cache-sync")}}
	if got := program.Run(t, nil, "version"); got.Code != 0 || !strings.HasPrefix(got.Stdout, "hf-cache-sync v1.2.3 (") {
		t.Errorf("version: %s", got)
	}
	if got := program.Run(t, nil, "demo"); got.Code != 0 {
		t.Errorf("demo: %s", got)
	}
	page := run(t, root, []string{"MANWIDTH=100", "MANPAGER=cat", "LC_ALL=C.UTF-8"}, "man", "--warnings=mac", "--local-file", filepath.Join(root, "usr/share/man/man1/hf-cache-sync-pull.1.gz"))
	if !strings.Contains(page, "hf-cache-sync-pull - Bring a repository from the bucket into the cache") || !strings.Contains(page, "EXIT STATUS") {
		t.Errorf("the page of pull: %s", page)
	}
	// The package bash-completion would set these variables; it need not be here.
	completion := `source "$1" && complete -p hf-cache-sync && PATH=$2:$PATH COMP_WORDS=(hf-cache-sync pul) COMP_CWORD=1 COMP_LINE="hf-cache-sync pul" COMP_POINT=17
		_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}") cword=1 cur=pul prev=hf-cache-sync; }
		__start_hf-cache-sync && printf '%s\n' "${COMPREPLY[@]}"`
	offered := run(t, root, nil, "bash", "-c", completion, "bash", filepath.Join(root, "usr/share/bash-completion/completions/hf-cache-sync"), filepath.Join(root, "usr/bin"))
	for _, want := range []string{"complete ", "pull", "pull-all"} {
		if !strings.Contains(offered, want) {
			t.Errorf("bash offers %q, without %q", offered, want)
		}
	}
	dpkg("--purge", "hf-cache-sync")
	if _, err := os.Stat(filepath.Join(root, "usr")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after it was removed something is left: %v", err)
	}
}

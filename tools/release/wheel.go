package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

//go:embed python/*
var python embed.FS

// platforms are the wheels: the archive's platform, and the tags of machines that
// can run its program. On Linux it is static, so that it asks nothing of a libc.
// Go 1.26 asks for macOS 12 (https://go.dev/wiki/MinimumRequirements).
func platforms() [][]string {
	return [][]string{
		{"linux_amd64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "musllinux_1_1_x86_64"},
		{"linux_arm64", "manylinux_2_17_aarch64", "manylinux2014_aarch64", "musllinux_1_1_aarch64"},
		{"darwin_amd64", "macosx_12_0_x86_64"},
		{"darwin_arm64", "macosx_12_0_arm64"},
		{"windows_amd64", "win_amd64"},
		{"windows_arm64", "win_arm64"},
	}
}

// wheels makes a wheel of each archive of a release, as checksums.txt lists and
// names them.
func wheels(dist, root, dir string, out io.Writer) error {
	sums, err := os.ReadFile(filepath.Join(dist, "checksums.txt"))
	if err != nil {
		return err
	}
	if err = os.RemoveAll(dir); err != nil {
		return err
	}
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range platforms() {
		platform, tags := p[0], p[1:]
		archive := regexp.MustCompile(`(?m)^([0-9a-f]{64}) [ *](hf-cache-sync_([0-9A-Za-z.+-]+)_` + platform + `\.(?:tar\.gz|zip))$`).FindSubmatch(sums)
		if archive == nil {
			return fmt.Errorf("checksums.txt names no archive for %s", platform)
		}
		w := wheel{tags: tags}
		if w.version, err = pep440(string(archive[3])); err != nil {
			return err
		}
		if err = w.addRelease(dist, string(archive[2]), string(archive[1])); err != nil {
			return err
		}
		if err = w.addRest(root, string(archive[3])); err != nil {
			return err
		}
		data, err := w.pack()
		if err != nil {
			return err
		}
		if err = write(filepath.Join(dir, w.name()), data); err != nil {
			return err
		}
		if _, err = fmt.Fprintf(out, "wheels: %s, %d bytes\n", w.name(), len(data)); err != nil {
			return err
		}
	}
	return nil
}

// pep440 is a release's number as Python packages have it:
// https://packaging.python.org/en/latest/specifications/version-specifiers/
func pep440(version string) (string, error) {
	parts := regexp.MustCompile(`^([0-9]+\.[0-9]+\.[0-9]+)(?:-(alpha|beta|rc|dev)\.?([0-9]+))?$`).FindStringSubmatch(version)
	if parts == nil {
		return "", fmt.Errorf("version %q is neither 1.2.3 nor 1.2.3-alpha1, -beta1, -rc1 or -dev1", version)
	}
	return parts[1] + map[string]string{"": "", "alpha": "a", "beta": "b", "rc": "rc", "dev": ".dev"}[parts[2]] + parts[3], nil
}

// member is a file in a wheel.
type member struct {
	name string
	data []byte
	mode os.FileMode
}

// wheel is a package as
// https://packaging.python.org/en/latest/specifications/binary-distribution-format/
// describes it.
type wheel struct {
	version string
	tags    []string  // Of platforms.
	date    time.Time // Of the program in the archive.
	members []member
}

func (w *wheel) name() string {
	return "hf_cache_sync-" + w.version + "-py3-none-" + strings.Join(w.tags, ".") + ".whl"
}

func (w *wheel) info(name string) string { return "hf_cache_sync-" + w.version + ".dist-info/" + name }

func (w *wheel) add(name string, data []byte) {
	w.members = append(w.members, member{name, data, 0o644})
}

// addRelease takes the program out of an archive that is what checksums.txt says,
// and what lies beside it.
func (w *wheel) addRelease(dist, archive, want string) error {
	data, err := os.ReadFile(filepath.Join(dist, archive))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	if got := hex.EncodeToString(sum[:]); got != want {
		return fmt.Errorf("%s: its SHA-256 is %s, and checksums.txt says %s", archive, got, want)
	}
	files, date, err := unpack(archive, data)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	w.date = date
	for name, data := range files {
		switch name {
		case "hf-cache-sync", "hf-cache-sync.exe":
			w.members = append(w.members, member{"hf_cache_sync-" + w.version + ".data/scripts/" + name, data, 0o755})
		case "LICENSE", "THIRD_PARTY_LICENSES":
			w.add(w.info("licenses/"+name), data)
		}
	}
	if len(w.members) != 3 {
		return fmt.Errorf("%s: there is no program in it, or no licence", archive)
	}
	// https://peps.python.org/pep-0770/
	sbom := regexp.MustCompile(`\.(tar\.gz|zip)$`).ReplaceAllString(archive, ".cdx.json")
	if data, err = os.ReadFile(filepath.Join(dist, sbom)); err != nil {
		return err
	}
	w.add(w.info("sboms/hf-cache-sync.cdx.json"), data)
	return nil
}

// unpack returns the files of an archive by their names without the folder, and
// the time of the program.
func unpack(name string, data []byte) (files map[string][]byte, date time.Time, err error) {
	files = map[string][]byte{}
	add := func(name string, modified time.Time, r io.Reader) error {
		name = path.Base(name)
		if files[name], err = io.ReadAll(r); err != nil {
			return err
		}
		if strings.TrimSuffix(name, ".exe") == "hf-cache-sync" {
			date = modified.UTC()
		}
		return nil
	}
	if strings.HasSuffix(name, ".zip") {
		z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return nil, date, err
		}
		for _, f := range z.File {
			if f.Mode().IsDir() {
				continue
			}
			r, err := f.Open()
			if err != nil {
				return nil, date, err
			}
			if err = errors.Join(add(f.Name, f.Modified, r), r.Close()); err != nil {
				return nil, date, err
			}
		}
		return files, date, nil
	}
	gz, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, date, err
	}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, date, nil
		}
		if err != nil {
			return nil, date, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err = add(h.Name, h.ModTime, r); err != nil {
			return nil, date, err
		}
	}
}

// addRest adds the Python package and what describes the wheel.
func (w *wheel) addRest(root, release string) error {
	for _, name := range []string{"__init__.py", "__main__.py"} {
		data, err := python.ReadFile("python/" + name)
		if err != nil {
			return err
		}
		w.add("hf_cache_sync/"+name, data)
	}
	about, err := python.ReadFile("python/METADATA")
	if err != nil {
		return err
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		return err
	}
	text := strings.ReplaceAll(string(about), "VERSION\n", w.version+"\n") + "\n" + absolute(string(readme), "v"+release)
	w.add(w.info("METADATA"), []byte(text))
	text = "Wheel-Version: 1.0\nGenerator: hf-cache-sync tools/release\nRoot-Is-Purelib: false\n"
	for _, tag := range w.tags {
		text += "Tag: py3-none-" + tag + "\n"
	}
	w.add(w.info("WHEEL"), []byte(text))
	return nil
}

// absolute makes links of the README lead to the repository: a package's page has
// no docs folder beside it.
func absolute(readme, ref string) string {
	const home = "https://github.com/hf-cache-sync/hf-cache-sync/"
	readme = regexp.MustCompile(`(!\[[^\]]*\]\()([^):#][^):]*\))`).ReplaceAllString(readme, "${1}"+strings.Replace(home, "github.com", "raw.githubusercontent.com", 1)+ref+"/${2}")
	return regexp.MustCompile(`([^!]\[[^\]]*\]\()([^):#][^):]*\))`).ReplaceAllString(readme, "${1}"+home+"blob/"+ref+"/${2}")
}

// pack writes the members and the record of them, in one order and with one time.
// What describes the package comes last, as the format recommends.
func (w *wheel) pack() ([]byte, error) {
	slices.SortFunc(w.members, func(a, b member) int {
		last := func(m member) int { return strings.Count(m.name, ".dist-info/") }
		return cmp.Or(cmp.Compare(last(a), last(b)), cmp.Compare(a.name, b.name))
	})
	var record strings.Builder
	for _, m := range w.members {
		sum := sha256.Sum256(m.data)
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", m.name, base64.RawURLEncoding.EncodeToString(sum[:]), len(m.data))
	}
	fmt.Fprintf(&record, "%s,,\n", w.info("RECORD"))
	w.add(w.info("RECORD"), []byte(record.String()))
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	z.RegisterCompressor(zip.Deflate, func(to io.Writer) (io.WriteCloser, error) { return flate.NewWriter(to, flate.BestCompression) })
	for _, m := range w.members {
		h := &zip.FileHeader{Name: m.name, Method: zip.Deflate, Modified: w.date}
		h.SetMode(m.mode)
		to, err := z.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err = to.Write(m.data); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

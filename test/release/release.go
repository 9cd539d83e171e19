// Package release plays the page of the project's releases: the redirect of the
// newest one, checksums.txt, and an archive for each platform, with the names that
// docs/hf-extension.md gives. The program in the archives is the one under test.
//
// The tests beside it make a release of the tree, whole but for publishing, and look
// at all that is in it.
package release

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// Version is the newest release, and the only one.
const Version = "1.2.3"

// Server is a page of releases. Its fields are set before the first request.
type Server struct {
	// URL is what HF_CACHE_SYNC_DOWNLOAD_URL is to be.
	URL string
	// Damage makes archives differ from what checksums.txt says.
	Damage bool
	// Omit leaves checksums.txt without any archive.
	Omit bool

	archives map[string][]byte
	listed   []byte // checksums.txt, if it is not made of archives.

	mu   sync.Mutex
	seen []string
}

// Start serves a release until the test ends, with archives for the platforms,
// such as "linux_amd64".
func Start(t *testing.T, platforms ...string) *Server {
	t.Helper()
	program, err := os.ReadFile(testenv.Binary(t).Args[0])
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{archives: map[string][]byte{}}
	for _, platform := range platforms {
		name := "hf-cache-sync_" + Version + "_" + platform
		if strings.HasPrefix(platform, "windows") {
			s.archives[name+".zip"] = zipped(t, program)
		} else {
			s.archives[name+".tar.gz"] = tarred(t, program)
		}
	}
	s.listen(t)
	return s
}

// Serve serves the files of a release that was really made, until the test ends.
func Serve(t *testing.T, dist string) *Server {
	t.Helper()
	s := &Server{archives: map[string][]byte{}}
	paths, err := filepath.Glob(filepath.Join(dist, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			continue
		}
		if s.archives[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	s.listed = s.archives["checksums.txt"]
	s.listen(t)
	return s
}

// listen makes s a server of this machine.
func (s *Server) listen(t *testing.T) {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
}

// Seen returns the paths that were asked for, in order, and forgets them.
func (s *Server) Seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// ServeHTTP answers as GitHub does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, r.URL.Path)
	s.mu.Unlock()
	name, isAsset := strings.CutPrefix(r.URL.Path, "/releases/download/v"+Version+"/")
	body, isArchive := s.archives[name]
	switch {
	case r.URL.Path == "/releases/latest":
		http.Redirect(w, r, "/releases/tag/v"+Version, http.StatusFound)
	case r.URL.Path == "/releases/tag/v"+Version:
		_, _ = io.WriteString(w, "<html>the release</html>") // The client notices what is cut short.
	case isAsset && name == "checksums.txt":
		_, _ = io.WriteString(w, s.checksums())
	case isAsset && isArchive:
		if s.Damage {
			body = slices.Clone(body)
			body[len(body)/2] ^= 1
		}
		_, _ = w.Write(body)
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) checksums() string {
	if s.listed != nil {
		return string(s.listed)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%x  hf-cache-sync_%s_amd64.deb\n", sha256.Sum256([]byte("another")), Version)
	if !s.Omit {
		for name, body := range s.archives {
			fmt.Fprintf(&text, "%x  %s\n", sha256.Sum256(body), name)
		}
	}
	return text.String()
}

// tarred is the archive for linux and macOS.
func tarred(t *testing.T, program []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	// Nothing is won by making it small.
	gz, err := gzip.NewWriterLevel(&out, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewWriter(gz)
	for name, body := range map[string][]byte{"LICENSE": []byte("MIT\n"), "hf-cache-sync": program} {
		err = archive.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(body))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = archive.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	for _, closer := range []io.Closer{archive, gz} {
		if err = closer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// zipped is the archive for Windows.
func zipped(t *testing.T, program []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	w, err := archive.CreateHeader(&zip.FileHeader{Name: "hf-cache-sync.exe", Method: zip.Store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err = archive.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

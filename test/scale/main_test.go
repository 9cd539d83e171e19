// Package scale_test runs the binary on a bucket of 200,000 blobs and 5,000
// revisions, and on a cache of 100,000 files, and bounds what that takes: of the
// bucket, requests; of the machine, memory. There are no bounds in seconds.
//
// The bucket is in the memory of the tests, behind gofakes3, which passes the
// suite of all stores (test/stores). An ordinary run is smaller.
package scale_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// filesEach is how many files a revision of the bucket has. None is shared.
const filesEach = 40

// made is revision number n of the bucket: every fifth is a new repository, and
// the last of each is its main.
func made(n, files int) testenv.Revision {
	const each = 5
	r := testenv.Revision{Repo: fmt.Sprintf("org-%03d/model-%04d", n/each%100, n/each), Commit: testenv.Commit(fmt.Sprint("scale ", n))}
	if n%each == each-1 {
		r.Refs = []string{"main"}
	}
	for i := range files {
		r.Files = append(r.Files, testenv.Content{
			Path: fmt.Sprintf("weights/part-%02d/model-%05d-of-%05d.safetensors", i/1000, i, files),
			Data: fmt.Appendf(nil, "revision %d, file %d\n", n, i), LFS: i%8 != 0,
		})
	}
	return r
}

// bucket is a bucket in the memory of a process of its own, which counts the
// requests that are made of it. In the process of the tests it would spoil what
// they measure: Linux counts what a process had before it became another program
// as that program's (execve(2), getrusage(2)).
type bucket struct {
	testenv.Remote
	blobs int
	url   string
}

const (
	bucketName = "scale"
	// serve is the variable that makes this program the server. It holds the number of revisions.
	serve = "HFCS_SCALE_REVISIONS"
	// peakOf is the variable that makes this program run its arguments and write the peak of their memory to the file that it names.
	peakOf = "HFCS_SCALE_PEAK"
	// askedPath is no bucket, and gives the requests since it was asked last.
	askedPath = "/-/asked"
)

// TestMain is also the main function of the server, and of what measures.
func TestMain(m *testing.M) {
	if file := os.Getenv(peakOf); file != "" {
		if err := runMeasured(os.Args[1:], file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if revisions, err := strconv.Atoi(os.Getenv(serve)); err == nil {
		fmt.Fprintln(os.Stderr, serveBucket(revisions))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// newBucket starts the server of a bucket with so many revisions.
func newBucket(t *testing.T, revisions int) *bucket {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", serve, revisions))
	cmd.Stderr = os.Stderr
	// It ends when its standard input does, also if the tests are killed.
	if _, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // It is killed when the test's context ends.
	b := &bucket{}
	if _, err = fmt.Fscanln(out, &b.url, &b.blobs); err != nil {
		t.Fatalf("the server of the bucket: %v", err)
	}
	b.Remote = testenv.Remote{Name: "memory", URL: "s3://" + bucketName, Env: []string{
		"B2_ENDPOINT=" + b.url, "B2_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=testsecret",
	}}
	return b
}

// undelimited is a backend that knows no delimiters: nobody here asks for
// folders, and gofakes3 takes an empty delimiter for one.
type undelimited struct{ *s3mem.Backend }

// ListBucket lists by prefix alone.
func (u undelimited) ListBucket(ctx context.Context, name string, p *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	if p != nil {
		p = &gofakes3.Prefix{HasPrefix: p.HasPrefix, Prefix: p.Prefix}
	}
	return u.Backend.ListBucket(ctx, name, p, page) //nolint:wrapcheck // It is the backend's own.
}

// serveBucket fills a bucket, says where it is and how many blobs it has, and
// serves it until the tests end.
func serveBucket(revisions int) error {
	memory := s3mem.New()
	if err := memory.CreateBucket(context.Background(), bucketName); err != nil {
		return fmt.Errorf("making the bucket: %w", err)
	}
	var errs error
	put := func(key string, data []byte) {
		_, err := memory.PutObject(context.Background(), bucketName, key, map[string]string{}, bytes.NewReader(data), int64(len(data)))
		errs = errors.Join(errs, err)
	}
	blobs := 0
	for n := range revisions {
		r := made(n, filesEach)
		for _, f := range r.Files {
			put("blobs/"+f.ID(), f.Data)
			blobs++
		}
		known := r.Manifest()
		if hub, ok := known["hub"].(map[string]any); ok {
			// Who pushed it claimed its refs long ago, so that nobody has news of them.
			claims := map[string]string{}
			for _, ref := range r.Refs {
				claims[ref] = "2023-01-01T00:00:00Z"
			}
			hub["refs"] = claims
		}
		data, err := json.MarshalIndent(known, "", "  ")
		errs = errors.Join(errs, err)
		put(r.ManifestKey(), data)
		for _, ref := range r.Refs {
			put("refs/"+r.Key()+"/"+ref, []byte(r.Commit))
		}
	}
	if errs != nil {
		return fmt.Errorf("filling the bucket: %w", errs)
	}
	web := httptest.NewServer(&counter{inner: gofakes3.New(undelimited{memory}).Server(), requests: map[string]int{}})
	fmt.Println(web.URL, blobs)
	_, err := io.Copy(io.Discard, os.Stdin)
	return fmt.Errorf("the tests have ended: %w", err)
}

// counter counts requests and passes them on.
type counter struct {
	inner http.Handler

	mu       sync.Mutex // Guards what follows.
	requests map[string]int
}

// ServeHTTP answers one request.
func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	if r.URL.Path == askedPath {
		defer c.mu.Unlock()
		_ = json.NewEncoder(w).Encode(c.requests) // Whoever asks notices.
		c.requests = map[string]int{}
		return
	}
	kind := r.Method
	if r.URL.Query().Has("list-type") {
		kind = "LIST"
	}
	c.requests[kind]++
	c.mu.Unlock()
	c.inner.ServeHTTP(w, r)
}

// asked are the requests since the last call, by kind.
func (b *bucket) asked(t *testing.T) (requests map[string]int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+askedPath, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // Only read from.
	if err = json.NewDecoder(resp.Body).Decode(&requests); err != nil {
		t.Fatal(err)
	}
	return requests
}

// homeDir is an empty folder, in memory where there is room for files, because
// many small ones take long to remove from a disk.
func homeDir(t *testing.T) string {
	t.Helper()
	const shared = "/dev/shm"
	var stat syscall.Statfs_t
	if err := syscall.Statfs(shared, &stat); err != nil || int64(stat.Bavail)*stat.Bsize < 4<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shared, "hfcs-scale-") //nolint:usetesting // It has to be there.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func total(requests map[string]int) (n int) {
	for _, count := range requests {
		n += count
	}
	return n
}

// measured is what a run of the binary took.
type measured struct {
	testenv.Result
	peak int64 // Bytes of memory, resident.
}

// measure runs the binary, which must end well. home is its HOME too, so that
// what is kept on the machine stays from run to run.
func (b *bucket) measure(t *testing.T, home string, args ...string) measured {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	peakFile := filepath.Join(t.TempDir(), "peak")
	program := testenv.Binary(t)
	args = append(args, "--cache-dir", filepath.Join(home, "hub"), "--no-progress")
	cmd := exec.CommandContext(t.Context(), self, append(program.Args, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir = &stdout, &stderr, home
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C.UTF-8", "HF_CACHE_SYNC_REMOTE=" + b.URL, peakOf + "=" + peakFile,
	}, b.Env...)
	if err = cmd.Run(); err != nil {
		t.Fatalf("hf-cache-sync %q: %v:\n%s", args, err, &stderr)
	}
	m := measured{Result: testenv.Result{Stdout: stdout.String(), Stderr: stderr.String()}}
	text, err := os.ReadFile(peakFile)
	if err == nil {
		_, err = fmt.Sscan(string(text), &m.peak)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// runMeasured runs a command line and writes its peak to a file. It is a process
// of its own and a small one, because its memory is the least that it can find.
func runMeasured(args []string, peakFile string) error {
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running %s: %w", args[0], err)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("the system does not say how much memory a process took")
	}
	peak := usage.Maxrss
	if runtime.GOOS != "darwin" {
		peak *= 1024 // Linux counts in KiB (getrusage(2)).
	}
	if err := os.WriteFile(peakFile, fmt.Append(nil, peak), 0o600); err != nil {
		return fmt.Errorf("writing the peak: %w", err)
	}
	return nil
}

// decode reads the JSON that a command printed.
func (m measured) decode(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(m.Stdout), v); err != nil {
		t.Fatalf("%v in %.500s", err, m.Stdout)
	}
}

func mib(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

// writeCache puts revisions first to last into a cache, as made makes them.
func writeCache(t *testing.T, home string, first, last, files int) {
	t.Helper()
	for n := first; n < last; n++ {
		r := made(n, files)
		repo := filepath.Join(home, "hub", r.Folder())
		snapshot := filepath.Join(repo, "snapshots", r.Commit)
		testenv.Mkdir(t, filepath.Join(repo, "blobs"))
		parts := map[string]bool{}
		for _, f := range r.Files {
			// Without testenv's care for what may be there before, which costs more than the file does.
			if err := os.WriteFile(filepath.Join(repo, "blobs", f.ID()), f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(snapshot, filepath.FromSlash(f.Path))
			if dir := filepath.Dir(link); !parts[dir] {
				testenv.Mkdir(t, dir)
				parts[dir] = true
			}
			if err := os.Symlink(strings.Repeat("../", strings.Count(f.Path, "/")+2)+"blobs/"+f.ID(), link); err != nil {
				t.Fatal(err)
			}
		}
		testenv.WriteFile(t, filepath.Join(repo, "trees", r.Commit+".json"), testenv.JSON(t, map[string]any{"format_version": 1, "files": r.Tree()}))
		for _, ref := range r.Refs {
			testenv.WriteFile(t, filepath.Join(repo, "refs", ref), []byte(r.Commit))
		}
	}
}

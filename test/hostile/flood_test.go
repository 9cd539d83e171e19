package hostile_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// mostMemory is what a command may take at most, in MiB, whatever a server says.
const mostMemory = 150

// measured runs a command and returns its peak memory too, in MiB.
func (s *sandbox) measured(t *testing.T, args ...string) (testenv.Result, int64) {
	t.Helper()
	program := testenv.Binary(t, s.remote.Env...)
	args = append(append([]string{}, args...), "--remote", s.remote.URL, "--cache-dir", s.cache, "--tries", "2", "--retry-wait", "1ms")
	cmd := exec.CommandContext(t.Context(), program.Args[0], append(append([]string{}, program.Args[1:]...), args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir = &stdout, &stderr, t.TempDir()
	cmd.Env = append([]string{"HOME=" + t.TempDir()}, program.Env...)
	_ = cmd.Run() // Its exit code tells.
	result := testenv.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		t.Fatal("this system does not say how much memory it took")
	}
	return result, usage.Maxrss >> 10
}

// TestEndlessListing lists more keys than anybody has, none of which means
// anything: the command says so and ends, in constant memory.
func TestEndlessListing(t *testing.T) {
	const page = 1000
	pages := proof.Times(100, 10_000)
	for _, prefix := range []string{"manifests/", "refs/"} {
		t.Run(prefix, func(t *testing.T) {
			s := newSandbox(t)
			l := newLiar(t, s, testenv.Sample())
			listed := 0
			l.answer = func(w http.ResponseWriter, r *http.Request, key string) bool {
				if q := r.URL.Query(); key != "" || q.Get("prefix") != prefix {
					return false
				}
				at, _ := strconv.Atoi(r.URL.Query().Get("continuation-token")) // None is the first.
				w.Header().Set("Content-Type", "application/xml")
				_, _ = fmt.Fprintf(w, "<ListBucketResult><Name>%s</Name><IsTruncated>%t</IsTruncated><NextContinuationToken>%d</NextContinuationToken>", liarBucket, at+1 < pages, at+1)
				for i := range page {
					_, _ = fmt.Fprintf(w, "<Contents><Key>%sjunk-%012d</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>x</ETag><Size>1</Size></Contents>", prefix, at*page+i)
				}
				_, _ = io.WriteString(w, "</ListBucketResult>") // The client may be gone.
				listed += page
				return true
			}
			result, memory := s.measured(t, "list", "--remote")
			if strings.Contains(result.Stderr, "panic:") || result.Code < 0 {
				t.Errorf("it crashed: %s", result)
			}
			if memory > mostMemory {
				t.Errorf("%d keys took %d MiB", listed, memory)
			}
			if listed < pages*page {
				t.Errorf("it stopped after %d of %d keys: %.2000s", listed, pages*page, result)
			}
			proof.Row{
				Class: proof.Hostile, Times: listed, Tried: "key of a listing that means nothing, below " + prefix, Figures: fmt.Sprintf("%d MiB of memory", memory),
			}.Record(t)
		})
	}
}

// TestBombs answers with what becomes large only when it is read: the command
// ends with an error that names the key, in bounded memory.
func TestBombs(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	zeros := make([]byte, 1<<20)
	for range 512 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r := testenv.Sample()
	nested := bytes.Repeat([]byte(`{"files":[`), 3_000_000)
	endless := func(w http.ResponseWriter) {
		for range 1024 {
			if _, err := w.Write(zeros); err != nil {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		send func(w http.ResponseWriter)
		code int
	}{
		"gzip said to be gzip": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(packed.Bytes()) // The client may be gone.
		}, 6},
		"nested":               {func(w http.ResponseWriter) { _, _ = w.Write(nested) }, 6},
		"endless":              {endless, 6},
		"endless and an error": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden); endless(w) }, 4},
		"endless headers": {func(w http.ResponseWriter) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprintf("X-Amz-Meta-%d", i), strings.Repeat("x", 8<<10))
			}
		}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t)
			l := newLiar(t, s, r)
			l.answer = func(w http.ResponseWriter, req *http.Request, key string) bool {
				if key != r.ManifestKey() || req.Method != http.MethodGet {
					return false
				}
				w.Header().Set("ETag", `"bomb"`)
				c.send(w)
				return true
			}
			result, memory := s.measured(t, "pull", r.Repo)
			if memory > 2*mostMemory {
				t.Errorf("it took %d MiB: %s", memory, result)
			}
			outcome{code: c.code, stderr: []string{r.ManifestKey()}}.check(t, result)
		})
	}
}

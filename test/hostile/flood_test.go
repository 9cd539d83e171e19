package hostile_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// mostMemory is what a command may take at most, in MiB, whatever a server says.
const mostMemory = 150

// measured runs a command and returns its peak memory too, in MiB. A process
// that is started counts what the starting one had at that moment as its own, so
// that a small one stands between them: this program, called again by [measure].
func (s *sandbox) measured(t *testing.T, args ...string) (testenv.Result, int64) {
	t.Helper()
	figure := filepath.Join(t.TempDir(), "peak")
	program := testenv.Binary(t, append(slices.Clip(s.remote.Env), measuring+"="+figure)...)
	program.Args = append([]string{os.Args[0]}, program.Args...)
	program.Dir = t.TempDir() // Without a config file.
	args = append(slices.Clip(args), "--remote", s.remote.URL, "--cache-dir", s.cache, "--tries", "2", "--retry-wait", "1ms")
	result := program.Run(t, nil, args...)
	text, err := os.ReadFile(figure)
	if err != nil {
		t.Fatal(err)
	}
	peak, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || peak == 0 {
		t.Fatalf("it took %q KiB: %v", text, err)
	}
	return result, peak >> 10
}

// measuring is the variable that makes this program call [measure], and names
// the file for the figure.
const measuring = "HFCS_HOSTILE_MEASURE"

// measure runs a command and writes its peak memory, in KiB, to a file.
func measure(figure string, command []string) (code int) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	_ = cmd.Run() // Its exit code tells.
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 125
	}
	if err := os.WriteFile(figure, strconv.AppendInt(nil, usage.Maxrss, 10), 0o600); err != nil {
		return 125
	}
	return cmd.ProcessState.ExitCode()
}

// TestEndlessListing lists more keys than anybody has, none of which means
// anything: the command says so and ends, in constant memory.
func TestEndlessListing(t *testing.T) {
	const page = 1000
	// A slice of the fewest of them would already take more than this.
	const most = 48
	for prefix, pages := range map[string]int{"manifests/": proof.Times(100, 10_000), "refs/": proof.Times(100, 1_000)} {
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
				var text []byte
				for i := range page {
					text = fmt.Appendf(text, "<Contents><Key>%sjunk-%012d</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>x</ETag><Size>1</Size></Contents>", prefix, at*page+i)
				}
				_, _ = w.Write(text)
				_, _ = io.WriteString(w, "</ListBucketResult>") // The client may be gone.
				listed += page
				return true
			}
			result, memory := s.measured(t, "list", "--remote")
			if strings.Contains(result.Stderr, "panic:") || result.Code < 0 {
				t.Errorf("it crashed: %s", result)
			}
			if memory > most {
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

// TestListingBombs answers with one page of a listing, or one error in the place
// of it, that does not end.
func TestListingBombs(t *testing.T) {
	chunk := []byte(strings.Repeat("<Contents><Key>manifests/junk</Key><Size>1</Size></Contents>", 10_000))
	for name, c := range map[string]struct {
		status              int
		prefix, middle, end string
	}{
		"keys":           {http.StatusOK, "<ListBucketResult>", string(chunk), "</ListBucketResult>"},
		"one key":        {http.StatusOK, "<ListBucketResult><Contents><Key>", "x", "</Key></Contents></ListBucketResult>"},
		"nested":         {http.StatusOK, "", "<ListBucketResult>", ""},
		"spaces":         {http.StatusOK, "", " ", "<ListBucketResult></ListBucketResult>"},
		"attributes":     {http.StatusOK, "<ListBucketResult ", `a="b" `, "></ListBucketResult>"},
		"refused":        {http.StatusForbidden, "<Error><Code>AccessDenied</Code><Message>", "x", "</Message></Error>"},
		"not found":      {http.StatusNotFound, "<Error><Code>NoSuchBucket</Code><Message>", "x", "</Message></Error>"},
		"a comment":      {http.StatusOK, "<ListBucketResult><!--", "x", "--></ListBucketResult>"},
		"many elements":  {http.StatusOK, "<ListBucketResult>", "<CommonPrefixes/>", "</ListBucketResult>"},
		"many error ids": {http.StatusForbidden, "<Error>", "<RequestId/>", "</Error>"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t)
			l := newLiar(t, s, testenv.Sample())
			l.answer = func(w http.ResponseWriter, r *http.Request, key string) bool {
				if key != "" || r.URL.Query().Get("prefix") != "manifests/" {
					return false
				}
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(c.status)
				repeated(w, c.prefix, c.middle, c.end, 200<<20)
				return true
			}
			result, memory := s.measured(t, "list", "--remote")
			if memory > 2*mostMemory {
				t.Errorf("it took %d MiB", memory)
			}
			if result.Code == 0 || result.Code == 1 || result.Code > 9 || !strings.Contains(result.Stderr, "manifests/") || len(result.Stderr) > 5000 {
				t.Errorf("it does not say what is wrong: %.5000s", result)
			}
		})
	}
}

package stores

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// quirks is a service that is S3 with differences: a proxy in front of a server
// that has none. It refuses what the service refuses before the server hears of
// it, and rewrites what the server answers. What was signed it cannot change, so
// the server checks the signatures of all that passes.
type quirks struct {
	*httptest.Server

	mu     sync.Mutex
	given  map[string]int           // How often each quirk was shown.
	put    map[string]bool          // Keys that were put, and whether the next write of them is too soon.
	puts   int                      // All of them.
	parts  map[string]map[int]int64 // Sizes of the parts of each upload.
	errors []string                 // What no client may do at any service.
}

// profile is what a service does otherwise.
type profile struct {
	// refuse says why the service does not take the request, if it does not.
	refuse func(q *quirks, r *http.Request) *refusal
	// rewrite changes an answer; nil leaves all as they are.
	rewrite func(q *quirks, resp *http.Response) error
}

// refusal is an error as a service answers it.
type refusal struct {
	quirk      string // What it is, for the proof.
	status     int
	code       string
	message    string
	retryAfter int // Seconds.
}

// startQuirks starts a proxy in front of the server at target that plays what profile gives.
func startQuirks(t *testing.T, target string, of func(t *testing.T, q *quirks) profile) *quirks {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	q := &quirks{given: map[string]int{}, put: map[string]bool{}, parts: map[string]map[int]int64{}}
	p := of(t, q)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // It is signed.
		},
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		ModifyResponse: func(resp *http.Response) error {
			if p.rewrite == nil {
				return nil
			}
			return p.rewrite(q, resp)
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	q.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := p.refuse(q, r); why != nil {
			q.count(why.quirk)
			why.answer(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		q.Close()
		for _, text := range q.errors {
			t.Error(text)
		}
	})
	return q
}

func (f *refusal) answer(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // A client that is still sending might not see the answer.
	if f.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(f.status)
	if r.Method != http.MethodHead {
		_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>", f.code, f.message)
	}
}

func (q *quirks) count(quirk string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.given[quirk]++
}

// complain notes something that fails the test.
func (q *quirks) complain(format string, args ...any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.errors = append(q.errors, fmt.Sprintf(format, args...))
}

// answers is how many quirks were shown in all, and of which kinds.
func (q *quirks) answers() (n int, kinds map[string]int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, times := range q.given {
		n += times
	}
	return n, maps.Clone(q.given)
}

// isPut says whether r puts an object whole.
func isPut(r *http.Request) bool { return r.Method == http.MethodPut && !r.URL.Query().Has("uploadId") }

// isObject says whether the path of r has a key.
func isObject(r *http.Request) bool {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return key != ""
}

// conditional says whether r asks for a condition on a write.
func conditional(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && (r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != "")
}

// checksummed is the name of the first header by which r has a checksum of its own.
func checksummed(r *http.Request) string {
	for name := range r.Header {
		if low := strings.ToLower(name); strings.HasPrefix(low, "x-amz-checksum-") || low == "x-amz-sdk-checksum-algorithm" {
			return low
		}
	}
	return ""
}

// streamed says whether the body of r is in signed chunks, or has a trailer.
func streamed(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") || r.Header.Get("X-Amz-Trailer") != "" ||
		strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") || len(r.Trailer) > 0
}

// everyPut says whether r is the nth put of an object, the 2nth, and so on.
func (q *quirks) everyPut(r *http.Request, n int) bool {
	if !isPut(r) {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.puts++
	return q.puts%n == 0
}

// tooSoon says whether r writes a key that was written just before. Every second
// write of a key is, however slow the machine: so the test sees it each time.
func (q *quirks) tooSoon(r *http.Request) bool {
	if !isPut(r) {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	soon := q.put[r.URL.Path]
	q.put[r.URL.Path] = !soon
	return soon
}

// unequal notes the sizes of parts, and says whether r completes an upload whose
// parts, but for the last, are not of one size, or whose last is larger.
func (q *quirks) unequal(r *http.Request) bool {
	query := r.URL.Query()
	id := query.Get("uploadId")
	if id == "" {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch r.Method {
	case http.MethodPut:
		number, err := strconv.Atoi(query.Get("partNumber"))
		if err != nil {
			return false
		}
		if q.parts[id] == nil {
			q.parts[id] = map[int]int64{}
		}
		q.parts[id][number] = r.ContentLength
	case http.MethodPost:
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var list struct {
			Part []struct{ PartNumber int }
		}
		if err = errors.Join(err, xml.Unmarshal(body, &list)); err != nil || len(list.Part) == 0 {
			return false
		}
		first := q.parts[id][list.Part[0].PartNumber]
		for i, p := range list.Part {
			size := q.parts[id][p.PartNumber]
			if size > first || size < first && i < len(list.Part)-1 {
				return true
			}
		}
	}
	return false
}

// edit replaces the body of an answer, if it is XML of S3's own: an error, a
// listing, or the end of an upload.
func (q *quirks) edit(resp *http.Response, quirk string, change func(body []byte) []byte) error {
	own := resp.StatusCode >= http.StatusBadRequest || resp.Request.Method == http.MethodPost ||
		resp.Request.Method == http.MethodGet && resp.Request.URL.RawQuery != ""
	if !own || resp.Request.Method == http.MethodHead {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	after := change(body)
	if !bytes.Equal(after, body) {
		q.count(quirk)
	}
	resp.Body = io.NopCloser(bytes.NewReader(after))
	resp.ContentLength = int64(len(after))
	resp.Header.Set("Content-Length", strconv.Itoa(len(after)))
	return nil
}

// s3Code sends a request and returns the code of the error that answers it.
func s3Code(t *testing.T, req *http.Request) string {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	var answer struct{ Code string }
	if err = xml.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%s: %v in %q", resp.Status, err, body)
	}
	return answer.Code
}

package s3store

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// FuzzContentRange reads the header that says which bytes an answer holds.
func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Fuzz(func(t *testing.T, text string) {
		first, last, total, err := parseContentRange(text)
		if err != nil {
			return
		}
		if first < 0 || last < first || (total != -1 && last >= total) {
			t.Errorf("%q is %d to %d of %d", text, first, last, total)
		}
		again := fmt.Sprintf("bytes %d-%d/%d", first, last, total)
		if total == -1 {
			again = fmt.Sprintf("bytes %d-%d/*", first, last)
		}
		if a, b, c, err := parseContentRange(again); err != nil || a != first || b != last || c != total {
			t.Errorf("%q is %q, which is %d to %d of %d, %v", text, again, a, b, c, err)
		}
	})
}

// answers is a service that says the same to everybody.
type answers func(*http.Request) *http.Response

// RoundTrip implements [http.RoundTripper].
func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

// answering is a store for all inputs of one process, as it takes longer to open one than to ask it. What it is answered is set before each.
func answering(tb testing.TB) (s *Store, answer *answers) {
	tb.Helper()
	answer = new(answers)
	s, err := Open(Options{
		Endpoint: "http://127.0.0.1:1", Region: "us-east-1", Bucket: "bucket", Prefix: "team",
		Credentials: Credentials{AccessKey: "AKIDEXAMPLE", SecretKey: "topsecrettopsecret"},
		Transport:   answers(func(r *http.Request) *http.Response { return (*answer)(r) }),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s, answer
}

// FuzzGetRange reads a range from a service that answers with any status, range and bytes: never more than was asked for, and no less without an error.
func FuzzGetRange(f *testing.F) {
	s, answer := answering(f)
	f.Add(206, "bytes 2-4/10", "abc", int64(2), int64(3))
	f.Fuzz(func(t *testing.T, status int, contentRange, body string, offset, length int64) {
		if status < 200 || status > 599 || strings.ContainsAny(contentRange, "\r\n") {
			return
		}
		*answer = func(r *http.Request) *http.Response {
			header := http.Header{"Etag": {`"x"`}, "Content-Length": {fmt.Sprint(len(body))}}
			header.Set("Content-Range", contentRange)
			return &http.Response{StatusCode: status, Header: header, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)), Request: r}
		}
		rc, info, err := s.Get(t.Context(), "blobs/x", store.Range{Offset: offset, Length: length})
		if err != nil {
			if _, ok := errors.AsType[*store.Error](err); !ok || strings.Contains(err.Error(), "topsecret") {
				t.Errorf("%v", err)
			}
			return
		}
		got, err := io.ReadAll(rc)
		if closeErr := rc.Close(); closeErr != nil {
			t.Error(closeErr)
		}
		if length > 0 && int64(len(got)) > length || info.Size < 0 {
			t.Errorf("%d bytes where %d were asked for, of an object of %d", len(got), length, info.Size)
		}
		if whole := offset == 0 && length == 0; err == nil && whole && int64(len(got)) != info.Size {
			t.Errorf("%d bytes of %d, and no error", len(got), info.Size)
		}
		if err == nil && offset > 0 && !strings.Contains(contentRange, fmt.Sprint(offset)) {
			t.Errorf("the range %q was taken for one from %d", contentRange, offset)
		}
	})
}

// FuzzListing reads pages of a listing. Each is the last, whatever it says, because it says always the same; every key that comes out of it is one of ours, below the prefix.
func FuzzListing(f *testing.F) {
	s, answer := answering(f)
	f.Add(`<ListBucketResult><Contents><Key>team/blobs/x</Key><Size>3</Size></Contents></ListBucketResult>`)
	f.Fuzz(func(t *testing.T, page string) {
		asked := 0
		*answer = func(r *http.Request) *http.Response {
			asked++
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: int64(len(page)), Body: io.NopCloser(strings.NewReader(page)), Request: r}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for info, err := range s.List(t.Context(), "blobs/") {
			if err != nil {
				if _, ok := errors.AsType[*store.Error](err); !ok {
					t.Errorf("%v", err)
				}
				break
			}
			if store.CheckKey("list", info.Key) != nil || !strings.HasPrefix(info.Key, "blobs/") {
				t.Errorf("the key %q came out", info.Key)
			}
		}
		// The library's decoder takes a good deal for each tag.
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 4<<20+1000*uint64(len(page))*uint64(asked) {
			t.Errorf("%d bytes took %d to read in %d pages", len(page), taken, asked)
		}
		for u, err := range s.Uploads(t.Context(), "blobs/") {
			if err == nil && (store.CheckKey("list", u.Key) != nil || !strings.HasPrefix(u.Key, "blobs/")) {
				t.Errorf("the upload %q came out", u.Key)
			}
		}
		parts, err := s.Parts(t.Context(), store.Upload{Key: "blobs/x", ID: "id"})
		if err == nil && len(parts) > 10_000 {
			t.Errorf("%d parts", len(parts))
		}
		if asked > 20 {
			t.Errorf("%d pages of %q", asked, page)
		}
	})
}

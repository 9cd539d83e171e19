package s3store_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
)

func TestAnswersToRanges(t *testing.T) {
	whole := store.Range{}
	for _, tc := range []struct {
		name   string
		rng    store.Range
		status int
		header map[string]string
		body   string
		want   string
		size   int64
		kind   error // of Get or of the read
	}{
		{"whole", whole, 200, map[string]string{"Content-Length": "10"}, "0123456789", "0123456789", 10, nil},
		{"cut", whole, 200, map[string]string{"Content-Length": "10"}, "01234", "01234", 10, store.ErrUnavailable},
		{"cut to nothing", whole, 200, map[string]string{"Content-Length": "10"}, "", "", 10, store.ErrUnavailable},
		{"range", store.Range{Offset: 2, Length: 3}, 206, map[string]string{"Content-Range": "bytes 2-4/10"}, "234", "234", 10, nil},
		{"range, cut", store.Range{Offset: 2, Length: 3}, 206, map[string]string{"Content-Range": "bytes 2-4/10", "Content-Length": "3"}, "2", "2", 10, store.ErrUnavailable},
		{"range, too little", store.Range{Offset: 2, Length: 3}, 206, map[string]string{"Content-Range": "bytes 2-4/10"}, "23", "23", 10, store.ErrUnavailable},
		{"range beyond the end", store.Range{Offset: 8, Length: 5}, 206, map[string]string{"Content-Range": "bytes 8-9/10"}, "89", "89", 10, nil},
		{"another range", store.Range{Offset: 2, Length: 3}, 206, map[string]string{"Content-Range": "bytes 0-2/10"}, "012", "", 0, store.ErrUnsupported},
		{"longer range", store.Range{Offset: 2, Length: 3}, 206, map[string]string{"Content-Range": "bytes 2-9/10"}, "23456789", "", 0, store.ErrUnsupported},
		{"no range", store.Range{Offset: 2, Length: 3}, 206, map[string]string{"Content-Range": "lines 2"}, "234", "", 0, store.ErrUnsupported},
		{"negative total", store.Range{Offset: 2, Length: 3}, 206, map[string]string{"Content-Range": "bytes 2-4/-7"}, "234", "", 0, store.ErrUnsupported},
		{"signs", store.Range{Offset: 2, Length: 3}, 206, map[string]string{"Content-Range": "bytes +2-4/10"}, "234", "", 0, store.ErrUnsupported},
		{"ranges ignored", store.Range{Offset: 2, Length: 3}, 200, nil, "0123456789", "", 0, store.ErrUnsupported},
		{"ranges ignored, from the start", store.Range{Length: 3}, 200, nil, "0123456789", "012", 10, nil},
		{"size unknown", whole, 200, map[string]string{"Transfer-Encoding": "chunked"}, "0123456789", "0123456789", 10, nil},
		{"total unknown", store.Range{Offset: 2, Length: 3}, 206, map[string]string{"Content-Range": "bytes 2-4/*"}, "234", "234", 10, nil},
		{"another object", store.Range{Length: 3, ETag: "other"}, 206, map[string]string{"Content-Range": "bytes 0-2/10"}, "012", "", 0, store.ErrExists},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := newService(t, false, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"etag"`)
				if r.Method == http.MethodHead {
					w.Header().Set("Content-Length", "10")
					return
				}
				for name, value := range tc.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
				if tc.header["Content-Length"] != "" && fmt.Sprint(len(tc.body)) != tc.header["Content-Length"] {
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
			})
			rc, info, err := open(t, srv.options()).Get(t.Context(), "k", tc.rng)
			if err != nil {
				if !errors.Is(err, tc.kind) || tc.size != 0 {
					t.Errorf("get: %v, want %v", err, tc.kind)
				}
				return
			}
			got, err := io.ReadAll(rc)
			if string(got) != tc.want || !errors.Is(err, tc.kind) {
				t.Errorf("%q, %v, want %q, %v", got, err, tc.want, tc.kind)
			}
			var se *store.Error
			if err != nil && (!errors.As(err, &se) || se.Op != "get" || se.Key != "k") {
				t.Errorf("%#v is not the contract's error", err)
			}
			if info.Size != tc.size || info.ETag != "etag" {
				t.Errorf("info %+v, want size %d", info, tc.size)
			}
			if err = rc.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOddHeaders(t *testing.T) {
	srv := newService(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Expires", "0")
		w.Header().Set("X-Amz-Meta-Resolved-At", "then")
		w.Header().Set("Content-Encoding", "gzip") // Which it is not, and which is nobody's business.
		_, _ = io.WriteString(w, "body")
	})
	s := open(t, srv.options())
	rc, info, err := s.Get(t.Context(), "k", store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(rc)
	if err = errors.Join(err, rc.Close()); err != nil || string(data) != "body" {
		t.Errorf("%q, %v", data, err)
	}
	if diff := cmp.Diff(map[string]string{"resolved-at": "then"}, info.Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if _, err = s.Stat(t.Context(), "k"); err != nil {
		t.Error(err)
	}
}

func TestRedirect(t *testing.T) {
	const object = "0123456789"
	const signature = "X-Amz-Signature=0a1b2c3d"
	cdn := newService(t, false, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.RawQuery, signature) {
			http.Error(w, "no signature", http.StatusForbidden)
			return
		}
		w.Header().Set("ETag", `"of-the-cdn"`)
		w.Header().Set("Expires", "-1")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(object))
	})
	current := "etag"
	srv := newService(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.Header().Set("ETag", `"`+current+`"`)
			w.Header().Set("Content-Length", "10")
			return
		}
		http.Redirect(w, r, cdn.URL+"/somewhere?"+signature, http.StatusFound)
	})
	s := open(t, srv.options())
	read := func(rng store.Range) (string, store.Info, error) {
		rc, info, err := s.Get(t.Context(), "k", rng)
		if err != nil {
			return "", info, err
		}
		data, err := io.ReadAll(rc)
		return string(data), info, errors.Join(err, rc.Close())
	}
	for _, tc := range []struct {
		rng  store.Range
		want string
		etag string
	}{
		{store.Range{}, object, "etag"},
		{store.Range{Offset: 2, Length: 3}, "234", "etag"},
		{store.Range{Offset: 2, Length: 3, ETag: "etag"}, "234", "etag"},
		{store.Range{Offset: 8, ETag: "of-the-cdn"}, "89", "of-the-cdn"},
	} {
		got, info, err := read(tc.rng)
		if err != nil || got != tc.want || info.ETag != tc.etag || info.Size != 10 {
			t.Errorf("%+v: %q, %+v, %v, want %q of ETag %s", tc.rng, got, info, err, tc.want, tc.etag)
		}
	}
	for _, r := range cdn.asked() {
		for name := range r.Header {
			if low := strings.ToLower(name); low == "authorization" || low == "cookie" || strings.HasPrefix(low, "x-amz-") || strings.HasPrefix(low, "if-") {
				t.Errorf("the CDN is sent %s: %s", name, r.Header.Get(name))
			}
		}
	}
	current = "replaced"
	if _, _, err := read(store.Range{ETag: "etag"}); !errors.Is(err, store.ErrExists) {
		t.Errorf("range of a replaced object: %v", err)
	}
	if _, _, err := read(store.Range{Offset: 10}); !errors.Is(err, store.ErrBadRange) {
		t.Errorf("range beyond the end: %v", err)
	}
}

func TestRedirectErrors(t *testing.T) {
	for _, tc := range []struct {
		name     string
		location string // %s is another server
		kind     error
	}{
		{"refused there", "%s/denied?X-Amz-Signature=secret", store.ErrDenied},
		{"unavailable there", "%s/unavailable?X-Amz-Signature=secret", store.ErrUnavailable},
		{"hangs up there", "%s/abort?X-Amz-Signature=secret", store.ErrUnavailable},
		{"nobody there", "http://127.0.0.1:1/?X-Amz-Signature=secret", store.ErrUnavailable},
		{"for ever", "%s/again?X-Amz-Signature=secret", store.ErrBadConfig},
		{"not over http", "file:///etc/passwd?X-Amz-Signature=secret", store.ErrBadConfig},
		{"not a URL", "http://[::1?X-Amz-Signature=secret", store.ErrBadConfig},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cdn := newService(t, false, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/denied":
					http.Error(w, xmlError("AccessDenied", "Request has expired"), http.StatusForbidden)
				case "/unavailable":
					w.WriteHeader(http.StatusServiceUnavailable)
				case "/abort":
					panic(http.ErrAbortHandler)
				default:
					http.Redirect(w, r, r.URL.String(), http.StatusTemporaryRedirect)
				}
			})
			location := tc.location
			if strings.Contains(location, "%s") {
				location = fmt.Sprintf(location, cdn.URL)
			}
			srv := newService(t, false, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", location)
				w.WriteHeader(http.StatusFound)
			})
			_, _, err := open(t, srv.options()).Get(t.Context(), "k", store.Range{})
			if !errors.Is(err, tc.kind) {
				t.Errorf("get: %v, want %v", err, tc.kind)
			}
			if err != nil && strings.Contains(err.Error(), "Signature") {
				t.Errorf("%q has the URL in it", err)
			}
		})
	}
}

func TestRedirectFromTLS(t *testing.T) {
	cdn := newService(t, false, accept)
	srv := newService(t, true, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, cdn.URL, http.StatusFound) })
	if _, _, err := open(t, srv.options()).Get(t.Context(), "k", store.Range{}); !errors.Is(err, store.ErrBadConfig) {
		t.Errorf("get: %v, want a refusal to go on in the clear", err)
	}
	if n := len(cdn.asked()); n != 0 {
		t.Errorf("%d requests in the clear", n)
	}
}

// drip writes bytes one by one, a while apart, and then stays silent if it is not to finish.
func drip(w http.ResponseWriter, r *http.Request, n int, finish bool) {
	w.Header().Set("Content-Length", "10")
	w.Header().Set("ETag", `"e"`)
	flush := http.NewResponseController(w)
	for range n {
		_, _ = io.WriteString(w, "x")
		_ = flush.Flush()
		wait(r, 20*time.Second)
	}
	if !finish {
		wait(r, time.Hour)
	}
}

func wait(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

func TestStalledDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bubble(t, s3store.Options{StallTimeout: 30 * time.Second}, func(w http.ResponseWriter, r *http.Request) { drip(w, r, 3, false) })
		rc, _, err := s.Get(t.Context(), "k", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		data, err := io.ReadAll(rc)
		if string(data) != "xxx" || !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "no byte moved for 30s") {
			t.Errorf("%q, %v", data, err)
		}
		if took := time.Since(began); took != 70*time.Second {
			t.Errorf("it took %v to find out, want 2 times 20 s and 30 s", took)
		}
		if err = rc.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestSlowIsNotStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bubble(t, s3store.Options{StallTimeout: 30 * time.Second}, func(w http.ResponseWriter, r *http.Request) { drip(w, r, 10, true) })
		rc, _, err := s.Get(t.Context(), "k", store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		// Nor is a reader that has other things to do.
		time.Sleep(time.Hour)
		data, err := io.ReadAll(rc)
		if string(data) != "xxxxxxxxxx" || err != nil {
			t.Errorf("%q, %v", data, err)
		}
		if err = rc.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestSilentService(t *testing.T) {
	for _, tc := range []struct {
		ops  []string
		want time.Duration
	}{
		{[]string{"get", "stat", "list", "delete", "start upload", "abort upload", "list uploads", "list parts"}, time.Minute},
		{[]string{"put", "put part"}, 2 * time.Minute},
		{[]string{"complete upload"}, 10 * time.Minute},
	} {
		for _, op := range tc.ops {
			t.Run(op, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := bubble(t, s3store.Options{AnswerTimeout: time.Minute}, func(_ http.ResponseWriter, r *http.Request) {
						_, _ = io.Copy(io.Discard, r.Body)
						wait(r, 24*time.Hour)
					})
					began := time.Now()
					err := operations(s)[op](t.Context())
					if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "wait for the answer") {
						t.Errorf("%v, want ErrUnavailable", err)
					}
					// The library waits for up to 0.2 s after its only attempt.
					if took := time.Since(began); took < tc.want || took > tc.want+time.Second {
						t.Errorf("it took %v to find out, want %v", took, tc.want)
					}
				})
			})
		}
	}
}

// dripping is a body that takes its time to be read.
type dripping struct{ io.ReaderAt }

func (d dripping) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(time.Minute)
	return d.ReaderAt.ReadAt(p, off)
}

func TestStalledUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bubble(t, s3store.Options{StallTimeout: 30 * time.Second}, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
			<-t.Context().Done() // The server cannot see that the client has gone while it owes it the rest of the body.
		})
		began := time.Now()
		_, err := s.PutPart(t.Context(), store.Upload{Key: "k", ID: "id"}, 1, section(strings.Repeat("x", 8<<20)))
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "send: no byte moved for 30s") {
			t.Errorf("put part: %v", err)
		}
		if took := time.Since(began); took < 30*time.Second || took > 31*time.Second {
			t.Errorf("it took %v to find out, want 30 s", took)
		}
	})
}

func TestSlowSourceIsNotStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bubble(t, s3store.Options{StallTimeout: 30 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			if n, err := io.Copy(io.Discard, r.Body); n != 100_000 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			accept(w, r)
		})
		body := io.NewSectionReader(dripping{strings.NewReader(strings.Repeat("x", 100_000))}, 0, 100_000)
		if _, err := s.PutPart(t.Context(), store.Upload{Key: "k", ID: "id"}, 1, body); err != nil {
			t.Error(err)
		}
	})
}

// TestListingBesideThePrefix has a service list keys that nobody has asked for.
func TestListingBesideThePrefix(t *testing.T) {
	srv := newService(t, false, func(w http.ResponseWriter, _ *http.Request) {
		for _, text := range []string{"<ListBucketResult>", "<Contents><Key>blobs/a</Key><Size>1</Size></Contents>", "<Contents><Key>refs/x/main</Key></Contents>", "<Contents><Key>blob</Key></Contents>", "</ListBucketResult>"} {
			_, _ = io.WriteString(w, text)
		}
	})
	var keys []string
	for info, err := range open(t, srv.options()).List(t.Context(), "blobs/") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	if len(keys) != 1 || keys[0] != "blobs/a" {
		t.Errorf("listed are %q", keys)
	}
}

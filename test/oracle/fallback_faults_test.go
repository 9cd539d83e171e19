package oracle_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// cutWriter ends the connection after so many bytes of the body.
type cutWriter struct {
	http.ResponseWriter
	left int
}

// Write sends what may still be sent.
func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		_, _ = w.ResponseWriter.Write(p[:w.left]) // The connection ends either way.
		if f, ok := w.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

// flipWriter sends a body of the right length with other bytes.
type flipWriter struct{ http.ResponseWriter }

// Write sends the complement.
func (w flipWriter) Write(p []byte) (int, error) {
	other := make([]byte, len(p))
	for i, b := range p {
		other[i] = ^b
	}
	return w.ResponseWriter.Write(other)
}

// isFile tells requests for the bytes of files, on either origin.
func isFile(r *http.Request) bool {
	return r.Method == http.MethodGet && (strings.Contains(r.URL.Path, "/resolve/") || strings.Contains(r.URL.Path, "/xet-bridge/"))
}

// expiringLinks gives each answer of the Hub a link of its own, which works as
// often as it is said.
func expiringLinks(works int) func(*fakehub.Server, int, *http.Request) http.Handler {
	used := map[string]int{}
	return func(hub *fakehub.Server, n int, r *http.Request) http.Handler {
		if strings.Contains(r.URL.Path, "/resolve/") {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hub.Base().ServeHTTP(&linkWriter{w, n}, r) })
		}
		if used[r.URL.RawQuery]++; used[r.URL.RawQuery] <= works {
			return nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	}
}

// linkWriter gives the link of an answer a number.
type linkWriter struct {
	http.ResponseWriter
	n int
}

// WriteHeader sends the header.
func (w *linkWriter) WriteHeader(status int) {
	if link := w.Header().Get("Location"); strings.Contains(link, "/xet-bridge/") {
		w.Header().Set("Location", link+"&Link="+strconv.Itoa(w.n))
	}
	w.ResponseWriter.WriteHeader(status)
}

// TestOracleFallbackFaults has the Hub behave as it does on a bad day. What
// the real client survives, a pull must survive, and the other way round the
// real client shows that the days are not worse than they can be.
func TestOracleFallbackFaults(t *testing.T) {
	t.Parallel()
	status := func(code int, headers ...string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(code)
		})
	}
	for name, fault := range map[string]struct {
		// play answers the nth request for the bytes of a file in the Hub's
		// place, or returns nil.
		play func(hub *fakehub.Server, n int, r *http.Request) http.Handler
		ours bool // Only a pull survives it: the client asks for no other link, and once for a file.
	}{
		"a rate limit as servers tell it": {play: func(_ *fakehub.Server, n int, _ *http.Request) http.Handler {
			if n == 2 {
				return status(http.StatusTooManyRequests, "Retry-After", "1")
			}
			return nil
		}},
		"a rate limit as the Hub tells it": {play: func(_ *fakehub.Server, n int, _ *http.Request) http.Handler {
			if n == 2 {
				return status(http.StatusTooManyRequests, "RateLimit", `"resolvers";r=0;t=0`, "RateLimit-Policy", `"fixed window";"resolvers";q=3000;w=300`)
			}
			return nil
		}},
		"an overloaded Hub": {ours: true, play: func(_ *fakehub.Server, n int, _ *http.Request) http.Handler {
			if n%5 == 1 {
				return status(http.StatusServiceUnavailable)
			}
			return nil
		}},
		"links that expire": {ours: true, play: expiringLinks(2)},
		"bodies that are cut": {play: func(hub *fakehub.Server, n int, r *http.Request) http.Handler {
			if !strings.Contains(r.URL.Path, "/xet-bridge/") || n%2 == 0 {
				return nil
			}
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				hub.CDNBase().ServeHTTP(&cutWriter{w, 100_000}, r)
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := testenv.Python(t, "2.4.0")
			w := newWorld(t)
			repo := w.hub.Repo(fakehub.Model, "acme/large")
			commit := repo.Commit("main", fakehub.Git("config.json", []byte("{}")), noise(t, "small.bin", 31, 300_000), noise(t, "large.bin", 32, 20<<20))
			w.hub.Alias(repo, "acme/formerly")
			var mu sync.Mutex
			n := 0
			w.hub.Intercept = func(r *http.Request) http.Handler {
				if !isFile(r) {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				n++
				return fault.play(w.hub, n, r)
			}
			remote := withHub(t, w, testenv.FileRemote(t))
			load := func(home, id string) {
				t.Helper()
				var got struct {
					Files map[string]string `json:"files"`
				}
				f := fetch{fakehub.Model, id, "main", nil, commit}
				client.Run(t, home, "", f.step("offline"))[0].Decode(t, &got)
				if diff := cmp.Diff(commit.Digests(), got.Files); diff != "" {
					t.Errorf("files (-hub +cache):\n%s", diff)
				}
			}
			home := t.TempDir()
			result := remote.Sync(t, home, "pull", "acme/formerly", "--fallback", "hf-hub", "-v")
			if strings.Contains(result.Stderr, hubToken) || strings.Contains(result.Stderr, "Signature=") {
				t.Errorf("it prints what is secret: %s", result)
			}
			load(home, "acme/formerly") // A cache keeps the name that was asked for.
			if fault.ours {
				return
			}
			n = 0
			theirs := t.TempDir()
			if o := client.Run(t, theirs, w.url, fetch{fakehub.Model, "acme/large", "main", nil, commit}.step("download"))[0]; o.Error != "" {
				t.Fatalf("the client: %s", o)
			}
			load(theirs, "acme/large")
		})
	}
}

// TestOracleFallbackOfWrongBytes has a Hub, or somebody between, serve bytes
// that are not the file: nothing of them gets a final name.
func TestOracleFallbackOfWrongBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hub.Intercept = func(r *http.Request) http.Handler {
		if !isFile(r) || !strings.Contains(r.URL.Path, "/xet-bridge/") {
			return nil
		}
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.hub.CDNBase().ServeHTTP(flipWriter{rw}, r) })
	}
	remote := withHub(t, w, testenv.FileRemote(t))
	home := t.TempDir()
	result := remote.TrySync(t, home, "pull", modelID, "--fallback", "hf-hub", "--backfill")
	if result.Code != 6 || !strings.Contains(result.Stderr, "on the Hub is damaged") {
		t.Errorf("it ends with: %s", result)
	}
	testenv.AuditCache(t, hubDir(home))
	if keys := testenv.Keys(t, strings.TrimPrefix(remote.URL, "file://")); len(keys) > 8 {
		t.Errorf("in the bucket: %v", keys)
	}
}

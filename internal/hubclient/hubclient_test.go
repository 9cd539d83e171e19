package hubclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hubclient"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

const (
	secret = "hf_secretsecretsecretsecretsecretsecret"
	commit = hub.Commit("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
)

var model = hub.Repo{Type: hub.Model, Name: "org/name"}

// serve runs a server and a client of it. What asks another server than the endpoint must not have the token.
func serve(t *testing.T, handler http.HandlerFunc) (*hubclient.Client, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &hubclient.Client{Endpoint: server.URL, Token: secret, Agent: "test/1", Waiting: func(time.Duration, error) {}}, server
}

// contentNetwork is another origin. It fails the test if it sees a token.
func contentNetwork(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, " "), "secret") || name == "Authorization" {
				t.Errorf("the content network got %s: %s", name, values)
			}
		}
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

func read(t *testing.T, c *hubclient.Client, path hub.Path, offset, length int64) (string, int64, error) {
	t.Helper()
	body, size, err := c.Open(t.Context(), model, commit, path, offset, length)
	if err != nil {
		return "", 0, err
	}
	defer body.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(body)
	return string(data), size, err
}

func TestInfo(t *testing.T) {
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.EscapedPath() {
		case "/api/models/org/name/revision/main":
			w.Header().Set("Location", "/api/models/Org/Name/revision/main")
			w.WriteHeader(http.StatusTemporaryRedirect)
		case "/api/models/Org/Name/revision/main":
			if r.Header.Get("Authorization") != "Bearer "+secret || r.Header.Get("User-Agent") != "test/1" {
				t.Errorf("headers: %v", r.Header)
			}
			_, _ = fmt.Fprintf(w, `{"id": "Org/Name", "sha": %q, "gated": "auto", "siblings": []}`, commit)
		case "/api/models/org/name/revision/refs%2Fpr%2F1":
			_, _ = fmt.Fprintf(w, `{"id": "org/name", "sha": %q, "gated": false}`, commit)
		default:
			_, _ = io.WriteString(w, `{"id": "org/name", "sha": "main"}`)
		}
	})
	for revision, want := range map[string]hubclient.Info{
		"": {ID: "Org/Name", Commit: commit, Gated: true}, "refs/pr/1": {ID: "org/name", Commit: commit},
	} {
		if got, err := c.Info(t.Context(), model, revision); err != nil || got != want {
			t.Errorf("%q: %+v, %v", revision, got, err)
		}
	}
	if _, err := c.Info(t.Context(), model, "wrong"); !errors.Is(err, hubclient.ErrInvalid) {
		t.Errorf("a commit that is none: %v", err)
	}
}

func TestTree(t *testing.T) {
	git, sha, xet := strings.Repeat("1", 40), strings.Repeat("2", 64), strings.Repeat("Ab", 32)
	pages := map[string]string{
		"": `[{"type":"directory","path":"sub","oid":"x","size":0},{"type":"file","path":"sub/a.json","oid":"` + git + `","size":3}]`,
		"2": `[{"type":"file","path":"w.bin","oid":"` + git + `","size":9,"lfs":{"oid":"` + sha + `","size":9,"pointerSize":130},"xetHash":"` + xet + `"},
			{"type":"file","path":"plain.bin","oid":"` + git + `","size":9,"lfs":{"oid":"` + sha + `","size":9},"xetHash":"short"}]`,
	}
	for name, link := range map[string]string{"relative": "<?cursor=2>", "absolute": "<http://%s/api/models/org/name/tree/" + string(commit) + "?cursor=2>"} {
		t.Run(name, func(t *testing.T) {
			c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				cursor := r.URL.Query().Get("cursor")
				if cursor == "" {
					target := link
					if strings.Contains(link, "%s") {
						target = fmt.Sprintf(link, r.Host)
					}
					w.Header().Set("Link", `<https://other>; rel="prev", `+target+`; rel="next"`)
				}
				_, _ = io.WriteString(w, pages[cursor])
			})
			got, err := c.Tree(t.Context(), model, commit)
			want := manifest.Tree{
				"sub/a.json": {Size: 3, BlobID: git}, "w.bin": {Size: 9, BlobID: git, LFSSHA256: hub.BlobID(sha), LFSSize: 9, XetHash: xet},
				"plain.bin": {Size: 9, BlobID: git, LFSSHA256: hub.BlobID(sha), LFSSize: 9},
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestTreeRefusesNonsense(t *testing.T) {
	git, sha := strings.Repeat("1", 40), strings.Repeat("2", 64)
	for name, body := range map[string]string{
		"no JSON":            `<html>`,
		"a path that climbs": `[{"type":"file","path":"../x","oid":"` + git + `","size":3}]`,
		"an absolute path":   `[{"type":"file","path":"/etc/x","oid":"` + git + `","size":3}]`,
		"no oid":             `[{"type":"file","path":"x","oid":"","size":3}]`,
		"a long oid":         `[{"type":"file","path":"x","oid":"` + sha + `","size":3}]`,
		"a negative size":    `[{"type":"file","path":"x","oid":"` + git + `","size":-3}]`,
		"two LFS sizes":      `[{"type":"file","path":"x","oid":"` + git + `","size":3,"lfs":{"oid":"` + sha + `","size":4}}]`,
		"a short LFS oid":    `[{"type":"file","path":"x","oid":"` + git + `","size":3,"lfs":{"oid":"` + git + `","size":3}}]`,
		"a file twice":       `[{"type":"file","path":"x","oid":"` + git + `","size":3},{"type":"file","path":"x","oid":"` + git + `","size":3}]`,
		"pages in a circle":  "circle",
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if body == "circle" {
					w.Header().Set("Link", `<`+r.URL.String()+`>; rel="next"`)
					_, _ = io.WriteString(w, `[]`)
					return
				}
				_, _ = io.WriteString(w, body)
			})
			if tree, err := c.Tree(t.Context(), model, commit); !errors.Is(err, hubclient.ErrInvalid) {
				t.Errorf("got %v, %v", tree, err)
			}
		})
	}
}

// What the Hub answers, and what that means (the documentation of huggingface_hub's errors).
func TestErrors(t *testing.T) {
	for name, test := range map[string]struct {
		status  int
		headers map[string]string
		want    error
	}{
		"a missing repository, anonymous": {401, nil, hubclient.ErrRepoNotFound},
		"a missing repository":            {404, map[string]string{"X-Error-Code": "RepoNotFound"}, hubclient.ErrRepoNotFound},
		"a missing file":                  {404, map[string]string{"X-Error-Code": "EntryNotFound"}, hubclient.ErrEntryNotFound},
		"a missing revision":              {404, map[string]string{"X-Error-Code": "RevisionNotFound"}, hubclient.ErrRevisionNotFound},
		"a mirror without codes":          {404, nil, hubclient.ErrRepoNotFound},
		"gated, anonymous":                {401, map[string]string{"X-Error-Code": "GatedRepo"}, hubclient.ErrGated},
		"gated":                           {403, map[string]string{"X-Error-Code": "GatedRepo"}, hubclient.ErrGated},
		"a bad token":                     {401, map[string]string{"X-Error-Message": "Invalid credentials in Authorization header"}, hubclient.ErrBadToken},
		"disabled":                        {403, map[string]string{"X-Error-Message": "Access to this resource is disabled."}, hubclient.ErrDisabled},
		"a limit that is far away":        {429, map[string]string{"Retry-After": "86400"}, hubclient.ErrRateLimited},
		"a redirect to nowhere":           {302, nil, hubclient.ErrInvalid},
		"a redirect to a file":            {302, map[string]string{"Location": "file:///etc/passwd"}, hubclient.ErrInvalid},
		"a redirect in a circle":          {302, map[string]string{"Location": "?"}, hubclient.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Request-Id", "Root=1-abc")
				for k, v := range test.headers {
					w.Header().Set(k, v)
				}
				w.WriteHeader(test.status)
			})
			_, err := c.Info(t.Context(), model, "")
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if strings.Contains(err.Error(), "secret") || !strings.HasPrefix(err.Error(), "org/name at main: ") {
				t.Errorf("the message is %q", err)
			}
			if test.status >= 400 && !strings.Contains(err.Error(), "(request Root=1-abc)") {
				t.Errorf("the message is %q", err)
			}
		})
	}
	c, server := serve(t, nil)
	c.Offline = true
	if _, err := c.Info(t.Context(), model, ""); !errors.Is(err, hubclient.ErrOffline) {
		t.Errorf("offline: %v", err)
	}
	server.Close()
}

// transport answers without a network, so that waits can be made to pass at once.
type transport func(*http.Request) *http.Response

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := f(r)
	if resp == nil {
		return nil, errors.New("connection reset by peer")
	}
	resp.Request = r
	if resp.Header == nil {
		resp.Header = http.Header{}
	}
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	return resp, nil
}

func TestRetries(t *testing.T) {
	header := func(k, v string) http.Header { return http.Header{http.CanonicalHeaderKey(k): {v}} }
	for name, test := range map[string]struct {
		answer  *http.Response // until it goes well
		failing int            // how often
		want    error
		least   time.Duration // of waiting
	}{
		"a network that comes back":    {nil, 3, nil, time.Second},
		"a network that does not":      {nil, 100, hubclient.ErrUnavailable, 3 * time.Second},
		"a server that recovers":       {&http.Response{StatusCode: http.StatusServiceUnavailable}, 2, nil, time.Second / 2},
		"a limit in seconds":           {&http.Response{StatusCode: http.StatusTooManyRequests, Header: header("Retry-After", "100")}, 1, nil, 100 * time.Second},
		"a limit as the Hub tells it":  {&http.Response{StatusCode: http.StatusTooManyRequests, Header: header("RateLimit", `"api";r=0;t=55`)}, 1, nil, 56 * time.Second},
		"what will not go well anyway": {&http.Response{StatusCode: http.StatusNotFound}, 100, hubclient.ErrRepoNotFound, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				c := &hubclient.Client{Endpoint: "http://hub", Transport: transport(func(*http.Request) *http.Response {
					if tries++; tries <= test.failing {
						return test.answer
					}
					return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"sha":"` + string(commit) + `"}`))}
				})}
				begin := time.Now()
				_, err := c.Info(t.Context(), model, "")
				if !errors.Is(err, test.want) || (test.want == nil) != (err == nil) {
					t.Errorf("got %v", err)
				}
				if waited := time.Since(begin); waited < test.least || test.least == 0 && waited > 0 {
					t.Errorf("it waited %s", waited)
				}
				if tries > 6 {
					t.Errorf("it tried %d times", tries)
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := &hubclient.Client{
		Endpoint: "http://hub", Transport: transport(func(*http.Request) *http.Response { return nil }),
		Waiting: func(time.Duration, error) { cancel() },
	}
	if _, err := c.Info(ctx, model, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while it waits: %v", err)
	}
}

// A large file is behind a link to another origin, which is kept until it expires.
func TestLinks(t *testing.T) {
	content := "0123456789"
	var mu sync.Mutex
	asked, valid := 0, "1"
	cdn := contentNetwork(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Query().Get("signature") != valid {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	})
	c, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		w.Header().Set("Location", cdn.URL+"/xet-bridge?signature="+valid)
		w.WriteHeader(http.StatusFound)
	})
	for i, step := range []struct {
		offset, length int64
		want           string
		expired        bool
		asked          int
	}{{0, 0, content, false, 1}, {3, 4, "3456", false, 1}, {8, 100, "89", true, 2}, {0, 1, "0", false, 2}} {
		if step.expired {
			mu.Lock()
			valid = "2"
			mu.Unlock()
		}
		got, size, err := read(t, c, "dir/model.bin", step.offset, step.length)
		if err != nil || got != step.want || size != 10 || asked != step.asked {
			t.Errorf("%d: %q of %d bytes, %v; the Hub was asked %d times", i, got, size, err, asked)
		}
	}
	valid = "nothing"
	c2 := &hubclient.Client{Endpoint: c.Endpoint, Agent: "x"}
	mu.Lock()
	valid = ""
	mu.Unlock()
	if _, _, err := read(t, c2, "model.bin", 0, 0); err != nil { // an empty signature fits an empty one
		t.Error(err)
	}
}

func TestLinkThatNeverWorks(t *testing.T) {
	cdn := contentNetwork(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	c, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", cdn.URL+"/x?X-Amz-Signature=secretsignature")
		w.WriteHeader(http.StatusFound)
	})
	_, _, err := read(t, c, "model.bin", 0, 0)
	if err == nil || strings.Contains(err.Error(), "secret") || errors.Is(err, hubclient.ErrGated) {
		t.Errorf("got %v", err)
	}
}

// Bodies that break are resumed where they broke; files that change on the way are not put together from two.
func TestBrokenBodies(t *testing.T) {
	content := strings.Repeat("0123456789", 1000)
	for name, test := range map[string]struct {
		handler func(n int, w http.ResponseWriter, r *http.Request)
		want    error
		bad     bool
	}{
		"cut again and again": {handler: func(_ int, w http.ResponseWriter, r *http.Request) {
			cut(w, r, content, 1000)
		}},
		"a server without ranges": {handler: func(n int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10000")
			if n == 1 {
				_, _ = io.WriteString(w, content[:5000])
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, content)
		}},
		"another file": {bad: true, want: hubclient.ErrInvalid, handler: func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				cut(w, r, content, 1000)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content+"more"))
		}},
		"another range": {bad: true, want: hubclient.ErrInvalid, handler: func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				cut(w, r, content, 1000)
				return
			}
			w.Header().Set("Content-Range", "bytes 0-99/10000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, content[:100])
		}},
		"half a range": {bad: true, want: hubclient.ErrInvalid, handler: func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				cut(w, r, content, 2000)
				return
			}
			w.Header().Set("Content-Range", "bytes 2000/10000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, content[2000:])
		}},
		"no size": {bad: true, want: hubclient.ErrInvalid, handler: func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				n++
				test.handler(n, w, r)
			})
			got, size, err := read(t, c, "x", 0, 0)
			if test.bad {
				if !errors.Is(err, test.want) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || got != content || size != int64(len(content)) {
				t.Errorf("%d of %d bytes, %v", len(got), size, err)
			}
		})
	}
}

// cut sends a little less than was announced.
func cut(w http.ResponseWriter, r *http.Request, content string, most int) {
	rec := httptest.NewRecorder()
	http.ServeContent(rec, r, "", time.Time{}, bytes.NewReader([]byte(content)))
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	body := rec.Body.String()
	_, _ = io.WriteString(w, body[:min(most, len(body))])
	if len(body) > most {
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
}

func TestPathsAreEscaped(t *testing.T) {
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if want := "/datasets/o/d/resolve/" + string(commit) + "/100%25%20sure%3F/%23a.txt"; r.URL.EscapedPath() != want || r.URL.RawQuery != "" {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Set("Content-Length", "0")
	})
	body, size, err := c.Open(t.Context(), hub.Repo{Type: hub.Dataset, Name: "o/d"}, commit, "100% sure?/#a.txt", 0, 0)
	if err != nil || size != 0 {
		t.Fatal(size, err)
	}
	if data, err := io.ReadAll(body); err != nil || len(data) > 0 {
		t.Errorf("%q, %v", data, err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}

// TestNextPageNowhere has a listing go on where no listing is: that is an error, and not the end of the listing.
func TestNextPageNowhere(t *testing.T) {
	for endpoint, link := range map[string]string{"http://hub": "file:///etc/passwd", "http://hub/": "ftp://hub/x", "https://hub": "http://hub/x"} {
		var asked []string
		c := &hubclient.Client{Endpoint: endpoint, Token: secret, Tries: 1, Transport: transport(func(r *http.Request) *http.Response {
			asked = append(asked, r.URL.String())
			header := http.Header{"Link": {"<" + link + `>; rel="next"`}}
			return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader("[]")), Request: r}
		})}
		if tree, err := c.Tree(t.Context(), model, commit); !errors.Is(err, hubclient.ErrInvalid) || len(asked) != 1 {
			t.Errorf("%s: %v, %v, asked were %q", link, tree, err, asked)
		}
	}
}

// TestPagesWithoutEnd has listings go on for ever: in a circle that is entered on the way, with an address that grows, or with always another.
func TestPagesWithoutEnd(t *testing.T) {
	for name, next := range map[string]func(n int) string{
		"itself":        func(int) string { return "x" },
		"a late circle": func(n int) string { return fmt.Sprint(min(n, 1000+n%7)) },
		"another each":  func(n int) string { return fmt.Sprint(n) },
		"a longer each": func(n int) string { return strings.Repeat("x", 100*n) },
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			c := &hubclient.Client{Endpoint: "http://hub", Tries: 1, Transport: transport(func(r *http.Request) *http.Response {
				asked++
				header := http.Header{"Link": {"</page?" + next(asked) + `>; rel="next"`}}
				return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader("[]")), Request: r}
			})}
			if tree, err := c.Tree(t.Context(), model, commit); !errors.Is(err, hubclient.ErrInvalid) || asked > 20_000 {
				t.Errorf("%v, %v after %d pages", tree, err, asked)
			}
		})
	}
}

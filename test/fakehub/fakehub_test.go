package fakehub_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
)

// Names of "hello\n", as git and sha256sum print them.
const (
	helloPointer    = "version https://git-lfs.github.com/spec/v1\noid sha256:" + helloSHA256 + "\nsize 6\n"
	helloOID        = "ce013625030ba8dba906f756967f9e9ca394464a"
	helloSHA256     = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
	helloPointerOID = "fa61e1ef71c9908c0926776a4aa3504b3a27f159"
)

type hub struct {
	*fakehub.Server
	url          string
	repo         *fakehub.Repo
	first, head  *fakehub.Commit
	pull, nested *fakehub.Commit
}

// newHub serves a repository that has one of everything.
func newHub(t *testing.T) *hub {
	t.Helper()
	s := fakehub.New()
	repo := s.Repo(fakehub.Model, "org/name")
	h := &hub{Server: s, repo: repo}
	h.first = repo.Commit(
		"main",
		fakehub.Git("README.md", []byte("hello\n")),
		fakehub.Git("gone.txt", []byte("gone")),
		fakehub.Git("empty", nil),
		fakehub.Git("dir/a file.txt", []byte("a")),
		fakehub.Git("dir/sub/ü#%?.txt", []byte("u")),
	)
	h.head = repo.Commit("main", fakehub.LFS("model.bin", []byte("hello\n")).WithXet(), fakehub.Delete("gone.txt"))
	repo.Tag("v1.0", h.first)
	repo.Branch("refs/pr/1", h.head)
	h.pull = repo.Commit("refs/pr/1", fakehub.Git("README.md", []byte("better\n")))
	repo.Branch("feat/x", h.first)
	h.nested = repo.Commit("feat/x", fakehub.Git("x", []byte("x")))
	repo.Branch("refs/convert/parquet", h.first)
	s.Repo(fakehub.Dataset, "org/name").Commit("main", fakehub.Git("data.csv", []byte("1,2")))
	s.Repo(fakehub.Model, "old").Commit("main", fakehub.Git("x", []byte("old")))
	s.Alias(repo, "renamed")
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// ask sends a request and follows no redirect.
func ask(t *testing.T, method, url string, body io.Reader, headers ...string) (answer, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err = resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header}, string(text)
}

// answer is a response without its body.
type answer struct {
	StatusCode int
	Header     http.Header
}

func TestResolve(t *testing.T) {
	h := newHub(t)
	head, first := "/org/name/resolve/"+h.head.ID()+"/", "/org/name/resolve/"+h.first.ID()+"/"
	tests := []struct {
		name, method, path, rng string
		status                  int
		body                    string
		headers                 map[string]string
	}{
		{"git file", "GET", head + "README.md", "", 200, "hello\n", map[string]string{
			"Etag": `"` + helloOID + `"`, "X-Repo-Commit": h.head.ID(), "Content-Length": "6", "Accept-Ranges": "bytes",
		}},
		{"head", "HEAD", head + "README.md", "", 200, "", map[string]string{"Content-Length": "6"}},
		{"lfs file", "GET", head + "model.bin", "", 200, "hello\n", map[string]string{"Etag": `"` + helloSHA256 + `"`}},
		{
			"raw of lfs", "GET", "/org/name/raw/" + h.head.ID() + "/model.bin", "", 200, helloPointer,
			map[string]string{"Etag": `"` + helloPointerOID + `"`},
		},
		{"raw of git", "GET", "/org/name/raw/" + h.head.ID() + "/README.md", "", 200, "hello\n", nil},
		{"range", "GET", head + "README.md", "bytes=1-3", 206, "ell", map[string]string{"Content-Range": "bytes 1-3/6"}},
		{
			"range beyond", "GET", head + "README.md", "bytes=9-", 416, "invalid range: failed to overlap\n",
			map[string]string{"Content-Range": "bytes */6"},
		},
		{"empty", "GET", head + "empty", "", 200, "", map[string]string{"Content-Length": "0", "Content-Range": ""}},
		{"empty range", "GET", head + "empty", "bytes=0-0", 200, "", map[string]string{"Content-Range": "bytes */0"}},
		{"space", "GET", head + "dir/a%20file.txt", "", 200, "a", nil},
		{"escaped slash", "GET", head + "dir%2Fa%20file.txt", "", 200, "a", nil},
		{"odd letters", "GET", head + "dir/sub/%C3%BC%23%25%3F.txt", "", 200, "u", nil},
		{"deleted", "GET", head + "gone.txt", "", 404, `{"error":"Entry not found"}`, map[string]string{
			"X-Error-Code": "EntryNotFound", "X-Repo-Commit": h.head.ID(),
		}},
		{"still there before", "GET", first + "gone.txt", "", 200, "gone", nil},
		{"branch", "HEAD", "/org/name/resolve/main/dir/a%20file.txt", "", 307, "", map[string]string{
			"Location": head + "dir/a%20file.txt", "X-Repo-Commit": h.head.ID(),
			"X-Linked-Etag": `"2e65efe2a145dda7ee51d1741299f848e5bf752e"`, "X-Linked-Size": "1",
		}},
		{"missing on branch", "HEAD", "/org/name/resolve/main/nix", "", 404, "", map[string]string{
			"X-Error-Code": "EntryNotFound", "X-Repo-Commit": h.head.ID(),
		}},
		{"tag", "GET", "/org/name/resolve/v1.0/x?download=true", "", 404, `{"error":"Entry not found"}`, map[string]string{
			"X-Repo-Commit": h.first.ID(),
		}},
		{
			"escaped pull request", "HEAD", "/org/name/resolve/refs%2Fpr%2F1/README.md", "", 307, "",
			map[string]string{"X-Repo-Commit": h.pull.ID()},
		},
		{
			"raw pull request", "HEAD", "/org/name/resolve/refs/pr/1/README.md", "", 307, "",
			map[string]string{"X-Repo-Commit": h.pull.ID()},
		},
		{
			"nested branch", "HEAD", "/org/name/resolve/feat%2Fx/x", "", 307, "",
			map[string]string{"X-Repo-Commit": h.nested.ID()},
		},
		{
			"short commit", "HEAD", "/org/name/resolve/" + h.head.ID()[:8] + "/README.md", "", 307, "",
			map[string]string{"X-Repo-Commit": h.head.ID()},
		},
		{"no such revision", "HEAD", "/org/name/resolve/nix/README.md", "", 404, "", map[string]string{
			"X-Error-Code": "RevisionNotFound", "X-Repo-Commit": "",
		}},
		{
			"no such repo", "GET", "/org/other/resolve/main/x", "", 404, `{"error":"Repository not found"}`,
			map[string]string{"X-Error-Code": "RepoNotFound"},
		},
		{"id without organisation", "HEAD", "/old/resolve/main/x", "", 307, "", nil},
		{"dataset", "HEAD", "/datasets/org/name/resolve/main/data.csv", "", 307, "", nil},
		{
			"renamed", "HEAD", "/renamed/resolve/main/README.md", "", 307, "",
			map[string]string{"Location": "/org/name/resolve/main/README.md", "X-Repo-Commit": ""},
		},
		{"page for people", "GET", "/org/name", "", 404, `{"error":"no such page"}`, map[string]string{"X-Error-Code": ""}},
		{"anything else", "GET", "/api/telemetry/x", "", 404, `{"error":"no such page"}`, map[string]string{"X-Error-Code": ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var headers []string
			if tt.rng != "" {
				headers = []string{"Range", tt.rng}
			}
			resp, body := ask(t, tt.method, h.url+tt.path, nil, headers...)
			if resp.StatusCode != tt.status || body != tt.body {
				t.Errorf("%d %q, want %d %q", resp.StatusCode, body, tt.status, tt.body)
			}
			for name, want := range tt.headers {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestCDN(t *testing.T) {
	h := newHub(t)
	cdn := httptest.NewServer(h.CDNHandler())
	t.Cleanup(cdn.Close)
	h.CDN = cdn.URL
	base := h.url + "/org/name/resolve/" + h.head.ID() + "/"
	resp, _ := ask(t, http.MethodHead, base+"model.bin", nil)
	location := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusFound || !strings.HasPrefix(location, cdn.URL) ||
		resp.Header.Get("X-Linked-Etag") != `"`+helloSHA256+`"` || resp.Header.Get("X-Linked-Size") != "6" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	resp, body := ask(t, http.MethodGet, location, nil, "Range", "bytes=0-0")
	if resp.StatusCode != http.StatusPartialContent || body != "h" || resp.Header.Get("Content-Range") != "bytes 0-0/6" {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
	if got := resp.Header.Get("Etag"); strings.Contains(got, helloSHA256) {
		t.Errorf("the other origin's ETag %s is the SHA-256", got)
	}
	if resp, body = ask(t, http.MethodGet, base+"README.md", nil); resp.StatusCode != http.StatusOK || body != "hello\n" {
		t.Errorf("git file: %d %q", resp.StatusCode, body)
	}
	if resp, _ = ask(t, http.MethodGet, cdn.URL+"/xet-bridge/"+helloOID, nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("unknown bytes: %d", resp.StatusCode)
	}
	downloads := []string{}
	for _, r := range h.Downloads() {
		downloads = append(downloads, r.String())
	}
	want := []string{
		"GET /xet-bridge/" + helloSHA256 + " 206 (1 bytes)",
		"GET /org/name/resolve/" + h.head.ID() + "/README.md 200 (6 bytes)",
		"GET /xet-bridge/" + helloOID + " 404 (38 bytes)",
	}
	if diff := cmp.Diff(want, downloads); diff != "" {
		t.Errorf("downloads (-want +got):\n%s", diff)
	}
}

func TestRecord(t *testing.T) {
	h := newHub(t)
	ask(t, http.MethodGet, h.url+"/api/models/org/name/tree/refs%2Fpr%2F1?limit=1", nil, "Authorization", "Bearer hf_secret")
	ask(t, http.MethodHead, h.url+"/org/name/resolve/"+h.head.ID()+"/README.md", nil, "User-Agent", "me")
	ask(t, http.MethodGet, h.url+"/org/name/resolve/"+h.head.ID()+"/README.md", nil, "User-Agent", "me", "Range", "bytes=2-")
	got := h.Requests()
	for i := range got {
		got[i].Host = ""
	}
	got[0].BodyBytes = 0
	want := []fakehub.Request{
		{
			Method: "GET", Path: "/api/models/org/name/tree/refs%2Fpr%2F1", Query: "limit=1", Route: fakehub.RouteTree,
			Repo: "models/org/name", Authorized: true, UserAgent: "Go-http-client/1.1", Status: 200,
		},
		{
			Method: "HEAD", Path: "/org/name/resolve/" + h.head.ID() + "/README.md", Route: fakehub.RouteResolve,
			Repo: "models/org/name", UserAgent: "me", Status: 200,
		},
		{
			Method: "GET", Path: "/org/name/resolve/" + h.head.ID() + "/README.md", Route: fakehub.RouteResolve,
			Repo: "models/org/name", UserAgent: "me", Status: 206, BodyBytes: 4, Range: "bytes=2-",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	h.Reset()
	if got = h.Requests(); len(got) != 0 {
		t.Errorf("after Reset: %v", got)
	}
}

// TestIntercept shows the hook doing what failures need: answering in the
// server's place, and changing the server's own answer.
func TestIntercept(t *testing.T) {
	h := newHub(t)
	h.Intercept = func(r *http.Request) http.Handler {
		switch {
		case strings.HasSuffix(r.URL.Path, "/README.md"):
			return fakehub.ErrorHandler(http.StatusForbidden, "GatedRepo", "Access is restricted.")
		case strings.HasSuffix(r.URL.Path, "/model.bin"):
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.Base().ServeHTTP(&cutWriter{w, 3}, r)
			})
		default:
			return nil
		}
	}
	base := h.url + "/org/name/resolve/" + h.head.ID() + "/"
	resp, _ := ask(t, http.MethodGet, base+"README.md", nil)
	if resp.StatusCode != http.StatusForbidden || resp.Header.Get("X-Error-Code") != "GatedRepo" {
		t.Errorf("gated: %d %v", resp.StatusCode, resp.Header)
	}
	if _, body := ask(t, http.MethodGet, base+"dir/a%20file.txt", nil); body != "a" {
		t.Errorf("not intercepted: %q", body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"model.bin", nil)
	if err != nil {
		t.Fatal(err)
	}
	cut, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(cut.Body)
	if string(body) != "hel" || err == nil {
		t.Errorf("cut body: %q, %v", body, err)
	}
	if err = cut.Body.Close(); err != nil {
		t.Fatal(err)
	}
	got := h.Requests()
	if last := got[len(got)-1]; last.BodyBytes != 3 || last.Route != fakehub.RouteResolve {
		t.Errorf("recorded %v", last)
	}
}

// cutWriter breaks the connection after n bytes.
type cutWriter struct {
	http.ResponseWriter
	n int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) >= w.n {
		if _, err := w.ResponseWriter.Write(p[:w.n]); err != nil {
			return 0, err
		}
		if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
			return 0, err
		}
		panic(http.ErrAbortHandler)
	}
	w.n -= len(p)
	return w.ResponseWriter.Write(p)
}

func TestNoise(t *testing.T) {
	const size = 100_003
	data := fakehub.Noise(7, size)
	f, err := fakehub.LFSFrom("weights", data, size)
	if err != nil {
		t.Fatal(err)
	}
	whole := make([]byte, size)
	if _, err = data.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	if want := fakehub.LFS("weights", whole).ETag(); f.ETag() != want {
		t.Errorf("digest %s, want %s", f.ETag(), want)
	}
	part := make([]byte, 1001)
	if _, err = data.ReadAt(part, 4099); err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(part, whole[4099:5100]) {
		t.Error("a part differs from the same part of the whole")
	}
	if n, endErr := data.ReadAt(part, size-1); n != 1 || !errors.Is(endErr, io.EOF) {
		t.Errorf("at the end: %d, %v", n, endErr)
	}
	if _, err = fakehub.LFSFrom("weights", data, size+1); err == nil {
		t.Error("fewer bytes than announced were taken")
	}
}

func TestCommitIDs(t *testing.T) {
	a, b := newHub(t), newHub(t)
	if a.head.ID() != b.head.ID() || a.head.ID() == a.first.ID() || len(a.head.ID()) != 40 {
		t.Errorf("ids %s and %s", a.head.ID(), b.head.ID())
	}
	got := []string{}
	for _, f := range a.head.Files() {
		got = append(got, f.Path())
	}
	if sum := a.head.Digests()["README.md"]; sum != helloSHA256 || len(a.head.Digests()) != 5 {
		t.Errorf("digests: %v", a.head.Digests())
	}
	want := []string{"README.md", "dir/a file.txt", "dir/sub/ü#%?.txt", "empty", "model.bin"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

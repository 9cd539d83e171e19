package hostile_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// hubCase is a Hub that lies in one of its answers.
type hubCase struct {
	path   string // What the request's path holds that gets the lie.
	lie    func(w http.ResponseWriter, r *http.Request)
	code   int
	stderr []string
}

// repeated writes prefix, middle over and over until it is n bytes, and suffix.
func repeated(w io.Writer, prefix, middle, suffix string, n int) {
	_, _ = io.WriteString(w, prefix) // The client may be gone, as often below.
	chunk := []byte(strings.Repeat(middle, max(1, (64<<10)/len(middle))))
	for sent := 0; sent < n; sent += len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
	_, _ = io.WriteString(w, suffix)
}

func hubCases() map[string]hubCase {
	const info, tree, file = "/revision/", "/tree/", "/resolve/"
	id := testenv.GitSHA1([]byte("x"))
	entry := func(path, size string) string {
		return fmt.Sprintf(`{"type":"file","path":%q,"oid":"%s","size":%s}`, path, id, size)
	}
	body := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	long := func(prefix, middle, suffix string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { repeated(w, prefix, middle, suffix, 200<<20) }
	}
	failing := func(status int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			repeated(w, `{"error":"`, "x", `"}`, 200<<20)
		}
	}
	packed := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		repeated(z, "", "[", "", 128<<20)
		_ = z.Close()
	}
	repo := testenv.Sample().Repo
	listing := "the listing of " + repo
	cases := map[string]hubCase{
		"info without end":              {info, long(`{"sha":"`, "a", `"}`), 1, []string{repo, "bytes"}},
		"info nested":                   {info, long("", `{"siblings":[`, ""), 1, []string{repo}},
		"info of many files":            {info, long(`{"siblings":[`, `{"rfilename":"x"},`, `{}]}`), 1, []string{repo, "bytes"}},
		"info compressed":               {info, packed, 1, []string{repo}},
		"info without a commit":         {info, body(`{"id":"org/name"}`), 1, []string{repo}},
		"commit climbs":                 {info, body(`{"sha":"../../../../../../../../../../../evil"}`), 1, []string{repo}},
		"refused without end":           {info, failing(http.StatusForbidden), 4, []string{repo}},
		"unknown without end":           {info, failing(http.StatusNotFound), 5, []string{repo}},
		"listing without end":           {tree, long("[", entry("a", "1")+",", "{}]"), 1, []string{listing, "bytes"}},
		"listing nested":                {tree, body(strings.Repeat("[", 10<<20)), 1, []string{listing}},
		"listing of nothing":            {tree, body("[" + strings.Repeat("{},", 2<<20) + "{}]"), 0, nil},
		"listing compressed":            {tree, packed, 1, []string{listing}},
		"listing cut":                   {tree, body("[" + entry("a", "1")), 1, []string{listing}},
		"listing is an error page":      {tree, body("<html>please log in</html>"), 1, []string{listing}},
		"listing climbs":                {tree, body("[" + entry("../../evil", "1") + "]"), 1, []string{listing, "../../evil"}},
		"listing is absolute":           {tree, body("[" + entry("/etc/evil", "1") + "]"), 1, []string{listing, "/etc/evil"}},
		"listing of a drive":            {tree, body("[" + entry("C:evil", "1") + "]"), 1, []string{listing, "C:evil"}},
		"listing with a negative size":  {tree, body("[" + entry("a", "-1") + "]"), 1, []string{listing}},
		"listing with an absurd size":   {tree, body("[" + entry("a", "1e30") + "]"), 1, []string{listing}},
		"listing of more than the disk": {tree, body("[" + entry("a", "4611686018427387904") + "]"), 9, []string{"4611686018427387904"}},
		"listing with a path twice":     {tree, body("[" + entry("a", "1") + "," + entry("a", "2") + "]"), 1, []string{listing}},
		"file in the place of a folder": {tree, body("[" + entry("a", "1") + "," + entry("a/b", "1") + "]"), 6, []string{"Hub's listing of " + repo, "a/b"}},
		"pages go round":                {tree, nextPage("/api/models/org/name/tree/x?recursive=true", 0), 1, []string{listing, "do not end"}},
		"pages lead to a file":          {tree, nextPage("file:///etc/passwd", 0), 1, []string{listing}},
		"pages with long addresses":     {tree, nextPage("/api/models/org/name/tree/x?cursor=", 100<<10), 1, []string{listing, "102"}},
		"file without end":              {file, long("", "x", ""), 3, []string{"config.json", "size is not told"}},
		"file compressed":               {file, packed, 3, []string{"config.json", "size is not told"}},
		"file of other bytes":           {file, body(`{"hidden_size": 666}` + "\n"), 6, []string{"config.json"}},
		"file that is longer": {file, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(200<<20))
			repeated(w, "", "x", "", 200<<20)
		}, 6, []string{"config.json"}},
		"file leads to a file": {file, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}, 3, []string{"config.json", "redirects"}},
		"file leads to itself": {file, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, 3, []string{"config.json", "redirects"}},
	}
	if proof.Times(0, 1) == 1 { // Twenty thousand pages, for a while.
		cases["pages without end"] = hubCase{tree, nextPage("/api/models/org/name/tree/x?cursor=", 15<<10), 1, []string{listing, "do not end"}}
	}
	return cases
}

// nextPage answers with an empty page that another is said to follow, under an
// address that is long and always another, or always the same.
func nextPage(address string, long int) func(http.ResponseWriter, *http.Request) {
	var n atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request) {
		next := address
		if long > 0 {
			next += fmt.Sprint(n.Add(1)) + strings.Repeat("x", long)
		}
		w.Header().Set("Link", "<"+next+`>; rel="next"`)
		_, _ = io.WriteString(w, "[]")
	}
}

// TestHub pulls from a Hub that answers with nonsense: what the bucket lacks is
// then missing, in bounded memory, and what leads elsewhere is not followed.
func TestHub(t *testing.T) {
	t.Parallel()
	for name, c := range hubCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			hub := fakehub.New()
			var files []fakehub.File
			for _, f := range r.Files {
				files = append(files, fakehub.Git(f.Path, f.Data))
			}
			hub.Repo(fakehub.Model, r.Repo).Commit("main", files...)
			lies := 0
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if strings.Contains(req.URL.Path, c.path) && (c.path != "/resolve/" || strings.HasSuffix(req.URL.Path, "/config.json")) {
					lies++
					c.lie(w, req)
					return
				}
				hub.ServeHTTP(w, req)
			}))
			t.Cleanup(web.Close)
			s.remote.Env = append(s.remote.Env, "HF_ENDPOINT="+web.URL)
			before := testenv.Tree(t, s.outside)
			got, memory := s.measured(t, "pull", r.Repo, "--fallback", "hf-hub")
			outcome{c.code, c.stderr}.check(t, got)
			if memory > 2*mostMemory {
				t.Errorf("it took %d MiB", memory)
			}
			if len(got.Stderr) > 10_000 || strings.Contains(got.Stderr, "panic:") {
				t.Errorf("it said %d bytes: %.2000s", len(got.Stderr), got.Stderr)
			}
			if lies == 0 {
				t.Error("nobody asked for the lie")
			}
			if after := testenv.Tree(t, s.outside); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("outside was %v and is %v", before, after)
			}
			if c.code != 0 && c.path != "/resolve/" {
				for path, text := range testenv.Tree(t, s.cache) {
					if !strings.HasPrefix(text, "d") {
						t.Errorf("%s is in the cache: %s", path, text)
					}
				}
			}
			s.audit.Cache(t, s.cache)
		})
	}
}

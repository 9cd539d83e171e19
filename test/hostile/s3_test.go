package hostile_test

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// liar is an S3 server that says whatever a test wants it to: keys that no
// honest store has, and bodies that are not what was asked for.
type liar struct {
	objects map[string][]byte // By key, without the bucket.
	// answer, if it is set, is asked first. It says whether it has answered.
	answer func(w http.ResponseWriter, r *http.Request, key string) bool

	mu       sync.Mutex // Guards what follows.
	requests []*http.Request
}

const liarBucket = "liar"

// newLiar starts a server that has what a bucket with r has.
func newLiar(t *testing.T, s *sandbox, r testenv.Revision) *liar {
	t.Helper()
	l := &liar{objects: map[string][]byte{}}
	r.WriteBucket(t, s.bucket)
	for _, key := range testenv.Keys(t, s.bucket) {
		data, err := os.ReadFile(filepath.Join(s.bucket, filepath.FromSlash(key)))
		if err != nil {
			t.Fatal(err)
		}
		l.objects[key] = data
	}
	web := httptest.NewServer(l)
	t.Cleanup(web.Close)
	s.remote = testenv.Remote{Name: "liar", URL: "s3://" + liarBucket, Env: []string{
		"B2_ENDPOINT=" + web.URL, "B2_REGION=us-east-1", "AWS_ACCESS_KEY_ID=liar", "AWS_SECRET_ACCESS_KEY=liarsecret",
	}}
	return l
}

// ServeHTTP answers GET and HEAD of objects and listings, in full.
func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.requests = append(l.requests, r.Clone(r.Context()))
	l.mu.Unlock()
	key := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/"+liarBucket), "/")
	if l.answer != nil && l.answer(w, r, key) {
		return
	}
	if key == "" {
		l.list(w, r.URL.Query().Get("prefix"), r.URL.Query().Get("continuation-token"))
		return
	}
	data, ok := l.objects[key]
	if !ok {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusNotFound)
		if r.Method != http.MethodHead {
			_, _ = fmt.Fprintf(w, "<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>") // The client may be gone too.
		}
		return
	}
	w.Header().Set("ETag", `"`+testenv.SHA256(data)[:32]+`"`)
	http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), strings.NewReader(string(data)))
}

// list answers with a page of what comes after a key, which is the token of pages.
func (l *liar) list(w http.ResponseWriter, prefix, after string) {
	const page = 1000
	type object struct {
		Key          string
		LastModified string
		ETag         string
		Size         int
	}
	answer := struct {
		XMLName     xml.Name `xml:"ListBucketResult"`
		Name        string
		IsTruncated bool
		Next        string `xml:"NextContinuationToken,omitempty"`
		Contents    []object
	}{Name: liarBucket}
	for key, data := range l.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			answer.Contents = append(answer.Contents, object{key, "2023-11-14T22:13:20.000Z", `"x"`, len(data)})
		}
	}
	slices.SortFunc(answer.Contents, func(a, b object) int { return strings.Compare(a.Key, b.Key) })
	if len(answer.Contents) > page {
		answer.Contents, answer.IsTruncated = answer.Contents[:page], true
		answer.Next = answer.Contents[page-1].Key
	}
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(answer) // The client may be gone.
}

// TestS3Keys checks listings with keys that would lead out of the cache, or be
// another ref there.
func TestS3Keys(t *testing.T) {
	t.Parallel()
	s, r := newSandbox(t), testenv.Sample()
	l := newLiar(t, s, r)
	for _, name := range []string{
		"../../x", "../../../../../outside/x", "a/../../x", "/x", "a//x", ".", "..", "a/.", "a/", "", `a\x`, "C:x", "a:b", "a\nb", "a\x7f",
		strings.Repeat("x", 300), strings.Repeat("long/", 500),
	} {
		l.objects["refs/org__name/"+name] = []byte(r.Commit)
	}
	for _, key := range []string{
		"refs/", "refs/x", "refs//x", "refs/../x/main", "refs/../../x/main", "refs/models--..--x/main", "manifests/", "manifests/x.json",
		"manifests/../../x@" + r.Commit + ".json", "manifests/org__name@../../x.json", "manifests/@" + r.Commit + ".json", "blobs/../../x", "elsewhere/x",
	} {
		l.objects[key] = []byte(r.Commit)
	}
	outcome{code: 0}.check(t, s.pull(t, "pull", r.Repo))
	r.Compare(t, s.cache)
	testenv.AuditCache(t, s.cache)
	refs, err := os.ReadDir(filepath.Join(s.cache, r.Folder(), "refs"))
	if err != nil || len(refs) != 1 {
		t.Errorf("refs in the cache: %v, %v", refs, err)
	}
	if got := s.pull(t, "pull-all", "--all-refs"); got.Code != 0 && got.Code != 3 {
		t.Errorf("pull-all: %s", got)
	}
	testenv.AuditCache(t, s.cache)
	if got := s.pull(t, "list", "--remote"); got.Code != 0 && got.Code != 3 || !strings.Contains(got.Stdout, r.Repo) {
		t.Errorf("list: %s", got)
	}
}

// TestS3RefIsFolder checks refs of which one would be the folder of another,
// which a bucket can have and a cache cannot.
func TestS3RefIsFolder(t *testing.T) {
	t.Parallel()
	s, r := newSandbox(t), testenv.Sample()
	l := newLiar(t, s, r)
	l.objects["refs/org__name/main/below"] = []byte(r.Commit)
	outcome{3, []string{"main/below"}}.check(t, s.pull(t, "pull", r.Repo))
	r.Compare(t, s.cache)
	testenv.AuditCache(t, s.cache)
}

// TestS3Bodies checks answers whose bodies are not the object that was asked
// for. Whatever the end is, nothing wrong may get a final name.
func TestS3Bodies(t *testing.T) {
	t.Parallel()
	type lie func(w http.ResponseWriter, r *http.Request, data []byte)
	send := func(w http.ResponseWriter, status int, data []byte) {
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
		w.WriteHeader(status)
		_, _ = w.Write(data) // The client may have had enough.
	}
	for name, c := range map[string]struct {
		lie  lie
		good bool // It may as well come out right.
	}{
		"range ignored": {func(w http.ResponseWriter, _ *http.Request, data []byte) { send(w, http.StatusOK, data) }, true},
		"other range": {func(w http.ResponseWriter, _ *http.Request, data []byte) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 1-10/%d", len(data)))
			send(w, http.StatusPartialContent, data[1:11])
		}, false},
		"longer than asked": {func(w http.ResponseWriter, _ *http.Request, data []byte) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(data)-1, len(data)))
			send(w, http.StatusPartialContent, append(data, data...))
		}, false},
		"size of another": {func(w http.ResponseWriter, _ *http.Request, data []byte) {
			w.Header().Set("Content-Range", "bytes 0-9/10")
			send(w, http.StatusPartialContent, data[:10])
		}, false},
		"an error page as the object": {func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			send(w, http.StatusOK, []byte("<html>please log in</html>"))
		}, false},
		"other bytes": {func(w http.ResponseWriter, r *http.Request, data []byte) {
			other := make([]byte, len(data))
			w.Header().Set("ETag", `"x"`)
			http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), strings.NewReader(string(other)))
		}, false},
		"compressed": {func(w http.ResponseWriter, _ *http.Request, data []byte) {
			w.Header().Set("Content-Encoding", "gzip")
			send(w, http.StatusOK, data)
		}, true},
		"huge length": {func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.Header().Set("Content-Length", strconv.Itoa(1<<40))
			send(w, http.StatusOK, []byte("x"))
		}, false},
	} {
		for _, path := range []string{"config.json", "large.bin"} {
			t.Run(name+"/"+path, func(t *testing.T) {
				t.Parallel()
				s, r := newSandbox(t), testenv.Sample()
				r.Files = append(r.Files, large())
				f := r.File(t, path)
				l := newLiar(t, s, r)
				l.answer = func(w http.ResponseWriter, req *http.Request, key string) bool {
					if key != "blobs/"+f.ID() || req.Method != http.MethodGet {
						return false
					}
					c.lie(w, req, slices.Clone(f.Data))
					return true
				}
				got := s.pull(t, "pull", r.Repo)
				s.audit.Cache(t, s.cache)
				if c.good && got.Code == 0 {
					r.Compare(t, s.cache)
					return
				}
				if !slices.Contains([]int{3, 6, 7}, got.Code) || !strings.Contains(got.Stderr, f.ID()) {
					t.Errorf("it does not say what is wrong: %s", got)
				}
				if got.Code != 7 {
					s.checkSnapshot(t, r, allBut(r, path))
				}
			})
		}
	}
}

// TestS3Redirect checks that a store that sends a client elsewhere for a blob
// does not make it take its credentials along.
func TestS3Redirect(t *testing.T) {
	t.Parallel()
	s, r := newSandbox(t), testenv.Sample()
	l := newLiar(t, s, r)
	f := r.File(t, "model.safetensors")
	var mu sync.Mutex
	var seen []http.Header
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		seen = append(seen, req.Header.Clone())
		mu.Unlock()
		http.ServeContent(w, req, "", time.Unix(1_700_000_000, 0), strings.NewReader(string(f.Data)))
	}))
	defer elsewhere.Close()
	// Another host by name, as a redirect to another port of one host is taken
	// for the same by some clients.
	target := strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)
	l.answer = func(w http.ResponseWriter, req *http.Request, key string) bool {
		if key != "blobs/"+f.ID() {
			return false
		}
		http.Redirect(w, req, target+"/somewhere", http.StatusFound)
		return true
	}
	got := s.pull(t, "pull", r.Repo)
	s.audit.Cache(t, s.cache)
	if got.Code != 0 && got.Code != 3 {
		t.Errorf("a redirect: %s", got)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, header := range seen {
		for name := range header {
			if name == "Authorization" || strings.HasPrefix(name, "X-Amz-Security") {
				t.Errorf("%s was sent to another host", name)
			}
		}
	}
	for _, req := range l.requests {
		if strings.Contains(req.URL.String(), "liarsecret") {
			t.Errorf("the secret is in %s", req.URL)
		}
	}
}

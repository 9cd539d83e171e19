package hubclient_test

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hubclient"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// answering is a client whose Hub answers everything in one way.
func answering(status int, header http.Header, body string) *hubclient.Client {
	return &hubclient.Client{Endpoint: "http://hub", Token: secret, Tries: 1, Transport: transport(func(r *http.Request) *http.Response {
		length := int64(len(body))
		return &http.Response{StatusCode: status, Header: header, ContentLength: length, Body: io.NopCloser(strings.NewReader(body)), Request: r}
	})}
}

// FuzzTree reads listings of a commit.
func FuzzTree(f *testing.F) {
	f.Add(`[{"type":"file","path":"x","oid":"1111111111111111111111111111111111111111","size":3}]`)
	f.Fuzz(func(t *testing.T, body string) {
		var tree manifest.Tree
		var err error
		if taken := allocated(func() { tree, err = answering(http.StatusOK, http.Header{}, body).Tree(t.Context(), model, commit) }); tooMuch(taken, len(body)) {
			t.Errorf("%d bytes took %d to read", len(body), taken)
		}
		if (err == nil) == (tree == nil) {
			t.Errorf("%v, %v", tree, err)
		}
		for path, entry := range tree {
			if _, err := hub.ParsePath(string(path)); err != nil || entry.Size < 0 || entry.ID() == "" {
				t.Errorf("%q: %+v", path, entry)
			}
		}
	})
}

// FuzzInfo reads what the Hub says of a repository. It is a commit or an error.
func FuzzInfo(f *testing.F) {
	f.Add(`{"id": "org/name", "sha": "` + string(commit) + `", "gated": "auto"}`)
	f.Fuzz(func(t *testing.T, body string) {
		info, err := answering(http.StatusOK, http.Header{}, body).Info(t.Context(), model, "")
		if err != nil {
			if !errors.Is(err, hubclient.ErrInvalid) || info != (hubclient.Info{}) {
				t.Errorf("%+v, %v", info, err)
			}
			return
		}
		if _, err := hub.ParseCommit(string(info.Commit)); err != nil || len(info.ID) > 200 || strings.ContainsAny(info.ID, "\n\x1b\x00") {
			t.Errorf("%+v: %v", info, err)
		}
	})
}

// FuzzNextPage follows one Link header from a listing's first page. Wherever it leads, the token goes to the Hub alone, and only over http or https.
func FuzzNextPage(f *testing.F) {
	f.Add(`<http://hub/api/models/org/name/tree/main?cursor=2>; rel="next"`)
	f.Fuzz(func(t *testing.T, link string) {
		var asked, same, length int
		c := &hubclient.Client{Endpoint: "http://hub", Token: secret, Tries: 1}
		c.Transport = transport(func(r *http.Request) *http.Response {
			asked++
			if len(r.URL.String()) <= length {
				same++
			}
			length = len(r.URL.String())
			if own := r.URL.Scheme == "http" && (r.URL.Host == "hub" || r.URL.Host == "hub:80" || strings.EqualFold(r.URL.Hostname(), "hub") && (r.URL.Port() == "" || r.URL.Port() == "80")); !own && strings.Contains(r.Header.Get("Authorization"), secret) {
				t.Errorf("%q took the token to %s", link, r.URL)
			}
			if r.URL.Scheme != "http" && r.URL.Scheme != "https" {
				t.Errorf("%q led to %s", link, r.URL)
			}
			header := http.Header{}
			header.Set("Link", link)
			return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader("[]")), Request: r}
		})
		// Each page names the same next one: it ends after that, and in an error. A relative one may be longer each time, until no address may be that long.
		_, err := c.Tree(t.Context(), model, commit)
		if asked > 1 && err == nil || same > 100 || asked > 4<<10 {
			t.Errorf("%q: %d pages, %d of them with an address no longer than the one before, and %v", link, asked, same, err)
		}
	})
}

// FuzzRange reads part of a file from a server that answers with any status, range and bytes. What arrives is what stands at that place of the file, as far as the answer says, and
// never more than was asked for.
func FuzzRange(f *testing.F) {
	f.Add(206, "bytes 2-4/10", "abc", int64(2), int64(3))
	f.Fuzz(func(t *testing.T, status int, contentRange, body string, offset, length int64) {
		if offset < 0 || length < 0 || offset > 1<<50 || length > 1<<50 || status < 200 || status > 299 {
			return
		}
		header := http.Header{}
		header.Set("Content-Range", contentRange)
		r, size, err := answering(status, header, body).Open(t.Context(), model, commit, "x", offset, length)
		if err != nil {
			return
		}
		got, err := io.ReadAll(r)
		if closeErr := r.Close(); closeErr != nil {
			t.Error(closeErr)
		}
		if length > 0 && int64(len(got)) > length || int64(len(got)) > size {
			t.Errorf("%d bytes of %d, where %d were asked for", len(got), size, length)
		}
		if err == nil && size > offset && int64(len(got)) != size-offset && (length == 0 || int64(len(got)) != min(length, size-offset)) {
			t.Errorf("%d bytes from %d of %d, and no error", len(got), offset, size)
		}
		if first, _, _ := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "-"); status == http.StatusPartialContent && strings.TrimLeft(first, "0") != strings.TrimLeft(strconv.FormatInt(offset, 10), "0") {
			t.Errorf("the range %q was taken for one from %d", contentRange, offset)
		}
	})
}

// allocated is how many bytes f allocates, be they garbage by now, and what others do meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// tooMuch says whether what was allocated for an input of size bytes is more than a multiple of it, beyond what is needed anyway.
func tooMuch(taken uint64, size int) bool { return taken > 1<<20+100*uint64(size) }

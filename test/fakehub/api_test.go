package fakehub_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
)

func decode(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// paths is the "path" members of a JSON listing.
func paths(t *testing.T, text string) []string {
	t.Helper()
	var entries []struct {
		Path string `json:"path"`
	}
	if err := json.Unmarshal([]byte(text), &entries); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Path)
	}
	return out
}

func TestInfo(t *testing.T) {
	h := newHub(t)
	want := map[string]any{
		"_id": "62523cc68e709c5bd4e757ed", "id": "org/name", "modelId": "org/name", "author": "org",
		"private": false, "gated": false, "disabled": false, "tags": []any{}, "downloads": 0.0, "likes": 0.0,
		"createdAt": "2024-05-01T00:00:00.000Z", "lastModified": "2024-05-01T13:00:00.000Z", "sha": h.head.ID(),
		"siblings": []any{
			map[string]any{"rfilename": "README.md", "size": 6.0, "blobId": helloOID},
			map[string]any{"rfilename": "dir/a file.txt", "size": 1.0, "blobId": "2e65efe2a145dda7ee51d1741299f848e5bf752e"},
			map[string]any{"rfilename": "dir/sub/ü#%?.txt", "size": 1.0, "blobId": "f3c6c3c68af484bd95bc7b7a38276c6c014d6aa3"},
			map[string]any{"rfilename": "empty", "size": 0.0, "blobId": "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"},
			map[string]any{
				"rfilename": "model.bin", "size": 6.0, "blobId": helloPointerOID,
				"lfs": map[string]any{"sha256": helloSHA256, "size": 6.0, "pointerSize": 126.0},
			},
		},
	}
	for _, path := range []string{
		"/api/models/org/name?blobs=true", "/api/models/org/name/revision/main?blobs=True",
		"/api/models/org/name/revision/HEAD?blobs=1", "/api/models/org/name/revision/" + h.head.ID() + "?blobs=1",
	} {
		_, body := ask(t, http.MethodGet, h.url+path, nil)
		if diff := cmp.Diff(want, decode(t, body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	resp, _ := ask(t, http.MethodGet, h.url+"/api/models/renamed?blobs=1", nil)
	if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusTemporaryRedirect || got != "/api/models/org/name?blobs=1" {
		t.Errorf("renamed: %d to %q", resp.StatusCode, got)
	}
	resp, _ = ask(t, http.MethodGet, h.url+"/api/models/org/name/revision/nix", nil)
	if got := resp.Header.Get("X-Error-Code"); got != "RevisionNotFound" {
		t.Errorf("unknown revision: code %q", got)
	}
}

func TestTree(t *testing.T) {
	h := newHub(t)
	h.PageSize = 3
	base := h.url + "/api/models/org/name/tree/"
	tests := []struct {
		name, path string
		want       [][]string // Page by page.
	}{
		{"root", "main", [][]string{{"README.md", "dir", "empty"}, {"model.bin"}}},
		{"recursive", "main?recursive=true", [][]string{
			{"README.md", "dir", "dir/a file.txt"}, {"dir/sub", "dir/sub/ü#%?.txt", "empty"}, {"model.bin"},
		}},
		{"limit", "main?recursive=1&limit=5", [][]string{
			{"README.md", "dir", "dir/a file.txt"}, {"dir/sub", "dir/sub/ü#%?.txt", "empty"}, {"model.bin"},
		}},
		{"directory", "main/dir/sub", [][]string{{"dir/sub/ü#%?.txt"}}},
		{"escaped directory", "refs%2Fpr%2F1/dir%2Fsub", [][]string{{"dir/sub/ü#%?.txt"}}},
		{"raw revision", "refs/pr/1/dir", [][]string{{"dir/a file.txt", "dir/sub"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := [][]string{}
			for next := base + tt.path; next != ""; {
				resp, body := ask(t, http.MethodGet, next, nil)
				got = append(got, paths(t, body))
				link := regexp.MustCompile(`^<(http://.*)>; rel="next"$`).FindStringSubmatch(resp.Header.Get("Link"))
				if next = ""; link != nil {
					next = link[1]
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	resp, _ := ask(t, http.MethodGet, base+"main/nix", nil)
	if got := resp.Header.Get("X-Error-Code"); got != "EntryNotFound" || resp.Header.Get("X-Repo-Commit") == "" {
		t.Errorf("unknown directory: code %q", got)
	}
	resp, _ = ask(t, http.MethodGet, base+"main?cursor=x", nil)
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("bad cursor: %d", resp.StatusCode)
	}
}

func TestPathsInfo(t *testing.T) {
	h := newHub(t)
	model := map[string]any{
		"type": "file", "path": "model.bin", "size": 6.0, "oid": helloPointerOID, "xetHash": fakehub.XetHash(helloSHA256),
		"lfs": map[string]any{"oid": helloSHA256, "size": 6.0, "pointerSize": 126.0},
	}
	expanded := map[string]any{
		"type": "file", "path": "README.md", "size": 6.0, "oid": helloOID,
		"lastCommit":         map[string]any{"id": h.first.ID(), "title": "Commit 1", "date": "2024-05-01T12:00:00.000Z"},
		"securityFileStatus": map[string]any{"status": "safe", "avScan": nil, "pickleImportScan": nil},
	}
	const form, jsonType = "application/x-www-form-urlencoded", "application/json"
	tests := []struct {
		name, media, body string
		want              []any
	}{
		{"form", form, "paths=model.bin&paths=nix&expand=false", []any{model}},
		{"form expanded", form, "paths=README.md&expand=True", []any{expanded}},
		{"json", jsonType, `{"paths":["nix","model.bin"]}`, []any{model}},
		{"json expanded", jsonType, `{"paths":["README.md"],"expand":true}`, []any{expanded}},
		{"nothing", jsonType, `{"paths":[]}`, []any{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, body := ask(t, http.MethodPost, h.url+"/api/models/org/name/paths-info/main", strings.NewReader(tt.body),
				"Content-Type", tt.media)
			if diff := cmp.Diff(tt.want, decode(t, body)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	resp, _ := ask(t, http.MethodGet, h.url+"/api/models/org/name/paths-info/main", nil)
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", resp.StatusCode)
	}
}

func TestRefsAndCommits(t *testing.T) {
	h := newHub(t)
	ref := func(name, full string, c *fakehub.Commit) any {
		return map[string]any{"name": name, "ref": full, "targetCommit": c.ID()}
	}
	want := map[string]any{
		"branches":     []any{ref("feat/x", "refs/heads/feat/x", h.nested), ref("main", "refs/heads/main", h.head)},
		"tags":         []any{ref("v1.0", "refs/tags/v1.0", h.first)},
		"converts":     []any{ref("parquet", "refs/convert/parquet", h.first)},
		"pullRequests": []any{ref("1", "refs/pr/1", h.pull)},
	}
	_, body := ask(t, http.MethodGet, h.url+"/api/models/org/name/refs?include_prs=1", nil)
	if diff := cmp.Diff(want, decode(t, body)); diff != "" {
		t.Errorf("refs (-want +got):\n%s", diff)
	}
	delete(want, "pullRequests")
	_, body = ask(t, http.MethodGet, h.url+"/api/models/org/name/refs", nil)
	if diff := cmp.Diff(want, decode(t, body)); diff != "" {
		t.Errorf("refs without pull requests (-want +got):\n%s", diff)
	}

	var commits []struct {
		ID string `json:"id"`
	}
	_, body = ask(t, http.MethodGet, h.url+"/api/models/org/name/commits/refs%2Fpr%2F1", nil)
	if err := json.Unmarshal([]byte(body), &commits); err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, c := range commits {
		got = append(got, c.ID)
	}
	if diff := cmp.Diff([]string{h.pull.ID(), h.head.ID(), h.first.ID()}, got); diff != "" {
		t.Errorf("commits (-want +got):\n%s", diff)
	}
}

func TestOtherRoutes(t *testing.T) {
	h := newHub(t)
	for path, want := range map[string]int{
		"/api/whoami-v2":                                     401,
		"/api/models/org/name/auth-check":                    200,
		"/api/models/org/nix/auth-check":                     404,
		"/api/agent-harnesses":                               404,
		"/api/models/org/name/xet-read-token/" + h.head.ID(): 404,
	} {
		if resp, body := ask(t, http.MethodGet, h.url+path, nil); resp.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", path, resp.StatusCode, body, want)
		}
	}
	if resp, _ := ask(t, http.MethodGet, h.url+"/api/whoami-v2", nil, "Authorization", "Bearer hf_x"); resp.StatusCode != http.StatusOK {
		t.Errorf("whoami with a token: %d", resp.StatusCode)
	}
}

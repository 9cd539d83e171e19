package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// fakeHub has one commit of one repository, on main.
type fakeHub struct {
	commit hub.Commit
	files  []file
	err    error // of everything, if set

	mu     sync.Mutex
	asked  int
	served map[hub.Path]int64 // bytes
}

func (h *fakeHub) Revision(_ context.Context, repo hub.Repo, revision string) (*engine.UpstreamRevision, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	if h.err != nil {
		return nil, h.err
	}
	if repo != model || revision != "" && revision != "main" && revision != string(h.commit) {
		return nil, errors.New("no such revision on the Hub")
	}
	up := &engine.UpstreamRevision{Commit: h.commit, Tree: manifest.Tree{}}
	if revision != string(h.commit) {
		up.Ref = "main"
	}
	for _, f := range h.files {
		entry := manifest.TreeEntry{Size: int64(len(f.data)), BlobID: string(f.id())}
		if f.lfs {
			entry = manifest.TreeEntry{Size: entry.Size, BlobID: strings.Repeat("0", 40), LFSSHA256: f.id(), LFSSize: entry.Size}
		}
		up.Tree[f.path] = entry
	}
	return up, nil
}

func (h *fakeHub) Open(_ context.Context, _ hub.Repo, c hub.Commit, path hub.Path, rng store.Range) (io.ReadCloser, int64, error) {
	for _, f := range h.files {
		if f.path != path || c != h.commit {
			continue
		}
		data := f.data[rng.Offset:]
		if rng.Length > 0 {
			data = data[:rng.Length]
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.served[path] += int64(len(data))
		return io.NopCloser(bytes.NewReader(data)), int64(len(f.data)), nil
	}
	return nil, 0, fmt.Errorf("%s is not on the Hub", path)
}

// downStore answers reads of objects whose key begins so with an error.
type downStore struct {
	store.Store
	prefix string
	kind   error
}

func (s *downStore) Get(ctx context.Context, key string, rng store.Range) (io.ReadCloser, store.Info, error) {
	if strings.HasPrefix(key, s.prefix) {
		return nil, store.Info{}, &store.Error{Op: "get", Key: key, Kind: s.kind}
	}
	return s.Store.Get(ctx, key, rng)
}

func TestPullWithUpstream(t *testing.T) {
	config, small, large := file{"config.json", []byte("{}"), false}, file{"small.bin", noise(5, 100<<10), true}, file{"sub/large.bin", noise(6, 20<<20), true}
	all := []file{config, small, large}
	blob := func(dir string, f file) string { return filepath.Join(dir, "blobs", string(f.id())) }
	for name, test := range map[string]struct {
		pushed  []file
		change  func(t *testing.T, bucket string, e *engine.Engine, h *fakeHub)
		policy  plan.PullPolicy
		fromHub []file // what the Hub has to give
		asked   int    // how often it is asked for the revision
		want    string // an error
		parts   []file // what is there in the end, if not all
	}{
		"a whole revision in the bucket": {pushed: all},
		"an empty bucket":                {fromHub: all, asked: 1},
		"a part in the bucket":           {pushed: []file{config, large}, fromHub: []file{small}, asked: 1},
		"a part, and the Hub is away": {pushed: []file{config, large}, asked: 1, parts: []file{config, large}, change: func(t *testing.T, _ string, _ *engine.Engine, h *fakeHub) {
			t.Helper()
			h.err = errors.New("no network")
		}},
		"a filter is kept to": {fromHub: []file{config}, asked: 1, parts: []file{config}, policy: plan.PullPolicy{Files: filter("*.json")}},
		"missing blobs": {pushed: all, fromHub: []file{small, large}, change: func(t *testing.T, bucket string, _ *engine.Engine, _ *fakeHub) {
			t.Helper()
			remove(t, blob(bucket, small))
			remove(t, blob(bucket, large))
		}},
		"damaged blobs": {pushed: all, fromHub: []file{small, large}, change: func(t *testing.T, bucket string, _ *engine.Engine, _ *fakeHub) {
			t.Helper()
			flip(t, blob(bucket, small))
			flip(t, blob(bucket, large))
		}},
		"shortened blobs": {pushed: all, fromHub: []file{small, large}, change: func(t *testing.T, bucket string, _ *engine.Engine, _ *fakeHub) {
			t.Helper()
			for _, f := range []file{small, large} {
				if err := os.WriteFile(blob(bucket, f), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}},
		"a damaged manifest": {pushed: all, fromHub: all, asked: 1, change: func(t *testing.T, bucket string, _ *engine.Engine, _ *fakeHub) {
			t.Helper()
			manifests, err := filepath.Glob(filepath.Join(bucket, "manifests", "*"))
			if err != nil || len(manifests) != 1 {
				t.Fatal(manifests, err)
			}
			if err := os.WriteFile(manifests[0], []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		"the bucket is away": {pushed: all, fromHub: all, asked: 1, change: func(t *testing.T, _ string, e *engine.Engine, _ *fakeHub) {
			t.Helper()
			e.Catalog.Store = &downStore{e.Catalog.Store, "", store.ErrUnavailable}
		}},
		"the bucket goes away in the middle": {pushed: all, fromHub: all, change: func(t *testing.T, _ string, e *engine.Engine, _ *fakeHub) {
			t.Helper()
			e.Catalog.Store = &downStore{e.Catalog.Store, "blobs/", store.ErrUnavailable}
		}},
		"wrong credentials are not worked around": {pushed: all, want: "access denied", change: func(t *testing.T, _ string, e *engine.Engine, _ *fakeHub) {
			t.Helper()
			e.Catalog.Store = &downStore{e.Catalog.Store, "", store.ErrDenied}
		}},
		"wrong credentials for blobs alone": {pushed: all, want: "access denied", change: func(t *testing.T, _ string, e *engine.Engine, _ *fakeHub) {
			t.Helper()
			e.Catalog.Store = &downStore{e.Catalog.Store, "blobs/", store.ErrDenied}
		}},
		"neither has it": {asked: 1, want: "not in the bucket", change: func(t *testing.T, _ string, _ *engine.Engine, h *fakeHub) {
			t.Helper()
			h.err = errors.New("no such repository")
		}},
		"a refresh": {pushed: all, policy: plan.PullPolicy{Refresh: true}, asked: 1},
		"a refresh without the Hub": {pushed: all, policy: plan.PullPolicy{Refresh: true}, asked: 1, change: func(t *testing.T, _ string, _ *engine.Engine, h *fakeHub) {
			t.Helper()
			h.err = errors.New("no network")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bucket, cacheDir := t.TempDir(), t.TempDir()
			h := &fakeHub{commit: first, files: all, served: map[hub.Path]int64{}}
			if test.pushed != nil {
				otherDir := t.TempDir()
				other := site(t, otherDir, bucket)
				write(t, other.Cache, model, first, "main", test.pushed)
				if len(test.pushed) < len(all) && test.want == "" { // the machine knows that there is more
					writeTree(t, otherDir, h)
				}
				push(t, other)
			}
			e := site(t, cacheDir, bucket)
			e.Upstream = h
			if test.change != nil {
				test.change(t, bucket, e, h)
			}
			p, err := e.PreparePull(t.Context(), model, "", test.policy)
			var result *engine.Result
			if err == nil {
				result, err = e.Pull(t.Context(), p)
			}
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("got %v, want %q", err, test.want)
				}
				if len(h.served) > 0 {
					t.Errorf("the Hub gave %v", h.served)
				}
				return
			}
			if err != nil || len(result.Failures) > 0 {
				t.Fatal(err, result)
			}
			want := all
			if test.parts != nil {
				want = test.parts
			}
			wantFiles(t, cacheDir, model, first, want)
			var bytes int64
			for _, f := range test.fromHub {
				bytes += int64(len(f.data))
				if h.served[f.path] != int64(len(f.data)) {
					t.Errorf("the Hub gave %d bytes of %s", h.served[f.path], f.path)
				}
			}
			if len(h.served) != len(test.fromHub) || result.UpstreamBlobs != len(test.fromHub) || result.UpstreamBytes != bytes {
				t.Errorf("the Hub gave %v, and the result says %d blobs, %d bytes", h.served, result.UpstreamBlobs, result.UpstreamBytes)
			}
			if h.asked != test.asked {
				t.Errorf("the Hub was asked for the revision %d times, not %d", h.asked, test.asked)
			}
			ref, err := os.ReadFile(filepath.Join(cacheDir, model.Folder(), "refs", "main"))
			if err != nil || string(ref) != string(first) {
				t.Errorf("the ref is %q, %v", ref, err)
			}
			if _, err := os.Stat(filepath.Join(cacheDir, model.Folder(), "trees", string(first)+".json")); err != nil {
				t.Error(err)
			}
		})
	}
}

// A branch that has moved on the Hub: a refresh follows it, and takes from the bucket what that has.
func TestRefreshFollowsTheBranch(t *testing.T) {
	bucket, cacheDir := t.TempDir(), t.TempDir()
	same := file{"same.bin", noise(7, 200<<10), true}
	other := site(t, t.TempDir(), bucket)
	write(t, other.Cache, model, first, "main", []file{same, {"version", []byte("1"), false}})
	push(t, other)
	h := &fakeHub{commit: second, files: []file{same, {"version", []byte("22"), false}}, served: map[hub.Path]int64{}}
	e := site(t, cacheDir, bucket)
	e.Upstream = h
	for _, step := range []struct {
		policy plan.PullPolicy
		commit hub.Commit
		hub    int64
	}{{plan.PullPolicy{}, first, 0}, {plan.PullPolicy{Refresh: true}, second, 2}} {
		p, err := e.PreparePull(t.Context(), model, "main", step.policy)
		if err != nil {
			t.Fatal(err)
		}
		result, err := e.Pull(t.Context(), p)
		if err != nil || p.Manifest.Commit != step.commit || result.UpstreamBytes != step.hub {
			t.Errorf("%v: commit %s, %d bytes from the Hub", err, p.Manifest.Commit, result.UpstreamBytes)
		}
	}
	ref, err := os.ReadFile(filepath.Join(cacheDir, model.Folder(), "refs", "main"))
	if err != nil || string(ref) != string(second) {
		t.Errorf("the ref is %q, %v", ref, err)
	}
}

func filter(glob string) plan.Filter {
	globs, err := plan.ParseGlobs([]string{glob})
	if err != nil {
		panic(err)
	}
	return plan.Filter{Include: globs}
}

// writeTree replaces the listing of the first commit in a cache.
func writeTree(t *testing.T, dir string, h *fakeHub) {
	t.Helper()
	up, err := h.Revision(t.Context(), model, string(h.commit))
	if err != nil {
		t.Fatal(err)
	}
	h.asked = 0
	text, err := manifest.EncodeTreeFile(up.Tree)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, model.Folder(), "trees", string(first)+".json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

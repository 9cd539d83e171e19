package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"sync/atomic"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestProxy pushes and pulls through a proxy that, as Dragonfly's dfdaemon does,
// fetches a range of its own with the headers of each GET of a blob before it
// passes that on. The server checks the signatures.
func TestProxy(t *testing.T) {
	t.Parallel()
	var requests, others atomic.Int64
	onward := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Method == http.MethodGet && r.Header.Get("Range") != "" {
			other := r.Clone(r.Context())
			other.RequestURI = ""
			other.Header.Set("Range", "bytes=7-8")
			resp, err := http.DefaultTransport.RoundTrip(other)
			if err != nil {
				t.Error(err)
			} else {
				if resp.StatusCode != http.StatusPartialContent {
					t.Errorf("another range of %s: %s", r.URL.Path, resp.Status)
				}
				if err := resp.Body.Close(); err != nil {
					t.Error(err)
				}
				others.Add(1)
			}
		}
		onward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	remote := server.Remote(t)
	remote.Env = append(remote.Env, "HF_CACHE_SYNC_PROXY="+proxy.URL)
	model := testenv.Sample()
	model.Files = append(model.Files, testenv.Content{Path: "large.bin", Data: testenv.Noise(2, 100<<20), LFS: true})
	there, here := t.TempDir(), t.TempDir()
	model.WriteCache(t, there+"/hub")
	remote.Sync(t, there, "push", "--yes")
	pushed := requests.Load()
	remote.Sync(t, here, "pull", model.Repo, "--require-complete")
	model.Compare(t, here+"/hub")
	if pushed == 0 || requests.Load() == pushed || others.Load() == 0 {
		t.Errorf("%d requests for the push and %d for the pull went through the proxy, %d of them for ranges", pushed, requests.Load()-pushed, others.Load())
	}
}

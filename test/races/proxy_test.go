package races_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// proxy stands between the binary and the S3 server, refuses what it is told to
// and counts the bytes of blobs that pass.
type proxy struct {
	forward *httputil.ReverseProxy
	refuse  func(http.ResponseWriter, *http.Request) bool

	mu      sync.Mutex // Guards what follows.
	served  map[string]int64
	stored  map[string]int64
	watcher func(served int64)
}

// behindProxy is an empty bucket on the S3 server that is reached by way of a
// proxy. refuse may be nil; it says whether it has answered.
func behindProxy(t *testing.T, refuse func(http.ResponseWriter, *http.Request) bool) (bucket, *proxy) {
	t.Helper()
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{refuse: refuse, served: map[string]int64{}, stored: map[string]int64{}}
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // The signature covers it.
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 256},
		// A process that is killed leaves broken connections behind, which are no news.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	web := httptest.NewServer(p)
	t.Cleanup(web.Close)
	b := newBucket(t, "s3")
	b.Name, b.Env = "proxy", append([]string{}, b.Env...)
	for i, v := range b.Env {
		if strings.HasPrefix(v, "B2_ENDPOINT=") {
			b.Env[i] = "B2_ENDPOINT=" + web.URL
		}
	}
	return b, p
}

// refuseConditions answers as Backblaze B2 does to writes with a condition.
func refuseConditions(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPut || r.Header.Get("If-Match") == "" && r.Header.Get("If-None-Match") == "" {
		return false
	}
	_, _ = io.Copy(io.Discard, r.Body) // The client may be gone.
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusNotImplemented)
	_, _ = io.WriteString(w, "<Error><Code>NotImplemented</Code><Message>A header you provided implies functionality that is not implemented</Message></Error>")
	return true
}

// ServeHTTP passes a request on.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.refuse != nil && p.refuse(w, r) {
		return
	}
	_, blob, isBlob := strings.Cut(r.URL.Path, "/blobs/")
	switch {
	case isBlob && r.Method == http.MethodGet:
		p.forward.ServeHTTP(&countedWriter{ResponseWriter: w, proxy: p, blob: blob}, r)
		return
	case isBlob && r.Method == http.MethodPut:
		r.Body = &countedBody{ReadCloser: r.Body, proxy: p, blob: blob}
	}
	p.forward.ServeHTTP(w, r)
}

// totals are the bytes of blobs that were served and stored.
func (p *proxy) totals() (served, stored int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return sum(p.served), sum(p.stored)
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// ratios are how often the bytes of r's blobs were served: of all together, and of
// the large one, which is fetched in parts, that was served most.
func (p *proxy) ratios(r testenv.Revision) (all, large float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := 0
	for _, f := range r.Files {
		size += len(f.Data)
		if len(f.Data) > 16<<20 {
			large = max(large, float64(p.served[f.ID()])/float64(len(f.Data)))
		}
	}
	return float64(sum(p.served)) / float64(size), large
}

// watch calls f with what was served so far, whenever there is more.
func (p *proxy) watch(f func(served int64)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watcher = f
}

// countedWriter counts what goes to the client. It has to be a Flusher no more
// than the proxy asks of it.
type countedWriter struct {
	http.ResponseWriter
	proxy *proxy
	blob  string
}

// Unwrap lets the proxy flush.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *countedWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.proxy.mu.Lock()
	defer w.proxy.mu.Unlock()
	w.proxy.served[w.blob] += int64(n)
	if w.proxy.watcher != nil {
		w.proxy.watcher(sum(w.proxy.served))
	}
	return n, err //nolint:wrapcheck // It is the proxy's own.
}

// countedBody counts what comes from the client.
type countedBody struct {
	io.ReadCloser
	proxy *proxy
	blob  string
}

func (b *countedBody) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf)
	b.proxy.mu.Lock()
	defer b.proxy.mu.Unlock()
	b.proxy.stored[b.blob] += int64(n)
	return n, err //nolint:wrapcheck // As io.Reader wants it.
}

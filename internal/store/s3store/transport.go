package s3store

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/signer"
)

// call is what one operation and its requests tell each other; it travels in the context, because the S3 library stands between them.
type call struct {
	op     string
	key    string
	answer time.Duration // how long the answer may take once it is asked for

	mu         sync.Mutex
	retryAfter int       // seconds
	date       time.Time // the service's clock
	redirected bool      // the answer came from elsewhere
	named      bool      // the service itself gave the ETag of what it redirected to
	page       bool      // the answer is for a browser
	pages      pages     // of a listing
}

type callKey struct{}

// note keeps what the library drops.
func (c *call) note(h http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		c.date = date
	}
	c.page = strings.HasPrefix(h.Get("Content-Type"), "text/html")
	c.retryAfter = 0
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		c.retryAfter = seconds
	} else if at, err := http.ParseTime(text); err == nil && !c.date.IsZero() {
		c.retryAfter = max(0, int(at.Sub(c.date)/time.Second))
	}
}

// transport sends the S3 library's requests as this package promises: with a watch on each, redirects followed, and a path in the endpoint.
type transport struct {
	base  http.RoundTripper
	agent string
	path  string // of the endpoint; empty, or starts with a slash

	looseRange bool // the signature does not cover the range

	region string
	creds  *credentials.Credentials
	stall  time.Duration
	clock  *clock

	wholeKeys *atomic.Bool // set when the service is one that lists unfinished uploads by their whole key alone
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c, ok := req.Context().Value(callKey{}).(*call)
	if !ok {
		return t.base.RoundTrip(req) // The library asks for credentials.
	}
	if isListing(req) && c.pages.again(req.URL.RawQuery) {
		return nil, errNoEnd
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	w := newWatch(t.stall, c.answer, cancel)
	resp, err := t.send(req.Clone(httptrace.WithClientTrace(ctx, w.trace())), c, w)
	w.answered()
	if err != nil {
		cancel(nil)
		return nil, w.explain(err)
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, watch: w, cancel: cancel}
	if !isObject(req, resp) {
		resp.Body = &boundedBody{ReadCloser: resp.Body}
	}
	return resp, nil
}

func (t *transport) send(req *http.Request, c *call, w *watch) (*http.Response, error) {
	if t.path != "" || t.looseRange && req.Header.Get("Range") != "" {
		var err error
		if req, err = t.rebase(req); err != nil {
			return nil, err
		}
	}
	req.Header.Set("User-Agent", t.agent+" "+req.Header.Get("User-Agent"))
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &sentBody{ReadCloser: req.Body, watch: w}
	}
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	c.note(resp.Header)
	t.clock.hear(c.date)
	// It lists an upload only if the prefix is its key (github.com/minio/minio/issues/20989).
	if strings.HasPrefix(resp.Header.Get("Server"), "MinIO") {
		t.wholeKeys.Store(true)
	}
	if resp, err = t.follow(req, resp, c); err != nil {
		return nil, err
	}
	// The library fails on an answer without the first or with an odd second; we need neither.
	if resp.Header.Get("Last-Modified") == "" {
		resp.Header.Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
	}
	resp.Header.Del("Expires")
	return resp, nil
}

// rebase puts the endpoint's path before a request's, which the library cannot, and signs the request again, with the range or without.
func (t *transport) rebase(req *http.Request) (*http.Request, error) {
	signed := req.Header.Get("Authorization") != ""
	req.Header.Del("Authorization")
	req.URL.Path = t.path + req.URL.Path
	if req.URL.RawPath != "" {
		req.URL.RawPath = (&url.URL{Path: t.path}).EscapedPath() + req.URL.RawPath
	}
	if !signed {
		return req, nil
	}
	if text := req.Header.Get("Range"); t.looseRange && text != "" {
		req.Header.Del("Range")
		defer req.Header.Set("Range", text)
	}
	v, err := t.creds.GetWithContext(&credentials.CredContext{Client: http.DefaultClient, Endpoint: req.URL.Host, Context: req.Context()})
	if err != nil {
		return nil, err
	}
	return signer.SignV4(*req, v.AccessKeyID, v.SecretAccessKey, v.SessionToken, t.region), nil
}

// follow goes where a service sends a GET for the object's bytes. The signature stays behind: it is for the service alone, and of another URL.
func (t *transport) follow(req *http.Request, resp *http.Response, c *call) (*http.Response, error) {
	const most = 5
	first := resp.Header
	for hop := 0; isDetour(req, resp); hop++ {
		to, err := resp.Location()
		drain(resp)
		switch {
		case err != nil:
			return nil, errBadRedirect
		case hop == most, to.Scheme != "https" && to.Scheme != "http", req.URL.Scheme == "https" && to.Scheme != "https":
			return nil, errBadRedirect
		}
		next, err := http.NewRequestWithContext(req.Context(), http.MethodGet, to.String(), http.NoBody)
		if err != nil {
			return nil, errBadRedirect
		}
		next.Header.Set("User-Agent", req.Header.Get("User-Agent"))
		next.Header.Set("Accept-Encoding", "identity")
		if r := req.Header.Get("Range"); r != "" {
			next.Header.Set("Range", r)
		}
		if resp, err = t.base.RoundTrip(next); err != nil {
			return nil, err
		}
		c.note(resp.Header)
		c.redirected = true
		req = next
	}
	if c.redirected {
		// What the service itself said of the object counts.
		c.named = first.Get("Etag") != ""
		for _, name := range []string{"Etag", "Last-Modified"} {
			if v := first.Get(name); v != "" {
				resp.Header.Set(name, v)
			}
		}
	}
	return resp, nil
}

// errBadRedirect does not say where to: such a URL is a credential.
var errBadRedirect = errors.New("the service redirects to where it must not")

// isDetour tells a redirect to the bytes from S3's way to say that the bucket lies in another region.
func isDetour(req *http.Request, resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return false
	}
	h := resp.Header
	return req.Method == http.MethodGet && h.Get("Location") != "" && h.Get("X-Amz-Bucket-Region") == "" &&
		!strings.Contains(h.Get("Content-Type"), "xml")
}

// drain gives a connection back.
func drain(resp *http.Response) {
	const most = 64 << 10
	_, _ = io.CopyN(io.Discard, resp.Body, most)
	_ = resp.Body.Close()
}

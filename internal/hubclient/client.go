package hubclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Client talks to one Hub. Set the fields before the first call; all methods may be called concurrently.
type Client struct {
	Endpoint  string            // such as "https://huggingface.co", without a slash at the end
	Token     string            // empty for none
	Agent     string            // the User-Agent
	Offline   bool              // refuse everything with ErrOffline
	Transport http.RoundTripper // nil means one of NewTransport
	Tries     int               // how often a request is made that fails for a moment; 0 means 6
	FirstWait time.Duration     // before the second time, each later one about twice as long; 0 means half a second
	StallTime time.Duration     // how long an answer may take to begin, and a stream may bring nothing; 0 means a minute

	// Waiting, if it is not nil, is told before a wait, and why. It must be quick.
	Waiting func(d time.Duration, why error)

	once  sync.Once
	http  *http.Client
	mu    sync.Mutex // guards links
	links map[string]*url.URL
}

const (
	maxRedirects = 10
	maxTries     = 6
	// longestWait is the Hub's window for rate limits; nobody waits longer.
	longestWait = 5*time.Minute + time.Second
	// stallTime is how long an answer may take to begin, and how long a stream may bring nothing before it is cut and resumed.
	stallTime = time.Minute
)

// NewTransport makes a transport that leaves bodies as they are: the Hub compresses small files if it is let, and then lengths and digests do not fit.
func NewTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one, by its documentation
	t.DisableCompression = true
	t.ResponseHeaderTimeout = stallTime
	t.MaxIdleConnsPerHost = 64
	return t
}

func (c *Client) client() *http.Client {
	c.once.Do(func() {
		transport := c.Transport
		if transport == nil {
			own := NewTransport()
			own.ResponseHeaderTimeout = c.stallTime()
			transport = own
		}
		c.links = map[string]*url.URL{}
		c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	})
	return c.http
}

func (c *Client) stallTime() time.Duration { return cmp.Or(c.StallTime, stallTime) }

// request is what is wanted.
type request struct {
	op   string // for people
	url  string
	from int64 // Range; 0 to 0 is everything
	to   int64 // inclusive
	part bool
	// link is the name under which a foreign address is kept once the endpoint has given one; empty for requests to the endpoint itself.
	link string
}

// get carries a request out, with retries. The caller closes the body of the answer, whose status is 200 or 206.
func (c *Client) get(ctx context.Context, r request) (*http.Response, error) {
	return retry(ctx, c, func() (*http.Response, error) { return c.walk(ctx, r) })
}

// retry makes an attempt, and others as long as they fail for a moment.
func retry[T any](ctx context.Context, c *Client, attempt func() (T, error)) (T, error) {
	var none T
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = cmp.Or(c.FirstWait, time.Second/2), 16*time.Second
	for try := 1; ; try++ {
		v, err := attempt()
		if err == nil {
			return v, nil
		}
		failure, ok := errors.AsType[*Error](err)
		if ctx.Err() != nil || !ok || (!errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrRateLimited)) || try >= cmp.Or(c.Tries, maxTries) {
			return none, err
		}
		d := wait.NextBackOff()
		if failure.Wait > 0 {
			d = failure.Wait
		}
		if d > longestWait {
			return none, err
		}
		if c.Waiting != nil {
			c.Waiting(d, err)
		}
		timer := time.NewTimer(d)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return none, ctx.Err()
		}
	}
}

// walk makes a request and follows redirects.
func (c *Client) walk(ctx context.Context, r request) (*http.Response, error) {
	if c.Offline {
		return nil, &Error{Op: r.op, Kind: ErrOffline}
	}
	endpoint, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, &Error{Op: r.op, Kind: ErrInvalid, Err: errors.New("the endpoint is no URL")}
	}
	start, err := url.Parse(r.url)
	if err != nil {
		return nil, &Error{Op: r.op, Kind: ErrInvalid, Err: errors.New("its address is no URL")}
	}
	if !followable(start, endpoint) {
		return nil, &Error{Op: r.op, Kind: ErrInvalid, Err: errors.New("it leads to nowhere that can be followed")} // the next page of a listing
	}
	at := start
	if kept := c.kept(r.link); kept != nil {
		at = kept
	}
	asked := false // for another link, once: one that was kept may have expired, and a new one may be refused for an instant
	for range maxRedirects {
		own := sameOrigin(at, endpoint)
		resp, err := c.once1(ctx, at, own, r)
		if err != nil {
			return nil, err
		}
		status := resp.StatusCode
		switch {
		case status == http.StatusOK || status == http.StatusPartialContent:
			if !own && r.link != "" {
				c.keep(r.link, at)
			}
			return resp, nil
		case status >= 300 && status < 400 && status != http.StatusNotModified:
			location, err := resp.Location()
			drain(resp)
			if err != nil || !followable(location, endpoint) {
				return nil, &Error{Op: r.op, Status: status, Kind: ErrInvalid, Err: errors.New("it redirects to nowhere that can be followed")}
			}
			at = location
		case !own && !asked && status >= 400 && status < 500 && status != http.StatusTooManyRequests:
			c.drop(r.link)
			drain(resp)
			at, asked = start, true
		default:
			return nil, c.failure(r, resp, own)
		}
	}
	return nil, &Error{Op: r.op, Kind: ErrInvalid, Err: errors.New("it redirects again and again")}
}

// followable says whether an address that an answer gave may be asked: over http or https, and never over the former if the endpoint is asked over the latter.
func followable(at, endpoint *url.URL) bool {
	return at.Scheme == "https" || (at.Scheme == "http" && endpoint.Scheme != "https")
}

// sameOrigin says whether two addresses have the same scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	port := func(u *url.URL) string {
		if p := u.Port(); p != "" {
			return p
		}
		return map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// once1 makes a single request. The body of its answer is watched.
func (c *Client) once1(ctx context.Context, at *url.URL, own bool, r request) (_ *http.Response, err error) {
	watched, cancel := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	req, err := http.NewRequestWithContext(watched, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return nil, &Error{Op: r.op, Kind: ErrInvalid, Err: errors.New("its address is no URL")}
	}
	req.Header.Set("User-Agent", c.Agent)
	req.Header.Set("Accept-Encoding", "identity")
	if r.part {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.from, r.to))
	}
	if own && c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := c.client().Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &Error{Op: r.op, Kind: ErrUnavailable, Err: plain(err)}
	}
	resp.Body = newWatchedBody(resp.Body, c.stallTime(), cancel)
	return resp, nil
}

// errStalled says why a body was cut.
var errStalled = errors.New("no byte came for too long")

// watchedBody is the body of an answer. A read that brings nothing for too long cuts it; a reader that takes its time does not.
type watchedBody struct {
	io.ReadCloser
	limit   time.Duration
	timer   *time.Timer
	cancel  context.CancelFunc
	stalled atomic.Bool
}

func newWatchedBody(body io.ReadCloser, limit time.Duration, cancel context.CancelFunc) *watchedBody {
	b := &watchedBody{ReadCloser: body, limit: limit, cancel: cancel}
	b.timer = time.AfterFunc(limit, func() {
		b.stalled.Store(true)
		cancel()
	})
	b.timer.Stop()
	return b
}

// Read implements [io.Reader].
func (b *watchedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.limit)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && b.stalled.Load() {
		err = errStalled
	}
	return n, err
}

// Close implements [io.Closer].
func (b *watchedBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}

// plain is an error of the network without the address, which may be as good as a key.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	return err
}

// failure is the error that an answer means.
func (c *Client) failure(r request, resp *http.Response, own bool) error {
	defer drain(resp)
	e := &Error{Op: r.op, Status: resp.StatusCode, RequestID: clip(resp.Header.Get("X-Request-Id")), Wait: waitOf(resp.Header, time.Now())}
	if own {
		e.Kind = kindOf(resp)
	} else if resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
		e.Kind = ErrUnavailable
	}
	if message := clip(resp.Header.Get("X-Error-Message")); message != "" {
		e.Err = errors.New(message)
	}
	return e
}

// clip makes what a server says fit for a message.
func clip(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, text)
	return text[:min(most, len(text))]
}

// waitOf is how long a server asks to wait: Retry-After in seconds or as a date (RFC 9110 10.2.3), or the time to the end of a used-up RateLimit window
// (the Hub's rate limits documentation).
func waitOf(h http.Header, now time.Time) time.Duration {
	if text := h.Get("Retry-After"); text != "" {
		if n, err := strconv.Atoi(text); err == nil && n >= 0 {
			return time.Duration(min(n, 1<<20)) * time.Second
		}
		if at, err := http.ParseTime(text); err == nil {
			return max(0, at.Sub(now))
		}
	}
	limit := h.Get("RateLimit")
	if limit == "" {
		return 0
	}
	left, reset := -1, -1
	for _, part := range strings.Split(limit, ";")[1:] {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			continue
		}
		switch key {
		case "r":
			left = n
		case "t":
			reset = n
		}
	}
	if left != 0 || reset < 0 {
		return 0
	}
	return time.Duration(min(reset, 1<<20)+1) * time.Second
}

// drain reads the rest of a short answer, so that its connection can be used again.
func drain(resp *http.Response) {
	const little = 64 << 10
	_, _ = io.CopyN(io.Discard, resp.Body, little) // the status is all that counts
	_ = resp.Body.Close()
}

// maxLinks bounds the links that are kept.
const maxLinks = 4096

func (c *Client) kept(name string) *url.URL {
	c.client()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.links[name]
}

func (c *Client) keep(name string, at *url.URL) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.links) >= maxLinks {
		clear(c.links)
	}
	c.links[name] = at
}

// drop forgets a link.
func (c *Client) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.links, name)
}

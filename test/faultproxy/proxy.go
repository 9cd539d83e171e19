package faultproxy

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Plan says what a request meets: a fault that can happen to it, or nil. It is
// called for one request at a time.
type Plan func(*Request) *Fault

// Proxy is a running proxy.
type Proxy struct {
	URL string // Of the proxy, such as http://127.0.0.1:1234.

	target  *url.URL
	through *http.Transport
	stopped chan struct{}

	up, down atomic.Int64

	mu       sync.Mutex // Guards what follows.
	plan     Plan
	requests int
	faulty   int
	counts   map[string]int
	like     map[string]int
	used     map[string]bool
	lists    map[string]*listing
	gone     map[string]bool // Uploads that have vanished.
}

// New starts a proxy before the server at the address target, which ends with
// the test. It has no plan: everything passes.
func New(tb testing.TB, target string) *Proxy {
	tb.Helper()
	u, err := url.Parse(target)
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{
		target: u, stopped: make(chan struct{}),
		through: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		counts:  map[string]int{}, like: map[string]int{}, used: map[string]bool{}, lists: map[string]*listing{}, gone: map[string]bool{},
	}
	web := httptest.NewUnstartedServer(p)
	// What a broken connection makes the server say is no news here.
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if tcp, ok := c.(*net.TCPConn); ok {
			// So that a client that nobody listens to notices it before all is sent.
			const little = 64 << 10
			_ = tcp.SetReadBuffer(little)
		}
		return ctx
	}
	web.Start()
	p.URL = web.URL
	tb.Cleanup(func() {
		close(p.stopped)
		web.CloseClientConnections()
		web.Close()
		p.through.CloseIdleConnections()
	})
	return p
}

// Use makes plan what requests meet from now on. A nil plan lets everything
// pass.
func (p *Proxy) Use(plan Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan = plan
}

// Count is how often a fault was really done.
func (p *Proxy) Count(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[name]
}

// Counts are the faults that were really done, by name.
func (p *Proxy) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

// Totals are how many requests there were, and how many of them met a fault.
func (p *Proxy) Totals() (requests, faulty int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests, p.faulty
}

// spent tells whether a fault that happens once has happened to a path.
func (p *Proxy) spent(f *Fault, path string) bool { return p.used[f.Name+" "+path] }

// meet decides what a request meets.
func (p *Proxy) meet(r *http.Request) (*Request, *Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	req := &Request{Request: r, Op: opOf(r), proxy: p}
	id := req.id()
	req.N = p.like[id]
	p.like[id]++
	p.requests++
	if p.plan == nil {
		return req, nil
	}
	f := p.plan(req)
	if !req.Can(f) {
		return req, nil
	}
	if f.Once {
		p.used[f.Name+" "+r.URL.Path] = true
	}
	return req, f
}

// done counts a fault.
func (p *Proxy) done(f *Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[f.Name]++
	p.faulty++
}

// ServeHTTP treats one request as the plan says.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, f := p.meet(r)
	x := &exchange{proxy: p, w: p.measured(w, req), r: req, fault: f}
	switch {
	case p.vanished(req):
		x.refuse(http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist.")
	case x.nextPage():
	case f == nil:
		x.pass(nil) //nolint:contextcheck // The request has it.
	default:
		f.play(x)
	}
}

func (p *Proxy) vanished(r *Request) bool {
	id := r.URL.Query().Get("uploadId")
	p.mu.Lock()
	defer p.mu.Unlock()
	return id != "" && p.gone[id]
}

// exchange is one request while it is treated.
type exchange struct {
	proxy *Proxy
	w     http.ResponseWriter
	r     *Request
	fault *Fault
}

// done counts the exchange's fault.
func (x *exchange) done() { x.proxy.done(x.fault) }

// forward asks the server.
func (x *exchange) forward() (*http.Response, error) {
	out := x.r.Clone(x.r.Context())
	out.URL.Scheme, out.URL.Host = x.proxy.target.Scheme, x.proxy.target.Host
	out.Host = x.r.Host // The signature covers it.
	out.RequestURI = ""
	for _, name := range []string{"Connection", "Expect", "Te", "Upgrade", "Keep-Alive"} {
		out.Header.Del(name)
	}
	if x.r.ContentLength == 0 {
		out.Body = http.NoBody // Else an unknown length would be announced.
	}
	return x.proxy.through.RoundTrip(out) //nolint:wrapcheck // The caller looks only whether there is one.
}

// pass has the request answered by the server. change, if it is not nil, may
// change what is told beside the body.
func (x *exchange) pass(change func(http.Header)) {
	resp, err := x.forward()
	if err != nil {
		x.reset()
		return
	}
	defer resp.Body.Close() //nolint:errcheck // Only read from.
	x.head(resp, change)
	if _, err = io.Copy(x.w, resp.Body); err != nil {
		panic(http.ErrAbortHandler) // A broken answer must not look whole.
	}
}

// head sends on what stands before the body.
func (x *exchange) head(resp *http.Response, change func(http.Header)) {
	h := x.w.Header()
	maps.Copy(h, resp.Header)
	h.Del("Connection")
	if change != nil {
		change(h)
	}
	x.w.WriteHeader(resp.StatusCode)
}

// drain reads the request's body to its end: who answers before may be
// answered by a broken connection.
func (x *exchange) drain() { _, _ = io.Copy(io.Discard, x.r.Body) }

// hijack takes the connection away from the server.
func (x *exchange) hijack() *net.TCPConn {
	if flusher, ok := x.w.(http.Flusher); ok && x.begun() {
		flusher.Flush()
	}
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		panic("faultproxy: a connection that is not TCP")
	}
	return tcp
}

// begun tells whether something was answered.
func (x *exchange) begun() bool { return len(x.w.Header()) > 0 }

// reset ends the connection as a machine does that has forgotten it.
func (x *exchange) reset() {
	conn := x.hijack()
	_ = conn.SetLinger(0) // Then closing sends RST.
	_ = conn.Close()
}

// hangUp ends the connection as a program does that ends.
func (x *exchange) hangUp() { _ = x.hijack().Close() }

// stall does nothing until the client has gone, or the test ends.
func (x *exchange) stall() {
	select {
	case <-x.r.Context().Done():
	case <-x.proxy.stopped:
	}
	panic(http.ErrAbortHandler)
}

// refuse answers as S3 does when it does not carry a request out.
func (x *exchange) refuse(status int, code, message string) {
	x.drain()
	body := "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>"
	x.w.Header().Set("Content-Type", "application/xml")
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		_, _ = io.WriteString(x.w, body) // The client may be gone.
	}
}

// dripper is how fast a slow answer comes.
func dripper() *time.Ticker {
	const pause = 5 * time.Millisecond
	return time.NewTicker(pause)
}

// Names are the names of faults, in order, for messages and for the proof.
func Names(faults ...*Fault) []string {
	names := make([]string, 0, len(faults))
	for _, f := range faults {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

package s3store_test

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// forwarder is a proxy: for http it passes requests on, for https it opens a tunnel.
type forwarder struct {
	*httptest.Server
	passed, tunnels atomic.Int64
	user            atomic.Value // what the last client says it is
}

func newForwarder(t *testing.T) *forwarder {
	t.Helper()
	f := new(forwarder)
	onward := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.user.Store(r.Header.Get("Proxy-Authorization"))
		if r.Method != http.MethodConnect {
			if !r.URL.IsAbs() {
				t.Errorf("%s is no request to a proxy", r.URL)
			}
			f.passed.Add(1)
			onward.ServeHTTP(w, r)
			return
		}
		f.tunnels.Add(1)
		there, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.Host)
		if err != nil {
			t.Errorf("dial %s: %v", r.Host, err)
			return
		}
		defer there.Close() //nolint:errcheck // a tunnel that is not needed any more
		w.WriteHeader(http.StatusOK)
		here, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		defer here.Close()          //nolint:errcheck // the same
		go io.Copy(there, buffered) //nolint:errcheck // the clients end it
		_, _ = io.Copy(here, there)
	}))
	t.Cleanup(f.Close)
	return f
}

func TestProxy(t *testing.T) {
	t.Parallel()
	answer := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"x"`)
		_, _ = io.WriteString(w, "body")
	}
	through := newForwarder(t)
	proxy, err := url.Parse(through.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy.User = url.UserPassword("user", "hunter2")

	s := newService(t, false, answer)
	o := s.options()
	o.Proxy = proxy
	if err := operations(open(t, o))["get"](t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:hunter2"))
	if n, user := through.passed.Load(), through.user.Load(); n != 1 || len(s.asked()) != 1 || user != want {
		t.Errorf("http: %d of 1 requests through the proxy, by %v", n, user)
	}

	// The certificate is that of a test, so the handshake with the service fails: but it comes through the tunnel.
	s = newService(t, true, answer)
	o = s.options()
	o.Transport, o.Proxy = nil, proxy
	if err := operations(open(t, o))["get"](t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("https: %v, want a complaint about the certificate", err)
	}
	if n, user := through.tunnels.Load(), through.user.Load(); n == 0 || user != want {
		t.Errorf("https: %d tunnels through the proxy, by %v", n, user)
	}
}

// TestProxyThatIsAway sees that an error about a proxy does not tell its password.
func TestProxyThatIsAway(t *testing.T) {
	t.Parallel()
	through := newForwarder(t)
	address := strings.TrimPrefix(through.URL, "http://")
	through.Close()
	for _, scheme := range []string{"http", "https", "socks5"} {
		s := newService(t, false, func(http.ResponseWriter, *http.Request) {})
		o := s.options()
		o.Proxy = &url.URL{Scheme: scheme, User: url.UserPassword("user", "hunter2"), Host: address}
		err := operations(open(t, o))["get"](t.Context())
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v, want that %s cannot be reached", scheme, err, address)
		}
		if len(s.asked()) != 0 {
			t.Errorf("%s: the service was asked without the proxy", scheme)
		}
	}
}

// TestProxyMayAskForOtherRanges plays a proxy that fetches another range than it was asked for with the headers that it got: the signature has to hold for it.
func TestProxyMayAskForOtherRanges(t *testing.T) {
	t.Parallel()
	answer := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "bytes=2-5" {
			t.Errorf("range %q", r.Header.Get("Range"))
		}
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("Content-Range", "bytes 2-5/9")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, "body")
	}
	for _, path := range []string{"", "/name"} {
		for _, with := range []bool{false, true} {
			s := newService(t, false, answer)
			o := s.options()
			o.Endpoint += path
			if with {
				proxy, err := url.Parse(newForwarder(t).URL)
				if err != nil {
					t.Fatal(err)
				}
				o.Proxy = proxy
			}
			rc, _, err := open(t, o).Get(t.Context(), "k", store.Range{Offset: 2, Length: 4})
			if err != nil {
				t.Fatal(err)
			}
			if err := rc.Close(); err != nil {
				t.Fatal(err)
			}
			got := s.asked()[0]
			signed := strings.Split(field(got.Header.Get("Authorization"), "SignedHeaders="), ";")
			covers := false
			again := &http.Request{Method: got.Method, URL: &url.URL{Host: got.Host, Path: got.URL.Path}, Host: got.Host, Header: http.Header{}}
			for _, name := range signed {
				covers = covers || name == "range"
				if name != "host" {
					again.Header.Set(name, got.Header.Get(name))
				}
			}
			if covers == with {
				t.Errorf("endpoint %q, proxy %v: the signature covers %v", path, with, signed)
			}
			// The service computes the signature over what SignedHeaders names.
			at := again.Header.Get("X-Amz-Date")
			again = signer.SignV4(*again, accessKey, secretKey, "", o.Region)
			if again.Header.Get("X-Amz-Date") == at && again.Header.Get("Authorization") != got.Header.Get("Authorization") {
				t.Errorf("endpoint %q, proxy %v: the signature %s does not hold, %s would", path, with, got.Header.Get("Authorization"), again.Header.Get("Authorization"))
			}
		}
	}
}

// field is what follows a name in the header of a signature.
func field(header, name string) string {
	_, rest, _ := strings.Cut(header, name)
	value, _, _ := strings.Cut(rest, ",")
	return value
}

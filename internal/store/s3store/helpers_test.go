package s3store_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
)

const (
	accessKey = "AKIDEXAMPLE"
	secretKey = "wJalrXUtnFEMI/K7MDENG"
)

func section(data string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(data), 0, int64(len(data)))
}

// service is a server that answers as a test says and remembers what it was asked.
type service struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func newService(t *testing.T, secure bool, answer http.HandlerFunc) *service {
	t.Helper()
	s := new(service)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("%s %s: read the body: %v", r.Method, r.URL, err)
		}
		s.mu.Lock()
		s.requests = append(s.requests, r.Clone(context.WithoutCancel(r.Context())))
		s.bodies = append(s.bodies, string(body))
		s.mu.Unlock()
		answer(w, r)
	})
	s.Server = httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // Some clients are to turn away.
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// asked returns the requests so far.
func (s *service) asked() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func (s *service) options() s3store.Options {
	o := s3store.Options{
		Endpoint: s.URL, Bucket: "bucket", Region: "eu-north-1", Agent: "name/1.2",
		Credentials: s3store.Credentials{AccessKey: accessKey, SecretKey: secretKey},
	}
	if s.TLS != nil {
		o.Transport = s.Client().Transport // It knows the certificate.
	}
	return o
}

func open(t *testing.T, o s3store.Options) *s3store.Store {
	t.Helper()
	s, err := s3store.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// operations is every method as an operation on the key "k".
func operations(s *s3store.Store) map[string]func(ctx context.Context) error {
	u := store.Upload{Key: "k", ID: "id"}
	return map[string]func(ctx context.Context) error{
		"get": func(ctx context.Context) error {
			rc, _, err := s.Get(ctx, "k", store.Range{})
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, rc)
			return errors.Join(err, rc.Close())
		},
		"stat": func(ctx context.Context) error {
			_, err := s.Stat(ctx, "k")
			return err
		},
		"list": func(ctx context.Context) error {
			for _, err := range s.List(ctx, "k") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"put": func(ctx context.Context) error {
			_, err := s.Put(ctx, "k", section("body"), store.PutOptions{})
			return err
		},
		"delete": func(ctx context.Context) error { return s.Delete(ctx, "k") },
		"start upload": func(ctx context.Context) error {
			_, err := s.StartUpload(ctx, "k", store.PutOptions{})
			return err
		},
		"put part": func(ctx context.Context) error {
			_, err := s.PutPart(ctx, u, 1, section("body"))
			return err
		},
		"complete upload": func(ctx context.Context) error {
			_, err := s.Complete(ctx, u, []store.Part{{Number: 1, Size: 4, ETag: "etag"}})
			return err
		},
		"abort upload": func(ctx context.Context) error { return s.Abort(ctx, u) },
		"list uploads": func(ctx context.Context) error {
			for _, err := range s.Uploads(ctx, "k") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"list parts": func(ctx context.Context) error {
			_, err := s.Parts(ctx, u)
			return err
		},
	}
}

// pipes is a network without a kernel, whose waiting a synctest bubble understands.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// bubble starts a server and a store that reaches it, inside of a synctest bubble. It ends with the test.
func bubble(t *testing.T, o s3store.Options, answer http.HandlerFunc) *s3store.Store {
	t.Helper()
	network := newPipes()
	server := &http.Server{Handler: answer}
	done := make(chan error)
	go func() { done <- server.Serve(network) }()
	transport := &http.Transport{DialContext: network.dial, DisableCompression: true}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		time.Sleep(time.Second) // The server lingers over the connection of a client that was cut off. The clock is the bubble's.
	})
	o.Endpoint, o.Bucket, o.Region = "http://service.test", "bucket", "us-east-1"
	o.Credentials = s3store.Credentials{AccessKey: accessKey, SecretKey: secretKey}
	o.Transport = transport
	return open(t, o)
}

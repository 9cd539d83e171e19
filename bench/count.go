package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"
)

// Counter is an HTTP proxy before a server that counts requests. It changes
// nothing that a signature covers.
type Counter struct {
	requests atomic.Int64
	listener net.Listener
	server   *http.Server
	done     chan error
}

// StartCounter listens on a free port and forwards to target, a host and port.
// Call Close at the end.
func StartCounter(ctx context.Context, target string) (*Counter, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	proxy := &httputil.ReverseProxy{
		// The Host header stays that of the client, which has signed it.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}
	c := &Counter{listener: listener, done: make(chan error, 1)}
	c.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.requests.Add(1)
		proxy.ServeHTTP(w, r)
	})}
	go func() { c.done <- c.server.Serve(listener) }()
	return c, nil
}

// Addr is where clients connect.
func (c *Counter) Addr() string { return c.listener.Addr().String() }

// Count is how many requests came.
func (c *Counter) Count() int { return int(c.requests.Load()) }

// Close ends the proxy.
func (c *Counter) Close() error {
	err := c.server.Close()
	if serveErr := <-c.done; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err //nolint:wrapcheck // Nothing to add.
}

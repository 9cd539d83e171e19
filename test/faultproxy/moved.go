package faultproxy

import (
	"io"
	"net/http"
	"sync/atomic"
)

// Moved is how many bytes of the bodies of blobs have gone to the store, and
// come from it, wasted ones included. What a connection had in its buffers when
// it ended is not seen, so less may be told than was sent, never more.
func (p *Proxy) Moved() (up, down int64) { return p.up.Load(), p.down.Load() }

// measured has what goes through an exchange about a blob counted.
func (p *Proxy) measured(w http.ResponseWriter, r *Request) http.ResponseWriter {
	if !r.Blob() {
		return w
	}
	if r.Body != nil && hasBody(r) {
		r.Body = &meteredBody{ReadCloser: r.Body, n: &p.up}
	}
	return &meteredWriter{ResponseWriter: w, n: &p.down}
}

type meteredBody struct {
	io.ReadCloser

	n *atomic.Int64
}

// Read reads from the client.
func (m *meteredBody) Read(b []byte) (int, error) {
	n, err := m.ReadCloser.Read(b)
	m.n.Add(int64(n))
	return n, err //nolint:wrapcheck // It stands for the body.
}

type meteredWriter struct {
	http.ResponseWriter

	n       *atomic.Int64
	refused bool // What follows is an error and no blob.
}

// WriteHeader sends the status.
func (m *meteredWriter) WriteHeader(status int) {
	m.refused = status >= http.StatusMultipleChoices
	m.ResponseWriter.WriteHeader(status)
}

// Write sends to the client.
func (m *meteredWriter) Write(b []byte) (int, error) {
	n, err := m.ResponseWriter.Write(b)
	if !m.refused {
		m.n.Add(int64(n))
	}
	return n, err //nolint:wrapcheck // It stands for the connection.
}

// Flush sends on what waits.
func (m *meteredWriter) Flush() {
	if f, ok := m.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (m *meteredWriter) Unwrap() http.ResponseWriter { return m.ResponseWriter }

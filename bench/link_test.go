package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWire sends bytes through one direction of a link in a bubble, where time is exact.
func TestWire(t *testing.T) {
	tests := map[string]struct {
		delay time.Duration
		rate  float64
		bytes int
		want  time.Duration
	}{
		"delay":          {20 * time.Millisecond, 0, 1000, 20 * time.Millisecond},
		"delay of many":  {20 * time.Millisecond, 0, 10 * chunkSize, 20 * time.Millisecond},
		"rate":           {0, 64 << 10, 10 * chunkSize, 10 * time.Second},
		"rate and delay": {20 * time.Millisecond, 64 << 10, 4 * chunkSize, 4*time.Second + 20*time.Millisecond},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in, src := net.Pipe()
				dst, out := net.Pipe()
				w := wire{delay: test.delay, rate: test.rate}
				carried := make(chan error, 1)
				go func() { carried <- w.carry(t.Context(), dst, src) }()
				sent := bytes.Repeat([]byte("0123456789abcdef"), (test.bytes+15)/16)[:test.bytes]
				began := time.Now()
				go func() {
					if _, err := in.Write(sent); err != nil {
						t.Error(err)
					}
					if err := in.Close(); err != nil {
						t.Error(err)
					}
				}()
				got := make([]byte, test.bytes)
				if _, err := io.ReadFull(out, got); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != test.want {
					t.Errorf("took %v, want %v", took, test.want)
				}
				if !bytes.Equal(got, sent) {
					t.Error("other bytes came")
				}
				if err := <-carried; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestWireShared: two connections get the rate of one.
func TestWireShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := wire{rate: 64 << 10}
		began := time.Now()
		done := make(chan error, 4)
		for range 2 {
			in, src := net.Pipe()
			dst, out := net.Pipe()
			go func() { done <- w.carry(t.Context(), dst, src) }()
			go func() {
				_, err := in.Write(make([]byte, 5*chunkSize))
				if err = errors.Join(err, in.Close()); err != nil {
					t.Error(err)
				}
			}()
			go func() {
				_, err := io.ReadFull(out, make([]byte, 5*chunkSize))
				done <- err
			}()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %v, want 10 s", took)
		}
	})
}

// TestProxies sends requests through both proxies to a real server.
func TestProxies(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = w.Write(append([]byte(r.Host+" "), body...))
		}
		if err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	counter, err := StartCounter(t.Context(), server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	link, err := StartLink(t.Context(), counter.Addr(), time.Millisecond, 0)
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 1<<20)
	for range 3 {
		response, err := http.Post("http://"+link.Addr(), "text/plain", strings.NewReader(large))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			t.Fatal(err)
		}
		// A signature covers the host that the client meant.
		if want := link.Addr() + " " + large; string(body) != want {
			t.Errorf("%d bytes came of %d", len(body), len(want))
		}
	}
	if err = errors.Join(link.Close(), counter.Close()); err != nil {
		t.Error(err)
	}
	if counter.Count() != 3 {
		t.Errorf("%d requests, want 3", counter.Count())
	}
}

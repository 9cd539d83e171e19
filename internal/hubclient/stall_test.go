package hubclient_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hubclient"
)

// stuck is a body that brings a few bytes and then nothing until its request is given up, or that breaks off.
type stuck struct {
	ctx   context.Context //nolint:containedctx // as a connection has it
	data  io.Reader
	broke error
}

func (s *stuck) Read(p []byte) (int, error) {
	if n, err := s.data.Read(p); err == nil {
		return n, nil
	}
	if s.broke != nil {
		return 0, s.broke
	}
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func (s *stuck) Close() error { return nil }

// Bodies of every kind that stall or break off are asked for again, whether they are a listing or a file.
func TestBodiesThatStall(t *testing.T) {
	info := `{"sha":"` + string(commit) + `"}`
	for name, broke := range map[string]error{"stalls": nil, "breaks off": io.ErrUnexpectedEOF, "is reset": errors.New("connection reset by peer")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				client := func(body string) *hubclient.Client {
					asked = 0
					return &hubclient.Client{Endpoint: "http://hub", StallTime: time.Second, Transport: transport(func(r *http.Request) *http.Response {
						resp := &http.Response{StatusCode: http.StatusOK, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
						if strings.HasPrefix(r.Header.Get("Range"), "bytes=3-") {
							resp.StatusCode, resp.Header = http.StatusPartialContent, http.Header{"Content-Range": {"bytes 3-9/10"}}
							resp.Body = io.NopCloser(strings.NewReader(body[3:]))
						}
						if asked++; asked == 1 {
							resp.Body = &stuck{r.Context(), strings.NewReader(body[:3]), broke}
						}
						return resp
					})}
				}
				if got, err := client(info).Info(t.Context(), model, ""); err != nil || got.Commit != commit || asked != 2 {
					t.Errorf("a listing: %+v, %v after %d requests", got, err, asked)
				}
				if got, size, err := read(t, client("0123456789"), "model.bin", 0, 0); err != nil || got != "0123456789" || size != 10 || asked != 2 {
					t.Errorf("a file: %q of %d bytes, %v after %d requests", got, size, err, asked)
				}
			})
		})
	}
}

// Whoever takes time between two reads is not cut off.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := &hubclient.Client{Endpoint: "http://hub", StallTime: time.Second, Transport: transport(func(r *http.Request) *http.Response {
			asked++
			body := &stuck{r.Context(), strings.NewReader("0123456789"), nil}
			return &http.Response{StatusCode: http.StatusOK, ContentLength: 10, Body: body}
		})}
		body, _, err := c.Open(t.Context(), model, commit, "model.bin", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close() //nolint:errcheck // only read from
		one := make([]byte, 1)
		for range 10 {
			if _, err := io.ReadFull(body, one); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute) // by the bubble's clock
		}
		if asked != 1 {
			t.Errorf("it was asked for %d times", asked)
		}
	})
}

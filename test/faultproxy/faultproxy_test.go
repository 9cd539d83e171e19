package faultproxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/test/faultproxy"
)

const text = "0123456789abcdef"

// world is a server that knows one text, by any name, and counts what reaches it.
func world(t *testing.T) (p *faultproxy.Proxy, reached *atomic.Int64) {
	t.Helper()
	reached = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("X-Host", r.Host)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
	}))
	t.Cleanup(server.Close)
	return faultproxy.New(t, server.URL), reached
}

// answer is what a client makes of what it gets.
type answer struct {
	status int
	body   string
	header http.Header
	err    error
}

// ask asks the proxy, but not for ever.
func ask(t *testing.T, p *faultproxy.Proxy, method, path, body string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close() //nolint:errcheck // Only read from.
	var got bytes.Buffer
	_, err = io.Copy(&got, resp.Body)
	return answer{resp.StatusCode, got.String(), resp.Header, err}
}

// TestFaults checks that each fault is what it says it is, to a client that
// knows nothing of it, and that it is counted.
func TestFaults(t *testing.T) {
	t.Parallel()
	const get, put = http.MethodGet, http.MethodPut
	large := strings.Repeat("x", 16<<20)
	half := text[:len(text)/2]
	is := func(status int, body string) func(answer) bool {
		return func(a answer) bool { return a.err == nil && a.status == status && a.body == body }
	}
	says := func(status int, code string) func(answer) bool {
		return func(a answer) bool {
			return a.err == nil && a.status == status && strings.Contains(a.body, "<Code>"+code+"</Code>")
		}
	}
	fails := func(with error, body string) func(answer) bool {
		return func(a answer) bool { return errors.Is(a.err, with) && a.body == body }
	}
	for name, c := range map[string]struct {
		fault        *faultproxy.Fault
		method, path string
		body         string
		ok           func(answer) bool
		reached      int64
	}{
		"500":             {faultproxy.Internal(), get, "/b/k", "", says(500, "InternalError"), 0},
		"503":             {faultproxy.SlowDown(time.Second), get, "/b/k", "", func(a answer) bool { return a.status == 503 && a.header.Get("Retry-After") == "1" }, 0},
		"502":             {faultproxy.BadGateway(), get, "/b/k", "", func(a answer) bool { return a.status == 502 && strings.HasPrefix(a.body, "<html>") }, 0},
		"reset":           {faultproxy.ResetFirst(), get, "/b/k", "", fails(syscall.ECONNRESET, ""), 0},
		"reset sending":   {faultproxy.ResetSending(), put, "/b/k", large, func(a answer) bool { return a.err != nil && a.status == 0 }, 0},
		"reset answering": {faultproxy.ResetAnswering(), get, "/b/k", "", func(a answer) bool { return errors.Is(a.err, syscall.ECONNRESET) && a.status == 200 }, 1},
		"cut":             {faultproxy.Cut(), get, "/b/k", "", fails(io.ErrUnexpectedEOF, half), 1},
		"stall":           {faultproxy.StallFirst(), get, "/b/k", "", fails(context.DeadlineExceeded, ""), 0},
		"stall sending":   {faultproxy.StallSending(), put, "/b/k", large, fails(context.DeadlineExceeded, ""), 0},
		"stall answering": {faultproxy.StallAnswering(), get, "/b/k", "", fails(context.DeadlineExceeded, half), 1},
		"drip":            {faultproxy.Drip(), get, "/b/k", "", is(200, text), 1},
		"flip":            {faultproxy.Flip(), get, "/b/k", "", is(200, "0123456799abcdef"), 1},
		"lost answer":     {faultproxy.LostAnswer(), put, "/b/k", "x", func(a answer) bool { return a.err != nil && a.status == 0 }, 1},
		"failed answer":   {faultproxy.FailedAnswer(), put, "/b/k", "x", says(500, "InternalError"), 1},
		"error in 200":    {faultproxy.ErrorInOK(false), http.MethodPost, "/b/k?uploadId=1", "x", says(200, "InternalError"), 0},
		"the same, done":  {faultproxy.ErrorInOK(true), http.MethodPost, "/b/k?uploadId=1", "x", says(200, "InternalError"), 1},
		"gone":            {faultproxy.Vanish(faultproxy.Part), put, "/b/k?uploadId=1&partNumber=1", "x", says(404, "NoSuchUpload"), 0},
		"expired":         {faultproxy.Expired(), get, "/b/k", "", says(403, "ExpiredToken"), 0},
		"skewed":          {faultproxy.Skewed(-time.Hour), get, "/b/k", "", says(403, "RequestTimeTooSkewed"), 0},
		"other time":      {faultproxy.OtherTime(1000 * time.Hour), get, "/b/k", "", func(a answer) bool { return isAhead(a, 999*time.Hour) && a.body == text }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, reached := world(t)
			p.Use(faultproxy.Always(c.fault))
			if got := ask(t, p, c.method, c.path, c.body); !c.ok(got) {
				t.Errorf("%s %s: %+v", c.method, c.path, got)
			}
			if want := map[string]int{c.fault.Name: 1}; !maps.Equal(p.Counts(), want) || reached.Load() != c.reached {
				t.Errorf("counted %v, %d requests reached the server", p.Counts(), reached.Load())
			}
			p.Use(nil)
			if got := ask(t, p, get, "/b/other", ""); got.status != 200 || got.body != text || "http://"+got.header.Get("X-Host") != p.URL {
				t.Errorf("without a plan: %+v", got)
			}
		})
	}
}

func isAhead(a answer, by time.Duration) bool {
	date, err := http.ParseTime(a.header.Get("Date"))
	return err == nil && time.Until(date) > by
}

// TestWhatDoesNotFit checks that a fault that cannot happen does not, and is not
// counted.
func TestWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault        *faultproxy.Fault
		method, path string
	}{
		"a cut HEAD":              {faultproxy.Cut(), http.MethodHead, "/b/k"},
		"a lost answer to a GET":  {faultproxy.LostAnswer(), http.MethodGet, "/b/k"},
		"no condition":            {faultproxy.NoConditions(), http.MethodPut, "/b/k"},
		"no checksum":             {faultproxy.NoChecksums(), http.MethodPut, "/b/k"},
		"not a listing":           {faultproxy.Lag(1), http.MethodGet, "/b/k"},
		"an error page":           {faultproxy.Flip(), http.MethodGet, "/b?list-type=2"},
		"no completion":           {faultproxy.ErrorInOK(false), http.MethodPut, "/b/k?uploadId=1&partNumber=1"},
		"an upload of little":     {faultproxy.StallSending(), http.MethodPut, "/b/k"},
		"what is for others only": {faultproxy.Internal().Only(func(*faultproxy.Request) bool { return false }), http.MethodGet, "/b/k"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := world(t)
			p.Use(faultproxy.Always(c.fault))
			if got := ask(t, p, c.method, c.path, "x"); got.err != nil || got.status != 200 || len(p.Counts()) != 0 {
				t.Errorf("%+v, counted %v", got, p.Counts())
			}
		})
	}
}

// TestPlans checks which requests meet a fault.
func TestPlans(t *testing.T) {
	t.Parallel()
	f := faultproxy.Internal()
	for name, c := range map[string]struct {
		plan faultproxy.Plan
		want []int // Which of eight, from 0.
	}{
		"always":      {faultproxy.Always(f), []int{0, 1, 2, 3, 4, 5, 6, 7}},
		"every other": {faultproxy.EveryOther(f), []int{0, 2, 4, 6}},
		"first":       {faultproxy.FirstOfEach(2, f), []int{0, 1}},
		"after":       {faultproxy.After(5, f), []int{5, 6, 7}},
		"once":        {faultproxy.Always(f.AtMostOnce()), []int{0}},
		"never":       {faultproxy.Random(1, 0, f), nil},
		"random":      {faultproxy.Random(1, 100, f), []int{0, 1, 2, 3, 4, 5, 6, 7}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := world(t)
			p.Use(c.plan)
			var got []int
			for i := range 8 {
				if ask(t, p, http.MethodGet, "/b/k", "").status == http.StatusInternalServerError {
					got = append(got, i)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if all, bad := p.Totals(); all != 8 || bad != len(c.want) {
				t.Errorf("%d of %d requests counted", bad, all)
			}
		})
	}
}

// TestRandomDoesNotDependOnOrder checks that one seed gives each request the
// same chance, whenever it comes.
func TestRandomDoesNotDependOnOrder(t *testing.T) {
	t.Parallel()
	const requests, percent = 100, 30
	meets := func(order []int) map[int]bool {
		p, _ := world(t)
		p.Use(faultproxy.Random(7, percent, faultproxy.Internal()))
		met := map[int]bool{}
		for _, i := range order {
			met[i] = ask(t, p, http.MethodGet, "/b/"+strings.Repeat("k", i+1), "").status == http.StatusInternalServerError
		}
		return met
	}
	var order []int
	for i := range requests {
		order = append(order, i)
	}
	forwards := meets(order)
	slices.Reverse(order)
	if !maps.Equal(forwards, meets(order)) {
		t.Error("the order counts")
	}
	n := 0
	for _, met := range forwards {
		if met {
			n++
		}
	}
	if n < requests/10 || n > requests/2 {
		t.Errorf("%d of %d requests meet a fault of %d %%", n, requests, percent)
	}
}

// TestMoved checks that the bytes of blobs are counted, wasted ones too, and
// nothing else.
func TestMoved(t *testing.T) {
	t.Parallel()
	p, _ := world(t)
	ask(t, p, http.MethodPut, "/b/manifests/k", text)
	ask(t, p, http.MethodGet, "/b/manifests/k", "")
	if up, down := p.Moved(); up != 0 || down != 0 {
		t.Errorf("counted %d up, %d down of what is no blob", up, down)
	}
	p.Use(faultproxy.Always(faultproxy.Cut()))
	ask(t, p, http.MethodGet, "/b/blobs/k", "")
	p.Use(faultproxy.Always(faultproxy.Internal()))
	ask(t, p, http.MethodGet, "/b/blobs/k", "")
	ask(t, p, http.MethodPut, "/b/blobs/k", text[:3]) // Taken and refused: sent all the same.
	p.Use(nil)
	ask(t, p, http.MethodGet, "/b/blobs/k", "")
	if up, down := p.Moved(); up != 3 || down != int64(len(text)+len(text)/2) {
		t.Errorf("counted %d up, %d down", up, down)
	}
}

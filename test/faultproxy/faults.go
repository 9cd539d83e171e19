package faultproxy

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Fault is one way to treat a request badly.
type Fault struct {
	Name string // What is counted, and what a person reads.
	// Fits tells the requests that it can happen to; nil means all.
	Fits func(*Request) bool
	// Once says that it happens to requests of one path a single time: not even the
	// best client gets anywhere with what is wrong every time.
	Once bool

	play func(*exchange)
}

// Only is the fault for some of the requests that it can happen to.
func (f *Fault) Only(fits func(*Request) bool) *Fault {
	other, inner := *f, f.Fits
	other.Fits = func(r *Request) bool { return (inner == nil || inner(r)) && fits(r) }
	return &other
}

// AtMostOnce is the fault for one request of each path.
func (f *Fault) AtMostOnce() *Fault {
	other := *f
	other.Once = true
	return &other
}

// named is the fault under another name, such as that of what it does to
// somebody.
func (f *Fault) named(name string) *Fault {
	other := *f
	other.Name = name
	return &other
}

func hasAnswer(r *Request) bool { return r.Op == Get || r.Op == List }

func hasBody(r *Request) bool { return r.ContentLength > 0 && (r.Op == Put || r.Op == Part) }

// Refuse answers a status and an S3 error without carrying the request out.
func Refuse(status int, code, message string) *Fault {
	return &Fault{Name: fmt.Sprintf("%d %s", status, code), play: func(x *exchange) {
		x.done()
		x.refuse(status, code, message)
	}}
}

// SlowDown is 503 SlowDown, with Retry-After if wait is more than nothing.
func SlowDown(wait time.Duration) *Fault {
	name := "503 SlowDown"
	if wait > 0 {
		name += " with Retry-After"
	}
	return &Fault{Name: name, play: func(x *exchange) {
		x.done()
		if wait > 0 {
			x.w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)))
		}
		x.refuse(http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
	}}
}

// Internal is 500 InternalError.
func Internal() *Fault {
	return Refuse(http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
}

// BadGateway is 502 with a web page, from something between.
func BadGateway() *Fault {
	return &Fault{Name: "502 with a web page", play: func(x *exchange) {
		x.drain()
		x.done()
		x.w.Header().Set("Content-Type", "text/html")
		x.w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(x.w, "<html><h1>502 Bad Gateway</h1></html>") // The client may be gone.
	}}
}

// ResetFirst ends the connection before anything is answered; nothing was
// carried out.
func ResetFirst() *Fault {
	return &Fault{Name: "connection reset before the answer", play: func(x *exchange) {
		x.done()
		x.reset()
	}}
}

// ResetSending ends the connection while the client is sending.
func ResetSending() *Fault {
	return &Fault{Name: "connection reset in the middle of a request", Fits: hasBody, play: func(x *exchange) {
		_, _ = io.CopyN(io.Discard, x.r.Body, x.r.ContentLength/2)
		x.done()
		x.reset()
	}}
}

// half passes the first half of an answer's body on, by way of change, and then
// calls end. An answer without a body passes whole.
func (x *exchange) half(end func(*http.Response)) {
	resp, err := x.forward()
	if err != nil {
		x.reset()
		return
	}
	defer resp.Body.Close() //nolint:errcheck // Only read from.
	const least = 2
	if resp.StatusCode >= http.StatusMultipleChoices || resp.ContentLength < least {
		x.head(resp, nil)
		_, _ = io.Copy(x.w, resp.Body)
		return
	}
	x.head(resp, nil)
	if _, err = io.CopyN(x.w, resp.Body, resp.ContentLength/2); err != nil {
		panic(http.ErrAbortHandler)
	}
	x.done()
	if f, ok := x.w.(http.Flusher); ok {
		f.Flush()
	}
	end(resp)
}

// ResetAnswering ends the connection in the middle of an answer's body.
func ResetAnswering() *Fault {
	return &Fault{Name: "connection reset in the middle of an answer", Fits: hasAnswer, play: func(x *exchange) {
		x.half(func(*http.Response) { x.reset() })
	}}
}

// Cut sends fewer bytes than were announced, and ends the connection in order.
func Cut() *Fault {
	return &Fault{Name: "answer cut short of its Content-Length", Fits: hasAnswer, play: func(x *exchange) {
		x.half(func(*http.Response) { x.hangUp() })
	}}
}

// StallFirst takes a request and never answers.
func StallFirst() *Fault {
	return &Fault{Name: "no answer at all", play: func(x *exchange) {
		x.drain()
		x.done()
		x.stall()
	}}
}

// StallAnswering stops in the middle of an answer's body.
func StallAnswering() *Fault {
	return &Fault{Name: "stall in the middle of an answer", Fits: hasAnswer, play: func(x *exchange) {
		x.half(func(*http.Response) { x.stall() })
	}}
}

// StallSending stops taking the body of a request that is larger than what the
// operating system buffers.
func StallSending() *Fault {
	const buffered = 8 << 20
	fits := func(r *Request) bool { return hasBody(r) && r.ContentLength > buffered }
	return &Fault{Name: "stall in the middle of a request", Fits: fits, play: func(x *exchange) {
		_, _ = io.CopyN(io.Discard, x.r.Body, 1<<10)
		x.done()
		x.stall()
	}}
}

// Drip sends the first bytes of an answer's body one by one.
func Drip() *Fault {
	return &Fault{Name: "slow drip", Fits: hasAnswer, play: func(x *exchange) {
		resp, err := x.forward()
		if err != nil {
			x.reset()
			return
		}
		defer resp.Body.Close() //nolint:errcheck // Only read from.
		x.head(resp, nil)
		ticker := dripper()
		defer ticker.Stop()
		const drops = 20
		for i := range drops {
			if _, err = io.CopyN(x.w, resp.Body, 1); err != nil {
				return // The body's end.
			}
			if i == 0 {
				x.done()
			}
			if f, ok := x.w.(http.Flusher); ok {
				f.Flush()
			}
			<-ticker.C
		}
		if _, err = io.Copy(x.w, resp.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}}
}

// Flip changes one byte in the middle of an answer's body.
func Flip() *Fault {
	return &Fault{Name: "flipped byte in an answer", Fits: func(r *Request) bool { return r.Op == Get }, play: func(x *exchange) {
		x.half(func(resp *http.Response) {
			one := make([]byte, 1)
			if _, err := io.ReadFull(resp.Body, one); err != nil {
				panic(http.ErrAbortHandler)
			}
			one[0] ^= 1
			if _, err := x.w.Write(one); err != nil {
				panic(http.ErrAbortHandler)
			}
			if _, err := io.Copy(x.w, resp.Body); err != nil {
				panic(http.ErrAbortHandler)
			}
		})
	}}
}

// carriedOut has the server carry the request out and throws its answer away. A
// refusal it passes on, and says so by false.
func (x *exchange) carriedOut() bool {
	resp, err := x.forward()
	if err != nil {
		x.reset()
		return false
	}
	defer resp.Body.Close() //nolint:errcheck // Only read from.
	if resp.StatusCode >= http.StatusMultipleChoices {
		x.head(resp, nil)
		_, _ = io.Copy(x.w, resp.Body) // The client may be gone.
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if x.r.Op == Complete {
		// Some servers take a completion a second time. Most know the upload no more.
		x.vanish()
	}
	return true
}

// vanish has the upload that the request is about be gone from now on.
func (x *exchange) vanish() {
	x.proxy.mu.Lock()
	defer x.proxy.mu.Unlock()
	x.proxy.gone[x.r.URL.Query().Get("uploadId")] = true
}

func isWrite(r *Request) bool {
	switch r.Op {
	case Put, Part, Delete, Start, Complete, Abort:
		return true
	case Get, Head, List, Parts, Uploads:
	}
	return false
}

// LostAnswer has the request carried out and ends the connection instead of
// answering.
func LostAnswer() *Fault {
	return &Fault{Name: "carried out, answer lost", Fits: isWrite, play: func(x *exchange) {
		if x.carriedOut() {
			x.done()
			x.reset()
		}
	}}
}

// FailedAnswer has the request carried out and says that it was not.
func FailedAnswer() *Fault {
	return &Fault{Name: "carried out, answered 500", Fits: isWrite, play: func(x *exchange) {
		if !x.carriedOut() {
			return
		}
		x.done()
		x.refuse(http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
	}}
}

// ErrorInOK answers the completion of an upload with status 200 and an error in
// the body, as S3 does when it finds out after it has begun to answer (API
// reference, CompleteMultipartUpload). The upload is as it was, or completed.
func ErrorInOK(completed bool) *Fault {
	name := "200 with an error in it"
	if completed {
		name += ", carried out"
	}
	return &Fault{Name: name, Fits: func(r *Request) bool { return r.Op == Complete }, play: func(x *exchange) {
		if completed && !x.carriedOut() {
			return
		}
		x.done()
		x.refuse(http.StatusOK, "InternalError", "We encountered an internal error. Please try again.")
	}}
}

// NoConditions refuses writes with a condition, as Backblaze B2 does.
func NoConditions() *Fault {
	return Refuse(http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented").
		named("501 to a conditional write").Only((*Request).Conditional)
}

// HasChecksum tells a request with one of the headers of S3's newer checksums.
func HasChecksum(r *Request) bool {
	for name := range r.Header {
		switch name {
		case "X-Amz-Checksum-Sha256", "X-Amz-Checksum-Crc32", "X-Amz-Checksum-Crc32c", "X-Amz-Checksum-Crc64nvme", "X-Amz-Checksum-Sha1",
			"X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Trailer":
			return true
		}
	}
	return false
}

// NoChecksums refuses requests with a header of S3's newer checksums, as
// Backblaze B2 did.
func NoChecksums() *Fault {
	return Refuse(http.StatusBadRequest, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received for this API call.").
		named("400 to a checksum header").Only(HasChecksum)
}

// Expired refuses everything: the token was good until now.
func Expired() *Fault {
	return Refuse(http.StatusForbidden, "ExpiredToken", "The provided token has expired.")
}

// Skewed refuses everything, with a Date that is off by so much.
func Skewed(by time.Duration) *Fault {
	return &Fault{Name: "403 RequestTimeTooSkewed", play: func(x *exchange) {
		x.done()
		x.w.Header().Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
		x.refuse(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	}}
}

// OtherTime has answers come from a machine whose clock is off by so much.
func OtherTime(by time.Duration) *Fault {
	return &Fault{Name: "Date off by " + by.String(), play: func(x *exchange) {
		x.done()
		x.pass(func(h http.Header) { h.Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat)) })
	}}
}

// Vanish has the upload that a request is about be gone, from this request on.
// Some services sweep unfinished uploads. The operation is Part or Complete.
func Vanish(at Op) *Fault {
	fits := func(r *Request) bool { return r.Op == at }
	return &Fault{Name: "NoSuchUpload at " + string(at), Fits: fits, Once: true, play: func(x *exchange) {
		x.vanish()
		x.done()
		x.refuse(http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist.")
	}}
}

package s3store

import (
	"context"
	"fmt"
	"io"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// stallError says that a connection was cut because nothing moved.
type stallError struct {
	doing string
	limit time.Duration
}

func (e *stallError) Error() string { return fmt.Sprintf("%s: no byte moved for %v", e.doing, e.limit) }

// closedError says that the other end closed the connection. Its text has no "EOF" in it, which the library would replace by one with the URL.
type closedError struct{}

func (closedError) Error() string { return "the server closed the connection" }
func (closedError) Unwrap() error { return io.ErrUnexpectedEOF }

// watch cuts a request whose connection stops moving bytes. Time counts while the network is waited for: not in the queue for a connection,
// not while the body's source is read, not while the answer's reader does something else.
type watch struct {
	stall  time.Duration
	answer time.Duration
	cancel context.CancelCauseFunc
	fired  atomic.Pointer[stallError]

	mu       sync.Mutex
	timer    *time.Timer
	doing    string
	limit    time.Duration
	received bool // the answer has begun: what is still being sent does not matter
}

func newWatch(stall, answer time.Duration, cancel context.CancelCauseFunc) *watch {
	w := &watch{stall: stall, answer: answer, cancel: cancel}
	w.timer = time.AfterFunc(time.Hour, w.fire)
	w.timer.Stop()
	return w
}

func (w *watch) fire() {
	w.mu.Lock()
	err := &stallError{doing: w.doing, limit: w.limit}
	w.mu.Unlock()
	w.fired.Store(err)
	w.cancel(err)
}

func (w *watch) arm(doing string, limit time.Duration) {
	w.doing, w.limit = doing, limit
	w.timer.Reset(limit)
}

// sending is called when the network has to take bytes of the request within the limit; disarm with on = false.
func (w *watch) sending(on bool, doing string, limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.received {
		return
	}
	if w.timer.Stop(); on {
		w.arm(doing, limit)
	}
}

// answered is called when the answer has begun, or has failed to.
func (w *watch) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.received = true
	w.timer.Stop()
}

// receiving is called around each read of the answer.
func (w *watch) receiving(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer.Stop(); on {
		w.arm("receive", w.stall)
	}
}

// trace starts the clock when a connection is there, and grants the time for an answer when the request is out.
func (w *watch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { w.sending(true, "send", w.stall) },
		WroteRequest: func(httptrace.WroteRequestInfo) { w.sending(true, "wait for the answer", w.answer) },
	}
}

// explain replaces what the HTTP client says of a cut connection by why it was cut.
func (w *watch) explain(err error) error {
	if stalled := w.fired.Load(); stalled != nil {
		return stalled
	}
	if strings.Contains(err.Error(), "EOF") {
		return closedError{}
	}
	return err
}

// sentBody is the body of a request on its way to the network.
type sentBody struct {
	io.ReadCloser
	watch *watch
}

// Read implements [io.Reader].
func (b *sentBody) Read(p []byte) (int, error) {
	b.watch.sending(false, "", 0)
	n, err := b.ReadCloser.Read(p)
	b.watch.sending(true, "send", b.watch.stall)
	return n, err
}

// watchedBody is the body of an answer.
type watchedBody struct {
	io.ReadCloser
	watch  *watch
	cancel context.CancelCauseFunc
}

// Read implements [io.Reader].
func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.receiving(true)
	n, err := b.ReadCloser.Read(p)
	b.watch.receiving(false)
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's EOF is never wrapped.
		err = b.watch.explain(err)
	}
	return n, err
}

// Close implements [io.Closer].
func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	chunkSize    = 64 << 10 // Of what a link carries at once.
	windowChunks = 64       // Chunks of one connection and direction on their way: a window of 4 MiB.
	// linkQueue is how far ahead a link of limited rate is booked before senders have to wait.
	linkQueue = 4 * time.Millisecond
)

// Link is a TCP proxy that plays a long line: what goes in comes out Delay later,
// at Rate at most, in each direction by itself. A new connection costs a
// round-trip, too. Connections share the rate.
type Link struct {
	Delay    time.Duration // One way.
	Rate     float64       // Bytes a second each way; 0 for no limit.
	Target   string
	listener net.Listener
	up, down wire
	tasks    sync.WaitGroup
	stop     context.CancelFunc
}

// StartLink listens on a free port and forwards to target. Call Close at the end.
func StartLink(ctx context.Context, target string, delay time.Duration, rate float64) (*Link, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	l := &Link{Delay: delay, Rate: rate, Target: target, listener: listener}
	l.up, l.down = wire{delay: delay, rate: rate}, wire{delay: delay, rate: rate}
	ctx, l.stop = context.WithCancel(ctx)
	l.tasks.Go(func() { l.accept(ctx) })
	return l, nil
}

// Addr is where clients connect.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Close drops all connections and returns when nothing runs any more.
func (l *Link) Close() error {
	l.stop()
	err := l.listener.Close()
	l.tasks.Wait()
	return err //nolint:wrapcheck // Nothing to add.
}

func (l *Link) accept(ctx context.Context) {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.tasks.Go(func() { l.connect(ctx, client) })
	}
}

// connect forwards one connection until both directions have ended, or one failed.
func (l *Link) connect(ctx context.Context, client net.Conn) {
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Target)
	if err != nil {
		_ = client.Close() // The client sees that there is no server.
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, func() {
		_, _ = client.Close(), server.Close() // Ends whoever reads or writes.
	})()
	var both sync.WaitGroup
	both.Go(func() {
		// The kernel has accepted in the client's name what would take a
		// round-trip: the client's first byte could leave only then.
		if wait(ctx, time.Now().Add(2*l.Delay)) != nil || l.up.carry(ctx, server, client) != nil {
			cancel()
		}
	})
	both.Go(func() {
		if l.down.carry(ctx, client, server) != nil {
			cancel()
		}
	})
	both.Wait()
	cancel()
	_, _ = client.Close(), server.Close() // They may be closed already.
}

// wire is one direction of a link.
type wire struct {
	delay time.Duration
	rate  float64
	mu    sync.Mutex
	free  time.Time // When all that was booked has left.
}

// book says when n more bytes have left and when the next sender may try.
func (w *wire) book(n int) (left, next time.Time) {
	now := time.Now()
	if w.rate == 0 {
		return now, now
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(time.Duration(float64(n) / w.rate * float64(time.Second)))
	return w.free, w.free.Add(-linkQueue)
}

// parcel is bytes on their way.
type parcel struct {
	data []byte
	due  time.Time
}

// carry copies src to dst, each byte delayed, and passes the end on.
func (w *wire) carry(ctx context.Context, dst, src net.Conn) error {
	road, empty := make(chan parcel, windowChunks), make(chan []byte, windowChunks+2)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var writer sync.WaitGroup
	writer.Go(func() {
		for p := range road {
			err := wait(ctx, p.due)
			if err == nil {
				_, err = dst.Write(p.data)
			}
			if err != nil {
				cancel(err)
				return
			}
			select {
			case empty <- p.data[:cap(p.data)]:
			default:
			}
		}
	})
	err := w.send(ctx, src, road, empty)
	close(road)
	writer.Wait()
	if err = errors.Join(err, context.Cause(ctx)); err != nil {
		return err
	}
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite() //nolint:wrapcheck // Nothing to add.
	}
	return nil
}

// send reads src to its end and puts what it read on the road.
func (w *wire) send(ctx context.Context, src io.Reader, road chan<- parcel, empty <-chan []byte) error {
	for {
		var buf []byte
		select {
		case buf = <-empty:
		default:
			buf = make([]byte, chunkSize)
		}
		n, err := src.Read(buf)
		if n > 0 {
			left, next := w.book(n)
			select {
			case road <- parcel{buf[:n], left.Add(w.delay)}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if waitErr := wait(ctx, next); waitErr != nil {
				return waitErr
			}
		}
		if errors.Is(err, io.EOF) {
			// The end takes the road as well.
			return wait(ctx, time.Now().Add(w.delay))
		}
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
	}
}

// wait returns at t, or when ctx ends.
func wait(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

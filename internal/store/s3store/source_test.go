package s3store

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"
)

// gate is a body whose reading takes until it is let through.
type gate struct {
	entered, pass chan struct{}
	reads         atomic.Int32
	ended         atomic.Bool
	t             *testing.T
}

func (g *gate) ReadAt(p []byte, _ int64) (int, error) {
	g.reads.Add(1)
	g.entered <- struct{}{}
	<-g.pass
	if g.ended.Load() {
		g.t.Error("the request has ended while its body is being read")
	}
	return len(p), nil
}

// The HTTP client may read a request's body after the request has ended. The caller's buffer is not ours then.
func TestBodyIsLeftAloneAfterwards(t *testing.T) {
	g := &gate{entered: make(chan struct{}), pass: make(chan struct{}), t: t}
	src := newSource(io.NewSectionReader(g, 0, 100))
	done := make(chan struct{}, 2)
	go func() {
		if n, err := src.Read(make([]byte, 10)); n != 10 || err != nil {
			t.Errorf("read: %d, %v", n, err)
		}
		done <- struct{}{}
	}()
	<-g.entered
	go func() {
		if err := src.end(); err != nil {
			t.Error(err)
		}
		g.ended.Store(true)
		done <- struct{}{}
	}()
	close(g.pass)
	<-done
	<-done
	if _, err := src.Read(make([]byte, 10)); err == nil || errors.Is(err, io.EOF) || g.reads.Load() != 1 {
		t.Errorf("read after the end: %v, %d reads of the body", err, g.reads.Load())
	}
}

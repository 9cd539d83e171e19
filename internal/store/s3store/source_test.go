package s3store

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
)

// gate is a body whose reading takes until it is let through.
type gate struct {
	entered, pass chan struct{}
	reads         int
}

func (g *gate) ReadAt(p []byte, _ int64) (int, error) {
	g.reads++
	g.entered <- struct{}{}
	<-g.pass
	return len(p), nil
}

// The HTTP client may read a request's body after the request has ended. The caller's buffer is not ours then.
func TestBodyIsLeftAloneAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{entered: make(chan struct{}), pass: make(chan struct{})}
		src := newSource(io.NewSectionReader(g, 0, 100))
		buf := make([]byte, 10)
		go func() {
			if n, err := src.Read(buf); n != 10 || err != nil {
				t.Errorf("read: %d, %v", n, err)
			}
		}()
		<-g.entered
		ended := false
		go func() {
			if err := src.end(); err != nil {
				t.Error(err)
			}
			ended = true
		}()
		synctest.Wait()
		if ended {
			t.Error("ended while the body is being read")
		}
		close(g.pass)
		synctest.Wait()
		if !ended {
			t.Error("not ended though nobody reads the body")
		}
		if _, err := src.Read(buf); err == nil || errors.Is(err, io.EOF) || g.reads != 1 {
			t.Errorf("read after the end: %v, %d reads of the body", err, g.reads)
		}
	})
}

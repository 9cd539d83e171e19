package s3store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// clock follows the service's own clock by the Date header of its answers (RFC 9110, section 6.6.1), which is exact to the second.
type clock struct {
	mu    sync.Mutex
	date  time.Time // zero until an answer came
	heard time.Time // by this machine's clock, when date was new
}

func (c *clock) hear(date time.Time) {
	if date.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.date, c.heard = date, time.Now()
}

func (c *clock) now() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.date.IsZero() {
		return time.Time{}, false
	}
	return c.date.Add(time.Since(c.heard)), true
}

// Now implements [store.Clocked]. It sends a request only if none was answered yet.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if now, ok := s.clock.now(); ok {
		return now, nil
	}
	if _, err := s.Stat(ctx, "clock"); err != nil && !errors.Is(err, store.ErrNotFound) {
		return time.Time{}, err
	}
	if now, ok := s.clock.now(); ok {
		return now, nil
	}
	return time.Time{}, &store.Error{Op: "clock", Kind: store.ErrUnsupported, Err: errors.New("the service does not say what time it is")}
}

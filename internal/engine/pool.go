package engine

import (
	"context"
	"sync"
)

// pool bounds what is under way: requests by a limit that adapts to the store, memory by buffers that are lent out.
type pool struct {
	buffers sync.Pool
	pieces  sync.Pool // of large blobs

	mu      sync.Mutex
	max     int
	limit   int // at most this many requests now, 1 to max
	running int
	good    int             // requests finished since the limit last changed
	waiting []chan struct{} // first come, first served
}

func newPool(maxRequests int) *pool {
	p := &pool{max: maxRequests, limit: maxRequests}
	p.buffers.New = func() any {
		b := make([]byte, bufferSize)
		return &b
	}
	p.pieces.New = func() any {
		b := make([]byte, pieceSize)
		return &b
	}
	return p
}

// piece lends pieceSize bytes; giveBackPiece returns them.
func (p *pool) piece() *[]byte { return p.pieces.Get().(*[]byte) } //nolint:forcetypeassert // New makes nothing else

func (p *pool) giveBackPiece(b *[]byte) { p.pieces.Put(b) }

// buffer lends bufferSize bytes; giveBack returns them.
func (p *pool) buffer() *[]byte { return p.buffers.Get().(*[]byte) } //nolint:forcetypeassert // New makes nothing else

func (p *pool) giveBack(b *[]byte) { p.buffers.Put(b) }

// acquire waits until one more request may start. Every nil must be followed by a release.
func (p *pool) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	if p.running < p.limit && len(p.waiting) == 0 {
		p.running++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	p.waiting = append(p.waiting, turn)
	p.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range p.waiting {
		if w == turn {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return ctx.Err()
		}
	}
	p.running-- // the turn came at the same moment
	p.wake()
	return ctx.Err()
}

// release ends a request.
func (p *pool) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running--
	p.good++
	if p.good >= p.limit && p.limit < p.max {
		p.limit++
		p.good = 0
	}
	p.wake()
}

// wake starts whoever may start. The lock is held.
func (p *pool) wake() {
	for p.running < p.limit && len(p.waiting) > 0 {
		close(p.waiting[0])
		p.waiting = p.waiting[1:]
		p.running++
	}
}

// slowDown halves the limit. Many requests meet the same overload, so it is halved once for as many as were under way.
func (p *pool) slowDown() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit < p.max && p.good < p.limit {
		return
	}
	p.limit = max(1, p.limit/2)
	p.good = 0
}

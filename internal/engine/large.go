package engine

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// pieces is how many pieces of a large blob are in memory at once: one that arrives, one that is hashed, one that is written, and one between them.
const pieces = 4

// piece is what goes through the hash at once.
type piece struct {
	buffer *[]byte
	bytes  []byte
	at     int64 // where in the blob
	fresh  bool  // it is not in the file yet
	ends   int   // the part of which it is the end, or -1
}

// large is one attempt at a large blob. Three go on at once: the front brings pieces in order, from the network or from the staged file; the hash takes them; and what came from the
// network is written. Helpers fetch parts ahead as the window allows.
type large struct {
	*pullRun
	file   manifest.File
	staged *hfcache.Staged

	free         chan *[]byte
	read, hashed chan piece

	mu      sync.Mutex // guards window
	window  *window
	changed *sync.Cond // the window has changed, or nothing matters any more
}

// tryLarge fetches the parts that the staged file lacks and hashes all of it, in order, while they arrive.
func (r *pullRun) tryLarge(ctx context.Context, f manifest.File, staged *hfcache.Staged) error {
	l := &large{
		pullRun: r, file: f, staged: staged,
		free: make(chan *[]byte, pieces), read: make(chan piece, pieces), hashed: make(chan piece, pieces),
		window: newWindow(int((f.Size+downloadPart-1)/downloadPart), r.ranges(), staged.Done),
	}
	l.changed = sync.NewCond(&l.mu)
	l.sayResumed()
	for range pieces {
		b := r.shared().piece()
		defer r.shared().giveBackPiece(b)
		l.free <- b
	}
	work, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changed.Broadcast()
	})
	defer stop()
	work.Go(func() error { return l.bring(ctx) })
	work.Go(func() error { return l.hash(ctx) })
	work.Go(func() error { return l.write(ctx) })
	for range r.ranges() {
		work.Go(func() error { return l.help(ctx) })
	}
	return work.Wait()
}

func (l *large) sayResumed() {
	var resumed int64
	for i, state := range l.window.parts {
		if state == partKept {
			resumed += partLength(l.file.Size, i)
		}
	}
	if resumed > 0 {
		l.emit(event.Event{Kind: event.ItemProgress, Item: string(l.file.Blob), Bytes: resumed})
		l.count(func(res *Result) { res.Resumed += resumed })
	}
}

func partLength(size int64, i int) int64 { return min(downloadPart, size-int64(i)*downloadPart) }

// rangeOf is where a part is, or some in a row.
func (l *large) rangeOf(i, parts int) store.Range {
	start := int64(i) * downloadPart
	return store.Range{Offset: start, Length: min(int64(parts)*downloadPart, l.file.Size-start)}
}

// change changes the window, and tells everybody.
func (l *large) change(do func(*window)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do(l.window)
	l.changed.Broadcast()
}

// bring is the front.
func (l *large) bring(ctx context.Context) error {
	for {
		i, parts, step, err := l.next(ctx)
		if err != nil {
			return err
		}
		switch step {
		case stepDone:
			close(l.read)
			return nil
		case stepStream:
			err = l.stream(ctx, i, parts)
		default:
			if err = l.readBack(ctx, i); err == nil {
				l.change((*window).hashed)
			}
		}
		if err != nil {
			return err
		}
	}
}

// next waits until the next part is there, or may be fetched; with how many others by one request.
func (l *large) next(ctx context.Context) (i, parts int, _ step, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for waited := false; ; waited = true {
		if ctx.Err() != nil {
			return 0, 0, 0, ctx.Err()
		}
		i, step := l.window.next, l.window.front()
		if step != stepWait {
			return i, l.window.row(), step, nil
		}
		if !waited {
			l.window.starved()
			l.changed.Broadcast()
		}
		l.changed.Wait()
	}
}

// stream fetches the next part and gives it to the hash, and with the same request those after it, for as long as nobody helps.
func (l *large) stream(ctx context.Context, i, parts int) (err error) {
	rng := l.rangeOf(i, parts)
	failpoint.Hit("part asked for")
	body, err := l.openRange(ctx, l.file, rng, rng.Length)
	if err != nil {
		return err
	}
	defer func() { err = body.close(err) }()
	for {
		waited, err := l.pass(ctx, body, i)
		if err != nil {
			return err
		}
		more := false
		l.change(func(w *window) {
			w.streamed(waited)
			more = body.left > 0 && w.front() == stepStream
		})
		if !more {
			return nil
		}
		i++
	}
}

// pass hands a part to the hash as it arrives. waited says that a piece of it had to wait for a buffer, that is, for the hash or the disk.
func (l *large) pass(ctx context.Context, body *rangeBody, i int) (waited bool, err error) {
	body.got = 0
	for left := partLength(l.file.Size, i); left > 0; {
		b, had, err := l.buffer(ctx)
		if err != nil {
			return waited, err
		}
		waited = waited || !had
		p := piece{buffer: b, at: body.at, fresh: true, ends: -1}
		want := int(min(int64(len(*b)), left))
		for len(p.bytes) < want {
			n, err := body.read((*b)[len(p.bytes):want])
			if err != nil {
				return waited, err
			}
			p.bytes = (*b)[:len(p.bytes)+n]
		}
		if left -= int64(want); left == 0 {
			p.ends = i
		}
		if err := send(ctx, l.read, p); err != nil {
			return waited, err
		}
	}
	return waited, nil
}

// readBack hands a part to the hash that is in the file. It is still in memory, so this costs a copy and no disk.
func (l *large) readBack(ctx context.Context, i int) error {
	rng := l.rangeOf(i, 1)
	for done := int64(0); done < rng.Length; {
		b, _, err := l.buffer(ctx)
		if err != nil {
			return err
		}
		p := piece{buffer: b, bytes: (*b)[:min(int64(len(*b)), rng.Length-done)], ends: -1}
		if _, err := l.staged.ReadAt(p.bytes, rng.Offset+done); err != nil {
			return err
		}
		done += int64(len(p.bytes))
		if err := send(ctx, l.read, p); err != nil {
			return err
		}
	}
	return nil
}

// buffer takes one that nobody uses. had says that there was one.
func (l *large) buffer(ctx context.Context) (b *[]byte, had bool, err error) {
	select {
	case b = <-l.free:
		return b, true, ctx.Err()
	default:
	}
	select {
	case b = <-l.free:
		return b, false, nil
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

func send[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hash takes all pieces through the digest.
func (l *large) hash(ctx context.Context) error {
	v := hub.NewVerifier(l.file.Blob, l.file.Size)
	err := each(ctx, l.read, func(p piece) error {
		_, _ = v.Write(p.bytes) // never fails
		return send(ctx, l.hashed, p)
	})
	if err != nil {
		return err
	}
	close(l.hashed)
	err = v.Verify()
	if err != nil {
		l.emit(event.Event{Kind: event.ItemProgress, Item: string(l.file.Blob), Bytes: -l.file.Size})
	}
	return err
}

// write puts into the file what is not there yet, and gives the buffers back.
func (l *large) write(ctx context.Context) error {
	return each(ctx, l.hashed, func(p piece) error {
		if p.fresh {
			if _, err := l.staged.WriteAt(p.bytes, p.at); err != nil {
				return err
			}
		}
		if p.ends >= 0 {
			if err := l.staged.MarkDone(p.ends); err != nil {
				return err
			}
		}
		l.free <- p.buffer // never blocks: it has room for all
		return nil
	})
}

// each takes everything from a channel until it is closed.
func each[T any](ctx context.Context, from <-chan T, do func(T) error) error {
	for {
		select {
		case v, ok := <-from:
			if !ok {
				return nil
			}
			if err := do(v); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// help fetches parts ahead of the hash for as long as there are some and it does any good.
func (l *large) help(ctx context.Context) error {
	for {
		i, ok := l.ahead(ctx)
		if !ok {
			return ctx.Err()
		}
		if err := l.part(ctx, i); err != nil {
			return err
		}
		l.change(func(w *window) { w.fetched(i) })
	}
}

// ahead waits for a part to fetch. There is none any more if it says no.
func (l *large) ahead(ctx context.Context) (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ctx.Err() == nil && !l.window.last() {
		if i, ok := l.window.ahead(); ok {
			return i, true
		}
		l.changed.Wait()
	}
	return 0, false
}

func (l *large) part(ctx context.Context, i int) error {
	rng := l.rangeOf(i, 1)
	failpoint.Hit("part asked for")
	if err := l.copyRange(ctx, l.file, rng, rng.Length, func(p []byte, at int64) error {
		_, err := l.staged.WriteAt(p, at)
		return err
	}); err != nil {
		return err
	}
	return l.staged.MarkDone(i)
}

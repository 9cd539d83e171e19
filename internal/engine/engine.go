package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Engine moves data between one cache and one bucket. Set the fields before the first call; calls may run concurrently.
type Engine struct {
	Cache   *hfcache.Cache
	Catalog *remote.Catalog
	// Upstream, if it is not nil, is asked for what the bucket lacks or cannot give.
	Upstream Upstream
	// Herd, if it is not nil, has machines share what they fetch from there.
	Herd    *Herd
	Events  event.Sink // nil means nobody watches
	Options Options

	once sync.Once
	pool *pool
}

// Options tune transfers. Zero values mean the defaults.
type Options struct {
	Workers  int // large blobs moved at once; 8
	Ranges   int // requests at once for one large blob; 8
	Requests int // requests at once over all; 128

	// WatchSent reports the bytes of an upload while they are sent, and not only when all of a part have arrived. It keeps a store from seeing the file that they come
	// from, so it is not for a folder as a bucket, where the kernel can copy.
	WatchSent bool
}

// Transfer sizes, in bytes.
const (
	// largeBlob is from when on a blob is moved in parts, resumably.
	largeBlob = plan.LargeBlob
	// downloadPart is what of a blob is noted at a time as having arrived, and one ranged request but for those of the front.
	downloadPart = plan.DownloadPart
	// bufferSize is one buffer of the pool, and up to which size a file is uploaded from memory.
	bufferSize = 256 << 10
	// pieceSize is what of a large blob is read, hashed and written at a time: so much that the three take turns rarely, so little that it is in the processor's cache from the one to the other.
	pieceSize = 1 << 20
)

// mostRequests is how many are under way at once: as many as a store has connections for. Where a round trip takes long, small blobs take as much time as there are rounds of them.
const mostRequests = 128

func (e *Engine) store() store.Store { return e.Catalog.Store }

// shared returns what all operations of the engine share.
func (e *Engine) shared() *pool {
	e.once.Do(func() { e.pool = newPool(cmp.Or(e.Options.Requests, mostRequests)) })
	return e.pool
}

// behind is how far this machine's clock is behind the store's. What is less than a minute makes no difference to refs.
func (e *Engine) behind(ctx context.Context) time.Duration {
	const matters = time.Minute
	if behind := e.Catalog.StoreNow(ctx).Sub(e.Catalog.Now()); behind > matters {
		return behind
	}
	return 0
}

func (e *Engine) workers() int { return cmp.Or(e.Options.Workers, 8) }
func (e *Engine) ranges() int  { return cmp.Or(e.Options.Ranges, 8) }

// Throttle halves the number of requests at once; it grows back with success. Call it when the store says that it is too much.
func (e *Engine) Throttle() { e.shared().slowDown() }

func (e *Engine) emit(ev event.Event) {
	if e.Events != nil {
		e.Events.Event(ev)
	}
}

// phase says what is being done before anything is moved; nothing, that it is done.
func (e *Engine) phase(text string) { e.emit(event.Event{Kind: event.Phase, Text: text}) }

// Failure is one thing that could not be done while the rest went on.
type Failure struct {
	Key  manifest.Key
	Path hub.Path // empty if it is not about one file
	Ref  hub.Ref  // set if it is about a ref
	Err  error
	// Harmless says that nothing is wrong, only not done this time: a file that changed while it was read.
	Harmless bool
}

// String is one line for people.
func (f Failure) String() string {
	switch {
	case f.Path != "":
		return fmt.Sprintf("%s: %s: %v", f.Key, f.Path, f.Err)
	case f.Ref != "":
		return fmt.Sprintf("%s: ref %s: %v", f.Key.Repo, f.Ref, f.Err)
	case f.Key.Commit == "": // a whole repository
		return fmt.Sprintf("%s: %v", f.Key.Repo, f.Err)
	default:
		return fmt.Sprintf("%s: %v", f.Key, f.Err)
	}
}

// Result sums up a finished operation.
type Result struct {
	Blobs   int   // moved
	Bytes   int64 // moved, of these blobs
	Reused  int   // blobs taken from another repository of the cache
	Resumed int64 // bytes that an earlier run had moved already
	// UpstreamBlobs and UpstreamBytes, of Blobs and Bytes, came from the Hub.
	UpstreamBlobs int
	UpstreamBytes int64
	Manifests     int // written
	Refs          int // written
	// ReadBack and ReadBackBytes are what was read from the bucket and found to be good. Replaced, of Blobs, stood in the bucket with other bytes.
	ReadBack      int
	ReadBackBytes int64
	Replaced      int
	Linked        int // files that were not in the snapshot before
	// Kept are refs of the bucket that another machine moved meanwhile, and that stay.
	Kept     []plan.KeptRef
	Failures []Failure
}

// Failed says whether anything is wrong with the result.
func (r *Result) Failed() bool {
	for _, f := range r.Failures {
		if !f.Harmless {
			return true
		}
	}
	return false
}

// ErrChanged says that a file of the cache changed or vanished while it was read.
var ErrChanged = errors.New("it changed while it was being read; the next push takes it")

// DamagedError reports bytes that are not what they should be.
type DamagedError struct {
	Place string // an object in the bucket, or a file on the Hub
	Err   error  // usually a *hub.MismatchError
}

// Error names the place.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged: %v", e.Place, e.Err)
}

// Unwrap gives the mismatch.
func (e *DamagedError) Unwrap() error { return e.Err }

// fatal says whether an error would meet every other blob as well.
func fatal(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	if _, down := errors.AsType[*UpstreamDownError](err); down {
		return true
	}
	for _, kind := range []error{
		store.ErrDenied, store.ErrBadConfig, store.ErrUnavailable, store.ErrNoSpace,
		syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// fatalLocal is [fatal] for writing to the cache, where a permission that is lacking is lacking for all.
func fatalLocal(ctx context.Context, err error) bool {
	return fatal(ctx, err) || errors.Is(err, fs.ErrPermission)
}

// task is a blob on its way, which others can wait for.
type task struct {
	done chan struct{}
	err  error
}

func newTask() *task { return &task{done: make(chan struct{})} }

func (t *task) finish(err error) {
	t.err = err
	close(t.done)
}

// wait returns the task's error, or the context's if that ends first.
func (t *task) wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

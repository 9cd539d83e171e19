package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Herd keeps machines that pull the same revision at once from all fetching it from the Hub: one takes the lease of the revision in the bucket, fetches, and uploads
// each blob as soon as it has it; the others take blobs from the bucket as they appear. Who finds that the lease has run out takes it over.
type Herd struct {
	Who  remote.Lease  // Holder must be unique; Lasts is how long a dead holder keeps the others waiting
	Poll time.Duration // how often those who wait look
	// Share says whether what is fetched of a repository may be given on. Where it may not, everybody fetches for himself.
	Share func(hub.Repo) bool
}

// herd is one revision that is pulled together with others.
type herd struct {
	run     *pullRun
	key     manifest.Key
	ctx     context.Context    //nolint:containedctx // of the pull; that of a download ends with the last of them, and uploads go on
	stop    context.CancelFunc // of watching
	stopped chan struct{}
	uploads errgroup.Group

	mu      sync.Mutex // guards what follows
	missing map[hub.BlobID]int64
	present map[hub.BlobID]bool // in the bucket
	leading bool
	ahead   map[hub.BlobID]int64 // fetched, or being fetched, and not given on yet
	lease   *remote.HeldLease    // nil where the bucket gives none: then everybody leads
	changed chan struct{}        // closed and replaced when any of it changes
}

const (
	// uploadsAtOnce is how many blobs a leader uploads beside its downloads.
	uploadsAtOnce = 4
	// maxAhead is how many bytes a leader may have that the others cannot get yet, but for as many blobs as it can upload at once: what it has not given on when it dies has to be
	// fetched again.
	maxAhead = 64 << 20
)

// join makes a pull one of a herd, if it is to fetch anything from the Hub. It returns nil if not.
func (r *pullRun) join(ctx context.Context) *herd {
	if r.Herd == nil || r.Upstream == nil || r.plan.Alone || !r.Herd.Share(r.plan.Manifest.Repo) {
		return nil
	}
	missing := map[hub.BlobID]int64{}
	for _, f := range r.plan.Blobs {
		if r.plan.Upstream[f.Blob] {
			missing[f.Blob] = f.Size
		}
	}
	if len(missing) == 0 {
		return nil
	}
	watchCtx, stop := context.WithCancel(ctx)
	h := &herd{
		run: r, key: r.plan.Manifest.Key(), ctx: ctx, stop: stop, stopped: make(chan struct{}),
		missing: missing, present: map[hub.BlobID]bool{}, ahead: map[hub.BlobID]int64{}, changed: make(chan struct{}),
	}
	h.uploads.SetLimit(uploadsAtOnce)
	go func() {
		defer close(h.stopped)
		h.watch(watchCtx)
	}()
	return h
}

// leave ends it: a leader's uploads are finished, and then the lease is given up.
func (h *herd) leave(ctx context.Context) {
	_ = h.uploads.Wait() // what went wrong was said
	h.stop()
	<-h.stopped
	if h.lease == nil {
		return
	}
	const patience = 10 * time.Second
	// Also after an interrupt: the others would have to wait until it runs out.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_ = h.lease.Release(end) // else it runs out
}

// watch looks for the lease and for blobs until it leads, and then renews the lease.
func (h *herd) watch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	said := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if h.lease != nil {
			if err := h.lease.Renew(ctx); errors.Is(err, remote.ErrLeaseLost) {
				h.run.note(h.key.Repo, "another machine fetches it as well: "+err.Error())
				h.hold(nil)
				return
			}
			timer.Reset(h.run.Herd.Who.Lasts / 3) //nolint:mnd // so that two may get lost
			continue
		}
		lease, err := h.run.Catalog.TakeLease(ctx, h.key, h.run.Herd.Who)
		held, follows := errors.AsType[*remote.LeasedError](err)
		present, lookErr := h.run.Catalog.Presence(ctx, h.wanted())
		switch {
		case ctx.Err() != nil:
			h.hold(lease) // to be released
			return
		case err == nil:
			h.hold(lease)
			h.found(present, true)
			timer.Reset(h.run.Herd.Who.Lasts / 3) //nolint:mnd // so that two may get lost
			continue
		case !follows || lookErr != nil: // such as a key that may only read: everybody for himself
			h.found(present, true)
			return
		}
		h.found(present, false)
		if !said {
			said = true
			h.run.emit(event.Event{Kind: event.Waiting, Repo: h.key.Repo.String(), Text: fmt.Sprintf("process %d on %s, which fetches %s from the Hub for all", held.Lease.PID, held.Lease.Host, h.key)})
		}
		timer.Reset(h.run.Herd.Poll)
	}
}

func (h *herd) hold(lease *remote.HeldLease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lease = lease
}

// wanted are the blobs that were not in the bucket when it was asked last.
func (h *herd) wanted() map[hub.BlobID]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	wanted := make(map[hub.BlobID]int64, len(h.missing))
	for id, size := range h.missing {
		if !h.present[id] {
			wanted[id] = size
		}
	}
	return wanted
}

// found takes in which blobs have appeared, and whether it is our turn, and wakes those who wait.
func (h *herd) found(present map[hub.BlobID]bool, leading bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range present {
		h.present[id] = true
	}
	h.leading = h.leading || leading
	close(h.changed)
	h.changed = make(chan struct{})
}

// await returns when a blob is in the bucket, which it then comes from, or when it is up to us to fetch it.
func (h *herd) await(ctx context.Context, f manifest.File) error {
	for {
		h.mu.Lock()
		here, changed := h.present[f.Blob], h.changed
		_, concerned := h.missing[f.Blob]
		leading := h.leading && (here || !concerned || h.room(f.Size))
		if leading && concerned && !here {
			h.ahead[f.Blob] = f.Size
		}
		h.mu.Unlock()
		switch {
		case here:
			h.run.mu.Lock()
			defer h.run.mu.Unlock()
			delete(h.run.plan.Upstream, f.Blob)
			return nil
		case leading || !concerned:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// room says whether a leader may fetch another blob. The mutex is held.
func (h *herd) room(size int64) bool {
	if h.lease == nil || len(h.ahead) < uploadsAtOnce {
		return true
	}
	for _, n := range h.ahead {
		size += n
	}
	return size <= maxAhead
}

// given says that a blob is in the bucket now, or will not be by us.
func (h *herd) given(id hub.BlobID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ahead := h.ahead[id]; ahead {
		delete(h.ahead, id)
		close(h.changed)
		h.changed = make(chan struct{})
	}
}

// share uploads a blob that came from the Hub, for those who wait for it. That it cannot be is no failure of the pull.
func (h *herd) share(f manifest.File) {
	h.mu.Lock()
	leads := h.leading && h.lease != nil // who may not write a lease may not write blobs
	h.mu.Unlock()
	if !leads {
		h.given(f.Blob)
		return
	}
	h.uploads.Go(func() error {
		defer h.given(f.Blob)
		file, err := h.run.Cache.BlobFile(h.key.Repo, f.Blob)
		if err != nil {
			return nil // it was taken away again
		}
		file.Path = f.Path
		push := &pushRun{Engine: h.run.quiet(), result: &Result{}, tasks: map[hub.BlobID]*task{f.Blob: newTask()}}
		b := plan.PushBlob{ID: f.Blob, Repo: h.key.Repo, File: file, Known: plan.Missing}
		move := push.uploadSmall
		if f.Size > largeBlob {
			move = func(ctx context.Context, b plan.PushBlob) error { return push.uploadLarge(ctx, b, store.Upload{}) }
		}
		if err := push.one(h.ctx, b, move); err != nil && !errors.Is(err, store.ErrDenied) && h.ctx.Err() == nil {
			h.run.note(h.key.Repo, fmt.Sprintf("%s was not given on: %v", f.Path, err))
		}
		return nil
	})
}

// quiet is the engine without anybody who watches: what is uploaded on the side is not what the bars are about.
func (e *Engine) quiet() *Engine {
	return &Engine{Cache: e.Cache, Catalog: e.Catalog, Options: e.Options}
}

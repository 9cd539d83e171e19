package histories_test

import (
	"context"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// bucket is a folder as a bucket, with a clock of its own.
type bucket struct {
	store.Store
	clock *time.Time

	mu      sync.Mutex // guards written
	written map[string]time.Time
}

func (b *bucket) Now(context.Context) (time.Time, error) { return *b.clock, nil }

func (b *bucket) Put(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions) (store.Info, error) {
	info, err := b.Store.Put(ctx, key, body, o)
	if err == nil {
		b.mu.Lock()
		b.written[key] = *b.clock
		b.mu.Unlock()
	}
	return b.dated(info), err
}

func (b *bucket) Get(ctx context.Context, key string, rng store.Range) (io.ReadCloser, store.Info, error) {
	body, info, err := b.Store.Get(ctx, key, rng)
	return body, b.dated(info), err
}

func (b *bucket) Stat(ctx context.Context, key string) (store.Info, error) {
	info, err := b.Store.Stat(ctx, key)
	return b.dated(info), err
}

func (b *bucket) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for info, err := range b.Store.List(ctx, prefix) {
			if !yield(b.dated(info), err) {
				return
			}
		}
	}
}

func (b *bucket) dated(info store.Info) store.Info {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, known := b.written[info.Key]; known {
		info.Modified = at
	}
	return info
}

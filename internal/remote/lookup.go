package remote

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// RefKey identifies a ref across repositories.
type RefKey struct {
	Repo hub.Repo
	Name hub.Ref
}

// Index is what the bucket knows about the revisions and refs that somebody asked for.
type Index struct {
	Manifests map[manifest.Key]*Entry // only those that are there
	Refs      map[RefKey]Ref          // likewise
	// Broken are manifests that are there and cannot be used: writing over one might lose what it knew.
	Broken map[manifest.Key]error
	// BrokenRefs are refs that are there and cannot be read.
	BrokenRefs map[RefKey]error
}

// Lookup asks for revisions and refs in parallel. What is damaged goes into the index; the error is for a store that does not answer.
func (c *Catalog) Lookup(ctx context.Context, revisions []manifest.Key, refs []RefKey) (*Index, error) {
	idx := &Index{
		Manifests: map[manifest.Key]*Entry{}, Refs: map[RefKey]Ref{},
		Broken: map[manifest.Key]error{}, BrokenRefs: map[RefKey]error{},
	}
	var mu sync.Mutex
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(c.parallel())
	for _, key := range revisions {
		work.Go(func() error {
			entry, err := c.Manifest(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				idx.Manifests[key] = entry
			case isDamage(err):
				idx.Broken[key] = err
			case !errors.Is(err, ErrNotFound):
				return err
			}
			return nil
		})
	}
	for _, key := range refs {
		work.Go(func() error {
			ref, err := c.Ref(ctx, key.Repo, key.Name)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				idx.Refs[key] = ref
			case isDamage(err):
				idx.BrokenRefs[key] = err
			case !errors.Is(err, ErrNotFound):
				return err
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	return idx, nil
}

// Add takes in what another look-up found.
func (idx *Index) Add(more *Index) {
	maps.Copy(idx.Manifests, more.Manifests)
	maps.Copy(idx.Refs, more.Refs)
	maps.Copy(idx.Broken, more.Broken)
	maps.Copy(idx.BrokenRefs, more.BrokenRefs)
}

func isDamage(err error) bool {
	_, wrongBody := errors.AsType[*WrongBodyError](err)
	return wrongBody || errors.Is(err, manifest.ErrInvalid)
}

// Presence answers which of the blobs are in the bucket with the given sizes, at the least cost it can find: the first page of the listing shows how many blobs there
// are in all, and with that whether asking one by one or listing everything takes fewer requests.
func (c *Catalog) Presence(ctx context.Context, sizes map[hub.BlobID]int64) (map[hub.BlobID]bool, error) {
	etags, err := c.ETags(ctx, sizes)
	if err != nil {
		return nil, err
	}
	present := make(map[hub.BlobID]bool, len(etags))
	for id := range etags {
		present[id] = true
	}
	return present, nil
}

// ETags is [Catalog.Presence] with what the store calls the bytes of those that are there.
func (c *Catalog) ETags(ctx context.Context, sizes map[hub.BlobID]int64) (map[hub.BlobID]string, error) {
	present := make(map[hub.BlobID]string, len(sizes))
	if len(sizes) == 0 {
		return present, nil
	}
	if len(sizes) <= fewBlobs {
		return present, c.statAll(ctx, sizes, present)
	}
	var seen int
	var last string
	for info, err := range c.Store.List(ctx, manifest.BlobPrefix) {
		if err != nil {
			return nil, err
		}
		note(present, sizes, info)
		seen, last = seen+1, info.Key
		if seen == listPage && len(sizes) < statsPerList*estimatePages(last) {
			return present, c.statAll(ctx, sizes, present)
		}
		if seen == listPage && estimatePages(last) > shardAbovePages {
			return present, c.listShards(ctx, sizes, present)
		}
	}
	return present, nil
}

const (
	// fewBlobs are looked up one by one without a thought.
	fewBlobs = 4
	// listPage is how many keys one request of a listing returns (S3 ListObjectsV2).
	listPage = 1000
	// statsPerList is how many HEAD requests one LIST request is worth, by price and by time.
	statsPerList = 8
	// shardAbovePages is from when on a listing is split by the first digit and read in parallel.
	shardAbovePages = 4
)

// estimatePages tells from the key that ends the first page how many pages there are: blob ids are spread evenly over all hex numbers.
func estimatePages(lastKey string) int {
	const digits, most = 7, 1 << 28
	id := lastKey[len(manifest.BlobPrefix):]
	at, err := strconv.ParseInt(id[:min(digits, len(id))], 16, 32)
	if err != nil || at == 0 {
		return most
	}
	return (most + int(at) - 1) / int(at)
}

func note(present map[hub.BlobID]string, sizes map[hub.BlobID]int64, info store.Info) {
	id := hub.BlobID(info.Key[len(manifest.BlobPrefix):])
	if size, asked := sizes[id]; asked && size == info.Size {
		present[id] = info.ETag
	}
}

func (c *Catalog) statAll(ctx context.Context, sizes map[hub.BlobID]int64, present map[hub.BlobID]string) error {
	var mu sync.Mutex
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(c.parallel())
	for id, size := range sizes {
		work.Go(func() error {
			info, err := c.Store.Stat(ctx, manifest.BlobKey(id))
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if info.Size == size {
				present[id] = info.ETag
			}
			return nil
		})
	}
	return work.Wait()
}

func (c *Catalog) listShards(ctx context.Context, sizes map[hub.BlobID]int64, present map[hub.BlobID]string) error {
	var mu sync.Mutex
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(c.parallel())
	for digit := range 16 {
		work.Go(func() error {
			for info, err := range c.Store.List(ctx, fmt.Sprintf("%s%x", manifest.BlobPrefix, digit)) {
				if err != nil {
					return err
				}
				mu.Lock()
				note(present, sizes, info)
				mu.Unlock()
			}
			return nil
		})
	}
	return work.Wait()
}

package engine

import (
	"context"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

// CheckPull says what would end a pull before anything is fetched, as far as that can be told without a change to the cache. dir is where the cache will be, if there
// is none yet; promised is how much of the free space is spoken for.
func (e *Engine) CheckPull(p *plan.Pull, dir string, promised int64) error {
	if conflict := p.Contradiction(); conflict != nil {
		return conflict
	}
	need := p.Bytes()
	if need == 0 {
		return nil
	}
	var free int64
	var err error
	if e.Cache == nil {
		free, err = hfcache.FreeSpace(dir)
	} else {
		dir = e.Cache.Dir()
		free, err = e.Cache.FreeSpace()
		for _, f := range p.Blobs {
			if f.Size > largeBlob {
				need -= min(f.Size, e.Cache.StagedBytes(p.Manifest.Repo, f.Blob))
			}
		}
	}
	if free -= promised; err == nil && free < need {
		return &SpaceError{dir, need, max(free, 0)}
	}
	return nil
}

// DropUnfinished removes what a pull has begun and not finished, so that others find room. Blobs that are whole stay.
func (e *Engine) DropUnfinished(ctx context.Context, p *plan.Pull) error {
	remover := e.Cache.Remover(hfcache.RemoveOptions{Now: time.Now})
	for _, f := range p.Blobs {
		if f.Size <= largeBlob {
			continue // nobody could carry it on, so nothing was left of it
		}
		if _, err := remover.Staged(ctx, p.Manifest.Repo, f.Blob); err != nil {
			return err
		}
	}
	return nil
}

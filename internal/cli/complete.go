package cli

import (
	"context"
	"fmt"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// completed fetches from the Hub what the revisions of an inventory lack, and returns what the cache has then. A dry run names it. A revision that cannot be completed is named
// and pushed as it is.
func (o *pushOptions) completed(ctx context.Context, s *session, inv *hfcache.Inventory) (*hfcache.Inventory, error) {
	upstream, err := o.openHub(s.Events)
	if err != nil {
		return nil, err
	}
	s.Upstream = upstream
	fetched := false
	for _, repo := range inv.Repos {
		for _, rev := range repo.Revisions {
			if rev.Tree != nil && len(rev.Files) >= len(rev.Tree) {
				continue
			}
			done, err := o.completeRevision(ctx, s, repo, rev)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				if v := explain(err); v.code == exitDisk {
					return nil, err
				}
				o.warn("not completed: %s: %v", manifest.Key{Repo: repo.ID, Commit: rev.Commit}, err)
			}
			fetched = fetched || done
		}
	}
	s.Upstream = nil
	if !fetched {
		return inv, nil
	}
	s.phase("scanning the cache")
	again, err := s.Cache.Scan(ctx, o.wants)
	if err != nil {
		return nil, err
	}
	o.gated = nil
	return again, o.choose(ctx, s.Cache, again)
}

// completeRevision fetches what one revision lacks, and says whether that was anything.
func (o *pushOptions) completeRevision(ctx context.Context, s *session, repo *hfcache.Repo, rev *hfcache.Revision) (bool, error) {
	p, err := s.PrepareCompletion(ctx, repo, rev.Commit)
	if err != nil {
		return false, err
	}
	missing := len(p.Files) - len(rev.Files)
	key := p.Manifest.Key()
	switch {
	case missing <= 0 && rev.Tree != nil:
		return false, nil
	case o.dryRun:
		o.note("%s lacks %s, %s to fetch from the Hub", key, ui.Plural(max(0, missing), "file"), blobs(len(p.Blobs), p.Bytes()))
		return false, nil
	}
	result, err := s.Pull(ctx, p)
	if err != nil {
		return result.Linked > 0, err
	}
	o.sayFailures(result.Failures)
	if result.Failed() {
		return true, &someFailedError{code: exitSome, message: fmt.Sprintf("%s could not be fetched", ui.Plural(len(result.Failures), "file"))}
	}
	o.note("%s: %s fetched from the Hub", key, blobs(result.Blobs, result.Bytes))
	return true, nil
}

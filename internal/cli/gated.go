package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/gated"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// findGated says which repositories of an inventory look gated, and why. One that has a single revision which does is gated as a whole.
func findGated(ctx context.Context, cache *hfcache.Cache, inv *hfcache.Inventory) (map[hub.Repo]gated.Finding, error) {
	var (
		checker gated.Checker
		mu      sync.Mutex // guards found
		found   = map[hub.Repo]gated.Finding{}
		work    errgroup.Group
	)
	work.SetLimit(2 * runtime.GOMAXPROCS(0))
	for _, repo := range inv.Repos {
		work.Go(func() error {
			seen := map[string]bool{} // most revisions share their texts
			for _, rev := range repo.Revisions {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				finding, is := checker.Look(gatedTexts(cache, rev, seen))
				if is {
					mu.Lock()
					found[repo.ID] = finding
					mu.Unlock()
					return nil
				}
			}
			return nil
		})
	}
	return found, work.Wait()
}

// gatedTexts reads the files of a revision that tell whether it is gated, without those that were seen before. What cannot be read tells nothing here; the push
// itself reports it.
func gatedTexts(cache *hfcache.Cache, rev *hfcache.Revision, seen map[string]bool) map[string][]byte {
	texts := map[string][]byte{}
	for _, f := range rev.Files {
		if !gated.Names(string(f.Path)) || seen[f.Bytes] {
			continue
		}
		seen[f.Bytes] = true
		if data, err := readStart(cache, f.Bytes); err == nil {
			texts[string(f.Path)] = data
		}
	}
	return texts
}

func readStart(cache *hfcache.Cache, rel string) (data []byte, err error) {
	f, err := cache.OpenBytes(rel)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, gated.MaxBytes))
}

// dropGated takes the repositories that look gated out of what is to be pushed and says why, unless they are allowed.
func (o *pushOptions) dropGated(ctx context.Context, cache *hfcache.Cache, inv *hfcache.Inventory) ([]engine.Failure, error) {
	if o.gatedAllowed() {
		return nil, nil
	}
	found, err := findGated(ctx, cache, inv)
	if err != nil {
		return nil, err
	}
	var skipped []engine.Failure
	inv.Repos = slices.DeleteFunc(inv.Repos, func(r *hfcache.Repo) bool {
		finding, is := found[r.ID]
		if is {
			skipped = append(skipped, engine.Failure{Key: manifest.Key{Repo: r.ID}, Err: &gatedError{finding}, Harmless: true})
		}
		return is
	})
	return skipped, nil
}

// gatedAllowed is the flag if it was given, else what the configuration says.
func (o *pushOptions) gatedAllowed() bool {
	if o.allowGatedGiven {
		return o.allowGated
	}
	allowed, _ := o.file.AllowGated()
	return allowed
}

// gatedError says that a repository was left out because it looks gated.
type gatedError struct{ finding gated.Finding }

// Error says why, and what to type if it is wrong.
func (e *gatedError) Error() string {
	return fmt.Sprintf("it looks gated (%s); if you have the right to share it, push it with --allow-gated", e.finding)
}

// noteTerms says after a pull that the repository has terms: who may read the bucket is for its owner to decide, and whoever reads it should know.
func (a *app) noteTerms(ctx context.Context, cache *hfcache.Cache, m *manifest.Manifest) {
	repo := m.Repo
	if a.quiet || !slices.ContainsFunc(m.Files, func(f manifest.File) bool { return gated.Names(string(f.Path)) }) {
		return
	}
	inv, err := cache.Scan(ctx, func(r hub.Repo) bool { return r == repo })
	if err != nil {
		return // it is a note, and no reason to fail
	}
	if found, err := findGated(ctx, cache, inv); err == nil {
		if finding, is := found[repo]; is {
			a.note("note: %s: terms apply (%s)", repo, finding)
		}
	}
}

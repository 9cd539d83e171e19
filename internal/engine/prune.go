package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

// Held asks the bucket which of the revisions it has in full, so that they could be pulled again as they are: its manifest covers what is here, every blob is there with
// the right size, and nothing lies in the snapshot that the bucket does not know. The error of a revision says what is lacking. Manifests are not believed; the
// store is asked about each blob. The inventory must hold the revisions; it is not changed.
func (e *Engine) Held(ctx context.Context, inv *hfcache.Inventory, keys []manifest.Key) (map[manifest.Key]error, error) {
	asked := only(inv, keys)
	p, err := e.PreparePush(ctx, asked, plan.PushPolicy{Recheck: true})
	if err != nil {
		return nil, err
	}
	missing := map[hub.BlobID]bool{}
	for _, b := range p.Blobs {
		missing[b.ID] = b.Known == plan.Missing
	}
	held := make(map[manifest.Key]error, len(keys))
	for _, key := range keys {
		held[key] = errors.New("nothing of it can be compared")
	}
	for _, rev := range p.Revisions {
		held[rev.Manifest.Key()] = lacking(rev, missing)
	}
	for _, r := range p.Refused {
		held[r.Key] = refused(r)
	}
	for _, problem := range asked.Problems {
		for _, key := range keys {
			if strings.HasPrefix(problem.Path, key.Repo.Folder()+"/snapshots/"+string(key.Commit)+"/") && held[key] == nil {
				held[key] = fmt.Errorf("its snapshot has something that the bucket does not know: %s", problem)
			}
		}
	}
	return held, e.heldRefs(ctx, inv, held)
}

// heldRefs adds what the refs of revisions that are held lack: one that the bucket does not have at all could not be pulled again.
func (e *Engine) heldRefs(ctx context.Context, inv *hfcache.Inventory, held map[manifest.Key]error) error {
	refs := map[remote.RefKey]manifest.Key{}
	for _, repo := range inv.Repos {
		for _, ref := range repo.Refs {
			key := manifest.Key{Repo: repo.ID, Commit: ref.Commit}
			if lacking, asked := held[key]; asked && lacking == nil {
				refs[remote.RefKey{Repo: repo.ID, Name: ref.Name}] = key
			}
		}
	}
	idx, err := e.Catalog.Lookup(ctx, nil, slices.Collect(maps.Keys(refs)))
	if err != nil {
		return err
	}
	for ref, key := range refs {
		if _, there := idx.Refs[ref]; !there {
			held[key] = fmt.Errorf("it has no ref %s; push it first", ref.Name)
		}
	}
	return nil
}

// only is an inventory with nothing but the revisions, whose files may be identified without touching those of inv.
func only(inv *hfcache.Inventory, keys []manifest.Key) *hfcache.Inventory {
	part := &hfcache.Inventory{Dir: inv.Dir, Problems: slices.Clone(inv.Problems)}
	for _, repo := range inv.Repos {
		some := &hfcache.Repo{ID: repo.ID, Blobs: repo.Blobs}
		for _, rev := range repo.Revisions {
			if slices.Contains(keys, manifest.Key{Repo: repo.ID, Commit: rev.Commit}) {
				one := *rev
				one.Files = slices.Clone(rev.Files)
				some.Revisions = append(some.Revisions, &one)
			}
		}
		if len(some.Revisions) > 0 {
			part.Repos = append(part.Repos, some)
		}
	}
	return part
}

// lacking says what the bucket lacks of a revision, or nil.
func lacking(rev plan.PushRevision, missing map[hub.BlobID]bool) error {
	switch {
	case rev.Base == nil:
		return errors.New("it has no manifest of it; push it first")
	case !rev.Base.Covers(rev.Manifest):
		return errors.New("its manifest does not list all that is here; push it first")
	}
	for _, f := range rev.Manifest.Files {
		if missing[f.Blob] {
			return fmt.Errorf("it lacks blob %s of %s; push it with --recheck first", f.Blob.Short(), f.Path)
		}
	}
	return nil
}

func refused(r plan.Refusal) error {
	if r.Err != nil {
		return fmt.Errorf("%s: %w", r.Why, r.Err)
	}
	return errors.New(r.Why)
}

// Pruned is what a prune has done.
type Pruned struct {
	Done    []plan.PruneStep // what is gone
	Bytes   int64            // that the disk got back: what the plan says, and a little more for refs and listings
	Skipped []hfcache.Skipped
}

// Prune removes what the plan says, in its order. What turns out to be in use is skipped. The error is for what ends it; the result is valid up to there.
// Nothing else of ours may prune the cache at the same time; clients may do what they like.
func (e *Engine) Prune(ctx context.Context, p *plan.Prune, options hfcache.RemoveOptions) (*Pruned, error) {
	defer e.phase("")
	remover, result := e.Cache.Remover(options), &Pruned{}
	for rest := p.Steps; len(rest) > 0; {
		n := batch(rest)
		steps := rest[:n]
		rest = rest[n:]
		e.phase("removing " + stepName(steps[0]))
		removed, err := remove(ctx, remover, steps)
		result.Bytes += removed.Bytes
		result.Skipped = append(result.Skipped, removed.Skipped...)
		if err != nil {
			return result, err
		}
		for _, s := range steps {
			if !slices.ContainsFunc(removed.Skipped, func(skipped hfcache.Skipped) bool { return skipped.Place == place(s) }) {
				result.Done = append(result.Done, s)
			}
		}
	}
	return result, nil
}

// batch is how many of the steps can be done at once: orphans of one repository, whose links are then read once for all.
func batch(steps []plan.PruneStep) int {
	n := 1
	for n < len(steps) && steps[0].Kind == plan.PruneBlob && steps[n].Kind == plan.PruneBlob && steps[n].Repo == steps[0].Repo {
		n++
	}
	return n
}

// place is what a step removes, as a path below the cache folder.
func place(s plan.PruneStep) string {
	if s.Kind == plan.PruneRevision {
		return s.Repo.Folder() + "/snapshots/" + string(s.Commit)
	}
	return s.Place
}

func stepName(s plan.PruneStep) string {
	if s.Kind == plan.PruneRevision {
		return manifest.Key{Repo: s.Repo, Commit: s.Commit}.String()
	}
	return s.Place
}

func remove(ctx context.Context, r *hfcache.Remover, steps []plan.PruneStep) (hfcache.Removed, error) {
	s := steps[0]
	switch s.Kind {
	case plan.PruneTemp:
		return r.Temp(ctx, s.Repo, strings.TrimPrefix(s.Place, s.Repo.Folder()+"/blobs/"))
	case plan.PruneLeftover:
		return r.Leftover(ctx, *s.Leftover)
	case plan.PruneBlob:
		var names []string
		for _, s := range steps {
			names = append(names, s.Blobs...)
		}
		return r.Blobs(ctx, s.Repo, names)
	case plan.PrunePayload:
		return r.Payload(ctx, s.Place)
	case plan.PruneRevision:
		return r.Revision(ctx, s.Repo, s.Commit, s.Refs, s.Blobs)
	default:
		return hfcache.Removed{}, fmt.Errorf("a plan has a step of kind %d", s.Kind)
	}
}

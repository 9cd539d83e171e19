package remote

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Known is what a bucket has of one repository, as far as somebody has to be told who asked for something else.
type Known struct {
	Refs     []Ref        // that lead to a revision: main first, then by name
	Dangling []Ref        // that lead to none, by name
	Commits  []hub.Commit // of revisions, the one that was pushed last first
}

// Empty says that the bucket has nothing of the repository.
func (k *Known) Empty() bool { return len(k.Refs)+len(k.Dangling)+len(k.Commits) == 0 }

// Known looks up a repository. Of refs and commits it returns up to most each, and reads hardly more objects than that beside the refs.
func (c *Catalog) Known(ctx context.Context, repo hub.Repo, most int) (*Known, error) {
	var objects []RevisionObject
	for _, repoKey := range repoKeys(repo) {
		for o, err := range c.Revisions(ctx, repoKey) {
			if err != nil {
				return nil, err
			}
			objects = append(objects, o)
		}
	}
	k := &Known{}
	looks := 4 * most // under a shared key, most manifests can be another repository's
	for _, o := range newestFirst(objects) {
		if len(k.Commits) == most || looks == 0 {
			break
		}
		looks--
		entry, err := c.ReadRevision(ctx, o)
		switch {
		case err == nil && entry.Repo == repo && !slices.Contains(k.Commits, o.Commit):
			k.Commits = append(k.Commits, o.Commit)
		case err != nil && !errors.Is(err, store.ErrNotFound) && !isDamage(err):
			return nil, err
		}
	}
	refs, _, err := c.Refs(ctx, repo)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(refs, func(a, b Ref) int {
		switch {
		case a.Name == b.Name:
			return 0
		case a.Name == hub.Main:
			return -1
		case b.Name == hub.Main:
			return 1
		}
		return strings.Compare(string(a.Name), string(b.Name))
	})
	for _, ref := range refs {
		if len(k.Refs) == most {
			break
		}
		_, err := c.Manifest(ctx, manifest.Key{Repo: repo, Commit: ref.Commit})
		_, otherBody := errors.AsType[*WrongBodyError](err)
		switch {
		case err == nil:
			k.Refs = append(k.Refs, ref)
		case errors.Is(err, ErrNotFound):
			k.Dangling = append(k.Dangling, ref)
		case !otherBody && !isDamage(err):
			return nil, err
		}
	}
	return k, nil
}

// RepositoryKeys returns one manifest of each repository key in the bucket, as far as ctx lets it come: what [Catalog.ReadRevision] says of it tells which repository it is.
func (c *Catalog) RepositoryKeys(ctx context.Context) []RevisionObject {
	var objects []RevisionObject
	seen := map[string]bool{}
	for o, err := range c.Revisions(ctx, "") {
		if err != nil {
			break
		}
		if !seen[o.RepoKey] {
			seen[o.RepoKey] = true
			objects = append(objects, o)
		}
	}
	return objects
}

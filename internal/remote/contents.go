package remote

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Contents is what a bucket, or the part of it that somebody asked for, holds.
type Contents struct {
	Revisions []*Listed // sorted by repository and commit, each once
	// Dangling are the refs that lead to nothing, sorted by key.
	Dangling []*DanglingRefError
	// Broken are the objects that cannot be used, and why, sorted by what they say. Each error names its key.
	Broken []error
	// Fetched and Cached count the objects whose bodies came from the bucket, and those that the [Cache] had.
	Fetched, Cached int
}

// Listed is a revision with what the listing says of it. It is without the Hub's listing of the commit, which takes more memory than all the rest and which nobody needs who
// looks at a whole bucket; how it compares with the files is kept.
type Listed struct {
	*Entry
	Completeness manifest.Completeness
	Modified     time.Time // when the manifest was written, by the store's clock
	Refs         []hub.Ref // sorted
}

// Revision finds a revision, or nil.
func (c *Contents) Revision(key manifest.Key) *Listed {
	i, found := slices.BinarySearchFunc(c.Revisions, key, func(l *Listed, k manifest.Key) int { return compareKeys(l.Key(), k) })
	if !found {
		return nil
	}
	return c.Revisions[i]
}

func compareKeys(a, b manifest.Key) int {
	if c := a.Repo.Compare(b.Repo); c != 0 {
		return c
	}
	return strings.Compare(string(a.Commit), string(b.Commit))
}

// Contents reads the manifests and refs of all repositories that want says yes to; nil means all. Objects that the catalogue's [Cache] knows cost nothing beyond their place
// in the listing. What is damaged goes into the result; the error is for a store that does not answer.
//
// Refs are read before manifests are listed: a manifest is written before the ref that names it, so a ref whose manifest is not in the listing has none.
func (c *Catalog) Contents(ctx context.Context, want func(hub.Repo) bool) (*Contents, error) {
	r := &contentsReader{Catalog: c, want: want, refs: map[objectName][]hub.Ref{}, found: map[objectName]*Listed{}, stale: map[objectName]bool{}}
	if err := r.readRefs(ctx); err != nil {
		return nil, err
	}
	if err := r.readManifests(ctx); err != nil {
		return nil, err
	}
	c.Cache.trim()
	return r.contents(), nil
}

// objectName is the part of a manifest's key that tells it from others.
type objectName struct {
	repoKey string
	commit  hub.Commit
}

type contentsReader struct {
	*Catalog
	want func(hub.Repo) bool

	mu     sync.Mutex // guards what follows
	refs   map[objectName][]hub.Ref
	found  map[objectName]*Listed
	stale  map[objectName]bool // manifests that are there and cannot be used, or are another repository's
	broken []error

	fetched, cached int
}

// each does one thing for every element of a listing, many at once.
func each[T any](ctx context.Context, limit int, list func(context.Context) iter.Seq2[T, error], wants func(T) bool, do func(context.Context, T) error) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(limit)
	var listing error
	for object, err := range list(ctx) {
		if err != nil {
			listing = err
			break
		}
		if wants(object) {
			work.Go(func() error { return do(ctx, object) })
		}
	}
	// The first failure of a request ends the listing as well, with an error that says no more than that.
	if err := work.Wait(); err != nil {
		return err
	}
	return listing
}

func (r *contentsReader) readRefs(ctx context.Context) error {
	return each(ctx, r.parallel(), r.RefNames, func(o RefObject) bool { return r.mayBeWanted(o.RepoKey) }, func(ctx context.Context, o RefObject) error {
		commit, err := r.refCommit(ctx, o)
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil {
			return r.blame(ctx, err)
		}
		at := objectName{o.RepoKey, commit}
		if !slices.Contains(r.refs[at], o.Name) { // a store that lists out of order may list twice
			r.refs[at] = append(r.refs[at], o.Name)
		}
		return nil
	})
}

// blame remembers what is wrong with one object, and returns what would be wrong with every other as well. An object that is gone since the listing is not wrong.
func (r *contentsReader) blame(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil, errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrDenied), errors.Is(err, store.ErrBadConfig):
		return err
	case !errors.Is(err, store.ErrNotFound):
		r.broken = append(r.broken, err)
	}
	return nil
}

// count notes where a body came from.
func (r *contentsReader) count(cached bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cached {
		r.cached++
	} else {
		r.fetched++
	}
}

// refCommit reads a ref that a listing named.
func (r *contentsReader) refCommit(ctx context.Context, o RefObject) (hub.Commit, error) {
	key := manifest.RefKey(o.RepoKey, o.Name)
	if data, ok := r.Cache.get(key, o.ETag); ok && len(data) <= maxRef {
		if commit, err := parseRefBody(key, data, o.ETag); err == nil {
			r.count(true)
			return commit, nil
		}
	}
	r.count(false)
	data, info, err := r.read(ctx, key, maxRef)
	if err != nil {
		return "", err
	}
	commit, err := parseRefBody(key, data, info.ETag)
	if err == nil {
		r.Cache.put(key, info.ETag, data)
	}
	return commit, err
}

func (r *contentsReader) readManifests(ctx context.Context) error {
	list := func(ctx context.Context) iter.Seq2[RevisionObject, error] { return r.Revisions(ctx, "") }
	return each(ctx, r.parallel(), list, func(o RevisionObject) bool { return r.mayBeWanted(o.RepoKey) }, func(ctx context.Context, o RevisionObject) error {
		listed, err := r.listed(ctx, o)
		r.mu.Lock()
		defer r.mu.Unlock()
		at := objectName{o.RepoKey, o.Commit}
		if err != nil {
			r.stale[at] = true
			return r.blame(ctx, err)
		}
		r.found[at] = listed
		return nil
	})
}

// listed reads a revision and keeps of it what there is room for.
func (r *contentsReader) listed(ctx context.Context, o RevisionObject) (*Listed, error) {
	entry, err := r.manifest(ctx, o)
	if err != nil {
		return nil, err
	}
	l := &Listed{Entry: entry, Completeness: entry.Completeness(), Modified: o.Modified}
	if entry.Hub != nil {
		entry.Hub.Tree = nil
	}
	for i, f := range entry.Files { // most commits of a repository, and many repositories, have files of the same names
		entry.Files[i].Path = unique.Make(f.Path).Value()
	}
	return l, nil
}

// manifest is [Catalog.ReadRevision] by way of the cache.
func (r *contentsReader) manifest(ctx context.Context, o RevisionObject) (*Entry, error) {
	if data, ok := r.Cache.get(o.ObjectKey, o.ETag); ok {
		if entry, err := o.decode(data, o.ETag); err == nil {
			r.count(true)
			return entry, nil
		}
	}
	r.count(false)
	data, info, err := r.read(ctx, o.ObjectKey, manifest.MaxSize)
	if err != nil {
		return nil, err
	}
	entry, err := o.decode(data, info.ETag)
	if err == nil {
		r.Cache.put(o.ObjectKey, info.ETag, data)
	}
	return entry, err
}

// mayBeWanted says whether a repository that is asked for can stand under a key. Which one it is, only the body tells.
func (r *contentsReader) mayBeWanted(repoKey string) bool {
	if r.want == nil {
		return true
	}
	if repo, err := manifest.ParseRepoKey(repoKey); err == nil && r.want(repo) {
		return true
	}
	names := []string{repoKey}
	for i := 0; i+1 < len(repoKey); i++ { // the Python tool writes "a__b__c" for "a/b__c" and for "a__b/c"
		if repoKey[i:i+2] == "__" {
			names = append(names, repoKey[:i]+"/"+repoKey[i+2:])
		}
	}
	for _, t := range hub.RepoTypes() {
		for _, name := range names {
			if repo, err := hub.ParseRepo(t, name); err == nil && slices.Contains(repoKeys(repo), repoKey) && r.want(repo) {
				return true
			}
		}
	}
	return false
}

// contents puts together what was read. A repository that stands under two keys, its own and the one that the Python tool gave it, is one: its own key counts first.
func (r *contentsReader) contents() *Contents {
	c := &Contents{Broken: r.broken, Fetched: r.fetched, Cached: r.cached}
	byKey := map[manifest.Key]*Listed{}
	refs := map[RefKey]manifest.Key{}
	for _, own := range []bool{true, false} {
		for at, l := range r.found {
			if own != (manifest.RepoKey(l.Repo) == at.repoKey) || (r.want != nil && !r.want(l.Repo)) {
				continue
			}
			if byKey[l.Key()] == nil {
				byKey[l.Key()] = l
			}
			for _, name := range r.refs[at] {
				if ref := (RefKey{l.Repo, name}); refs[ref] == (manifest.Key{}) {
					refs[ref] = l.Key()
				}
			}
		}
	}
	for ref, key := range refs {
		byKey[key].Refs = append(byKey[key].Refs, ref.Name)
	}
	for _, l := range byKey {
		slices.Sort(l.Refs)
		c.Revisions = append(c.Revisions, l)
	}
	slices.SortFunc(c.Revisions, func(a, b *Listed) int { return compareKeys(a.Key(), b.Key()) })
	for at, names := range r.refs {
		if r.found[at] != nil || r.stale[at] {
			continue
		}
		for _, name := range names {
			c.Dangling = append(c.Dangling, &DanglingRefError{Ref{Name: name, Commit: at.commit, ObjectKey: manifest.RefKey(at.repoKey, name)}})
		}
	}
	slices.SortFunc(c.Dangling, func(a, b *DanglingRefError) int { return strings.Compare(a.Ref.ObjectKey, b.Ref.ObjectKey) })
	slices.SortFunc(c.Broken, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return c
}

package remote

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// NamedCommits are the commits that refs are known to name, by repository key. A key with refs that nobody followed has an empty list.
type NamedCommits map[string][]hub.Commit

// NewestRevision is the revision of a repository whose manifest was written last, by the store's clock. Of several the smallest commit counts.
type NewestRevision struct {
	Commit   hub.Commit
	Modified time.Time
}

// Newest is what [Catalog.Newest] found.
type Newest struct {
	// Revisions holds every repository without a ref, and some of those with one.
	Revisions map[hub.Repo]NewestRevision
	// Broken are manifests that cannot be read, under keys without refs, and would have been the newest. Each error names its key.
	Broken []error
	// Unread counts manifests that were not read, of which each may be of a repository that shares its key with another.
	Unread int
}

// Bounds on what [Catalog.Newest] reads and remembers.
const (
	// mostExtraReads is how many manifests are fetched to find out whether a key is shared.
	mostExtraReads = 1000
	// mostOfOneKey is how many manifests of one key are remembered: the newest.
	mostOfOneKey = 1000
	// alwaysRead is how many manifests of a key without refs are read at any rate, should the newest ones be damaged.
	alwaysRead = 3
)

// Newest finds the newest revision of every repository that no ref names, among those that want says yes to; nil means all. It lists the manifests and reads one manifest of each key
// that has no ref.
//
// A key of the Python tool can belong to several repositories, of which refs name only one; which, only the bodies tell. So under such keys the manifests that no ref names are read as
// well, as long as they are in the catalogue's [Cache] or not too many.
func (c *Catalog) Newest(ctx context.Context, named NamedCommits, want func(hub.Repo) bool) (*Newest, error) {
	r := &newestReader{
		contents: &contentsReader{Catalog: c, want: want}, named: named,
		newest: &Newest{Revisions: map[hub.Repo]NewestRevision{}}, found: map[string]NewestRevision{},
	}
	work, workCtx := errgroup.WithContext(ctx)
	work.SetLimit(c.parallel())
	listing := r.list(workCtx, work)
	// The first failure of a request ends the listing as well, with an error that says no more than that.
	if err := work.Wait(); err != nil {
		return nil, err
	}
	if listing != nil {
		return nil, listing
	}
	for _, b := range r.broken {
		if found, known := r.found[b.RepoKey]; !known || found.Modified.Before(b.Modified) {
			r.newest.Broken = append(r.newest.Broken, b.err)
		}
	}
	slices.SortFunc(r.newest.Broken, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	c.Cache.trim()
	return r.newest, nil
}

type newestReader struct {
	contents *contentsReader
	named    NamedCommits

	mu     sync.Mutex // guards what follows
	newest *Newest
	found  map[string]NewestRevision // by repository key, for those without refs
	broken []brokenRevision
	extra  int // fetched to find out whether a key is shared
}

type brokenRevision struct {
	RevisionObject
	err error
}

// list goes through the manifests key by key: a listing has those of one key in a row, so that only they are in memory. From a store that lists out of order a key comes in pieces,
// of which each is taken for all.
func (r *newestReader) list(ctx context.Context, work *errgroup.Group) error {
	var group []RevisionObject
	dropped := 0
	flush := func() {
		if len(group) > 0 {
			r.group(ctx, work, newestFirst(group), dropped)
		}
		group, dropped = nil, 0
	}
	var last string
	var wanted bool
	for o, err := range r.contents.Revisions(ctx, "") {
		if err != nil {
			return err
		}
		if o.RepoKey != last {
			flush()
			last, wanted = o.RepoKey, r.contents.mayBeWanted(o.RepoKey)
		}
		commits, hasRefs := r.named[o.RepoKey]
		if !wanted || hasRefs && !mayBeShared(o.RepoKey) || slices.Contains(commits, o.Commit) {
			continue
		}
		if group = append(group, o); len(group) == 2*mostOfOneKey {
			group = newestFirst(group)[:mostOfOneKey:mostOfOneKey]
			dropped += mostOfOneKey
		}
	}
	flush()
	return nil
}

func newestFirst(objects []RevisionObject) []RevisionObject {
	slices.SortFunc(objects, func(a, b RevisionObject) int {
		return cmp.Or(b.Modified.Compare(a.Modified), strings.Compare(string(a.Commit), string(b.Commit)))
	})
	return objects
}

// mayBeShared says whether several repositories can stand under a key: no id has "--", so a key that has it is that of one folder.
func mayBeShared(repoKey string) bool { return !strings.Contains(repoKey, "--") }

// group reads what has to be read of one key.
func (r *newestReader) group(ctx context.Context, work *errgroup.Group, objects []RevisionObject, dropped int) {
	_, hasRefs := r.named[objects[0].RepoKey]
	if !mayBeShared(objects[0].RepoKey) {
		work.Go(func() error {
			for _, o := range objects {
				if read, err := r.read(ctx, o, false); read || err != nil {
					return err
				}
			}
			return nil
		})
		return
	}
	for i, o := range objects {
		work.Go(func() error {
			_, err := r.read(ctx, o, hasRefs || i >= alwaysRead)
			return err
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.newest.Unread += dropped
}

// read notes which repository a manifest is of, and says whether it could be read. With extra it may be left unread. The error is one that would meet every other manifest too.
func (r *newestReader) read(ctx context.Context, o RevisionObject, extra bool) (bool, error) {
	if extra && !r.mayRead(o) {
		return false, nil
	}
	entry, err := r.contents.manifest(ctx, o)
	r.mu.Lock()
	defer r.mu.Unlock()
	_, hasRefs := r.named[o.RepoKey]
	switch {
	case err == nil && len(entry.Files) == 0, errors.Is(err, store.ErrNotFound): // of nothing, or gone since the listing
		return false, nil
	case err == nil:
	case ctx.Err() != nil, errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrDenied), errors.Is(err, store.ErrBadConfig):
		return false, err
	default:
		if !hasRefs {
			r.broken = append(r.broken, brokenRevision{o, err})
		}
		return false, nil
	}
	if !hasRefs {
		keepNewest(r.found, o.RepoKey, o)
	}
	if r.contents.want == nil || r.contents.want(entry.Repo) {
		keepNewest(r.newest.Revisions, entry.Repo, o)
	}
	return true, nil
}

// mayRead says whether a manifest that need not be read costs little enough to be read.
func (r *newestReader) mayRead(o RevisionObject) bool {
	if _, cached := r.contents.Cache.get(o.ObjectKey, o.ETag); cached {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.extra == mostExtraReads {
		r.newest.Unread++
		return false
	}
	r.extra++
	return true
}

func keepNewest[K comparable](newest map[K]NewestRevision, key K, o RevisionObject) {
	before, known := newest[key]
	if c := o.Modified.Compare(before.Modified); !known || c > 0 || c == 0 && o.Commit < before.Commit {
		newest[key] = NewestRevision{o.Commit, o.Modified}
	}
}

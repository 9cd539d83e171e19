package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // S3 names objects by MD5; nobody has to be kept from making two of one name
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Catalog reads and writes the names in one bucket. All methods may be called concurrently.
type Catalog struct {
	Store store.Store
	// Now is this machine's clock, for stores that have none of their own.
	Now func() time.Time
	// Parallel is how many small requests may be under way at once; 0 means 32.
	Parallel int
	// Settle is how long after a write to a store without conditional writes the object is read back, at least; 0 means a second. Another machine that had looked
	// before the write must have written within it, or what is lost is not noticed.
	Settle time.Duration
	// Cache, if it is not nil, spares [Catalog.Contents] and [Catalog.Newest] objects that were read before and have not been replaced since. Nothing else uses it.
	Cache *Cache

	opaque atomic.Bool // ETags look like digests here and are none
	proven atomic.Bool // an ETag that looks like a digest was one
}

func (c *Catalog) parallel() int { return cmp.Or(c.Parallel, 32) }

// settle waits until a write can be read back. No two machines wait equally long, or those that have written at the same moment would do so again.
func (c *Catalog) settle(ctx context.Context) error {
	least := cmp.Or(c.Settle, time.Second)
	timer := time.NewTimer(least + rand.N(least/2+1)) //nolint:gosec // It need not be a secret.
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Entry is a manifest as it is in the bucket.
type Entry struct {
	*manifest.Manifest
	ObjectKey string
	ETag      string
}

// Ref is a ref as it is in the bucket.
type Ref struct {
	Name   hub.Ref
	Commit hub.Commit
	// Resolved is when the machine that pushed the ref learned of it; for refs of tools that do not say, when the object was written.
	Resolved time.Time
	// Undated says that the object does not tell when the ref was learned: it was written by the Python tool, or lies in a store that keeps no metadata.
	Undated bool
	// After is the time of the commit that the ref named before, which the ref must not fall behind. It is zero if the object does not tell.
	After time.Time
	// FromHub says that the Hub itself was asked just now, and that no machine's claim stands above it.
	FromHub   bool
	ObjectKey string
	ETag      string
}

// Time is when the ref began to name its commit, as far as anybody knows. m is what the bucket knows of that commit, or nil. See docs/format.md, "Which ref is newer".
func (r Ref) Time(m *manifest.Manifest) time.Time {
	if r.FromHub {
		return r.Resolved
	}
	t := m.RefTime(r.Name, r.Resolved)
	if r.After.After(t) {
		return r.After
	}
	return t
}

// ErrNotFound is wrapped when the bucket has no such repository, revision or ref.
var ErrNotFound = errors.New("not in the bucket")

// WrongBodyError reports an object whose body is about something else than its key says.
type WrongBodyError struct {
	ObjectKey string
	ETag      string // of the bytes that were read
	Want, Got manifest.Key
}

// Error names the key and both revisions.
func (e *WrongBodyError) Error() string {
	return fmt.Sprintf("%s: it describes %s %s@%s, not %s %s@%s", e.ObjectKey,
		e.Got.Repo.Type, e.Got.Repo.Name, e.Got.Commit, e.Want.Repo.Type, e.Want.Repo.Name, e.Want.Commit)
}

// Shared says whether the object belongs to the repository that it describes: the Python tool writes several repositories under this key. Another one was put there by a mistake.
func (e *WrongBodyError) Shared() bool {
	repoKey, commit, err := manifest.ParseManifestKey(e.ObjectKey)
	return err == nil && commit == e.Got.Commit && slices.Contains(repoKeys(e.Got.Repo), repoKey)
}

// UnreadableError reports a manifest or a ref that no reader understands, and that holds nothing which a write could lose. It wraps [manifest.ErrInvalid].
type UnreadableError struct {
	ObjectKey string
	ETag      string // of the bytes that were read
	Err       error
}

// Error names the key.
func (e *UnreadableError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *UnreadableError) Unwrap() error { return e.Err }

// Replaceable finds in the error of a manifest or a ref what stands at a key that it has no right to: nothing that can be read, or a manifest of which no tool puts the repository
// there. A write that names its ETag replaces it.
func Replaceable(err error) (objectKey, etag string, ok bool) {
	if bad, is := errors.AsType[*UnreadableError](err); is {
		return bad.ObjectKey, bad.ETag, true
	}
	if other, is := errors.AsType[*WrongBodyError](err); is && !other.Shared() {
		return other.ObjectKey, other.ETag, true
	}
	return "", "", false
}

// Owner is the repository that a manifest or a ref belongs to by its key, as people write it, or empty if the key is neither's.
func Owner(objectKey string) (repo string, isRef bool) {
	repoKey, _, err := manifest.ParseManifestKey(objectKey)
	if err != nil {
		repoKey, _, err = manifest.ParseRefKey(objectKey)
		isRef = true
	}
	if err != nil {
		return "", false
	}
	r, err := manifest.ParseRepoKey(repoKey)
	if err != nil {
		return "", false
	}
	return r.String(), isRef
}

// repoKeys are the names under which a repository may stand in keys: ours, and the Python tool's if that differs.
func repoKeys(r hub.Repo) []string {
	return slices.Compact([]string{manifest.RepoKey(r), manifest.LegacyRepoKey(r)})
}

// Manifest fetches the manifest of one revision. A missing one is [ErrNotFound], a damaged one wraps [manifest.ErrInvalid], one about something
// else is a *[WrongBodyError].
func (c *Catalog) Manifest(ctx context.Context, key manifest.Key) (*Entry, error) {
	for i, repoKey := range repoKeys(key.Repo) {
		entry, err := c.manifestAt(ctx, manifest.ManifestKey(repoKey, key.Commit), key)
		_, otherBody := errors.AsType[*WrongBodyError](err)
		switch {
		case errors.Is(err, store.ErrNotFound):
		case i > 0 && otherBody: // the shared key belongs to another repository
		case err != nil:
			return nil, err
		default:
			return entry, nil
		}
	}
	return nil, fmt.Errorf("%s: revision %s: %w", key.Repo, key.Commit, ErrNotFound)
}

func (c *Catalog) manifestAt(ctx context.Context, objectKey string, want manifest.Key) (*Entry, error) {
	data, info, err := c.read(ctx, objectKey, manifest.MaxSize)
	if err != nil {
		return nil, err
	}
	m, err := manifest.Decode(data)
	if err != nil {
		return nil, &UnreadableError{objectKey, info.ETag, fmt.Errorf("%s: %w", objectKey, err)}
	}
	if m.Key() != want {
		return nil, &WrongBodyError{ObjectKey: objectKey, ETag: info.ETag, Want: want, Got: m.Key()}
	}
	return &Entry{m, objectKey, info.ETag}, nil
}

// mostReads is how often an object is read whose bytes do not fit its ETag.
const mostReads = 4

// read fetches a small object whole. Nothing says which bytes a manifest or a ref must have, so damage on the way could pass for content, and even be merged and written back:
// but the ETag of an object that was put in one request is its MD5 digest nearly everywhere (S3 API reference, Object: not where it is encrypted with a key of KMS). Where the
// two differ, the object is read again. Bytes that come the same way twice are taken for right, and ETags for no digests from then on.
func (c *Catalog) read(ctx context.Context, key string, limit int64) (data []byte, info store.Info, err error) {
	for n := range mostReads {
		before, etag := data, info.ETag
		if data, info, err = c.readOnce(ctx, key, limit); err != nil {
			return nil, info, err
		}
		switch fits, digest := fitsETag(data, info.ETag); {
		case fits || c.opaque.Load():
			if fits && digest {
				c.proven.Store(true)
			}
			return data, info, nil
		case n > 0 && info.ETag == etag && bytes.Equal(data, before):
			c.opaque.Store(true)
			return data, info, nil
		}
	}
	return nil, info, fmt.Errorf("%s: %w: whenever it is read, it is something else", key, manifest.ErrInvalid)
}

// fitsETag says whether an ETag that looks like an MD5 digest is that of data. Of one that is no digest it cannot say anything, and says yes.
func fitsETag(data []byte, etag string) (fits, digest bool) {
	want, err := hex.DecodeString(etag)
	if err != nil || len(want) != md5.Size {
		return true, false
	}
	got := md5.Sum(data) //nolint:gosec // see the import
	return bytes.Equal(got[:], want), true
}

// TellsDigests says whether this store's ETags are known to be MD5 digests of what was put in one request: at least one was, and none was not.
func (c *Catalog) TellsDigests() bool { return c.proven.Load() && !c.opaque.Load() }

// readOnce is read without a look at the ETag.
func (c *Catalog) readOnce(ctx context.Context, key string, limit int64) (data []byte, info store.Info, err error) {
	body, info, err := c.Store.Get(ctx, key, store.Range{})
	if err != nil {
		return nil, info, err
	}
	defer func() {
		if closeErr := body.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("reading %s: %w", key, closeErr)
		}
	}()
	if info.Size > limit {
		return nil, info, &UnreadableError{key, info.ETag, fmt.Errorf("%s: %w: it has %d bytes, which no such object has", key, manifest.ErrInvalid, info.Size)}
	}
	data, err = io.ReadAll(io.LimitReader(body, limit))
	if err != nil {
		return nil, info, fmt.Errorf("reading %s: %w", key, err)
	}
	if int64(len(data)) != info.Size {
		return nil, info, fmt.Errorf("%s: %w: it ended after %d of %d bytes", key, manifest.ErrInvalid, len(data), info.Size)
	}
	return data, info, nil
}

// maxRef is more bytes than any ref object has: 40 digits, and perhaps a newline from other tools.
const maxRef = 128

// Metadata of a ref object, times in RFC 3339.
const (
	metaResolved = "resolved-at" // when the pushing machine learned of it
	metaAfter    = "after"       // the time of the commit that the ref named before
)

// Ref fetches one ref. A missing one is [ErrNotFound].
func (c *Catalog) Ref(ctx context.Context, repo hub.Repo, name hub.Ref) (Ref, error) {
	for i, repoKey := range repoKeys(repo) {
		ref, err := c.refAt(ctx, manifest.RefKey(repoKey, name), name)
		if err == nil && i > 0 {
			// A shared key: the ref is ours only if the manifest that it leads to is.
			_, err = c.manifestAt(ctx, manifest.ManifestKey(repoKey, ref.Commit), manifest.Key{Repo: repo, Commit: ref.Commit})
			if isDamage(err) {
				continue
			}
		}
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		return ref, err
	}
	return Ref{}, fmt.Errorf("%s: ref %s: %w", repo, name, ErrNotFound)
}

func (c *Catalog) refAt(ctx context.Context, objectKey string, name hub.Ref) (Ref, error) {
	data, info, err := c.read(ctx, objectKey, maxRef)
	if err != nil {
		return Ref{}, err
	}
	commit, err := parseRefBody(objectKey, data, info.ETag)
	if err != nil {
		return Ref{}, err
	}
	ref := Ref{Name: name, Commit: commit, Resolved: info.Modified, Undated: true, ObjectKey: objectKey, ETag: info.ETag}
	if t, err := time.Parse(time.RFC3339Nano, info.Metadata[metaResolved]); err == nil {
		ref.Resolved, ref.Undated = t, false
	}
	if t, err := time.Parse(time.RFC3339Nano, info.Metadata[metaAfter]); err == nil {
		ref.After = t
	}
	return ref, nil
}

func parseRefBody(objectKey string, data []byte, etag string) (hub.Commit, error) {
	commit, err := hub.ParseCommit(strings.TrimSpace(string(data)))
	if err != nil {
		return "", &UnreadableError{objectKey, etag, fmt.Errorf("%s: %w: %w", objectKey, manifest.ErrInvalid, err)}
	}
	return commit, nil
}

// Refs fetches every ref of a repository, sorted by name. Refs that cannot be read are left out and returned as errors beside. Those that are known and have not been written since
// are not read again.
func (c *Catalog) Refs(ctx context.Context, repo hub.Repo, known ...Ref) ([]Ref, []error, error) {
	names := map[hub.Ref]Ref{} // without a commit: it has to be read
	for _, repoKey := range repoKeys(repo) {
		for info, err := range c.Store.List(ctx, manifest.RefsPrefix(repoKey)) {
			if err != nil {
				return nil, nil, err
			}
			_, name, err := manifest.ParseRefKey(info.Key)
			if _, listed := names[name]; err != nil || listed {
				continue
			}
			names[name] = Ref{}
			for _, ref := range known {
				if ref.ObjectKey == info.Key && ref.ETag == info.ETag && ref.ETag != "" {
					names[name] = ref
				}
			}
		}
	}
	all := slices.Sorted(maps.Keys(names))
	refs, errs := make([]Ref, len(all)), make([]error, len(all))
	var work errgroup.Group
	work.SetLimit(c.parallel())
	for i, name := range all {
		if refs[i] = names[name]; refs[i].Commit != "" {
			continue
		}
		work.Go(func() error {
			refs[i], errs[i] = c.Ref(ctx, repo, name)
			if errors.Is(errs[i], ErrNotFound) { // gone since the listing, or another repository's under a shared key
				errs[i] = nil
			}
			return ctx.Err()
		})
	}
	if err := work.Wait(); err != nil {
		return nil, nil, err
	}
	refs = slices.DeleteFunc(refs, func(r Ref) bool { return r.Commit == "" })
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	return refs, errs, nil
}

// RevisionObject is a manifest's key as a listing gives it, unread.
type RevisionObject struct {
	RepoKey   string
	Commit    hub.Commit
	ObjectKey string
	ETag      string
	Modified  time.Time
}

// Revisions lists the manifests in the bucket, or those of one repository key, in order of their keys. Keys that are no manifest's are passed over.
func (c *Catalog) Revisions(ctx context.Context, repoKey string) iter.Seq2[RevisionObject, error] {
	prefix := manifest.ManifestPrefix
	if repoKey != "" {
		prefix += repoKey + "@"
	}
	return func(yield func(RevisionObject, error) bool) {
		for info, err := range c.Store.List(ctx, prefix) {
			if err != nil {
				yield(RevisionObject{}, err)
				return
			}
			key, commit, err := manifest.ParseManifestKey(info.Key)
			if err != nil {
				continue
			}
			if !yield(RevisionObject{key, commit, info.Key, info.ETag, info.Modified}, nil) {
				return
			}
		}
	}
}

// ReadRevision fetches a manifest that a listing named. The body says which repository it is about; it must agree with the key's commit and be a
// repository that can stand under that key.
func (c *Catalog) ReadRevision(ctx context.Context, o RevisionObject) (*Entry, error) {
	data, info, err := c.read(ctx, o.ObjectKey, manifest.MaxSize)
	if err != nil {
		return nil, err
	}
	return o.decode(data, info.ETag)
}

// decode checks the body of a manifest, wherever it was read.
func (o RevisionObject) decode(data []byte, etag string) (*Entry, error) {
	m, err := manifest.Decode(data)
	if err != nil {
		return nil, &UnreadableError{o.ObjectKey, etag, fmt.Errorf("%s: %w", o.ObjectKey, err)}
	}
	if m.Commit != o.Commit || !slices.Contains(repoKeys(m.Repo), o.RepoKey) {
		repo, _ := manifest.ParseRepoKey(o.RepoKey) // for the message only
		return nil, &WrongBodyError{ObjectKey: o.ObjectKey, ETag: etag, Want: manifest.Key{Repo: repo, Commit: o.Commit}, Got: m.Key()}
	}
	return &Entry{m, o.ObjectKey, etag}, nil
}

// RefObject is a ref's key as a listing gives it, unread.
type RefObject struct {
	RepoKey string
	Name    hub.Ref
	ETag    string
}

// RefNames lists the refs in the bucket in order of their keys, unread. Keys that are no ref's are passed over.
func (c *Catalog) RefNames(ctx context.Context) iter.Seq2[RefObject, error] {
	return func(yield func(RefObject, error) bool) {
		for info, err := range c.Store.List(ctx, manifest.RefPrefix) {
			if err != nil {
				yield(RefObject{}, err)
				return
			}
			repoKey, name, err := manifest.ParseRefKey(info.Key)
			if err != nil {
				continue
			}
			if !yield(RefObject{repoKey, name, info.ETag}, nil) {
				return
			}
		}
	}
}

// FindCommit lists the commits of a repository in the bucket that begin with prefix.
func (c *Catalog) FindCommit(ctx context.Context, repo hub.Repo, prefix string) ([]hub.Commit, error) {
	found := map[hub.Commit]bool{}
	for _, repoKey := range repoKeys(repo) {
		for info, err := range c.Store.List(ctx, manifest.ManifestPrefix+repoKey+"@"+prefix) {
			if err != nil {
				return nil, err
			}
			if _, commit, err := manifest.ParseManifestKey(info.Key); err == nil {
				found[commit] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Follow reads a ref that a listing named and the manifest that it leads to. The manifest's body says which repository it is.
func (c *Catalog) Follow(ctx context.Context, o RefObject) (*Entry, error) {
	ref, err := c.refAt(ctx, manifest.RefKey(o.RepoKey, o.Name), o.Name)
	if err != nil {
		return nil, err
	}
	entry, err := c.ReadRevision(ctx, RevisionObject{
		RepoKey: o.RepoKey, Commit: ref.Commit, ObjectKey: manifest.ManifestKey(o.RepoKey, ref.Commit),
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && len(entry.Files) == 0 {
		return nil, &DanglingRefError{ref}
	}
	return entry, err
}

// DanglingRefError reports a ref whose commit has no manifest under the same repository key. The Python tool 0.1.0 leaves such refs behind when it finds no file of a
// revision that it understands. It is an [ErrNotFound].
type DanglingRefError struct{ Ref Ref }

// Error names the ref and the commit.
func (e *DanglingRefError) Error() string {
	return fmt.Sprintf("%s names commit %s, of which nothing was pushed", e.Ref.ObjectKey, e.Ref.Commit)
}

// Unwrap is ErrNotFound.
func (e *DanglingRefError) Unwrap() error { return ErrNotFound }

package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// maxRounds is how often a write that somebody came between is tried again. In each round at least one machine has its way, so this is also about how many can push the same
// commit at the same moment.
const maxRounds = 32

// errContended says that a write was come between maxRounds times.
var errContended = errors.New("other machines keep changing it; try again")

// PutManifest makes the bucket know what m knows, merged with what it knows already. The caller has seen to it that every blob of m is in the
// bucket. base is what the bucket had when the caller looked, or nil; without a manifest it is an object that [Replaceable] found, and is replaced.
//
// unproven is called with the manifests of tools that do not prove their blobs and returns the files of it that can be relied on.
// It returns the merged manifest, and whether anything had to be written. A file with two contents is a *[manifest.ConflictError]. A manifest without files is not written: the error wraps [ErrNotFound].
func (c *Catalog) PutManifest(ctx context.Context, m *manifest.Manifest, base *Entry,
	unproven func(context.Context, *manifest.Manifest) (*manifest.Manifest, error),
) (merged *manifest.Manifest, written bool, err error) {
	key := manifest.ManifestKey(manifest.RepoKey(m.Repo), m.Commit)
	m = c.withoutFuture(ctx, m)
	for range maxRounds {
		merged = m
		if base != nil && base.Manifest != nil {
			if base.Covers(m) {
				return base.Manifest, false, nil
			}
			theirs := base.Manifest
			if theirs.Hub == nil {
				if theirs, err = unproven(ctx, theirs); err != nil {
					return nil, false, err
				}
			}
			if merged, err = manifest.Merge(m, theirs); err != nil {
				return nil, false, err
			}
		}
		if len(merged.Files) == 0 {
			return nil, false, fmt.Errorf("%s: none of its files is in the bucket: %w", key, ErrNotFound)
		}
		data, err := manifest.Encode(merged)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", key, err)
		}
		if len(data) > manifest.MaxSize {
			return nil, false, fmt.Errorf("%s: the manifest would have %d bytes, more than any reader takes", key, len(data))
		}
		etag := ""
		if base != nil && base.ObjectKey == key {
			etag = base.ETag
		}
		err = c.putChecked(ctx, key, data, store.PutOptions{ContentType: "application/json"}, etag)
		if err == nil {
			return merged, true, nil
		}
		if !errors.Is(err, store.ErrExists) {
			return nil, false, err
		}
		if base, err = c.Manifest(ctx, m.Key()); err != nil && !errors.Is(err, ErrNotFound) {
			return nil, false, err
		}
	}
	return nil, false, fmt.Errorf("%s: %w", key, errContended)
}

// putChecked writes an object that must still be what the caller has seen: the one with that ETag, or none if it is empty. Whoever was faster makes it a
// [store.ErrExists]. Where the store cannot make that check, the object is looked at before the write and read back a while after it: by then, whoever had looked before the
// write as well has replaced it, and both find out. Read back at once, it would be as it was written, and be replaced then.
func (c *Catalog) putChecked(ctx context.Context, key string, data []byte, o store.PutOptions, etag string) error {
	body := io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
	o.IfMatch, o.IfAbsent = etag, etag == ""
	_, err := c.Store.Put(ctx, key, body, o)
	if !errors.Is(err, store.ErrUnsupported) {
		return err
	}
	info, err := c.Store.Stat(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		info.ETag = ""
	case err != nil:
		return err
	}
	if info.ETag != etag {
		return &store.Error{Op: "put", Key: key, Kind: store.ErrExists}
	}
	o.IfMatch, o.IfAbsent = "", false
	if _, err = c.Store.Put(ctx, key, body, o); err != nil {
		return err
	}
	if err = c.settle(ctx); err != nil {
		return err
	}
	now, _, err := c.read(ctx, key, int64(len(data))+manifest.MaxSize)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, data) {
		return &store.Error{Op: "put", Key: key, Kind: store.ErrExists}
	}
	return nil
}

// RefOutcome says what became of a ref that was to be written.
type RefOutcome uint8

// The outcomes of PutRef.
const (
	RefWritten RefOutcome = iota + 1
	RefSame               // the bucket names this commit already
	RefOlder              // the bucket's ref was learned later; it stays
	RefWorse              // the bucket's ref leads to files that would be missing; it stays
	RefForeign            // the key's ref belongs to another repository; it stays
)

// RefUpdate is a ref that is to name a commit. The caller has seen to it that the commit's manifest is in the bucket.
type RefUpdate struct {
	Name hub.Ref
	// Manifest is what the bucket has of the commit. Its claims about the ref count beside Learned.
	Manifest *manifest.Manifest
	// Learned is when this machine learned that the ref names the commit; zero if it does not know.
	Learned time.Time
	// Existing is what the bucket had when the caller looked, or nil. One without a commit is no ref at all, and may be replaced.
	Existing *Ref
	// Old is what the bucket has of the commit that Existing names; nil if the caller does not know.
	Old *manifest.Manifest
	// Force writes the ref whatever the bucket says, as learned now by the store's clock.
	Force bool
	// Holds says which paths this platform can have, as in [manifest.Worse].
	Holds func(hub.Path) bool
}

// time is when the ref began to name the commit.
func (u *RefUpdate) time() time.Time { return u.Manifest.RefTime(u.Name, u.Learned) }

// RefResult is what became of a ref.
type RefResult struct {
	Outcome  RefOutcome
	Existing *Ref           // the bucket's ref that stays, for RefOlder, RefWorse and RefForeign
	Loss     *manifest.Loss // for RefWorse
}

// PutRef makes a ref name a commit, unless the bucket knows something newer or would lose by it.
func (c *Catalog) PutRef(ctx context.Context, u RefUpdate) (RefResult, error) {
	repo := u.Manifest.Repo
	objectKey := manifest.RefKey(manifest.RepoKey(repo), u.Name)
	overGarbage := u.Force || u.Existing != nil && u.Existing.Commit == ""
	for range maxRounds {
		metadata := map[string]string{metaResolved: metaTime(c.notFuture(ctx, u.time()))}
		etag := ""
		if u.Existing != nil {
			result, after, err := c.judge(ctx, u)
			if result.Outcome != RefWritten || err != nil {
				return result, err
			}
			if !after.IsZero() {
				metadata[metaAfter] = metaTime(after)
			}
			if u.Existing.Commit == u.Manifest.Commit {
				metadata[metaResolved] = metaTime(u.Existing.settled(u.Manifest, u.Learned))
			}
			if u.Existing.ObjectKey == objectKey {
				etag = u.Existing.ETag
			}
		}
		if u.Force {
			now, _ := c.storeNow(ctx)
			metadata[metaResolved] = metaTime(u.Manifest.RefTime(u.Name, now))
		}
		err := c.putChecked(ctx, objectKey, []byte(u.Manifest.Commit), store.PutOptions{ContentType: "text/plain", Metadata: metadata}, etag)
		if err == nil {
			return RefResult{Outcome: RefWritten}, nil
		}
		if !errors.Is(err, store.ErrExists) {
			return RefResult{}, err
		}
		now, err := c.Ref(ctx, repo, u.Name)
		garbage, etag, replaceable := Replaceable(err)
		switch u.Old = nil; {
		case overGarbage && replaceable:
			u.Existing = &Ref{Name: u.Name, ObjectKey: garbage, ETag: etag}
		case errors.Is(err, ErrNotFound):
			u.Existing = nil
		case err != nil:
			return RefResult{}, err
		default:
			u.Existing = &now
		}
	}
	return RefResult{}, fmt.Errorf("%s: %w", objectKey, errContended)
}

// metaTime writes a time as metadata. An unknown one is older than all others.
func metaTime(t time.Time) string {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// judge says RefWritten if the bucket's ref may be replaced, and then the time that the new one must not fall behind.
func (c *Catalog) judge(ctx context.Context, u RefUpdate) (result RefResult, after time.Time, err error) {
	existing, stays := *u.Existing, func(o RefOutcome) RefResult { return RefResult{Outcome: o, Existing: u.Existing} }
	repoKey, _, err := manifest.ParseRefKey(existing.ObjectKey)
	if err != nil {
		return RefResult{}, time.Time{}, err
	}
	ours := repoKey == manifest.RepoKey(u.Manifest.Repo)
	switch {
	case existing.Commit == u.Manifest.Commit && ours && !u.Force && !existing.Unsettled(u.Manifest, u.Learned):
		return stays(RefSame), time.Time{}, nil
	case existing.Commit == u.Manifest.Commit:
		return stays(RefWritten), existing.After, nil
	case u.Force || existing.Commit == "":
		return stays(RefWritten), time.Time{}, nil
	}
	old := u.Old
	if old == nil {
		if old, err = c.oldManifest(ctx, u.Manifest.Repo, repoKey, existing.Commit); err != nil {
			if _, wrongBody := errors.AsType[*WrongBodyError](err); wrongBody {
				return stays(RefForeign), time.Time{}, nil
			}
			return RefResult{}, time.Time{}, err
		}
	}
	if outcome, loss := existing.Replaceable(u.Manifest, u.Learned, old, u.Holds); outcome != RefWritten {
		return RefResult{outcome, u.Existing, loss}, time.Time{}, nil
	}
	if old == nil || len(old.Files) == 0 {
		return stays(RefWritten), time.Time{}, nil
	}
	return stays(RefWritten), existing.Time(old), nil
}

// oldManifest is what a ref leads to, nil if that is nothing that can be used.
func (c *Catalog) oldManifest(ctx context.Context, repo hub.Repo, repoKey string, commit hub.Commit) (*manifest.Manifest, error) {
	entry, err := c.manifestAt(ctx, manifest.ManifestKey(repoKey, commit), manifest.Key{Repo: repo, Commit: commit})
	switch {
	case err == nil:
		return entry.Manifest, nil
	case errors.Is(err, store.ErrNotFound) || errors.Is(err, manifest.ErrInvalid):
		return nil, nil //nolint:nilnil // there is none
	}
	return nil, err
}

// Replaceable says whether the ref may name another commit: RefWritten, or RefOlder or RefWorse, then with what would be lost. m is what the bucket has of that commit, learned is when this machine
// learned that the ref names it; old is what the bucket has of the commit that the ref names now. A ref that leads to no file may always be replaced.
func (r Ref) Replaceable(m *manifest.Manifest, learned time.Time, old *manifest.Manifest, holds func(hub.Path) bool) (RefOutcome, *manifest.Loss) {
	if old == nil || len(old.Files) == 0 {
		return RefWritten, nil
	}
	if !m.RefTime(r.Name, learned).After(r.Time(old)) {
		return RefOlder, nil
	}
	if loss := manifest.Worse(old.Contents(), m.Contents(), holds); loss != nil {
		return RefWorse, loss
	}
	return RefWritten, nil
}

// sameTime is how far apart two times may be that mean the same: file systems keep seconds, some of them pairs of seconds.
const sameTime = 2 * time.Second

// settled is the time that the object of a ref should tell, now that a machine learned of the same commit at another time.
func (r Ref) settled(m *manifest.Manifest, learned time.Time) time.Time {
	if learned.IsZero() || r.Resolved.Before(learned) {
		learned = r.Resolved
	}
	return m.RefTime(r.Name, learned)
}

// Unsettled says whether the object tells another time than it should, as [Ref.Time] would have it. Readers look at the manifest as well; writers that refuse a commit as older do not.
func (r Ref) Unsettled(m *manifest.Manifest, learned time.Time) bool {
	return !r.Undated && r.settled(m, learned).Sub(r.Resolved).Abs() > sameTime
}

// notFuture keeps a machine whose clock is ahead from freezing a ref: nothing was learned later than now, by the store's clock. What was learned within the span
// that the clock cannot tell is no later, or two refs pushed one after the other would lose their order.
func (c *Catalog) notFuture(ctx context.Context, t time.Time) time.Time {
	now, within := c.storeNow(ctx)
	if latest := now.Add(within); t.After(latest) {
		return latest
	}
	return t
}

// withoutFuture is a manifest without claims of the future.
func (c *Catalog) withoutFuture(ctx context.Context, m *manifest.Manifest) *manifest.Manifest {
	if m.Hub == nil || len(m.Hub.Refs) == 0 {
		return m
	}
	copied, known := *m, *m.Hub
	known.Refs = make(map[hub.Ref]time.Time, len(m.Hub.Refs))
	for name, t := range m.Hub.Refs {
		known.Refs[name] = c.notFuture(ctx, t)
	}
	copied.Hub = &known
	return &copied
}

// StoreNow is what time it is where the bucket is, or here if it does not say.
func (c *Catalog) StoreNow(ctx context.Context) time.Time {
	now, _ := c.storeNow(ctx)
	return now
}

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
// It returns the merged manifest, and whether anything had to be written. A file with two contents is a *[manifest.ConflictError].
func (c *Catalog) PutManifest(ctx context.Context, m *manifest.Manifest, base *Entry,
	unproven func(context.Context, *manifest.Manifest) (*manifest.Manifest, error),
) (merged *manifest.Manifest, written bool, err error) {
	key := manifest.ManifestKey(manifest.RepoKey(m.Repo), m.Commit)
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
	RefWritten  RefOutcome = iota + 1
	RefSame                // the bucket names this commit already
	RefOlder               // the bucket's ref was learned later; it stays
	RefForeign             // the key's ref belongs to another repository; it stays
	RefUnproven            // the bucket has no manifest of the commit
)

// PutRef makes a ref name a commit, learned at the given time, unless the bucket knows something newer. existing is what the bucket had when the caller looked, or
// nil. force writes whatever the bucket says, also over what is no ref. The caller has seen to it that the commit's manifest is in the bucket.
func (c *Catalog) PutRef(ctx context.Context, key RefKey, commit hub.Commit, learned time.Time, existing *Ref, force bool) (RefOutcome, error) {
	objectKey := manifest.RefKey(manifest.RepoKey(key.Repo), key.Name)
	learned = c.notFuture(ctx, learned)
	for range maxRounds {
		etag := ""
		if existing != nil {
			outcome, err := c.judge(ctx, key.Repo, *existing, commit, learned, force)
			if outcome != RefWritten || err != nil {
				return outcome, err
			}
			if existing.ObjectKey == objectKey {
				etag = existing.ETag
			}
		}
		options := store.PutOptions{
			ContentType: "text/plain",
			Metadata:    map[string]string{metaResolved: learned.UTC().Format(time.RFC3339Nano)},
		}
		err := c.putChecked(ctx, objectKey, []byte(commit), options, etag)
		if err == nil {
			return RefWritten, nil
		}
		if !errors.Is(err, store.ErrExists) {
			return 0, err
		}
		now, err := c.Ref(ctx, key.Repo, key.Name)
		garbage, etag, replaceable := Replaceable(err)
		switch {
		case force && replaceable:
			existing = &Ref{Name: key.Name, ObjectKey: garbage, ETag: etag}
		case errors.Is(err, ErrNotFound):
			existing = nil
		case err != nil:
			return 0, err
		default:
			existing = &now
		}
	}
	return 0, fmt.Errorf("%s: %w", objectKey, errContended)
}

// judge says RefWritten if the ref may be replaced.
func (c *Catalog) judge(ctx context.Context, repo hub.Repo, existing Ref, commit hub.Commit, learned time.Time, force bool) (RefOutcome, error) {
	repoKey, _, err := manifest.ParseRefKey(existing.ObjectKey)
	if err != nil {
		return 0, err
	}
	ours := repoKey == manifest.RepoKey(repo)
	switch {
	case existing.Commit == commit && ours:
		return RefSame, nil
	case existing.Commit == commit || force:
		return RefWritten, nil
	}
	_, err = c.manifestAt(ctx, manifest.ManifestKey(repoKey, existing.Commit), manifest.Key{Repo: repo, Commit: existing.Commit})
	switch _, wrongBody := errors.AsType[*WrongBodyError](err); {
	case wrongBody:
		return RefForeign, nil
	case err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, manifest.ErrInvalid):
		return 0, err
	case !learned.After(existing.Resolved):
		return RefOlder, nil
	}
	return RefWritten, nil
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

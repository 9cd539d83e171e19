package hfcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// lockBatch is how many locks are held at once: the links of all snapshots are read once for that many.
const lockBatch = 128

// Blobs removes blobs that no snapshot of the repository links to, with what they lead to in the shared store. Those that are younger than the grace period stay: a
// client writes a blob before it links to it.
func (r *Remover) Blobs(ctx context.Context, repo hub.Repo, names []string) (Removed, error) {
	if err := r.checkBlobNames(repo, names); err != nil {
		return Removed{}, err
	}
	return r.in(repo, func(m *removal) error {
		if err := m.blobs(ctx, names, true); err != nil {
			return err
		}
		return m.sweep(ctx)
	})
}

func (r *Remover) checkBlobNames(repo hub.Repo, names []string) error {
	for _, name := range names {
		if !isEntryName(name) || r.names.temp(name) {
			return fmt.Errorf("removing a blob of %s: %q is no name of a blob", repo, name)
		}
	}
	return nil
}

// isEntryName says whether name can be a file right in a folder.
func isEntryName(name string) bool {
	return name != "" && name != "." && !strings.ContainsAny(name, `/\:`) && filepath.IsLocal(name)
}

// tryLockBlob is [Cache.LockBlob] without waiting. The error wraps [ErrBusy] if somebody has the lock.
func (c *Cache) tryLockBlob(ctx context.Context, id hub.Repo, name string) (unlock func(), _ error) {
	lockCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	busy := false
	unlock, err := c.LockBlob(lockCtx, id, name, func() {
		busy = true
		cancel()
	})
	if err != nil && busy && ctx.Err() == nil {
		return nil, ErrBusy
	}
	return unlock, err
}

// blobs removes those blobs that no snapshot links to. orphans says that nothing did when the cache was read, as opposed to blobs of a revision that has just gone.
func (m *removal) blobs(ctx context.Context, names []string, orphans bool) error {
	dir, err := m.folder(blobsDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, ErrInTheWay):
		m.skipBlobs(names, whyLink)
		return nil
	case err != nil:
		return m.fail("opening", blobsDir, err)
	}
	defer dir.Close() //nolint:errcheck // only read from
	for batch := range slices.Chunk(names, lockBatch) {
		if err := m.blobBatch(ctx, dir, batch, orphans); err != nil {
			return err
		}
	}
	return nil
}

func (m *removal) skipBlobs(names []string, why string) {
	for _, name := range names {
		m.skip(blobsDir+"/"+name, why)
	}
}

func (m *removal) blobBatch(ctx context.Context, dir *os.Root, names []string, orphans bool) error {
	var unlocks []func()
	defer func() {
		for _, unlock := range unlocks {
			unlock()
		}
	}()
	var locked []string
	for _, name := range names {
		if _, err := dir.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		unlock, err := m.cache.tryLockBlob(ctx, m.id, name)
		switch {
		case errors.Is(err, ErrBusy):
			m.skip(blobsDir+"/"+name, whyLocked)
		case err != nil:
			return err
		default:
			unlocks = append(unlocks, unlock)
			locked = append(locked, name)
		}
	}
	m.step("locked")
	// Read under the locks: a client that found a blob in place has linked to it by now, or waits for us and will look again.
	found, err := m.cache.readSnapshotLinks(m.root, m.at)
	if errors.Is(err, ErrInTheWay) {
		m.skipBlobs(locked, "snapshots is no folder, so that nobody can tell which blobs are in use")
		return nil
	}
	if err != nil {
		return err
	}
	if found.deep != "" {
		m.skipBlobs(locked, found.deep+" is too deep to tell which blobs are in use")
		return nil
	}
	for _, name := range locked {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.blob(dir, name, found, orphans); err != nil {
			return err
		}
	}
	return nil
}

// blob removes one blob whose lock is held.
func (m *removal) blob(dir *os.Root, name string, found *snapshotLinks, orphans bool) error {
	rel := blobsDir + "/" + name
	info, err := dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return m.fail("removing", rel, err)
	case found.leadsTo(name):
		m.skip(rel, whyLinked)
		return nil
	case orphans && m.young(info.ModTime()):
		m.skip(rel, whyYoung)
		return nil
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if text, err := dir.Readlink(name); err == nil {
			m.payloads = append(m.payloads, m.payloadOf(text)...)
		}
	}
	return m.unlink(dir, name, rel)
}

// payloadOf is where in the shared store a link in blobs/ leads, if it does.
func (m *removal) payloadOf(text string) []string {
	target, err := m.cache.target(m.at+"/"+blobsDir, text)
	if err != nil || !m.names.isPayload(target) {
		return nil
	}
	return []string{target}
}

// isPayload says whether a place below the cache folder is where a payload of the shared store can be.
func (n *names) isPayload(place string) bool {
	hash := path.Base(place)
	return n.xetHash.MatchString(hash) && place == blobsDir+"/"+hash[:2]+"/"+hash
}

package hfcache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// What lies beside a payload of the shared store (huggingface_hub utils/_shared_blobs.py).
const (
	usersSuffix    = ".refs"
	lockSuffix     = ".lock"
	softLockSuffix = ".lock.soft"
)

const (
	// payloadTries is how often a payload's lock is tried, every [lockPoll]: clients hold it for an instant.
	payloadTries = 4
	// maxUsers bounds a list of users. A longer one is not read, and its payload stays.
	maxUsers = 16 << 20
)

// Payload removes a payload of the shared store, given by its place below the cache folder, if no repository uses it. As with the clients a list of users that is missing or cannot be
// read means that it stays.
func (r *Remover) Payload(ctx context.Context, place string) (Removed, error) {
	var out Removed
	if !r.names.isPayload(place) {
		return out, fmt.Errorf("removing %q: it is no payload of the shared blob store", place)
	}
	s := sweeper{Remover: r, out: &out}
	err := s.all(ctx, []string{place})
	if len(s.used) > 0 && err == nil {
		out.Skipped = append(out.Skipped, Skipped{place, "a repository uses it again"})
	}
	return out, err
}

// sweep removes the payloads that links of this repository led to and that nobody uses any more. Those in use are no surprise and not mentioned.
func (m *removal) sweep(ctx context.Context) error {
	s := sweeper{Remover: m.Remover, out: &m.out}
	err := s.all(ctx, m.payloads)
	m.payloads = nil
	return err
}

// sweeper collects payloads of the shared store, by the rules of the clients that share it.
type sweeper struct {
	*Remover
	out  *Removed
	used []string // places of those that are in use
}

// all looks at some payloads in batches: for each batch all locks are taken before the links of the cache are read once.
func (s *sweeper) all(ctx context.Context, places []string) error {
	places = slices.Clone(places)
	slices.Sort(places)
	for batch := range slices.Chunk(slices.Compact(places), lockBatch) {
		if err := s.batch(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func (s *sweeper) batch(ctx context.Context, places []string) error {
	if !s.cache.hasSharedStore() {
		return nil
	}
	var claimed []*payloadClaim
	defer func() {
		for _, p := range claimed {
			p.unlock()
			_ = p.dir.Close() // only read from
		}
	}()
	for _, place := range places {
		p, why, err := s.claimPayload(ctx, place)
		if err != nil {
			return err
		}
		if why != "" {
			s.skip(place, why)
		}
		if p != nil {
			claimed = append(claimed, p)
		}
	}
	if len(claimed) == 0 {
		return nil
	}
	s.step("locked the store")
	linked, err := s.cache.storeLinks()
	if err != nil {
		s.skip(blobsDir, "the cache's repositories cannot all be read: "+reason(err))
		return nil // clients, too, keep payloads when they cannot tell
	}
	for _, p := range claimed {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.collect(p, linked); err != nil {
			return err
		}
	}
	return nil
}

func (s *sweeper) skip(place, why string) {
	s.out.Skipped = append(s.out.Skipped, Skipped{place, why})
}

// payloadClaim is a payload whose lock is ours.
type payloadClaim struct {
	place  string   // below the cache folder
	name   string   // in its folder
	dir    *os.Root // the folder
	unlock func()
}

// claimPayload locks a payload. It returns nothing if there is none, and says why it cannot be locked.
func (s *sweeper) claimPayload(ctx context.Context, place string) (_ *payloadClaim, why string, _ error) {
	dir, err := openFolders(s.cache.root, path.Dir(place))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", nil
	case errors.Is(err, ErrInTheWay):
		return nil, whyLink, nil
	case err != nil:
		return nil, "", fmt.Errorf("opening %s: %w", path.Dir(place), bare(err))
	}
	name := path.Base(place)
	if _, err = dir.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil, "", dir.Close()
	}
	unlock, err := s.lockPayload(ctx, dir, name)
	if err == nil {
		return &payloadClaim{place, name, dir, unlock}, "", nil
	}
	_ = dir.Close() // only read from
	switch {
	case ctx.Err() != nil:
		return nil, "", ctx.Err()
	case errors.Is(err, ErrBusy):
		return nil, whyLocked, nil
	}
	return nil, "it cannot be locked: " + reason(err), nil
}

// lockPayload takes the lock under which clients publish, link and collect a payload. They hold it for an instant, so it is tried a few times. The error wraps
// [ErrBusy] if somebody else has it all the while.
func (s *sweeper) lockPayload(ctx context.Context, dir *os.Root, name string) (unlock func(), err error) {
	for try := range payloadTries {
		if try > 0 {
			if err := sleep(ctx, lockPoll); err != nil {
				return nil, err
			}
		}
		unlock, err = s.tryPayload(dir, name)
		if errors.Is(err, errors.ErrUnsupported) {
			unlock, err = trySoftLock(dir, name+softLockSuffix)
		}
		if !errors.Is(err, ErrBusy) {
			return unlock, err
		}
	}
	return nil, err
}

func (s *sweeper) tryPayload(dir *os.Root, name string) (func(), error) {
	f, created, err := openOrCreate(dir, name+lockSuffix, 0o666)
	if errors.Is(err, fs.ErrPermission) {
		f, err = openRegular(dir, name+lockSuffix, os.O_RDONLY)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrBusy // its holder has removed it in this instant, as older clients do
	}
	if err != nil {
		return nil, err
	}
	if created {
		_ = f.Chmod(0o666) // others who share the cache take the same lock
	}
	if err := s.lock(f, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !isAt(dir, name+lockSuffix, f) {
		return nil, errors.Join(ErrBusy, f.Close())
	}
	return func() { _ = errors.Join(unlockFile(f), f.Close()) }, nil
}

// trySoftLock takes a lock that is the existence of a file, as clients do where the file system has no locks.
func trySoftLock(dir *os.Root, name string) (func(), error) {
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, errors.Join(err, dir.Remove(name))
	}
	return func() { _ = dir.Remove(name) }, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// collect removes a payload that is locked, and then its list of users, if there are none. Lines of the list that do not hold any more are dropped.
func (s *sweeper) collect(p *payloadClaim, linked map[string]bool) error {
	users, changed, err := s.users(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.skip(p.place, "it has no list of its users")
		return nil
	case err != nil:
		s.skip(p.place, "the list of its users cannot be read: "+reason(err))
		return nil // clients, too, keep it then
	case len(users) > 0:
		s.used = append(s.used, p.place)
		if changed {
			_ = rewriteUsers(p, users) // the old list says the same to whoever looks at what it names
		}
		return nil
	case linked[storeKey(p.place)]:
		s.used = append(s.used, p.place)
		s.skip(p.place, "a repository links to it that is not on its list of users")
		return nil
	}
	info, err := p.dir.Lstat(p.name)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !info.Mode().IsRegular()) {
		return nil
	}
	if err == nil {
		err = p.dir.Remove(p.name)
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", p.place, bare(err))
	}
	s.out.Bytes += freed(info)
	s.step("removed " + p.place)
	list, err := p.dir.Lstat(p.name + usersSuffix)
	if err == nil {
		err = p.dir.Remove(p.name + usersSuffix)
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("removing %s%s: %w", p.place, usersSuffix, bare(err))
	}
	s.out.Bytes += freed(list)
	s.step("removed " + p.place + usersSuffix)
	return nil
}

// users reads the list of a payload's users and returns the lines that hold, sorted. changed says that the list has others. The error wraps [fs.ErrNotExist] if
// there is no list.
func (s *sweeper) users(p *payloadClaim) (users []string, changed bool, _ error) {
	info, err := p.dir.Lstat(p.name + usersSuffix)
	if err != nil {
		return nil, false, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxUsers {
		return nil, false, errNotRegular
	}
	text, err := p.dir.ReadFile(p.name + usersSuffix)
	if err != nil {
		return nil, false, err
	}
	if !utf8.Valid(text) {
		return nil, false, errors.New("it is no text")
	}
	lines := strings.FieldsFunc(string(text), func(c rune) bool { return c == '\n' || c == '\r' })
	for _, line := range lines {
		uses, err := s.cache.usesPayload(line, p.place)
		if err != nil {
			return nil, false, err
		}
		if uses {
			users = append(users, path.Clean(filepath.ToSlash(line)))
		}
	}
	slices.Sort(users)
	users = slices.Compact(users)
	return users, len(users) != len(lines), nil
}

// usesPayload says whether a line of a list of users holds: it names an entry of a repository's blobs/ that is a link to exactly this payload. An error means that
// nobody can tell.
func (c *Cache) usesPayload(line, place string) (bool, error) {
	rel := path.Clean(filepath.ToSlash(line))
	folder, rest, _ := strings.Cut(rel, "/")
	name, inBlobs := strings.CutPrefix(rest, blobsDir+"/")
	if !strings.Contains(folder, "--") || !inBlobs || !isEntryName(name) || !filepath.IsLocal(filepath.FromSlash(rel)) {
		return false, nil
	}
	info, err := c.root.Lstat(filepath.FromSlash(rel))
	if errors.Is(err, fs.ErrNotExist) || (err == nil && info.Mode()&fs.ModeSymlink == 0) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	text, err := c.root.Readlink(filepath.FromSlash(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	target, err := c.target(path.Dir(rel), text)
	return err == nil && target == place, nil
}

// rewriteUsers replaces the list as a whole.
func rewriteUsers(p *payloadClaim, users []string) error {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	list := p.name + usersSuffix
	temp := list + "." + hex.EncodeToString(random[:]) + ".tmp"
	f, err := p.dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(users, "\n") + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		_ = f.Chmod(0o666) // every user of a shared cache appends to it
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = p.dir.Rename(temp, list)
	}
	if err != nil {
		return errors.Join(err, p.dir.Remove(temp))
	}
	return nil
}

// storeLinks are the payloads that links in any repository's blobs/ name, as [storeKey] has them. Where an absolute link says that the cache is elsewhere, as in
// a container, it counts too.
func (c *Cache) storeLinks() (map[string]bool, error) {
	entries, err := readDir(c.root)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == blobsDir || e.Name() == locksDir {
			continue
		}
		dir, err := c.root.OpenRoot(filepath.FromSlash(e.Name() + "/" + blobsDir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		blobs, err := readDir(dir)
		for _, b := range blobs {
			if b.Type()&fs.ModeSymlink == 0 {
				continue
			}
			text, linkErr := dir.Readlink(b.Name())
			if linkErr == nil {
				found[storeKey(filepath.ToSlash(text))] = true
			} else if !errors.Is(linkErr, fs.ErrNotExist) {
				err = errors.Join(err, linkErr)
			}
		}
		if err = errors.Join(err, dir.Close()); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// storeKey is the end of a path to a payload: its folder in the store and its name.
func storeKey(place string) string { return path.Base(path.Dir(place)) + "/" + path.Base(place) }

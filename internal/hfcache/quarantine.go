package hfcache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

const (
	// ourDir is for what this program keeps in a repository's folder: no version of the Hub's clients looks into it, warns about it or counts it
	// (huggingface_hub utils/_cache_manager.py).
	ourDir = ".hf-cache-sync"
	// quarantineDir is where damaged files go, below the repository's folder.
	quarantineDir = ourDir + "/quarantine"
)

// ErrChanged says that a file is not the one any more that was looked at before.
var ErrChanged = errors.New("it changed since it was read")

// Quarantine puts damaged files of one repository aside. Bytes are moved and never removed; the names in snapshots that led to them are removed, because one
// dangling link makes scan_cache_dir give up the whole repository. A record beside the bytes says what was where.
//
// A payload of the shared store belongs to every repository that links to it. Only the links of this repository are taken away; the payload follows into the
// quarantine once no repository of the cache links to it any more, under the lock that clients hold while they link, as they themselves collect it. Until then it
// stays, and nobody else is disturbed.
//
// One goroutine at a time may use a Quarantine.
type Quarantine struct {
	dir   *RepoDir
	links map[string][]string // by name in blobs/: the links in snapshots, below the repository's folder
	now   func() time.Time
}

// Suspect is a file whose bytes are not what they should be.
type Suspect struct {
	// Entry is the name to take away, below the repository's folder: "blobs/<name>" or "snapshots/<commit>/<path>".
	Entry string
	// Bytes, Size and ModTime are of the regular file that was hashed, as in [File].
	Bytes   string
	Size    int64
	ModTime time.Time
	// Astray says that the bytes are good and only do not belong under this name. Then a link is removed and what it leads to stays.
	Astray bool
	// Want is what the bytes should have been, or empty; Why is for people. Both go into the record.
	Want hub.BlobID
	Why  string
}

// Quarantined is what became of a [Suspect]. Paths are below the cache folder, slash-separated.
type Quarantined struct {
	Bytes   string        // where the bytes are now
	Moved   bool          // they are in the quarantine, as opposed to a place where others may use them
	Record  string        // the file that says what was where
	Removed []RemovedName // what led to them; the entry itself is not among them if it was in blobs/
}

// RemovedName is a name in a snapshot that was taken away.
type RemovedName struct {
	File   string `json:"file"`             // below the repository's folder
	Target string `json:"target,omitempty"` // the text of the link; empty for a real file
}

// Quarantine opens a repository's quarantine and looks which links its snapshots have. It makes nothing yet.
func (c *Cache) Quarantine(id hub.Repo, now func() time.Time) (*Quarantine, error) {
	dir, err := c.RepoDir(id)
	if err != nil {
		return nil, err
	}
	links, err := c.readSnapshotLinks(dir.root, id.Folder())
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &Quarantine{dir: dir, links: links.blobs, now: now}, nil
}

// Close releases the repository's folder.
func (q *Quarantine) Close() error { return q.dir.Close() }

// Put takes a suspect away. The error wraps [ErrChanged] if it is not what was hashed any more, and [ErrBusy] if a client is at work on the blob; nothing has been
// touched then, and after any other error everything is where it was as far as that could be done.
func (q *Quarantine) Put(ctx context.Context, s Suspect) (Quarantined, error) {
	blob, isBlob := strings.CutPrefix(s.Entry, blobsDir+"/")
	if isBlob {
		unlock, err := q.dir.cache.tryLockBlob(ctx, q.dir.id, blob)
		if errors.Is(err, ErrBusy) {
			err = q.dir.fail("quarantining", s.Entry, err)
		}
		if err != nil {
			return Quarantined{}, err
		}
		defer unlock()
	}
	if err := q.dir.makeDir(path.Dir(s.Entry)); err != nil { // refuses folders that are links
		return Quarantined{}, err
	}
	isLink, err := q.check(s)
	if err != nil {
		return Quarantined{}, q.dir.fail("quarantining", s.Entry, err)
	}
	m := &move{Quarantine: q, suspect: s, to: quarantineDir + "/" + quarantineName(s)}
	if isBlob {
		err = m.names(q.links[blob]...)
	}
	if err == nil && !isBlob {
		err = m.names(s.Entry)
	}
	if err == nil {
		err = m.record()
	}
	if err == nil {
		err = m.dir.settle() // else a power cut could leave the links gone, and nothing that says so
	}
	if err == nil {
		failpoint.Hit("damage recorded")
		err = m.unlink()
	}
	if err == nil {
		err = m.dir.settle() // else one could leave links that dangle
	}
	if err == nil {
		failpoint.Hit("damage unlinked")
		err = m.bytes(isLink)
	}
	if err != nil {
		return Quarantined{}, errors.Join(q.dir.fail("quarantining", s.Entry, err), m.undo())
	}
	if isBlob {
		delete(q.links, blob)
	}
	return m.result(), nil
}

// check makes sure that the entry still leads to the file that was hashed, and says whether it is a link.
func (q *Quarantine) check(s Suspect) (isLink bool, _ error) {
	named, err := q.dir.root.Lstat(filepath.FromSlash(s.Entry))
	if errors.Is(err, fs.ErrNotExist) {
		return false, ErrChanged
	}
	if err != nil {
		return false, bare(err)
	}
	resolved, info, err := q.dir.cache.resolve(q.dir.id.Folder() + "/" + s.Entry)
	if errors.Is(err, fs.ErrNotExist) {
		return false, ErrChanged
	}
	if err != nil {
		return false, bare(err)
	}
	if resolved != s.Bytes || info.Size() != s.Size || !info.ModTime().Equal(s.ModTime) {
		return false, ErrChanged
	}
	return named.Mode()&fs.ModeSymlink != 0, nil
}

// quarantineName is a new name for the suspect.
func quarantineName(s Suspect) string {
	const most = 200 // bytes; file systems take 255, and more is to be appended
	stem := path.Base(s.Entry)
	if !strings.HasPrefix(s.Entry, blobsDir+"/") && s.Want != "" {
		stem = string(s.Want)
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return stem[:min(most, len(stem))] + "." + hex.EncodeToString(random[:])
}

// move is one call of Put.
type move struct {
	*Quarantine
	suspect Suspect
	to      string // below the repository's folder
	removed []RemovedName
	gone    int       // how many of removed are gone already
	entry   string    // text of the entry in blobs/ if it was a link and is gone
	moved   [2]string // from and to, below the cache folder, once the bytes are moved
}

// names reads what the links say, so that they can be made again.
func (m *move) names(files ...string) error {
	for _, file := range files {
		text, err := m.dir.root.Readlink(filepath.FromSlash(file))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil:
			m.removed = append(m.removed, RemovedName{file, text})
		case file == m.suspect.Entry: // a real file
			m.removed = append(m.removed, RemovedName{File: file})
		default:
			return bare(err)
		}
	}
	return nil
}

// unlink takes the links out of the snapshots. They go before the bytes, so that a kill in between leaves none that dangles.
func (m *move) unlink() error {
	for ; m.gone < len(m.removed); m.gone++ {
		r := m.removed[m.gone]
		if r.Target == "" {
			continue // a real file goes by being moved
		}
		if err := m.dir.root.Remove(filepath.FromSlash(r.File)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return bare(err)
		}
	}
	return nil
}

// bytes takes away the entry itself, and with it the bytes unless somebody else may need them.
func (m *move) bytes(isLink bool) error {
	from := m.dir.id.Folder() + "/" + m.suspect.Entry
	if !isLink {
		return m.rename(from)
	}
	if strings.HasPrefix(m.suspect.Entry, blobsDir+"/") {
		name := filepath.FromSlash(m.suspect.Entry)
		text, err := m.dir.root.Readlink(name)
		if err == nil {
			err = m.dir.root.Remove(name)
		}
		if err != nil {
			return bare(err)
		}
		m.entry = text
	}
	if m.suspect.Astray {
		return nil
	}
	return m.payload()
}

// rename moves a regular file into the quarantine, and back if it turns out to be another one than was hashed.
func (m *move) rename(from string) error {
	root := m.dir.cache.root
	before, err := root.Lstat(filepath.FromSlash(from))
	if err != nil {
		return bare(err)
	}
	to := m.dir.id.Folder() + "/" + m.to
	if err := root.Rename(filepath.FromSlash(from), filepath.FromSlash(to)); err != nil {
		return bare(err)
	}
	m.moved = [2]string{from, to}
	after, err := root.Lstat(filepath.FromSlash(to))
	if err != nil {
		return bare(err)
	}
	if !os.SameFile(before, after) || after.Size() != m.suspect.Size || !after.ModTime().Equal(m.suspect.ModTime) {
		return ErrChanged // a client without locks, such as the JS library, has put a new file there in this instant
	}
	return nil
}

// payload moves a payload of the shared store if nobody links to it any more. Whenever that is not certain it stays.
func (m *move) payload() error {
	c, payload := m.dir.cache, m.suspect.Bytes
	if !c.hasSharedStore() || !newNames().xetHash.MatchString(path.Base(payload)) || path.Dir(path.Dir(payload)) != blobsDir {
		return nil
	}
	// Made by the client that published the payload. One of our own would have other modes, and a lock by existence (lock.soft) cannot be waited for.
	lock, err := openRegular(c.root, filepath.FromSlash(payload+".lock"), os.O_RDWR)
	if err != nil {
		return nil // no lock, no move
	}
	defer lock.Close() //nolint:errcheck // nothing was written; closing gives up the lock
	if tryLock(lock, 0) != nil || !isAt(c.root, filepath.FromSlash(payload+".lock"), lock) {
		return nil
	}
	if info, err := c.root.Lstat(filepath.FromSlash(payload + ".refs")); err != nil || !info.Mode().IsRegular() {
		return nil // clients, too, keep a payload whose users nobody wrote down
	}
	if info, err := c.root.Lstat(filepath.FromSlash(payload)); err != nil || info.Size() != m.suspect.Size || !info.ModTime().Equal(m.suspect.ModTime) {
		return nil // replaced by a good one, or collected
	}
	if used, err := c.storeLinks(); err != nil || used[storeKey(payload)] {
		return nil // clients, too, keep a payload when they cannot tell
	}
	return m.rename(payload)
}

// undo puts back what an attempt that failed has taken away. What somebody else has put there meanwhile stays.
func (m *move) undo() error {
	root := m.dir.root
	var errs error
	if m.moved[0] != "" {
		from, to := filepath.FromSlash(m.moved[1]), filepath.FromSlash(m.moved[0])
		if _, err := m.dir.cache.root.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			errs = m.dir.cache.root.Rename(from, to)
		}
	}
	again := func(text, file string) {
		if err := root.Symlink(text, filepath.FromSlash(file)); err != nil && !errors.Is(err, fs.ErrExist) {
			errs = errors.Join(errs, m.dir.fail("putting back", file, err))
		}
	}
	if m.entry != "" {
		again(m.entry, m.suspect.Entry)
	}
	for _, r := range m.removed[:m.gone] {
		if r.Target != "" {
			again(r.Target, r.File)
		}
	}
	if err := root.Remove(filepath.FromSlash(m.to + recordSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = errors.Join(errs, m.dir.fail("removing", m.to+recordSuffix, err))
	}
	return errs
}

func (m *move) result() Quarantined {
	q := Quarantined{Bytes: m.suspect.Bytes, Record: m.dir.id.Folder() + "/" + m.to + recordSuffix, Removed: m.removed}
	if m.moved[1] != "" {
		q.Bytes, q.Moved = m.moved[1], true
	}
	return q
}

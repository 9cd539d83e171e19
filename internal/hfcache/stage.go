package hfcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// ErrBusy says that another process, or another part of this one, is downloading the same blob.
var ErrBusy = errors.New("another process is at work on it")

// stageLockOffset is where Windows locks a staged file: beyond any content, because its locks keep others from reading.
const stageLockOffset = 1 << 62

// preallocateFrom is the size in bytes from which reserving the space ahead is worth a system call.
const preallocateFrom = 1 << 20

// maxParts bounds what is kept in memory of one blob's parts.
const maxParts = 1 << 24

// Staged is a blob on its way: a temporary file in blobs/. ReadAt, WriteAt, Done and MarkDone may be called at once; the rest by one goroutine, and
// Publish, Discard or Close last. Each of the three ends it; calling Close again after any of them does nothing.
type Staged struct {
	dir      *RepoDir
	id       hub.BlobID
	name     string // in blobs/
	size     int64
	partSize int64
	f        *os.File
	created  bool // by us just now, hence with the mode that new files have

	writing sync.Mutex // held while bytes go into f

	mu      sync.Mutex // guards done and journal
	done    []bool
	journal *journal // nil if it cannot be resumed
	ended   bool
}

// Stage makes a temporary file for a blob that is too small to be worth resuming. All of it is one part.
func (d *RepoDir) Stage(id hub.BlobID, size int64) (*Staged, error) {
	return d.stageUnique(id, size, max(size, 1))
}

// StageResumable opens the temporary file of a large blob, with the parts that an earlier run has left, and locks it. A part is partSize bytes, the last one
// what is left. etag names the version at the source; parts of another one are forgotten, and so are parts of another size. The error wraps [ErrBusy] if
// another process has the file. Where the file system has no locks the file is a fresh one that nobody else can know, and a later run cannot go on with it.
func (d *RepoDir) StageResumable(id hub.BlobID, size, partSize int64, etag string) (*Staged, error) {
	if size < 0 || partSize <= 0 || size/partSize >= maxParts {
		return nil, fmt.Errorf("staging blob %s: %d bytes in parts of %d", id, size, partSize)
	}
	name := "." + string(id) + tempSuffix
	f, created, err := d.lockStaged(name)
	if errors.Is(err, errors.ErrUnsupported) {
		return d.stageUnique(id, size, partSize)
	}
	if err != nil {
		return nil, d.fail("opening", blobsDir+"/"+name, err)
	}
	s := d.newStaged(id, name, size, partSize, f, created)
	if fresh, err := s.resume(journalHeader(size, partSize, etag)); err != nil {
		err = d.fail("preparing", blobsDir+"/"+name, err)
		if fresh { // nothing in it is of use to a later run
			return nil, errors.Join(err, s.Discard())
		}
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

func (d *RepoDir) newStaged(id hub.BlobID, name string, size, partSize int64, f *os.File, created bool) *Staged {
	parts := (size + partSize - 1) / partSize
	return &Staged{
		dir: d, id: id, name: name, size: size, partSize: partSize, f: f, created: created,
		done: make([]bool, parts),
	}
}

func (d *RepoDir) stageUnique(id hub.BlobID, size, partSize int64) (*Staged, error) {
	if size < 0 {
		return nil, fmt.Errorf("staging blob %s: its size is %d", id, size)
	}
	s, err := d.stageEmpty(id, size, partSize)
	if err != nil {
		return nil, err
	}
	if err := s.reserve(); err != nil {
		return nil, errors.Join(err, s.Discard())
	}
	return s, nil
}

func (d *RepoDir) stageEmpty(id hub.BlobID, size, partSize int64) (*Staged, error) {
	f, name, err := d.createTemp(string(id))
	if err != nil {
		return nil, err
	}
	return d.newStaged(id, name, size, partSize, f, true), nil
}

// reserve takes the space of a file that will be written to, so that a full disk is found out before anything is downloaded.
func (s *Staged) reserve() error {
	if s.size < preallocateFrom {
		return nil
	}
	if err := s.dir.sys.reserve(s.f, s.size); err != nil {
		return s.dir.fail("reserving space for", blobsDir+"/"+s.name, err)
	}
	return nil
}

// lockStaged opens the file name in blobs/ and locks it. The error wraps [errors.ErrUnsupported] if that cannot be done here.
func (d *RepoDir) lockStaged(name string) (_ *os.File, created bool, _ error) {
	const tries = 16
	for range tries {
		f, created, err := openOrCreate(d.blobs, name, 0o666)
		if errors.Is(err, fs.ErrNotExist) {
			continue // published or discarded by another process in this instant
		}
		if errors.Is(err, fs.ErrPermission) { // begun by another user of a shared cache
			return nil, false, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		if err != nil {
			return nil, false, err
		}
		switch err = d.sys.lock(f, stageLockOffset); {
		case errors.Is(err, ErrBusy):
			return nil, false, errors.Join(err, f.Close())
		case err != nil:
			err = errors.Join(fmt.Errorf("%w: %w", errors.ErrUnsupported, err), f.Close())
			if created {
				err = errors.Join(err, d.removeTemp(name))
			}
			return nil, false, err
		}
		info, statErr := f.Stat()
		switch {
		case statErr != nil:
			return nil, false, errors.Join(statErr, f.Close())
		case !isAt(d.blobs, name, f): // its last holder has published or discarded it since we opened it
			if err = f.Close(); err != nil {
				return nil, false, err
			}
			continue
		case links(info) != 1:
			// Somebody has made a second name for it, as backups by hard link do. It is not ours alone to write to any more.
			if err = errors.Join(d.removeTemp(name), f.Close()); err != nil {
				return nil, false, err
			}
			continue
		}
		return f, created, nil
	}
	return nil, false, ErrBusy
}

// openOrCreate opens a regular file for reading and writing, and says whether it had to be made.
func openOrCreate(root *os.Root, name string, mode fs.FileMode) (f *os.File, created bool, err error) {
	f, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		f, err = openRegular(root, name, os.O_RDWR)
		return f, false, err
	}
	return f, err == nil, err
}

// resume finds out what of the file can be used. The order makes a kill in between harmless: the old journal is gone before the file gets the size by
// which it counts as begun, and a file without a journal has no parts. fresh says that it had none.
func (s *Staged) resume(header string) (fresh bool, err error) {
	info, err := s.f.Stat()
	if err != nil {
		return false, err
	}
	dir, name := s.dir.blobs, s.name+journalSuffix
	if info.Size() == s.size && !s.created {
		if s.journal, err = openJournal(dir, name, header, s.done); err != nil || s.journal != nil {
			return false, err
		}
	}
	if err = s.dir.removeTemp(name); err != nil {
		return true, err
	}
	if info.Size() != s.size {
		if err = s.f.Truncate(0); err != nil {
			return true, err
		}
		if err = s.dir.sys.reserve(s.f, s.size); err != nil {
			return true, err
		}
	}
	s.journal, err = createJournal(dir, name, header)
	return true, err
}

// ID is the blob's id.
func (s *Staged) ID() hub.BlobID { return s.id }

// Size is the blob's length in bytes.
func (s *Staged) Size() int64 { return s.size }

// PartSize is the length of every part but the last, in bytes.
func (s *Staged) PartSize() int64 { return s.partSize }

// Parts is the number of parts.
func (s *Staged) Parts() int { return len(s.done) }

// ReadAt reads back what was written. Parts that have not been written hold zeros.
func (s *Staged) ReadAt(p []byte, off int64) (int, error) { return s.f.ReadAt(p, off) }

// WriteAt writes a piece of the blob. Writing beyond its end is refused, whatever a server sends.
func (s *Staged) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > s.size || int64(len(p)) > s.size-off {
		return 0, &hub.MismatchError{ID: s.id, WantSize: s.size, GotSize: off + int64(len(p))}
	}
	// One at a time: the kernel allows no more in one file, and those who wait there burn the processor that the hash needs.
	s.writing.Lock()
	n, err := s.f.WriteAt(p, off)
	s.writing.Unlock()
	if err != nil {
		return n, s.dir.fail("writing", blobsDir+"/"+s.name, err)
	}
	return n, nil
}

// Done says whether part i has arrived, in this run or an earlier one.
func (s *Staged) Done(i int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done[i]
}

// MarkDone remembers that part i has been written, for this run and later ones.
func (s *Staged) MarkDone(i int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done[i] {
		return nil
	}
	failpoint.Hit("part written")
	if s.journal != nil {
		if err := s.journal.append(fmt.Sprintf("%d\n", i)); err != nil {
			return s.dir.fail("writing", blobsDir+"/"+s.name+journalSuffix, err)
		}
	}
	s.done[i] = true
	failpoint.Hit("part noted")
	return nil
}

// Reset forgets all parts, as is right when the whole did not match its digest.
func (s *Staged) Reset() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.done)
	if s.journal == nil {
		return nil
	}
	if err := s.journal.reset(); err != nil {
		return s.dir.fail("resetting", blobsDir+"/"+s.name+journalSuffix, err)
	}
	return nil
}

// Sync waits until the bytes are on the disk. Where [Cache.SyncAll] works, that does the same for many files at once.
func (s *Staged) Sync() error {
	if err := s.f.Sync(); err != nil {
		return s.dir.fail("syncing", blobsDir+"/"+s.name, err)
	}
	return nil
}

// Close ends the work on the file. A resumable one stays for the next run; any other goes, because nobody would find it again.
func (s *Staged) Close() error {
	if s.ended {
		return nil
	}
	if s.journal == nil {
		return s.Discard()
	}
	return s.end()
}

// Discard removes the file and what is known of it.
func (s *Staged) Discard() error {
	if s.ended {
		return nil
	}
	var err error
	if isAt(s.dir.blobs, s.name, s.f) { // else somebody has cleared it away, and the name may be another process's by now
		// The lock is still held, so that nobody begins anew between the two removals.
		err = s.dir.removeTemp(s.name)
		if s.journal != nil {
			err = errors.Join(err, s.dir.removeTemp(s.name+journalSuffix))
		}
	}
	return errors.Join(err, s.end())
}

// end closes the files, which gives up the lock.
func (s *Staged) end() error {
	s.ended = true
	err := s.f.Close()
	if s.journal != nil {
		err = errors.Join(s.journal.f.Close(), err)
	}
	return err
}

package filestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Put writes an object.
func (s *Store) Put(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions) (store.Info, error) {
	const op = "put"
	if err := s.check(ctx, op, key); err != nil {
		return store.Info{}, err
	}
	root, err := s.writableRoot()
	if err != nil {
		return store.Info{}, wrapWrite(op, key, err)
	}
	defer root.Close() //nolint:errcheck // Nothing is written through the folder's own handle.
	// Refused now, the body need not be copied. It is looked at again under the lock.
	if err = checkConditions(root, key, o); err != nil {
		return store.Info{}, wrapWrite(op, key, err)
	}
	temp, digest, err := s.stage(ctx, root, body, o)
	if err != nil {
		return store.Info{}, wrapWrite(op, key, named(key, err))
	}
	info, err := s.commit(ctx, root, candidate{key: key, temp: temp, sha256: digest, opts: o})
	if err != nil {
		err = errors.Join(err, remove(root, temp))
		return store.Info{}, wrapWrite(op, key, err)
	}
	return info, nil
}

// stage writes a body to a temporary file, durably, and returns the file's name and, where it was computed, the body's digest.
func (s *Store) stage(ctx context.Context, root *os.Root, body *io.SectionReader, o store.PutOptions) (temp, digest string, err error) {
	temp = path.Join(tmpDir, rand.Text())
	f, err := root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return "", "", err
	}
	digest, err = s.copyChecked(ctx, f, body, o.SHA256, len(o.Metadata) > 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", "", errors.Join(err, remove(root, temp))
	}
	return temp, digest, nil
}

// remove removes a file that may be gone.
func remove(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// checkConditions holds a Put's conditions against the object that is there.
func checkConditions(root *os.Root, key string, o store.PutOptions) error {
	if !o.IfAbsent && o.IfMatch == "" {
		return nil
	}
	info, err := statObject(root, key)
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.IfMatch != "":
		return &store.Error{Op: "put", Key: key, Kind: store.ErrExists, Err: errors.New("the object is gone")}
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case o.IfAbsent:
		return &store.Error{Op: "put", Key: key, Kind: store.ErrExists, Err: errors.New("the object exists")}
	case info.ETag != o.IfMatch:
		return &store.Error{Op: "put", Key: key, Kind: store.ErrExists, Err: errors.New("the object has been replaced")}
	}
	return nil
}

// candidate is a complete and durable file that is to become an object.
type candidate struct {
	key    string
	temp   string
	sha256 string // empty if unknown
	opts   store.PutOptions
}

// commit makes a candidate the object of its key. On an error the candidate's file may be left.
func (s *Store) commit(ctx context.Context, root *os.Root, c candidate) (store.Info, error) {
	unlock, exact, err := s.lock(ctx, root, c.key)
	if err != nil {
		return store.Info{}, err
	}
	failpoint.Hit("object staged")
	info, err := publish(root, c, exact)
	failpoint.Hit("object placed")
	unlock()
	if err == nil {
		err = syncDir(root, path.Dir(c.key))
	}
	if err != nil {
		return store.Info{}, err
	}
	return info, nil
}

// publish does the part of commit that excludes others.
func publish(root *os.Root, c candidate, exact bool) (store.Info, error) {
	if c.opts.IfMatch != "" && !exact {
		return store.Info{}, &store.Error{Op: "put", Key: c.key, Kind: store.ErrUnsupported, Err: errNoLocks}
	}
	if err := checkConditions(root, c.key, c.opts); err != nil {
		return store.Info{}, err
	}
	fi, err := makeNewest(root, c)
	if err != nil {
		return store.Info{}, err
	}
	info := infoOf(c.key, fi)
	if len(c.opts.Metadata) > 0 {
		if err = writeMetadata(root, info, c); err != nil {
			return store.Info{}, err
		}
		info.Metadata = c.opts.Metadata
	}
	failpoint.Hit("metadata written")
	if err = place(root, c, exact); err != nil {
		return store.Info{}, err
	}
	if len(c.opts.Metadata) == 0 {
		err = removeMetadata(root, c.key)
	}
	return info, err
}

// makeNewest gives the candidate a modification time after that of the object it replaces, where the two are so close that a coarse clock,
// or one that was just set back a little, would let the ETags of different objects be equal.
func makeNewest(root *os.Root, c candidate) (fs.FileInfo, error) {
	fi, err := root.Stat(c.temp)
	if err != nil {
		return nil, err
	}
	old, err := root.Lstat(c.key)
	if err != nil {
		return fi, nil //nolint:nilerr // Nothing to be newer than, or the rename will say what is wrong.
	}
	const near = 3 * time.Second // The coarsest file system, FAT, counts in twos.
	if lag := old.ModTime().Sub(fi.ModTime()); lag < 0 || lag > near {
		return fi, nil
	}
	later := old.ModTime().Add(time.Microsecond)
	if err = root.Chtimes(c.temp, later, later); err != nil {
		return nil, err
	}
	return root.Stat(c.temp)
}

// place gives the candidate its name.
func place(root *os.Root, c candidate, exact bool) error {
	const tries = 100 // Each time, a Delete may remove the empty folder that was just made.
	for try := 1; ; try++ {
		err := mkdirAll(root, path.Dir(c.key))
		if err == nil {
			err = placeOnce(root, c, exact)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) && try < tries:
			continue
		case err == nil, errors.Is(err, fs.ErrPermission):
			return err
		}
		fi, statErr := root.Lstat(c.key)
		if statErr != nil || !fi.IsDir() {
			return err
		}
		// Empty folders are no objects and may go; others stay.
		if root.Remove(c.key) != nil || try == tries {
			return &fs.PathError{Op: "rename", Path: c.key, Err: errIsDir}
		}
	}
}

func placeOnce(root *os.Root, c candidate, exact bool) error {
	if !c.opts.IfAbsent {
		return root.Rename(c.temp, c.key)
	}
	// Unlike a rename, a link never replaces what another program put there since we looked.
	err := root.Link(c.temp, c.key)
	switch {
	case err == nil:
		return root.Remove(c.temp)
	case errors.Is(err, fs.ErrExist):
		if fi, statErr := root.Lstat(c.key); statErr == nil && fi.IsDir() {
			return err
		}
		return &store.Error{Op: "put", Key: c.key, Kind: store.ErrExists, Err: errors.New("the object exists")}
	case linksRefused(err) && exact:
		return root.Rename(c.temp, c.key)
	case linksRefused(err):
		return &store.Error{Op: "put", Key: c.key, Kind: store.ErrUnsupported, Err: err}
	}
	return err
}

// Delete removes an object, and the folders that it leaves empty.
func (s *Store) Delete(ctx context.Context, key string) error {
	const op = "delete"
	if err := s.check(ctx, op, key); err != nil {
		return err
	}
	root, err := s.root()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return wrap(op, key, err)
	}
	defer root.Close() //nolint:errcheck // Nothing is written through the folder's own handle.
	fi, err := root.Lstat(key)
	if errors.Is(err, fs.ErrNotExist) || isNotDir(err) || (err == nil && fi.IsDir()) {
		return nil
	}
	if err != nil {
		return wrap(op, key, err)
	}
	if err = mkdirAll(root, locksDir); err != nil {
		return wrapWrite(op, key, err)
	}
	unlock, _, err := s.lock(ctx, root, key)
	if err != nil {
		return wrap(op, key, err)
	}
	defer unlock()
	// The metadata goes last: without its object it says nothing.
	err = errors.Join(remove(root, key), removeMetadata(root, key))
	if err == nil {
		err = removeEmptyParents(root, key)
	}
	return wrapWrite(op, key, err)
}

// removeEmptyParents removes what a bucket in the cloud would never have shown, and makes the removal durable.
func removeEmptyParents(root *os.Root, key string) error {
	dir := path.Dir(key)
	for ; dir != "."; dir = path.Dir(dir) {
		fi, err := root.Lstat(dir)
		if err != nil || !fi.IsDir() || root.Remove(dir) != nil {
			break
		}
	}
	return syncDir(root, dir)
}

// wrapWrite is wrap for an operation that does not look for its key: what it misses is a folder that vanished under it.
func wrapWrite(op, key string, err error) error {
	if err == nil {
		return nil
	}
	err = wrap(op, key, err)
	if se, ok := errors.AsType[*store.Error](err); ok && errors.Is(se.Kind, store.ErrNotFound) && !errors.Is(err, errNoUpload) {
		return &store.Error{Op: op, Key: key, Kind: store.ErrUnavailable, Err: fmt.Errorf("the bucket's folder is changing: %w", se.Err)}
	}
	return err
}

// named completes an error that was made before the key was known.
func named(key string, err error) error {
	var se *store.Error
	if errors.As(err, &se) && se.Key == "" {
		se.Key = key
	}
	return err
}

// Package filestore keeps a bucket's objects as files in a folder: a NAS mount, a USB disk, or a place to try things out.
//
// An object of key "blobs/ab" is the file blobs/ab below the folder, byte for byte, so that people and other tools can read the bucket and
// carry it around. Everything else that the store needs lies in one private folder beside the objects, ".hf-cache-sync", which no key can
// name and no listing shows:
//
//	tmp/                 objects being written; what a killed process left is removed after a day
//	uploads/<id>/        unfinished multipart uploads, see [Store.StartUpload]
//	meta/<key hash>.json user metadata, for the few objects that have some
//	locks/<00-3f>        empty files to lock; a key's hash says which
//
// A reader creates none of it, so a read-only mount can be pulled from. A folder that does not exist is [store.ErrNoFolder] and no empty
// bucket: more often than not it is a share that is not mounted, or a typo. With [Options.Create] it is an empty bucket, and made by the first
// write. Either way a folder that was there and is gone, or is another one and empty, as when a share is unmounted, is [store.ErrNoFolder].
//
// # What is promised
//
// A Put writes a temporary file, checks it against its digest, syncs it, renames it to its key and syncs the folder: an object is there
// whole and durably, or not at all. Every path is opened below [os.Root]. A link that leads out of the folder is never followed: reading
// its key is an error that names it, listing passes over it, and a Put of the key replaces the link. The same goes for pipes, sockets and
// devices. Links that stay inside are followed when a key is read; List does not descend into linked folders.
//
// Conditional writes are exact among processes that use this package, on file systems whose locks work across them (flock; LockFileEx on
// Windows). Where locks are refused IfMatch is [store.ErrUnsupported], and so is IfAbsent where hard links are refused too.
//
// An ETag is made of the file's size, modification time and (not on Windows) inode number. A Put gives the object a new inode, and a
// modification time later than that of the object it replaces even when the clock stands still or the file system reuses the inode, so
// that the ETag changes with every replacement, without reading a byte and the same in Get, Stat and List. The price: copying the whole
// folder elsewhere changes every ETag.
//
// Metadata is bound to its object, by ETag and for objects up to 64 KiB also by SHA-256, so that it outlives a copy of the folder but not
// a replacement of the object by other means.
//
// # What differs from a bucket in the cloud
//
// A folder cannot hold the keys "a" and "a/b" at once: the second is refused with [store.ErrUnsupported], as is a key that the file system
// cannot name. On file systems that ignore case, keys that differ only in case are one object. A listing needs memory for the names in
// the largest single folder, since it has to sort them.
package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// PrivateDir is the folder, below the bucket's, of everything that is not an object.
const PrivateDir = privateDir

// Everything of the store that is not an object lies in or below these, relative to the bucket's folder.
const (
	privateDir = ".hf-cache-sync"
	tmpDir     = privateDir + "/tmp"
	uploadsDir = privateDir + "/uploads"
	metaDir    = privateDir + "/meta"
	locksDir   = privateDir + "/locks"
)

// The user's umask takes from these what a team's folder should not allow.
const (
	fileMode fs.FileMode = 0o666
	dirMode  fs.FileMode = 0o777
)

// bufferSize is the unit in which bytes are moved: between two looks at the context, and in memory.
const bufferSize = 256 << 10

// Options qualify a [Store].
type Options struct {
	Now    func() time.Time // for the age of leftovers and the start of uploads; time.Now if nil
	Create bool             // a folder that does not exist is made by the first write
}

// Store is a folder as a bucket. It implements [store.Store] and [store.Multipart].
type Store struct {
	dir     string // absolute
	create  bool
	now     func() time.Time
	seen    seen
	buffers sync.Pool // of *[]byte with bufferSize bytes
	stripes stripes
	tidy    sync.Once
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Multipart = (*Store)(nil)
)

// seen is the folder as it was met last.
type seen struct {
	mu     sync.Mutex
	folder fs.FileInfo // nil if it was not there yet
	filled bool        // there was something in it
}

// Open prepares the folder dir for use as a bucket. It creates nothing, and fails with [store.ErrNoFolder] if there is none, unless o says
// that it may be made later.
func Open(dir string, o Options) (*Store, error) {
	if dir == "" {
		return nil, &store.Error{Op: "open", Kind: store.ErrBadConfig, Err: errors.New("the folder's path is empty")}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, &store.Error{Op: "open", Kind: store.ErrBadConfig, Err: err}
	}
	fi, err := os.Stat(abs)
	switch {
	case err == nil && !fi.IsDir():
		return nil, &store.Error{Op: "open", Kind: store.ErrBadConfig, Err: fmt.Errorf("%s is not a folder", abs)}
	case err != nil && isNotDir(err):
		return nil, &store.Error{Op: "open", Kind: store.ErrBadConfig, Err: err}
	case errors.Is(err, fs.ErrNotExist) && !o.Create:
		return nil, wrap("open", "", fmt.Errorf("%w: %s does not exist", errNoFolder, abs))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, wrap("open", "", err)
	}
	s := &Store{dir: abs, create: o.Create, now: o.Now, stripes: newStripes()}
	if s.now == nil {
		s.now = time.Now
	}
	s.buffers.New = func() any {
		b := make([]byte, bufferSize)
		return &b
	}
	// Who opens it now may use it much later. What is wrong with it, using it tells.
	if root, err := s.root(); err == nil {
		_ = root.Close()
	}
	return s, nil
}

// String returns the folder as a file: URL.
func (s *Store) String() string {
	p := filepath.ToSlash(s.dir)
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	return (&url.URL{Scheme: "file", Path: p}).String()
}

// root opens the bucket's folder. It is opened anew by each operation, so that a share which was mounted again in the meantime is met as
// it is now, and so that an idle store keeps nobody from unmounting it.
// The error wraps [fs.ErrNotExist] only while a folder is missing that may be made.
func (s *Store) root() (*os.Root, error) {
	wasThere := s.wasThere() // asked first: another write may make the folder in between
	root, err := os.OpenRoot(s.dir)
	if errors.Is(err, fs.ErrNotExist) && (!s.create || wasThere) {
		return nil, fmt.Errorf("%w: %s does not exist", errNoFolder, s.dir)
	}
	if err != nil {
		return nil, err
	}
	if err = s.recognize(root); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

func (s *Store) wasThere() bool {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	return s.seen.folder != nil
}

// recognize refuses an empty folder where another one was that had something in it: the share has been unmounted, and this is where it was.
func (s *Store) recognize(root *os.Root) error {
	fi, err := root.Stat(".")
	if err != nil {
		return err
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	if s.seen.folder != nil && (s.seen.filled && os.SameFile(s.seen.folder, fi)) {
		return nil
	}
	f, err := root.Open(".")
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil // It can be gone through, which is enough for a reader.
		}
		return err
	}
	names, err := f.Readdirnames(1)
	if err = errors.Join(err, f.Close()); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(names) == 0 && s.seen.filled && !os.SameFile(s.seen.folder, fi) {
		return fmt.Errorf("%w: %s is another folder than before, and empty", errNoFolder, s.dir)
	}
	s.seen.folder, s.seen.filled = fi, len(names) > 0
	return nil
}

// writableRoot is root for an operation that writes: it makes the folder and its private part.
func (s *Store) writableRoot() (*os.Root, error) {
	root, err := s.root()
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeFolder(s.dir); err != nil {
			return nil, err
		}
		root, err = s.root()
	}
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{tmpDir, locksDir} {
		if err = mkdirAll(root, dir); err != nil {
			return nil, errors.Join(err, root.Close())
		}
	}
	s.seen.mu.Lock()
	s.seen.filled = true
	s.seen.mu.Unlock()
	s.tidy.Do(func() { s.removeLeftovers(root) })
	return root, nil
}

// makeFolder makes the bucket's folder, with those above it that are missing, and makes all of them durable: else a power cut could take
// away a bucket whose every object had been synced.
func makeFolder(dir string) error {
	var above []string
	for at := dir; at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		above = append(above, filepath.Dir(at))
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	for _, parent := range above {
		root, err := os.OpenRoot(parent)
		if errors.Is(err, fs.ErrPermission) {
			continue // Folders can be made in it by whoever may not read it.
		}
		if err == nil {
			err = errors.Join(syncDir(root, "."), root.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeLeftovers removes what killed processes left behind. Failing to is no reason to fail a write.
func (s *Store) removeLeftovers(root *os.Root) {
	const maxAge = 24 * time.Hour // Every write to a temporary file renews it, so nothing alive is as old as this.
	old := func(name string) bool {
		fi, err := root.Lstat(name)
		return err == nil && s.now().Sub(fi.ModTime()) > maxAge
	}
	temps, _ := fs.ReadDir(root.FS(), tmpDir)
	for _, e := range temps {
		if name := path.Join(tmpDir, e.Name()); old(name) {
			_ = root.Remove(name)
		}
	}
	// An upload that is listed is the business of whoever lists it.
	uploads, _ := fs.ReadDir(root.FS(), uploadsDir)
	for _, e := range uploads {
		dir := path.Join(uploadsDir, e.Name())
		if _, err := root.Lstat(path.Join(dir, uploadFile)); errors.Is(err, fs.ErrNotExist) && old(dir) {
			_ = root.RemoveAll(dir)
		}
	}
}

// check refuses what no operation can do anything with: a done context, a key against the contract, and a key that this store cannot have.
func (s *Store) check(ctx context.Context, op, key string) error {
	if err := store.CheckKey(op, key); err != nil {
		return err
	}
	first, _, _ := strings.Cut(key, "/")
	if strings.EqualFold(first, privateDir) {
		return &store.Error{Op: op, Key: key, Kind: store.ErrBadConfig, Err: errors.New("the key is in the store's private folder")}
	}
	if !nameable(key) {
		return &store.Error{Op: op, Key: key, Kind: store.ErrUnsupported, Err: errors.New("the key is no file name on this system")}
	}
	if err := ctx.Err(); err != nil {
		return &store.Error{Op: op, Key: key, Err: err}
	}
	return nil
}

// nameable reports whether a key that keeps the contract can be a path.
func nameable(key string) bool { return runtime.GOOS != "windows" || plainOnWindows(key) }

// plainOnWindows refuses keys with characters that have a meaning in a path of Windows, the names of
// devices, and names that end in what Windows would drop.
func plainOnWindows(key string) bool {
	if strings.ContainsAny(key, `\<>:"|?*`) || !filepath.IsLocal(filepath.FromSlash(key)) {
		return false
	}
	for elem := range strings.SplitSeq(key, "/") {
		if strings.TrimRight(elem, ". ") != elem {
			return false
		}
	}
	return true
}

// mkdirAll makes a folder and its parents, and makes the new ones durable.
func mkdirAll(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	err := root.Mkdir(dir, dirMode)
	if parent := path.Dir(dir); errors.Is(err, fs.ErrNotExist) {
		if err = mkdirAll(root, parent); err != nil {
			return err
		}
		err = root.Mkdir(dir, dirMode)
	}
	switch {
	case err == nil:
		return syncDir(root, path.Dir(dir))
	case isNotDir(err):
		return &fs.PathError{Op: "mkdir", Path: dir, Err: errNotDir}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	fi, err := root.Stat(dir)
	if err == nil && !fi.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: errNotDir}
	}
	return err
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
)

// folderUse says what becomes of a command whose bucket is a folder that is not there.
type folderUse struct {
	create     bool // it is made: --create, or somebody agreed
	hasCreate  bool // the command has --create, so the hint may name it
	hubInstead bool // the Hub gives everything, as for a service that cannot be reached
	unnoticed  bool // nothing is remembered of what is seen
}

// noFolderError says that there is no bucket where a file: URL says. An empty folder is a new bucket, but a missing one may be a share that is not mounted, or a typo.
type noFolderError struct {
	dir     string
	emptied bool // it is there, and empty, and was a bucket before
	create  bool // --create would help
}

// Error names the folder.
func (e *noFolderError) Error() string {
	if e.emptied {
		return fmt.Sprintf("the folder %s was a bucket when last used and is empty now: is it mounted?", e.dir)
	}
	return fmt.Sprintf("the bucket's folder %s does not exist: is it mounted?", e.dir)
}

// Unwrap makes it one of the ways in which a bucket cannot be reached.
func (e *noFolderError) Unwrap() error { return store.ErrNoFolder }

func (e *noFolderError) hint() string {
	hint := hintNoFolder
	if e.create {
		hint += "; for a new bucket, run the same command with --create"
	}
	return hint
}

const hintNoFolder = "mount the disk or the share, or correct the path"

// openFolder opens a folder as a bucket.
func (a *app) openFolder(where config.Remote) (store.Store, error) {
	if err := a.lookAtFolder(where); err != nil && !a.folder.create {
		if a.folder.hubInstead {
			return awayStore{where.String(), err}, nil
		}
		return nil, err
	}
	return filestore.Open(where.Path, filestore.Options{Create: a.folder.create})
}

// lookAtFolder returns a [noFolderError] if the folder is missing, or is empty and was seen as a bucket before. What else may be wrong with it, opening it tells.
func (a *app) lookAtFolder(where config.Remote) error {
	if _, err := os.Stat(where.Path); errors.Is(err, fs.ErrNotExist) {
		return &noFolderError{dir: where.Path, create: a.folder.hasCreate}
	}
	switch keys, blank := contentOf(where.Path); {
	case keys:
		a.rememberFolder(where.String())
	case blank && slices.Contains(a.seenFolders(), where.String()):
		return &noFolderError{dir: where.Path, emptied: true, create: a.folder.hasCreate}
	}
	return nil
}

// contentOf says whether a folder holds keys of a bucket, or nothing that a bucket has. Both are false for a bucket from which everything was deleted, or which cannot be read.
func contentOf(dir string) (keys, blank bool) {
	blank = true
	for _, prefix := range []string{manifest.ManifestPrefix, manifest.RefPrefix, manifest.BlobPrefix} {
		name := filepath.Join(dir, filepath.FromSlash(strings.TrimSuffix(prefix, "/")))
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		blank = false
		if err != nil {
			continue
		}
		names, _ := f.Readdirnames(1)
		_ = f.Close() // only read from
		if len(names) > 0 {
			return true, false
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, filestore.PrivateDir)); !errors.Is(err, fs.ErrNotExist) {
		blank = false
	}
	return false, blank
}

// Folders that were seen as buckets are remembered by their URLs, one a line, the one seen last at the end. What was remembered may be lost or be nonsense: then an
// unmounted share is taken for a new bucket, as it would be on a machine that has never seen it.
const (
	foldersFile = "hf-cache-sync/folders"
	maxFolders  = 200
	maxURL      = 4 << 10 // bytes
)

// seenFolders are the URLs that are remembered.
func (a *app) seenFolders() []string {
	path := a.statePath(foldersFile)
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(io.LimitReader(f, maxFolders*maxURL))
	if err != nil {
		return nil
	}
	var urls []string
	for line := range strings.Lines(string(data)) {
		url, whole := strings.CutSuffix(line, "\n")
		if where, err := config.ParseRemote(url); whole && err == nil && where.Kind == config.Folder && len(url) < maxURL {
			urls = append(urls, url)
		}
	}
	return urls
}

// rememberFolder remembers a bucket. That it cannot be written is no reason to fail.
func (a *app) rememberFolder(url string) {
	if a.folder.unnoticed || len(url) >= maxURL {
		return
	}
	urls := a.seenFolders()
	if slices.Contains(urls, url) {
		return
	}
	urls = append(urls[max(0, len(urls)-maxFolders+1):], url)
	if err := replacePrivate(a.statePath(foldersFile), strings.Join(urls, "\n")+"\n"); err != nil {
		a.logger().Debug("the bucket is not remembered", slog.Any("error", err))
	}
}

// replacePrivate writes a file for its owner only, whole or not at all as far as other processes see.
func replacePrivate(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// noteFolder remembers the bucket after a command, which may have been the first to put something into it.
func (a *app) noteFolder() {
	if where, err := config.ResolveRemote(a.remote, a.Env, a.file); err == nil && where.Kind == config.Folder {
		_ = a.lookAtFolder(where) // the command has told
	}
}

// agreeToFolder asks whether a folder that is no bucket may become one, if there is somebody to ask. It is for commands that write to the bucket.
func (a *app) agreeToFolder(ctx context.Context) error {
	if err := a.checkApart(); err != nil {
		return err
	}
	if a.folder.create || !a.Interactive || a.json || a.events != nil {
		return nil
	}
	where, err := config.ResolveRemote(a.remote, a.Env, a.file)
	if err != nil || where.Kind != config.Folder {
		return nil //nolint:nilerr // opening it says what is wrong
	}
	missing, ok := errors.AsType[*noFolderError](a.lookAtFolder(where))
	if !ok {
		return nil
	}
	a.warn("%s", missing)
	a.warn("Begin a new bucket there? [y/N]")
	answer, err := a.readLine(ctx)
	if ctx.Err() != nil {
		return err
	}
	if err != nil || !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))) {
		return &usageError{fmt.Errorf("not confirmed, nothing was written to %s", where.Path), missing.hint()}
	}
	a.folder.create = true
	return nil
}

// awayStore stands for a bucket that is not there.
type awayStore struct {
	url string
	err error
}

var _ store.Store = awayStore{}

func (s awayStore) fail(op, key string) error {
	return &store.Error{Op: op, Key: key, Kind: store.ErrNoFolder, Err: s.err}
}

// String is the URL of the folder.
func (s awayStore) String() string { return s.url }

// Get fails.
func (s awayStore) Get(_ context.Context, key string, _ store.Range) (io.ReadCloser, store.Info, error) {
	return nil, store.Info{}, s.fail("get", key)
}

// Stat fails.
func (s awayStore) Stat(_ context.Context, key string) (store.Info, error) {
	return store.Info{}, s.fail("stat", key)
}

// List fails.
func (s awayStore) List(_ context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) { yield(store.Info{}, s.fail("list", prefix)) }
}

// Put fails.
func (s awayStore) Put(_ context.Context, key string, _ *io.SectionReader, _ store.PutOptions) (store.Info, error) {
	return store.Info{}, s.fail("put", key)
}

// Delete fails.
func (s awayStore) Delete(_ context.Context, key string) error { return s.fail("delete", key) }

// overlapError says that the bucket and the cache are not apart. What each holds would be taken for content of the other.
type overlapError struct{ text string }

// Error names both.
func (e *overlapError) Error() string { return e.text }

const hintOverlap = "keep the two apart: name another folder with --remote file:///… or --cache-dir"

// checkApart refuses a bucket inside the cache, and a cache inside the bucket. What is wrong with one of the two alone is said elsewhere.
func (a *app) checkApart() error {
	where, err := config.ResolveRemote(a.remote, a.Env, a.file)
	if err != nil || where.Kind != config.Folder {
		return nil //nolint:nilerr // as above
	}
	cache, _, err := config.CacheDir(a.cacheDir, a.Env, a.Home, a.file)
	if err != nil {
		return nil //nolint:nilerr // likewise
	}
	bucketDir, cacheDir := resolved(where.Path), resolved(cache)
	bucketName, cacheName := "the bucket "+where.Path, "the cache "+cache
	switch bucketIn, cacheIn := within(bucketDir, cacheDir), within(cacheDir, bucketDir); {
	case bucketIn && cacheIn:
		return &overlapError{bucketName + " is the same folder as " + cacheName}
	case bucketIn:
		return &overlapError{bucketName + " is inside " + cacheName}
	case cacheIn:
		return &overlapError{cacheName + " is inside " + bucketName}
	}
	return nil
}

// resolved is an absolute path without links, as far as it exists.
func resolved(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	for at, rest := abs, ""; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == filepath.Dir(at) {
			return abs
		}
	}
}

// within says whether path is dir or below it, also where one folder has several names, as where upper and lower case are one.
func within(path, dir string) bool {
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		return true
	}
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	for at := path; ; at = filepath.Dir(at) {
		if found, err := os.Stat(at); err == nil && os.SameFile(info, found) {
			return true
		}
		if at == filepath.Dir(at) {
			return false
		}
	}
}

package hfcache

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// tempSuffix ends the name of every temporary file of ours. They all lie in blobs/ and start with a dot. It is not ".incomplete", because
// "hf cache prune" removes such files without asking whether a download is still writing to them.
const tempSuffix = ".hf-cache-sync"

// ErrInTheWay is wrapped where a folder is needed and something else, a link to a folder included, has its name.
var ErrInTheWay = errors.New("a folder is needed there, and something else has its name")

// RepoDir writes one repository's folder. It follows no link out of the folder, and none that stands where a folder should be. Its methods may be called by
// many goroutines at once. A kill at any instant leaves whole files under final names, and at worst a temporary file in blobs/.
type RepoDir struct {
	cache *Cache
	id    hub.Repo
	root  *os.Root // the repository's folder
	blobs *os.Root // its blobs/, opened once because most of the work is there
	sys   system

	noSymlinks atomic.Bool // found out by trying, or asked for
	probeMode  func() (fs.FileMode, error)

	mu   sync.Mutex
	dirs map[string]bool // folders known to exist and to be real, relative to root
}

// system is what differs between file systems. Tests replace a part of it to act as one that lacks it.
type system struct {
	lock    func(f *os.File, offset int64) error
	reserve func(f *os.File, size int64) error
	clone   func(dst, src *os.File) error
	symlink func(root *os.Root, text, name string) error
	link    func(root *os.Root, from, to string) error
}

// RepoDir opens a repository's folder for writing and makes it, with blobs/ and snapshots/, where missing. The umask decides about
// modes, as it does for the Hub's clients.
func (c *Cache) RepoDir(id hub.Repo) (*RepoDir, error) {
	folder := id.Folder()
	d := &RepoDir{
		cache: c,
		id:    id,
		sys:   system{lock: tryLock, reserve: preallocate, clone: cloneFile, symlink: (*os.Root).Symlink, link: (*os.Root).Link},
		dirs:  map[string]bool{},
	}
	d.noSymlinks.Store(c.options.NoSymlinks)
	d.probeMode = sync.OnceValues(d.newFileMode)
	var err error
	if d.root, err = makeRoot(c.root, folder); err != nil {
		return nil, fmt.Errorf("opening %s for writing: %w", folder, bare(err))
	}
	if d.blobs, err = makeRoot(d.root, blobsDir); err != nil {
		return nil, errors.Join(d.fail("opening", blobsDir, err), d.root.Close())
	}
	if err := d.makeDir(snapshotsDir); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close releases the folder. Staged files opened from it must have been published, discarded or closed.
func (d *RepoDir) Close() error { return errors.Join(d.blobs.Close(), d.root.Close()) }

// makeRoot makes the folder name if it is missing and opens it. A link is refused even if it leads to a folder: scans do not follow it either.
func makeRoot(parent *os.Root, name string) (*os.Root, error) {
	if err := parent.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return openFolder(parent, name)
}

// openFolder opens a folder that is there, and refuses a link to one: with [ErrInTheWay], as for anything else that is no folder.
func openFolder(parent *os.Root, name string) (*os.Root, error) {
	before, err := parent.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.IsDir() {
		return nil, ErrInTheWay
	}
	root, err := parent.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	opened, err := root.Stat(".")
	if err == nil && !os.SameFile(before, opened) { // replaced by a link in between
		err = ErrInTheWay
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// makeDir makes a folder below the repository's, with all above it, and refuses links among them.
func (d *RepoDir) makeDir(rel string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.makeDirLocked(rel)
}

func (d *RepoDir) makeDirLocked(rel string) error {
	if d.dirs[rel] {
		return nil
	}
	if parent := path.Dir(rel); parent != "." {
		if err := d.makeDirLocked(parent); err != nil {
			return err
		}
	}
	name := filepath.FromSlash(rel)
	info, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = d.root.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return d.fail("making", rel, err)
		}
		info, err = d.root.Lstat(name)
	}
	switch {
	case err != nil:
		return d.fail("making", rel, err)
	case !info.IsDir():
		return d.fail("making", rel, ErrInTheWay)
	}
	d.dirs[rel] = true
	return nil
}

// inDir makes the folder rel and calls f. Where it turns out that somebody has removed the folder since it was made, it does so once more.
func (d *RepoDir) inDir(rel string, f func() error) error {
	if err := d.makeDir(rel); err != nil {
		return err
	}
	err := f()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.mu.Lock()
	clear(d.dirs)
	d.mu.Unlock()
	if err := d.makeDir(rel); err != nil {
		return err
	}
	return f()
}

// fail says what failed on which path below the cache folder.
func (d *RepoDir) fail(doing, rel string, err error) error {
	return fmt.Errorf("%s %s/%s: %w", doing, d.id.Folder(), rel, bare(err))
}

// bare takes off the path and call that package os puts around an error, because the text around it names the path from the cache folder down.
func bare(err error) error {
	if pathErr, ok := err.(*fs.PathError); ok { //nolint:errorlint // only the outermost layer is taken off
		return pathErr.Err
	}
	if linkErr, ok := err.(*os.LinkError); ok { //nolint:errorlint // only the outermost layer is taken off
		return linkErr.Err
	}
	return err
}

// tempName is a new name in blobs/ for a temporary file.
func tempName(stem string) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return "." + stem + "." + hex.EncodeToString(random[:]) + tempSuffix
}

// createTemp makes a temporary file in blobs/ with the mode that the umask gives.
func (d *RepoDir) createTemp(stem string) (*os.File, string, error) {
	const tries = 16
	for range tries {
		name := tempName(stem)
		f, err := d.blobs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, "", d.fail("creating", blobsDir+"/"+name, err)
		}
		return f, name, nil
	}
	return nil, "", d.fail("creating", blobsDir+"/."+stem+".*"+tempSuffix, fs.ErrExist)
}

// newFileMode is the mode of a file that is created now. Asking the process for its umask means changing it for an instant, for all threads.
func (d *RepoDir) newFileMode() (fs.FileMode, error) {
	f, name, err := d.createTemp("mode")
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Close(), d.blobs.Remove(name)); err != nil {
		return 0, d.fail("probing", blobsDir, err)
	}
	return info.Mode().Perm(), nil
}

// writeFile replaces the small file rel as a whole: readers see the old one or the new one, also after a power cut. fill writes it, and finish, if not nil, is
// called with the name in blobs/ of the closed file before it takes its place.
func (d *RepoDir) writeFile(stem, rel string, fill func(*os.File) error, finish func(temp string) error) error {
	return d.inDir(path.Dir(rel), func() error {
		f, name, err := d.createTemp(stem)
		if err != nil {
			return err
		}
		err = fill(f)
		if err == nil {
			err = f.Sync()
		}
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err == nil && finish != nil {
			err = finish(name)
		}
		if err == nil {
			failpoint.Hit("small file synced")
			err = d.root.Rename(filepath.FromSlash(blobsDir+"/"+name), filepath.FromSlash(rel))
			failpoint.Hit("small file named")
		}
		if err != nil {
			return errors.Join(d.fail("writing", rel, err), d.removeTemp(name))
		}
		return nil
	})
}

// removeTemp removes a file in blobs/ that may be gone already.
func (d *RepoDir) removeTemp(name string) error {
	if err := d.blobs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.fail("removing", blobsDir+"/"+name, err)
	}
	return nil
}

// HasBlob says whether blobs/<id> leads to a regular file of that size inside the cache, directly or through the shared store.
func (d *RepoDir) HasBlob(id hub.BlobID, size int64) bool {
	info, err := d.blobs.Lstat(string(id))
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		_, info, err = d.cache.resolve(d.blobPath(id))
	}
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// blobPath is a blob's path below the cache folder.
func (d *RepoDir) blobPath(id hub.BlobID) string {
	return d.id.Folder() + "/" + blobsDir + "/" + string(id)
}

// openRegular opens a file that exists and is neither a link nor a device. [os.Root] alone would follow a link that stays inside.
func openRegular(root *os.Root, name string, flag int) (*os.File, error) {
	before, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	f, err := root.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	if !isAt(root, name, f) {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: name, Err: errNotRegular}, f.Close())
	}
	return f, nil
}

var errNotRegular = errors.New("it is not a regular file")

// isAt says whether name is still the open file f, and not a link to it.
func isAt(root *os.Root, name string, f *os.File) bool {
	named, err := root.Lstat(name)
	if err != nil {
		return false
	}
	opened, err := f.Stat()
	return err == nil && os.SameFile(named, opened)
}

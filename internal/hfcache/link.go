package hfcache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// LinkState says what [RepoDir.Link] did.
type LinkState uint8

// A file of a snapshot was put in place, or was right already.
const (
	Linked LinkState = iota + 1
	Kept
)

// ForeignFileError reports a real file in a snapshot that is not the blob that belongs there. Some tool or person put it there, so it stays.
type ForeignFileError struct {
	Path string // below the cache folder, slash-separated
	Size int64  // bytes it has
	Want int64  // bytes the blob has
}

// Error names the file and both sizes, and says what to do.
func (e *ForeignFileError) Error() string {
	return fmt.Sprintf("%s is a file of its own with %d bytes where a link to a blob of %d bytes belongs; move it away to have it replaced", e.Path, e.Size, e.Want)
}

var errWindowsName = errors.New("a name that ends in a dot or a space is another one to programs on Windows")

// fitsWindows says whether programs on Windows find a file by its path: they drop dots and spaces at the end of names ("Naming Files, Paths, and Namespaces").
// Names of devices are refused where files are opened.
func fitsWindows(p hub.Path) bool {
	for name := range strings.SplitSeq(string(p), "/") {
		if strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") {
			return false
		}
	}
	return true
}

// CanHold says whether this platform can have a file of that name in a snapshot.
func CanHold(p hub.Path) bool { return runtime.GOOS != "windows" || fitsWindows(p) }

// MakeSnapshot makes the folder of a commit. It must be there before a ref names the commit, even if it stays empty.
func (d *RepoDir) MakeSnapshot(c hub.Commit) error { return d.makeDir(snapshotsDir + "/" + string(c)) }

// Link puts a blob that is in blobs/ into a snapshot: by a relative symbolic link as the Hub's clients do, else by a hard link, else by a copy.
// A right link stays, an absolute one is rewritten as a relative one, and any other link is replaced at once, so that a reader always finds one or the other.
// A real file of the blob's size stays, as caches without links have them, and then the blob need not be there; one of another size is a *[ForeignFileError], and stays too.
func (d *RepoDir) Link(c hub.Commit, p hub.Path, id hub.BlobID, size int64) (LinkState, error) {
	l := link{
		dir: d, id: id, size: size,
		final: snapshotsDir + "/" + string(c) + "/" + string(p),
		text:  strings.Repeat("../", p.Depth()+2) + blobsDir + "/" + string(id),
	}
	if !CanHold(p) {
		return 0, d.fail("linking", l.final, errWindowsName)
	}
	if !d.HasBlob(id, size) {
		// Caches without links may have no blob beside the file.
		if info, err := d.root.Lstat(filepath.FromSlash(l.final)); err == nil && info.Mode().IsRegular() && info.Size() == size {
			return Kept, nil
		}
		return 0, d.fail("linking", l.final, fmt.Errorf("blob %s is not there: %w", id, fs.ErrNotExist))
	}
	var state LinkState
	err := d.inDir(path.Dir(l.final), func() (err error) {
		state, err = l.make()
		return err
	})
	return state, err
}

// link is one call of Link.
type link struct {
	dir   *RepoDir
	id    hub.BlobID
	size  int64
	final string // below the repository's folder
	text  string // of the link
}

func (l link) make() (LinkState, error) {
	const tries = 4 // another client can be at the same file
	for range tries {
		info, err := l.dir.root.Lstat(filepath.FromSlash(l.final))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err = l.place(false); errors.Is(err, fs.ErrExist) {
				continue
			}
			return Linked, err
		case err != nil:
			return 0, l.fail(err)
		case info.Mode()&fs.ModeSymlink != 0:
			state, err := l.overLink()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return state, err
		case info.Mode().IsRegular() && info.Size() == l.size:
			return Kept, nil
		case info.Mode().IsRegular():
			return 0, &ForeignFileError{Path: l.dir.id.Folder() + "/" + l.final, Size: info.Size(), Want: l.size}
		default:
			return 0, l.fail(errNotRegular)
		}
	}
	return 0, l.fail(ErrBusy)
}

func (l link) fail(err error) error { return l.dir.fail("linking", l.final, err) }

// overLink decides about a link that is there.
func (l link) overLink() (LinkState, error) {
	text, err := l.dir.root.Readlink(filepath.FromSlash(l.final))
	if err != nil {
		return 0, l.fail(err)
	}
	if filepath.ToSlash(text) == l.text {
		return Kept, nil
	}
	state := Linked
	folder := l.dir.id.Folder()
	if target, err := l.dir.cache.target(path.Dir(folder+"/"+l.final), text); err == nil && target == l.dir.blobPath(l.id) {
		state = Kept
	}
	return state, l.place(true)
}

// place tries the three ways. Without replace, a name that exists by now is an error that wraps [fs.ErrExist].
func (l link) place(replace bool) error {
	if !l.dir.noSymlinks.Load() {
		err := l.symlink(replace)
		if err == nil || !refused(err) {
			return err
		}
	}
	done, err := l.hardLink(replace)
	if !done && err == nil {
		err = l.copy()
	}
	if err == nil {
		l.dir.noSymlinks.Store(true) // something could be written here, so it was the symbolic link that was refused
	}
	return err
}

// refused says whether the system does not let us make symbolic links, as opposed to some other failure, such as a folder that we may not write
// to at all. Windows has many ways to say that a privilege or the developer mode is missing.
func refused(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported) ||
		(runtime.GOOS == "windows" && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist))
}

func (l link) symlink(replace bool) error {
	return l.put(replace, func(name string) error {
		return l.dir.sys.symlink(l.dir.root, filepath.FromSlash(l.text), name)
	})
}

// hardLink says false if it cannot be done. The name of a blob in the shared store is itself a link, which must not get a second name.
func (l link) hardLink(replace bool) (bool, error) {
	info, err := l.dir.blobs.Lstat(string(l.id))
	if err != nil {
		return false, l.fail(err)
	}
	if !info.Mode().IsRegular() {
		return false, nil
	}
	err = l.put(replace, func(name string) error {
		return l.dir.sys.link(l.dir.root, filepath.FromSlash(blobsDir+"/"+string(l.id)), name)
	})
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return true, err
}

// put makes a link at the final name, which is atomic as such, or, to replace what is there, at a temporary name first.
func (l link) put(replace bool, create func(name string) error) error {
	failpoint.Hit("link due")
	if !replace {
		if err := create(filepath.FromSlash(l.final)); err != nil {
			return l.fail(err)
		}
		return nil
	}
	name := tempName(string(l.id))
	temp := filepath.FromSlash(blobsDir + "/" + name)
	if err := create(temp); err != nil {
		return l.fail(err)
	}
	failpoint.Hit("link made")
	err := l.dir.root.Rename(temp, filepath.FromSlash(l.final))
	if err != nil {
		err = l.fail(err)
	}
	return errors.Join(err, l.dir.removeTemp(name)) // it is still there if the final name is the same file already
}

// copy makes the snapshot's file a file of its own.
func (l link) copy() error {
	resolved, _, err := l.dir.cache.resolve(l.dir.blobPath(l.id))
	if err != nil {
		return l.fail(err)
	}
	src, err := l.dir.cache.OpenBytes(resolved)
	if err != nil {
		return l.fail(err)
	}
	defer src.Close() //nolint:errcheck // only read from
	return l.dir.writeFile(string(l.id), l.final, func(f *os.File) error {
		if l.dir.sys.clone(f, src) == nil {
			return nil
		}
		n, err := io.Copy(f, src)
		if err == nil && n != l.size {
			err = &hub.MismatchError{ID: l.id, WantSize: l.size, GotSize: n}
		}
		return err
	}, nil)
}

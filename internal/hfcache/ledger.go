package hfcache

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// Ledger remembers when revisions were last used, as far as we were asked for them: the times of files do not tell where a file system keeps no access times, and
// a pull of what is there already reads nothing. It is one small file, outside of what clients scan. Several processes may write it at once. It must not be used after its
// cache is closed.
type Ledger struct {
	name   string                   // of the file
	folder string                   // for messages
	open   func() (*os.Root, error) // opens the folder; the error wraps [fs.ErrNotExist] if there is none
	create func() (*os.Root, error) // likewise, and makes it
	mode   fs.FileMode              // of the file
}

// maxLedger bounds the file: some hundred thousand revisions.
const maxLedger = 64 << 20

// ledgerWait is how long a write waits for another one, which takes an instant.
const ledgerWait = 2 * time.Second

// ErrLedger is wrapped by errors about a ledger whose content is not what we write. What it knew is then lost, which costs nothing but precision.
var ErrLedger = errors.New("it is no ledger of last uses")

// Ledger opens what is remembered about the cache: in the folder state, which is this user's, or beside the cache's locks if several users share the cache, so that each
// knows of the others. It does no I/O on the ledger itself; a missing one is empty.
func (c *Cache) Ledger(state string) *Ledger {
	info, err := c.root.Stat(".")
	locks, locksErr := c.root.Lstat(locksDir)
	if err == nil && isShared(info) && (locksErr != nil || locks.Mode()&fs.ModeSymlink == 0) {
		return &Ledger{
			name: "last-use.json", folder: filepath.Join(c.dir, filepath.FromSlash(ownLocksDir)), mode: 0o666,
			open: func() (*os.Root, error) { return openFolders(c.root, ownLocksDir) }, create: c.openOwnLocks,
		}
	}
	sum := sha256.Sum256([]byte(c.real))
	const digits = 8
	return &Ledger{
		name: "last-use-" + hex.EncodeToString(sum[:digits]) + ".json", folder: state, mode: 0o600,
		open: func() (*os.Root, error) { return os.OpenRoot(state) },
		create: func() (*os.Root, error) {
			if err := os.MkdirAll(state, 0o700); err != nil {
				return nil, err
			}
			return os.OpenRoot(state)
		},
	}
}

// ledgerFile is the format: times of last use by revision, as "<repository folder>@<commit>".
type ledgerFile struct {
	Version int               `json:"version"`
	Uses    map[string]string `json:"uses"` // as in RFC 3339, in UTC
}

const ledgerVersion = 1

// Uses is what is remembered. Entries that make no sense are left out; a file that does not wraps [ErrLedger].
func (l *Ledger) Uses() (map[manifest.Key]time.Time, error) {
	dir, err := l.open()
	if errors.Is(err, fs.ErrNotExist) {
		return map[manifest.Key]time.Time{}, nil
	}
	if err != nil {
		return map[manifest.Key]time.Time{}, l.fail("opening", err)
	}
	defer dir.Close() //nolint:errcheck // only read from
	return l.read(dir)
}

func (l *Ledger) fail(doing string, err error) error {
	return fmt.Errorf("%s %s: %w", doing, filepath.Join(l.folder, l.name), bare(err))
}

// read reads the file. The map is never nil.
func (l *Ledger) read(dir *os.Root) (map[manifest.Key]time.Time, error) {
	uses := map[manifest.Key]time.Time{}
	data, err := readSmall(dir, l.name, maxLedger)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return uses, nil
	case errors.Is(err, errNotRegular):
		return uses, l.fail("reading", ErrLedger)
	case err != nil:
		return uses, l.fail("reading", err)
	}
	var file ledgerFile
	if err := json.Unmarshal(data, &file); err != nil || file.Version < ledgerVersion {
		return uses, l.fail("reading", ErrLedger)
	}
	if file.Version > ledgerVersion {
		return uses, l.fail("reading", fmt.Errorf("it has version %d, and this program knows up to %d", file.Version, ledgerVersion))
	}
	for name, text := range file.Uses {
		key, ok := parseUse(name)
		used, err := time.Parse(time.RFC3339, text)
		if ok && err == nil {
			uses[key] = used.UTC()
		}
	}
	return uses, nil
}

// readSmall reads a file that is no link and no device, and has no more than limit bytes. Otherwise the error wraps [errNotRegular].
func readSmall(dir *os.Root, name string, limit int64) ([]byte, error) {
	var f *os.File
	var err error
	const tries = 100
	for range tries {
		if f, err = openRegular(dir, name, os.O_RDONLY); !errors.Is(err, errNotRegular) {
			break
		}
		if info, err := dir.Lstat(name); err == nil && !info.Mode().IsRegular() {
			break // else it was replaced by another one while it was opened
		}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errNotRegular
	}
	return data, err
}

func parseUse(name string) (manifest.Key, bool) {
	folder, commit, _ := strings.Cut(name, "@")
	repo, err := hub.ParseFolder(folder)
	c, err2 := hub.ParseCommit(commit)
	return manifest.Key{Repo: repo, Commit: c}, errors.Join(err, err2) == nil && repo.Folder() == folder
}

// Record remembers uses. Of two for one revision the later counts. forget says of what was remembered whether it is of no use any more; it may be nil. A ledger that wraps [ErrLedger] is
// begun anew, and one of a newer version of this program is left alone.
func (l *Ledger) Record(ctx context.Context, uses map[manifest.Key]time.Time, forget func(manifest.Key) bool) (err error) {
	dir, err := l.create()
	if err != nil {
		return l.fail("opening", err)
	}
	defer dir.Close() //nolint:errcheck // what was written in it was checked
	ctx, cancel := context.WithTimeout(ctx, ledgerWait)
	defer cancel()
	unlock, err := (&locker{root: dir, rel: l.name + ".lock", try: tryLock}).lock(ctx)
	if err != nil {
		return l.fail("locking", err)
	}
	defer unlock()
	all, err := l.read(dir)
	if err != nil && !errors.Is(err, ErrLedger) {
		return err
	}
	for key, used := range uses {
		if used.After(all[key]) {
			all[key] = used
		}
	}
	file := ledgerFile{ledgerVersion, make(map[string]string, len(all))}
	for key, used := range all {
		if forget == nil || !forget(key) {
			file.Uses[key.Repo.Folder()+"@"+string(key.Commit)] = used.UTC().Format(time.RFC3339)
		}
	}
	text, err := json.Marshal(file)
	if err == nil {
		err = replaceFile(dir, l.name, append(text, '\n'), l.mode)
	}
	if err != nil {
		return l.fail("writing", err)
	}
	return nil
}

// replaceFile writes a file whole or not at all, also where the power is cut.
func replaceFile(dir *os.Root, name string, data []byte, mode fs.FileMode) error {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	// Where there are no locks, others can be at the same.
	temp := name + "." + hex.EncodeToString(random[:]) + ".tmp"
	f, err := dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_ = f.Chmod(mode) // the umask has had its say
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		failpoint.Hit("ledger synced")
		err = dir.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, dir.Remove(temp))
	}
	return nil
}

package hfcache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// Ledger remembers when revisions were last used, as far as we were asked for them: the times of files do not tell where a file system keeps no access times, and
// a pull of what is there already reads nothing. It is one small file, outside of what clients scan. Several processes may write it at once.
type Ledger struct {
	path string
	// folder is the mode of the folder that it is in, if that has to be made: other users of the cache may have to write there, too.
	folder, file fs.FileMode
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
	if info, err := c.root.Stat("."); err == nil && isShared(info) {
		return &Ledger{filepath.Join(c.real, filepath.FromSlash(ownLocksDir), "last-use.json"), info.Mode().Perm() | 0o700, 0o666}
	}
	sum := sha256.Sum256([]byte(c.real))
	const digits = 8
	return &Ledger{filepath.Join(state, "last-use-"+hex.EncodeToString(sum[:digits])+".json"), 0o700, 0o600}
}

// ledgerFile is the format: times of last use by revision, as "<repository folder>@<commit>".
type ledgerFile struct {
	Version int                  `json:"version"`
	Uses    map[string]time.Time `json:"uses"`
}

const ledgerVersion = 1

// Uses is what is remembered. Entries that make no sense are left out; a file that does not wraps [ErrLedger].
func (l *Ledger) Uses() (map[manifest.Key]time.Time, error) {
	uses := map[manifest.Key]time.Time{}
	info, err := os.Lstat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return uses, nil
	}
	if err != nil {
		return uses, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxLedger {
		return uses, fmt.Errorf("%s: %w", l.path, ErrLedger)
	}
	data, err := os.ReadFile(l.path)
	if err != nil {
		return uses, err
	}
	var file ledgerFile
	if err := json.Unmarshal(data, &file); err != nil || file.Version != ledgerVersion {
		return uses, fmt.Errorf("%s: %w", l.path, ErrLedger)
	}
	for name, used := range file.Uses {
		if key, ok := parseUse(name); ok {
			uses[key] = used
		}
	}
	return uses, nil
}

func parseUse(name string) (manifest.Key, bool) {
	folder, commit, _ := strings.Cut(name, "@")
	repo, err := hub.ParseFolder(folder)
	c, err2 := hub.ParseCommit(commit)
	return manifest.Key{Repo: repo, Commit: c}, errors.Join(err, err2) == nil && repo.Folder() == folder
}

// Record remembers uses. Of two for one revision the later counts. forget says of what was remembered whether it is of no use any more; it may be nil.
func (l *Ledger) Record(ctx context.Context, uses map[manifest.Key]time.Time, forget func(manifest.Key) bool) (err error) {
	dir := filepath.Dir(l.path)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, l.folder); err != nil {
			return err
		}
		_ = os.Chmod(dir, l.folder) //nolint:gosec // as the cache's own folder, whatever the umask says
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // what was written in it was checked
	ctx, cancel := context.WithTimeout(ctx, ledgerWait)
	defer cancel()
	name := filepath.Base(l.path)
	unlock, err := (&locker{root: root, rel: name + ".lock", try: tryLock}).lock(ctx)
	if err != nil {
		return fmt.Errorf("locking %s: %w", l.path, err)
	}
	defer unlock()
	all, err := l.Uses()
	if err != nil && !errors.Is(err, ErrLedger) {
		return err
	}
	for key, used := range uses {
		if used.After(all[key]) {
			all[key] = used
		}
	}
	file := ledgerFile{ledgerVersion, make(map[string]time.Time, len(all))}
	for key, used := range all {
		if forget == nil || !forget(key) {
			file.Uses[key.Repo.Folder()+"@"+string(key.Commit)] = used.UTC().Truncate(time.Second)
		}
	}
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(file); err != nil {
		return err
	}
	return replaceFile(root, name, text.Bytes(), l.file)
}

// replaceFile writes a file whole or not at all. It is not synced: after a power cut the times of files have to do.
func replaceFile(root *os.Root, name string, data []byte, mode fs.FileMode) error {
	temp := name + ".tmp"
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_ = f.Chmod(mode) // the umask has had its say
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Rename(temp, name)
}

package hfcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Temp removes one of [Repo.Temps], and with a staged file of ours its journal. It is left alone if it changed within the grace period, or if somebody holds the lock of
// the download.
func (r *Remover) Temp(ctx context.Context, repo hub.Repo, name string) (Removed, error) {
	if !isEntryName(name) || !r.names.temp(name) {
		return Removed{}, fmt.Errorf("removing a temporary file of %s: %q is no name of one", repo, name)
	}
	return r.in(repo, func(m *removal) error {
		return m.inFolder(blobsDir, func(dir *os.Root) error { return m.temp(ctx, dir, name) })
	})
}

// Staged removes what [RepoDir.StageResumable] has left of a download of the blob, by the rules of [Remover.Temp].
func (r *Remover) Staged(ctx context.Context, repo hub.Repo, id hub.BlobID) (Removed, error) {
	return r.Temp(ctx, repo, "."+string(id)+tempSuffix)
}

func (m *removal) temp(ctx context.Context, dir *os.Root, name string) error {
	rel := blobsDir + "/" + name
	info, err := dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return m.fail("removing", rel, err)
	case info.IsDir():
		m.skip(rel, "it is a folder")
		return nil
	case m.young(info.ModTime()):
		m.skip(rel, whyYoung)
		return nil
	}
	if staged, isJournal := strings.CutSuffix(name, tempSuffix+journalSuffix); isJournal {
		if _, err := dir.Lstat(staged + tempSuffix); !errors.Is(err, fs.ErrNotExist) {
			m.skip(rel, "it belongs to a download that can go on")
			return nil
		}
	}
	if etag, is := unfinished(name); is && isEntryName(etag) {
		unlock, err := m.cache.tryLockBlob(ctx, m.id, etag)
		if errors.Is(err, ErrBusy) {
			m.skip(rel, whyLocked)
			return nil
		}
		if err != nil {
			return err
		}
		defer unlock()
		unlock, busy := m.tryOpened(dir, etag+".lock", 0) // of the Rust client before 1.0
		if busy {
			m.skip(rel, whyLocked)
			return nil
		}
		defer unlock()
	}
	unlock, busy := m.tryOpened(dir, name, stageOffset(name))
	if busy {
		m.skip(rel, whyLocked)
		return nil
	}
	defer unlock()
	m.step("locked")
	if err := m.unlink(dir, name, rel); err != nil {
		return err
	}
	if strings.HasSuffix(name, tempSuffix) {
		// Under the lock of the staged file, so that nobody begins anew between the two.
		return m.unlink(dir, name+journalSuffix, rel+journalSuffix)
	}
	return nil
}

// stageOffset is where Windows locks a file in blobs/.
func stageOffset(name string) int64 {
	if strings.HasSuffix(name, tempSuffix) {
		return stageLockOffset
	}
	return 0
}

// tryOpened locks a file that is there. Where it cannot be opened or there are no locks, unlock does nothing.
func (m *removal) tryOpened(dir *os.Root, name string, offset int64) (unlock func(), busy bool) {
	f, err := openRegular(dir, name, os.O_RDWR)
	if errors.Is(err, fs.ErrPermission) {
		f, err = openRegular(dir, name, os.O_RDONLY)
	}
	if err != nil {
		return func() {}, false
	}
	err = m.lock(f, offset)
	return func() { _ = f.Close() }, errors.Is(err, ErrBusy)
}

// unfinished says whether a name in blobs/ is an unfinished download, and of which blob.
func unfinished(name string) (etag string, _ bool) {
	if stem, ours := strings.CutSuffix(name, tempSuffix); ours {
		stem = withoutRandom(strings.TrimPrefix(stem, "."))
		_, err := hub.ParseBlobID(stem) // else it is a ref or a listing that is being written
		return stem, err == nil
	}
	for _, suffix := range []string{".sync.part", ".part", ".incomplete", ".downloadInProgress", ".shared", ".new", ".old"} {
		if stem, is := strings.CutSuffix(name, suffix); is {
			return withoutRandom(strings.TrimPrefix(stem, ".")), true
		}
	}
	return "", false
}

// withoutRandom takes off the 8 hex digits that make names unique.
func withoutRandom(stem string) string {
	const digits = 8
	at := len(stem) - digits - 1
	if at <= 0 || stem[at] != '.' || strings.Trim(stem[at+1:], "0123456789abcdef") != "" {
		return stem
	}
	return stem[:at]
}

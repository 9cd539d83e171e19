package hfcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

func ledgerKey(i int) manifest.Key {
	return manifest.Key{Repo: lockRepo, Commit: hub.Commit(fmt.Sprintf("%040x", i))}
}

func ledgerTime(hours int) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(hours) * time.Hour)
}

// ownLedger is the ledger of a cache that only its owner writes to, and the path of its file.
func ownLedger(t *testing.T) (*Ledger, string) {
	t.Helper()
	c := writeCache(t)
	finish(t, os.Chmod(c.dir, 0o755))
	l := c.Ledger(filepath.Join(t.TempDir(), "state", "deep"))
	return l, filepath.Join(l.folder, l.name)
}

func remember(t *testing.T, l *Ledger, uses map[manifest.Key]time.Time) {
	t.Helper()
	finish(t, l.Record(t.Context(), uses, nil))
}

func wantUses(t *testing.T, l *Ledger, want map[manifest.Key]time.Time) {
	t.Helper()
	got, err := l.Uses()
	finish(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
}

type uses = map[manifest.Key]time.Time

func TestLedger(t *testing.T) {
	l, path := ownLedger(t)
	wantUses(t, l, uses{})
	if _, err := os.Lstat(l.folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("asking made the folder: %v", err)
	}
	remember(t, l, uses{ledgerKey(1): ledgerTime(1), ledgerKey(2): ledgerTime(2)})
	remember(t, l, uses{ledgerKey(1): ledgerTime(0).In(time.FixedZone("", 3600)), ledgerKey(2): ledgerTime(3).Add(time.Millisecond), ledgerKey(3): ledgerTime(3)})
	wantUses(t, l, uses{ledgerKey(1): ledgerTime(1), ledgerKey(2): ledgerTime(3), ledgerKey(3): ledgerTime(3)})
	finish(t, l.Record(t.Context(), nil, func(k manifest.Key) bool { return k == ledgerKey(2) }))
	wantUses(t, l, uses{ledgerKey(1): ledgerTime(1), ledgerKey(3): ledgerTime(3)})
	if got, want := content(t, path), `{"version":1,"uses":{"models--org--name@`+strings.Repeat("0", 39)+`1":"2026-01-01T01:00:00Z","models--org--name@`+strings.Repeat("0", 39)+`3":"2026-01-01T03:00:00Z"}}`+"\n"; got != want {
		t.Errorf("the file is %s, want %s", got, want)
	}
	if mode, folder := lstat(t, path).Mode().Perm(), lstat(t, l.folder).Mode().Perm(); mode != 0o600 || folder != 0o700 {
		t.Errorf("modes %v and %v", mode, folder)
	}
	wantListing(t, l.folder, l.name, l.name+".lock")
}

// Each cache has its own, by its real path.
func TestLedgerNames(t *testing.T) {
	c, other, state := writeCache(t), writeCache(t), t.TempDir()
	finish(t, errors.Join(os.Chmod(c.dir, 0o755), os.Chmod(other.dir, 0o755)))
	link := filepath.Join(t.TempDir(), "link")
	symlink(t, c.dir, link)
	linked, err := Open(link, Options{})
	finish(t, err)
	defer linked.Close() //nolint:errcheck // nothing was written by it
	remember(t, c.Ledger(state), uses{ledgerKey(1): ledgerTime(1)})
	wantUses(t, linked.Ledger(state), uses{ledgerKey(1): ledgerTime(1)})
	wantUses(t, other.Ledger(state), uses{})
}

// Whoever shares a cache shares what is known of its use.
func TestLedgerOfSharedCache(t *testing.T) {
	c := writeCache(t)
	const mode = 0o775 | fs.ModeSetgid
	finish(t, os.Chmod(c.dir, mode))
	wantUses(t, c.Ledger(t.TempDir()), uses{})
	remember(t, c.Ledger(t.TempDir()), uses{ledgerKey(1): ledgerTime(1)})
	wantUses(t, c.Ledger(t.TempDir()), uses{ledgerKey(1): ledgerTime(1)})
	wantListing(t, c.dir, ".locks/.hf-cache-sync/last-use.json", ".locks/.hf-cache-sync/last-use.json.lock")
	for name, want := range map[string]fs.FileMode{"": fs.ModeDir | mode, "last-use.json": 0o666, "last-use.json.lock": 0o664} {
		if got := lstat(t, filepath.Join(c.dir, ".locks/.hf-cache-sync", name)).Mode(); got != want {
			t.Errorf("%q has mode %v, want %v", name, got, want)
		}
	}

	// Some have the locks elsewhere. That is not where the ledger belongs.
	finish(t, os.RemoveAll(filepath.Join(c.dir, ".locks")))
	elsewhere, state := t.TempDir(), t.TempDir()
	symlink(t, elsewhere, filepath.Join(c.dir, ".locks"))
	remember(t, c.Ledger(state), uses{ledgerKey(1): ledgerTime(1)})
	wantUses(t, c.Ledger(state), uses{ledgerKey(1): ledgerTime(1)})
	wantListing(t, elsewhere)

	finish(t, os.Remove(filepath.Join(c.dir, ".locks")))
	symlink(t, elsewhere, filepath.Join(c.dir, ".locks", ".hf-cache-sync"))
	if err := c.Ledger(state).Record(t.Context(), uses{ledgerKey(1): ledgerTime(1)}, nil); !errors.Is(err, ErrInTheWay) {
		t.Errorf("error %v", err)
	}
	wantListing(t, elsewhere)
}

func TestLedgerThatIsDamaged(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "cut off": `{"version":1,"uses":{"models--org--na`, "no object": "[]", "no version": "{}", "a wrong type": `{"version":1,"uses":[]}`,
		"zeros": "\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			l, path := ownLedger(t)
			put(t, path, text)
			if got, err := l.Uses(); !errors.Is(err, ErrLedger) || got == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, %v", got, err)
			}
			remember(t, l, uses{ledgerKey(1): ledgerTime(1)})
			wantUses(t, l, uses{ledgerKey(1): ledgerTime(1)})
		})
	}
	t.Run("an entry", func(t *testing.T) {
		l, path := ownLedger(t)
		commit := strings.Repeat("0", 39) + "1"
		put(t, path, `{"version":1,"more":1,"uses":{"models--org--name@`+commit+`":"2026-01-01T01:00:00Z","models--org--name@x":"2026-01-01T01:00:00Z","x@`+commit+`":"2026-01-01T01:00:00Z",
			"models--org--b@`+commit+`":"yesterday","../models--org--name@`+commit+`":"2026-01-01T01:00:00Z","":""}}`)
		wantUses(t, l, uses{ledgerKey(1): ledgerTime(1)})
	})
	t.Run("a newer version", func(t *testing.T) {
		l, path := ownLedger(t)
		const text = `{"version":2,"uses":[]}`
		put(t, path, strings.Replace(text, "[]", "{}", 1))
		_, err := l.Uses()
		wantError(t, err, "version 2")
		if err := l.Record(t.Context(), uses{ledgerKey(1): ledgerTime(1)}, nil); err == nil || errors.Is(err, ErrLedger) {
			t.Errorf("error %v", err)
		}
		if got := content(t, path); !strings.Contains(got, `"version":2`) {
			t.Errorf("the file is %s", got)
		}
	})
	t.Run("too large", func(t *testing.T) {
		l, path := ownLedger(t)
		put(t, path, "")
		finish(t, os.Truncate(path, maxLedger+1))
		if _, err := l.Uses(); !errors.Is(err, ErrLedger) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a folder", func(t *testing.T) {
		l, path := ownLedger(t)
		finish(t, os.MkdirAll(path, 0o700))
		if _, err := l.Uses(); !errors.Is(err, ErrLedger) {
			t.Errorf("error %v", err)
		}
		if err := l.Record(t.Context(), uses{}, nil); err == nil {
			t.Error("no error")
		}
		wantListing(t, l.folder, l.name+".lock")
	})
}

func TestLedgerThatIsALink(t *testing.T) {
	l, path := ownLedger(t)
	outside := filepath.Join(t.TempDir(), "outside")
	const text = `{"version":1,"uses":{"models--org--name@0000000000000000000000000000000000000009":"2026-01-01T01:00:00Z"}}`
	put(t, outside, text)
	symlink(t, outside, path)
	if got, err := l.Uses(); !errors.Is(err, ErrLedger) || len(got) > 0 {
		t.Errorf("%v, %v", got, err)
	}
	remember(t, l, uses{ledgerKey(1): ledgerTime(1)})
	if got := content(t, outside); got != text {
		t.Errorf("what it led to is %s", got)
	}
	if !lstat(t, path).Mode().IsRegular() {
		t.Error("it is still a link")
	}
	finish(t, os.Remove(path+".lock"))
	symlink(t, outside, path+".lock")
	wantError(t, l.Record(t.Context(), uses{}, nil), "locking", path, errNotRegular.Error())
}

func TestLedgerWrittenByMany(t *testing.T) {
	c, state := writeCache(t), t.TempDir()
	finish(t, os.Chmod(c.dir, 0o755))
	want := uses{}
	for i := range 12 {
		want[ledgerKey(i)] = ledgerTime(i)
	}
	var work sync.WaitGroup
	var mu sync.Mutex
	var failed error
	shared := c.Ledger(state)
	for key, used := range maps.All(want) {
		work.Go(func() {
			l := shared
			if used.Hour()%2 == 0 {
				l = c.Ledger(state) // as another process
			}
			// A run waits so long at most; here many wait in turn.
			err := l.Record(t.Context(), uses{key: used}, nil)
			for errors.Is(err, context.DeadlineExceeded) {
				err = l.Record(t.Context(), uses{key: used}, nil)
			}
			_, readErr := l.Uses()
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err, readErr)
		})
	}
	work.Wait()
	finish(t, failed)
	wantUses(t, shared, want)
	wantListing(t, state, shared.name, shared.name+".lock")
}

// Nobody waits long for it.
func TestLedgerThatIsLocked(t *testing.T) {
	l, path := ownLedger(t)
	hold(t, path+".lock")
	ctx, cancel := context.WithTimeout(t.Context(), 2*lockPoll)
	defer cancel()
	if err := l.Record(ctx, uses{ledgerKey(1): ledgerTime(1)}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	wantUses(t, l, uses{})
}

// Reading takes no lock: whoever reads finds the old one or the new one.
func TestLedgerReadWhileWritten(t *testing.T) {
	l, path := ownLedger(t)
	remember(t, l, uses{ledgerKey(1): ledgerTime(1)})
	text := []byte(content(t, path))
	dir, err := l.open()
	finish(t, err)
	defer dir.Close() //nolint:errcheck // what was written in it was checked
	done := make(chan error, 1)
	go func() {
		var err error
		for range 2000 {
			err = errors.Join(err, replaceFile(dir, l.name, text, l.mode))
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			finish(t, err)
			return
		default:
			wantUses(t, l, uses{ledgerKey(1): ledgerTime(1)})
		}
	}
}

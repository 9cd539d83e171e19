package cli

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// stateFolder is where the program keeps what it remembers about caches.
const stateFolder = "hf-cache-sync"

// ledger is where the uses of revisions are remembered that no file's time shows: a pull of what is there already reads nothing.
func (a *app) ledger(cache *hfcache.Cache) *hfcache.Ledger {
	return cache.Ledger(a.statePath(stateFolder))
}

// recordUse remembers that revisions were just used. That it cannot be written is no reason to fail: the times of files tell nearly as much.
func (a *app) recordUse(ctx context.Context, cache *hfcache.Cache, keys ...manifest.Key) {
	uses := make(map[manifest.Key]time.Time, len(keys))
	for _, key := range keys {
		uses[key] = a.Now()
	}
	if err := a.ledger(cache).Record(ctx, uses, nil); err != nil {
		a.logger().DebugContext(ctx, "the time of use is not remembered", slog.Any("error", err))
	}
}

// lastUses is what was remembered.
func (a *app) lastUses(cache *hfcache.Cache) map[manifest.Key]time.Time {
	uses, err := a.ledger(cache).Uses()
	if err != nil {
		a.note("note: what was pulled when is not known, only the times of files: %v", err)
	}
	return uses
}

// lockCache keeps a second prune, or a second watcher, off the cache.
func (a *app) lockCache(cache *hfcache.Cache, command string) (unlock func() error, _ error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return cache.LockProcess(command, hfcache.Holder{PID: os.Getpid(), Host: host, Command: filepath.Base(os.Args[0]) + " " + command, Since: a.Now()})
}

package engine

import (
	"context"
	"errors"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
)

// A group is what is made durable at once: much enough that the cost of syncing does not show, little enough that a kill wastes little.
const (
	groupBytes = 64 << 20
	groupFiles = 256
	groupWait  = time.Second
)

// grouper publishes staged files in groups. A file that was renamed before its bytes reached the disk would be full of zeros after a power cut, at its full
// size, and size is what a later run looks at; but syncing thousands of small files one by one takes longer than downloading them.
type grouper struct {
	dir   *hfcache.RepoDir
	queue chan pending
}

type pending struct {
	staged *hfcache.Staged
	size   int64
	// published is called once, with nil when the file is there. What it returns ends the run.
	published func(context.Context, error) error
}

func newGrouper(dir *hfcache.RepoDir) *grouper {
	return &grouper{dir: dir, queue: make(chan pending)}
}

// add hands over a verified file. It must not be called after close.
func (g *grouper) add(p pending) { g.queue <- p }

// close says that nothing will be added any more.
func (g *grouper) close() { close(g.queue) }

// run publishes until close. After an error it only clears away what is still added.
func (g *grouper) run(ctx context.Context) error {
	var failed error
	for first := range g.queue {
		group := g.collect(first)
		if failed != nil {
			for _, p := range group {
				failed = errors.Join(failed, p.staged.Discard())
			}
			continue
		}
		failed = g.publish(ctx, group)
	}
	return failed
}

func (g *grouper) collect(first pending) []pending {
	group, size := []pending{first}, first.size
	timer := time.NewTimer(groupWait)
	defer timer.Stop()
	for len(group) < groupFiles && size < groupBytes {
		select {
		case p, more := <-g.queue:
			if !more {
				return group
			}
			group = append(group, p)
			size += p.size
		case <-timer.C:
			return group
		}
	}
	return group
}

func (g *grouper) publish(ctx context.Context, group []pending) error {
	syncErr := g.dir.SyncAll()
	failpoint.Hit("group synced")
	each := errors.Is(syncErr, errors.ErrUnsupported)
	var failed error
	for _, p := range group {
		err := syncErr
		if each {
			err = p.staged.Sync()
		}
		if err == nil {
			err = p.staged.Publish()
		} else {
			err = errors.Join(err, p.staged.Discard())
		}
		failed = errors.Join(failed, p.published(ctx, err))
	}
	return failed
}

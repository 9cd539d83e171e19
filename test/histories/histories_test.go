// Package histories_test makes up histories of a few machines that download, filter, copy caches, push, pull and prune, with clocks that differ by days and with the
// Python tool 0.1.0 among them, and checks after every step that nobody has lost what they could load, and that no branch has gone back without force.
package histories_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
)

func TestHistories(t *testing.T) {
	t.Parallel()
	seeds := kept()
	for seed := range uint64(proof.Times(1000, 5000)) {
		seeds = append(seeds, seed)
	}
	scratch := scratch(t)
	next, done := make(chan uint64), sync.WaitGroup{}
	var mu sync.Mutex
	var lost, steps int
	for range runtime.GOMAXPROCS(0) {
		done.Go(func() {
			for seed := range next {
				h := newHistory(seed, filepath.Join(scratch, fmt.Sprint(seed)))
				err := h.run(t.Context())
				mu.Lock()
				steps += len(h.log)
				if err != nil {
					lost++
					t.Errorf("seed %d: %v\n%s", seed, err, strings.Join(h.log, "\n"))
				}
				mu.Unlock()
			}
		})
	}
	for _, seed := range seeds {
		next <- seed
	}
	close(next)
	done.Wait()
	proof.Row{
		Class: proof.Races, Times: len(seeds), Lost: lost, Figures: fmt.Sprintf("%d steps", steps),
		Tried: "history of two to four machines that download, copy caches, push, pull and prune, the Python tool among them: nobody loses what they could load, no branch goes back",
	}.Record(t)
}

// kept are the seeds of histories that failed once, or that fail if one of the rules is taken out.
func kept() []uint64 { return []uint64{17, 37, 861, 1821, 2205, 2448} }

// scratch is a folder in memory where there is one: nothing here is about disks.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "hf-cache-sync-histories-") //nolint:usetesting // it is not where other tests keep theirs
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// history is one course of events.
type history struct {
	r        *rand.Rand
	dir      string
	clock    time.Time
	hub      *theHub
	bucket   *bucket
	machines []*machine
	log      []string

	copies, tools, forces bool // what this history may have

	tool   bool                            // 0.1.0 has written the bucket, which looks at nothing
	forced bool                            // somebody forced refs, or the Hub's word did
	left   map[hub.Ref]map[hub.Commit]bool // commits that a ref of the bucket has left
	proven map[hub.Ref]map[hub.Commit]bool // commits for which a machine has claimed an honest time
}

func newHistory(seed uint64, dir string) *history {
	r := rand.New(rand.NewPCG(seed, 4))
	h := &history{r: r, dir: dir, clock: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC), hub: newHub(r), left: map[hub.Ref]map[hub.Commit]bool{"main": {}, "dev": {}}, proven: map[hub.Ref]map[hub.Commit]bool{"main": {}, "dev": {}}}
	return h
}

func (h *history) run(ctx context.Context) (err error) {
	defer func() { _ = os.RemoveAll(h.dir) }() // the whole folder goes at the end of the test
	folder, err := filestore.Open(filepath.Join(h.dir, "bucket"), filestore.Options{Create: true})
	if err != nil {
		return err
	}
	h.bucket = &bucket{Store: folder, clock: &h.clock, written: map[string]time.Time{}}
	// Some histories are honest in one way or another, so that more can be asked of them.
	h.copies, h.tools, h.forces = h.r.IntN(2) == 0, h.r.IntN(3) == 0, h.r.IntN(3) == 0
	fastest := []int{0, 0, 4}[h.r.IntN(3)]
	slowest := []int{0, 4}[h.r.IntN(2)]
	for i := range 2 + h.r.IntN(3) {
		m := &machine{name: string(rune('A' + i)), dir: filepath.Join(h.dir, string(rune('A'+i))), clock: &h.clock, store: h.bucket, honest: map[hub.Ref]bool{}}
		m.skew = time.Duration(h.r.IntN(fastest+slowest+1)-slowest) * 24 * time.Hour
		h.machines = append(h.machines, m)
	}
	for range 12 + h.r.IntN(20) {
		h.clock = h.clock.Add(time.Minute + time.Duration(h.r.IntN(48*60))*time.Minute)
		if h.r.IntN(3) == 0 {
			h.hub.move(h.r)
		}
		if err := h.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (h *history) say(format string, args ...any) {
	h.log = append(h.log, h.clock.Format("01-02 15:04 ")+fmt.Sprintf(format, args...))
}

// step lets one machine do something.
func (h *history) step(ctx context.Context) error {
	m := h.machines[h.r.IntN(len(h.machines))]
	ref := []hub.Ref{"main", "main", "dev"}[h.r.IntN(3)]
	switch n := h.r.IntN(20); {
	case n < 6:
		return h.download(m, ref)
	case n < 11:
		policy := plan.PushPolicy{ForceRefs: h.forces && h.r.IntN(4) == 0}
		h.forced = h.forced || policy.ForceRefs
		h.say("%s pushes, force %v", m.name, policy.ForceRefs)
		return h.guardBucket(ctx, m, policy.ForceRefs, func() error { return m.push(ctx, policy) })
	case n < 16:
		return h.pull(ctx, m, ref)
	case n == 16:
		from := h.machines[h.r.IntN(len(h.machines))]
		if _, err := os.Stat(from.dir); err != nil || from == m || !h.copies {
			return nil //nolint:nilerr // there is nothing to copy
		}
		h.say("%s gets a copy of the cache of %s", m.name, from.name)
		return m.copyFrom(from)
	case n == 17:
		h.say("%s prunes", m.name)
		return m.prune(h.r)
	case n == 18 && !h.tools:
		return nil
	case n == 18 && h.r.IntN(2) == 0:
		h.tool = true
		h.say("%s pushes with 0.1.0", m.name)
		return m.toolPush(ctx)
	case n == 18:
		h.say("%s pulls with 0.1.0", m.name)
		return m.toolPull(ctx)
	default:
		h.say("%s probes %s", m.name, ref)
		return m.probe(ref, h.hub.head(ref))
	}
}

func (h *history) download(m *machine, ref hub.Ref) error {
	wants := []func(hub.Path) bool{
		func(hub.Path) bool { return true },
		func(p hub.Path) bool { return p != "README.md" },
		func(p hub.Path) bool { return p == "config.json" || strings.HasPrefix(string(p), "w") },
		func(p hub.Path) bool { return p == "tokenizer.json" },
		func(p hub.Path) bool { return p != "extra.json" },
	}
	n, listing, rev := h.r.IntN(len(wants)), h.r.IntN(4) > 0, h.hub.head(ref)
	h.say("%s downloads %s %d %.6s, part %d of %v, listing %v", m.name, ref, rev.number, rev.commit, n, sortedPaths(rev.files), listing)
	return m.download(ref, rev, wants[n], listing)
}

func (h *history) pull(ctx context.Context, m *machine, ref hub.Ref) error {
	var policy plan.PullPolicy
	if h.r.IntN(4) == 0 {
		globs, err := plan.ParseGlobs([]string{"*.json"})
		if err != nil {
			return err
		}
		policy.Files.Include = globs
	}
	policy.RequireComplete = h.r.IntN(4) == 0
	var upstream engine.Upstream
	backfill := false
	if h.r.IntN(4) == 0 {
		upstream, backfill, policy.Refresh = h.hub, h.r.IntN(2) == 0, h.forces && h.r.IntN(2) == 0
	}
	// What the Hub says now stands above claims, also in the bucket.
	h.forced = h.forced || policy.Refresh
	h.say("%s pulls %s, filter %v, complete %v, fallback %v, refresh %v, backfill %v", m.name, ref, policy.Files.Include, policy.RequireComplete, upstream != nil, policy.Refresh, backfill)
	before, err := m.look()
	if err != nil {
		return err
	}
	err = h.guardBucket(ctx, m, policy.Refresh, func() error { return m.pull(ctx, ref, policy, upstream, backfill) })
	if err != nil {
		return err
	}
	after, err := m.look()
	if err != nil {
		return err
	}
	for name, now := range after.refs {
		if policy.RequireComplete && now.commit != before.refs[name].commit && !now.complete {
			return fmt.Errorf("%s of %s was written although %s is not complete: %s", name, m.name, now.commit, after)
		}
	}
	for name, old := range before.refs {
		if why := h.lost(ctx, name, old, after.refs[name]); why != "" {
			return fmt.Errorf("by %s, %s has lost %s\nbefore: %s\nafter:  %s", name, m.name, why, before, after)
		}
		now := after.refs[name].commit
		known := (m.honest[name] || h.proven[name][old.commit]) && h.proven[name][now]
		// A ref that leads to nothing, as a probe leaves it, is worth less than one that leads back.
		if len(old.files) > 0 && h.back(old.commit, now) && known && !h.tool && !h.forced {
			return fmt.Errorf("%s of %s has gone back from %s to %s", name, m.name, old.commit, now)
		}
		if now != old.commit {
			m.honest[name] = h.proven[name][now]
		}
	}
	return nil
}

// lost says what can be loaded by a ref no more.
func (h *history) lost(ctx context.Context, name hub.Ref, old, now loadable) string {
	if old.commit != now.commit && h.isForced(ctx, name, now.commit) {
		return ""
	}
	rev := h.hub.find(now.commit)
	if rev == nil {
		return "the ref"
	}
	for p := range old.files {
		if _, has := rev.files[p]; !now.files[p] && (has || old.commit == now.commit) {
			return string(p)
		}
	}
	if old.complete && now.listed && !now.complete {
		return "completeness"
	}
	return ""
}

func (h *history) isForced(ctx context.Context, name hub.Ref, commit hub.Commit) bool {
	catalog := &remote.Catalog{Store: h.bucket, Now: func() time.Time { return h.clock }}
	entry, err := catalog.Manifest(ctx, manifest.Key{Repo: repo, Commit: commit})
	return err == nil && entry.IsForced(name)
}

// back says whether b is an earlier commit than a.
func (h *history) back(a, b hub.Commit) bool {
	old, now := h.hub.find(a), h.hub.find(b)
	return old != nil && now != nil && now.number < old.number
}

// guardBucket does something and looks at what it did to the bucket's refs.
func (h *history) guardBucket(ctx context.Context, m *machine, force bool, do func() error) error {
	catalog := &remote.Catalog{Store: h.bucket, Now: func() time.Time { return h.clock }}
	refs := func() (map[hub.Ref]*remote.Entry, error) {
		found := map[hub.Ref]*remote.Entry{}
		for _, name := range []hub.Ref{"main", "dev"} {
			ref, err := catalog.Ref(ctx, repo, name)
			if err != nil {
				continue // there is none, or 0.1.0 wrote one that leads nowhere
			}
			entry, err := catalog.Manifest(ctx, manifest.Key{Repo: repo, Commit: ref.Commit})
			if err != nil && !h.tool {
				return nil, fmt.Errorf("the bucket's %s: %w", name, err)
			}
			if err == nil {
				found[name] = entry
			}
		}
		return found, nil
	}
	before, err := refs()
	if err != nil {
		return err
	}
	mine, err := m.look()
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	after, err := refs()
	if err != nil {
		return err
	}
	for name, l := range mine.refs {
		if entry, err := catalog.Manifest(ctx, manifest.Key{Repo: repo, Commit: l.commit}); err == nil && m.honest[name] && entry.Hub != nil && !entry.Hub.Refs[name].IsZero() {
			h.proven[name][l.commit] = true
		}
	}
	for name, old := range before {
		now := after[name]
		switch {
		case now == nil:
			return fmt.Errorf("the bucket has lost %s", name)
		case now.Commit == old.Commit || force:
			continue
		case manifest.Worse(old.Contents(), now.Contents(), nil) != nil:
			return fmt.Errorf("the bucket's %s has moved to what is worse: from %v to %v", name, old.Files, now.Files)
		case h.left[name][now.Commit] && !h.tool && !h.forced:
			return fmt.Errorf("the bucket's %s is back at %s, which it had left", name, now.Commit)
		case h.back(old.Commit, now.Commit) && h.proven[name][old.Commit] && h.proven[name][now.Commit] && !h.tool && !h.forced:
			return fmt.Errorf("the bucket's %s has gone back from %s to %s", name, old.Commit, now.Commit)
		}
		h.left[name][old.Commit] = true
	}
	return nil
}

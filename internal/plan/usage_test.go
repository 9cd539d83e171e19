package plan_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

func TestNewUsage(t *testing.T) {
	m := newMade()
	m.blob("o/a", "kept", 1000, 9*day)
	m.blob("o/a", "old", 300, 9*day)
	m.blob("o/a", "new", 400, time.Hour)
	m.blob("o/a", "orphan", 7, 9*day)
	m.blob("o/a", "same", 7, 9*day)
	m.blob("o/a", "young", 8, time.Minute)
	m.inv.Inodes["models--o--a/blobs/orphan"] = hfcache.Inode{Number: 1, Names: 2}
	m.inv.Inodes["models--o--a/blobs/same"] = hfcache.Inode{Number: 1, Names: 2}
	m.revision("o/a", "1", []string{"kept"}, "main")
	m.revision("o/a", "2", []string{"kept", "old"})
	m.revision("o/a", "3", []string{"new"})
	m.repo("o/a").Temps = []hfcache.Temp{
		{Name: "x.incomplete", Size: 90, Disk: 100, ModTime: now.Add(-9 * day)},
		{Name: "y.lock", Size: 1, Disk: 1, ModTime: now.Add(-9 * day)},
		{Name: ".link.0123abcd.hf-cache-sync", Size: 2, Disk: 2, ModTime: now.Add(-9 * day)},
	}
	m.repo("o/b").Temps = []hfcache.Temp{{Name: "." + string(blob("1")) + ".hf-cache-sync", Size: 190, Disk: 200, ModTime: now}}
	m.survey.Payloads = []hfcache.Payload{{Place: "blobs/aa/left", Size: 50, Disk: 64, ModTime: now.Add(-9 * day), Listed: true}}
	m.survey.Leftovers = []hfcache.Leftover{
		{Place: "tree", Kind: hfcache.LeftoverTree, Disk: 5, ModTime: now.Add(-9 * day)},
		{Place: "quarantine", Kind: hfcache.LeftoverQuarantine, Disk: 6, ModTime: now.Add(-9 * day)},
	}
	want := plan.Usage{
		Repos: 2, Revisions: 3, Total: 1000 + 300 + 400 + 7 + 8 + 100 + 200 + 1 + 2 + 64 + 5 + 6,
		Detached: 1, DetachedBytes: 300, Orphans: 3, OrphanBytes: 7 + 64, Temps: 3, TempBytes: 100 + 2 + 5, Incomplete: 2, IncompleteBytes: 300,
	}
	got := plan.NewUsage(m.inv, m.survey, pruned(nil))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Reclaimable() != 300+7+64+107 {
		t.Errorf("reclaimable: %d", got.Reclaimable())
	}
}

// What status shows is what a prune to a budget of nothing does, for any cache.
func TestUsageAgreesWithPrune(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 4))
		m := random(r)
		policy, _ := randomPolicy(r, m)
		policy.EvictActive, policy.Unsafe, policy.Budget, policy.All = false, false, 50, false
		u := plan.NewUsage(m.inv, m.survey, policy)
		policy.Held, policy.Budget = nil, 0
		p := plan.NewPrune(m.inv, m.survey, policy)
		if before := m.disk(); u.Total != before || u.Total != p.Before || u.Reclaimable() != p.Freed() {
			t.Fatalf("seed %d: usage %+v, prune frees %d of %d, and %d are there", seed, u, p.Freed(), p.Before, before)
		}
		if freed := m.apply(p); u.Reclaimable() != freed {
			t.Fatalf("seed %d: it frees %d of %d", seed, freed, u.Reclaimable())
		}
	}
}

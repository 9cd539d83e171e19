package plan_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// pruned is a policy with a budget of no bytes, in which nothing is new.
func pruned(change func(*plan.PrunePolicy)) plan.PrunePolicy {
	policy := plan.PrunePolicy{Now: now, Grace: time.Hour, TempAge: day}
	if change != nil {
		change(&policy)
	}
	return policy
}

// madeCache builds an inventory and a survey, as a scan would.
type madeCache struct {
	inv    *hfcache.Inventory
	survey *hfcache.Survey
}

func newMade() *madeCache {
	return &madeCache{
		&hfcache.Inventory{Inodes: map[string]hfcache.Inode{}},
		&hfcache.Survey{SharedStore: true, Changed: map[hub.Repo]map[hub.Commit]time.Time{}, Open: map[string][]hfcache.Process{}, Shared: map[string]int64{}},
	}
}

func (m *madeCache) repo(name string) *hfcache.Repo {
	id := hub.Repo{Type: hub.Model, Name: name}
	if r := m.inv.Repo(id); r != nil {
		return r
	}
	r := &hfcache.Repo{ID: id, Blobs: map[string]hfcache.Blob{}}
	m.inv.Repos = append(m.inv.Repos, r)
	m.survey.Changed[id] = map[hub.Commit]time.Time{}
	return r
}

// blob adds an entry of blobs/ of so many bytes, used so long ago.
func (m *madeCache) blob(repo, name string, size int64, ago time.Duration) {
	r := m.repo(repo)
	r.Blobs[name] = hfcache.Blob{Name: name, Size: size, Disk: size, Bytes: r.ID.Folder() + "/blobs/" + name, ModTime: now.Add(-ago), Used: now.Add(-ago)}
}

// payload makes a blob a link into the shared store.
func (m *madeCache) payload(repo, name, hash string) {
	r := m.repo(repo)
	b := r.Blobs[name]
	user := b.Bytes
	b.Bytes, b.Shared = "blobs/"+hash[:2]+"/"+hash, true
	r.Blobs[name] = b
	for i := range m.survey.Payloads {
		if p := &m.survey.Payloads[i]; p.Place == b.Bytes {
			p.Users = append(p.Users, user)
			b.Size, b.Disk = p.Size, p.Disk
			r.Blobs[name] = b
			return
		}
	}
	m.survey.Payloads = append(m.survey.Payloads, hfcache.Payload{Place: b.Bytes, Size: b.Size, Disk: b.Disk, ModTime: b.ModTime, Listed: true, Users: []string{user}})
}

// revision adds a commit with links to blobs, named by refs.
func (m *madeCache) revision(repo, digit string, blobs []string, refs ...string) *hfcache.Revision {
	r := m.repo(repo)
	rev := &hfcache.Revision{Commit: commit(digit)}
	for _, name := range blobs {
		b := r.Blobs[name]
		rev.Files = append(rev.Files, hfcache.File{
			Path: hub.Path(name), Size: b.Size, Disk: b.Disk, Blob: name, Bytes: b.Bytes, ModTime: b.ModTime, Used: b.Used, ID: hub.BlobID(name),
		})
	}
	r.Revisions = append(r.Revisions, rev)
	m.survey.Changed[r.ID][rev.Commit] = now.Add(-52 * week)
	for _, ref := range refs {
		r.Refs = append(r.Refs, hfcache.Ref{Name: hub.Ref(ref), Commit: rev.Commit, Learned: now.Add(-52 * week)})
	}
	return rev
}

// what names the steps of a plan, and what each frees.
func what(p *plan.Prune) []string {
	var lines []string
	for _, s := range p.Steps {
		name := s.Place
		if s.Kind == plan.PruneRevision {
			name = s.Repo.Name + "@" + string(s.Commit[:1])
			if len(s.Refs) > 0 {
				name += fmt.Sprint(s.Refs)
			}
			if len(s.Blobs) > 0 {
				name += " " + strings.Join(s.Blobs, ",")
			}
		}
		lines = append(lines, fmt.Sprintf("%s: %d", name, s.Bytes))
	}
	return lines
}

func kept(p *plan.Prune) []string {
	var lines []string
	for _, k := range p.Kept {
		name := k.Place
		if k.Kind == plan.PruneRevision {
			name = k.Repo.Name + "@" + string(k.Commit[:1])
		}
		busy := ""
		if k.Busy {
			busy = " (busy)"
		}
		lines = append(lines, fmt.Sprintf("%s: %d: %s%s", name, k.Bytes, k.Reason, busy))
	}
	return lines
}

func TestPrune(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	for name, test := range map[string]struct {
		cache  func(*madeCache)
		policy func(*plan.PrunePolicy)
		steps  []string
		kept   []string
		ask    []string
	}{
		"detached revisions go by last use, and no more than is needed": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 3*day)
				m.blob("o/a", "2", 100, 2*day)
				m.blob("o/a", "3", 100, day)
				m.revision("o/a", "1", []string{"1"})
				m.revision("o/a", "2", []string{"2"})
				m.revision("o/a", "3", []string{"3"})
			},
			func(p *plan.PrunePolicy) { p.Budget = 150 },
			[]string{"o/a@1 1: 100", "o/a@2 2: 100"},
			nil, nil,
		},
		"one that frees nothing stays": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 3*day)
				m.blob("o/a", "2", 100, 2*day)
				m.revision("o/a", "1", []string{"1"})
				m.revision("o/a", "2", []string{"1"}, "main")
				m.revision("o/a", "3", []string{"2"})
			},
			nil,
			[]string{"o/a@3 2: 100"},
			[]string{"o/a@2: 100: ref main names it; --evict-active lets it go"},
			nil,
		},
		"a shared blob counts where its last revision goes": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 3*day)
				m.revision("o/a", "1", []string{"1"})
				m.revision("o/a", "2", []string{"1"})
			},
			nil,
			[]string{"o/a@1: 0", "o/a@2 1: 100"},
			nil, nil,
		},
		"a payload counts where its last repository goes": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 3*day)
				m.payload("o/a", "1", hash)
				m.blob("o/b", "1", 100, 2*day)
				m.payload("o/b", "1", hash)
				m.revision("o/a", "1", []string{"1"})
				m.revision("o/b", "1", []string{"1"})
			},
			nil,
			[]string{"o/a@1 1: 0", "o/b@1 1: 100"},
			nil, nil,
		},
		"a payload whose users nobody wrote down stays": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 3*day)
				m.payload("o/a", "1", hash)
				m.survey.Payloads[0].Listed, m.survey.Payloads[0].Users = false, nil
				m.revision("o/a", "1", []string{"1"})
			},
			func(p *plan.PrunePolicy) { p.All = true },
			[]string{"o/a@1 1: 0"},
			nil, nil,
		},
		"unused payloads": {
			func(m *madeCache) {
				m.survey.Payloads = []hfcache.Payload{
					{Place: "blobs/aa/old", Disk: 5, ModTime: now.Add(-day), Listed: true},
					{Place: "blobs/aa/new", Disk: 6, ModTime: now.Add(-time.Minute), Listed: true},
					{Place: "blobs/aa/unlisted", Disk: 7, ModTime: now.Add(-day)},
				}
			},
			nil,
			[]string{"blobs/aa/old: 5"},
			[]string{"blobs/aa/unlisted: 7: who uses it cannot be told, so clients keep it, too", "blobs/aa/new: 6: it is new, and a client may be about to link it (busy)"},
			nil,
		},
		"hard links count with the last name": {
			func(m *madeCache) {
				for i, place := range []string{"1", "2"} {
					m.blob("o/a", place, 100, time.Duration(9-i)*day)
					m.inv.Inodes["models--o--a/blobs/"+place] = hfcache.Inode{Device: 1, Number: 7, Names: 2}
					m.revision("o/a", place, []string{place})
				}
				m.blob("o/a", "3", 50, 2*day)
				m.inv.Inodes["models--o--a/blobs/3"] = hfcache.Inode{Device: 1, Number: 8, Names: 2} // the other is elsewhere
				m.revision("o/a", "3", []string{"3"})
			},
			func(p *plan.PrunePolicy) { p.All = true },
			[]string{"o/a@1 1: 0", "o/a@2 2: 100", "o/a@3 3: 0"},
			nil, nil,
		},
		"clones count what only they have": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 2*day)
				m.survey.Shared["models--o--a/blobs/1"] = 70
				m.revision("o/a", "1", []string{"1"})
			},
			nil,
			[]string{"o/a@1 1: 30"},
			nil, nil,
		},
		"temporary files and orphans, whatever the budget": {
			func(m *madeCache) {
				r := m.repo("o/a")
				m.blob("o/a", "1", 100, 2*day)
				m.blob("o/a", "2", 100, time.Minute)
				for name, ago := range map[string]time.Duration{"x.incomplete": 2 * day, "y.incomplete": time.Hour, "z.lock": 9 * day} {
					r.Temps = append(r.Temps, hfcache.Temp{Name: name, Disk: 10, ModTime: now.Add(-ago)})
				}
				slices.SortFunc(r.Temps, func(a, b hfcache.Temp) int { return strings.Compare(a.Name, b.Name) })
			},
			func(p *plan.PrunePolicy) { p.Budget = -1 },
			[]string{"models--o--a/blobs/x.incomplete: 10", "models--o--a/blobs/1: 100"},
			[]string{
				"models--o--a/blobs/2: 100: it is new, and a client may be about to link it (busy)",
				"models--o--a/blobs/y.incomplete: 10: a download may still be writing it (busy)",
			},
			nil,
		},
		"leftovers": {
			func(m *madeCache) {
				for kind, ago := range map[hfcache.LeftoverKind]time.Duration{
					hfcache.LeftoverTemp: 2 * day, hfcache.LeftoverTree: 2 * time.Hour, hfcache.LeftoverTrash: time.Second, hfcache.LeftoverQuarantine: 9 * day,
				} {
					m.survey.Leftovers = append(m.survey.Leftovers, hfcache.Leftover{Place: fmt.Sprint(kind), Kind: kind, Disk: 1, ModTime: now.Add(-ago)})
				}
				m.survey.Leftovers = append(m.survey.Leftovers,
					hfcache.Leftover{Place: "young", Kind: hfcache.LeftoverTemp, Disk: 2, ModTime: now.Add(-time.Hour)},
					hfcache.Leftover{Place: "empty", Kind: hfcache.LeftoverEmpty, Disk: 0, ModTime: now.Add(-time.Minute)})
				slices.SortFunc(m.survey.Leftovers, func(a, b hfcache.Leftover) int { return strings.Compare(a.Place, b.Place) })
			},
			nil,
			[]string{"1: 1", "2: 1", "3: 1"},
			[]string{
				"young: 2: it is too new to tell whether somebody is at work on it (busy)",
				"5: 1: damaged, and put aside by verify; --quarantine lets it go",
				"empty: 0: it is too new to tell whether somebody is at work on it (busy)",
			},
			nil,
		},
		"what a file is open in": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 2*day)
				m.revision("o/a", "1", []string{"1"})
				m.survey.Open["models--o--a/blobs/1"] = []hfcache.Process{{ID: 42, Name: "python3"}}
			},
			nil, nil,
			[]string{"o/a@1: 100: open in process 42 (python3) (busy)"},
			nil,
		},
		"somebody may be downloading": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 2*day)
				m.revision("o/a", "1", []string{"1"})
				m.revision("o/a", "2", []string{"1"})
				m.survey.Changed[m.repo("o/a").ID][commit("2")] = now.Add(-time.Minute)
				m.repo("o/a").Temps = []hfcache.Temp{{Name: "9.incomplete", ModTime: now.Add(-time.Minute)}}
			},
			nil, nil,
			[]string{
				"o/a@1: 100: a download into the repository is under way (busy)", "o/a@2: 100: it was written within the grace period (--grace) (busy)",
				"models--o--a/blobs/9.incomplete: 0: a download may still be writing it (busy)",
			},
			nil,
		},
		"a complete revision is nobody's download": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 2*day)
				m.revision("o/a", "1", []string{"1"}).Tree = manifest.Tree{"1": {Size: 100}}
				m.repo("o/a").Temps = []hfcache.Temp{{Name: "9.incomplete", ModTime: now.Add(-time.Minute)}}
			},
			nil,
			[]string{"o/a@1 1: 100"},
			[]string{"models--o--a/blobs/9.incomplete: 0: a download may still be writing it (busy)"},
			nil,
		},
		"pinned": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 2*day)
				m.revision("o/a", "1", []string{"1"})
			},
			func(p *plan.PrunePolicy) { p.Keep, _ = plan.ParseGlobs([]string{"o/*"}) },
			nil,
			[]string{"o/a@1: 100: pinned by --keep or cache.keep"},
			nil,
		},
		"older than": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 2*day)
				m.blob("o/a", "2", 100, 40*day)
				m.revision("o/a", "1", []string{"1"})
				m.revision("o/a", "2", []string{"2"})
			},
			func(p *plan.PrunePolicy) { p.OlderThan, p.All = 30*day, true },
			[]string{"o/a@2 2: 100"},
			[]string{"o/a@1: 100: it was used within --older-than"},
			nil,
		},
		"the ledger knows of a later use": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 9*day)
				m.blob("o/a", "2", 100, 2*day)
				m.revision("o/a", "1", []string{"1"})
				m.revision("o/a", "2", []string{"2"})
			},
			func(p *plan.PrunePolicy) {
				p.Budget = 100
				p.LastUse = map[manifest.Key]time.Time{{Repo: hub.Repo{Type: hub.Model, Name: "o/a"}, Commit: commit("1")}: now.Add(-day)}
			},
			[]string{"o/a@2 2: 100"},
			nil, nil,
		},
		"detached ones go before active ones, and refs count as use": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 9*day)
				m.blob("o/a", "2", 100, 2*day)
				m.blob("o/a", "3", 100, 8*day)
				m.revision("o/a", "1", []string{"1"}, "main")
				m.revision("o/a", "2", []string{"2"})
				m.revision("o/a", "3", []string{"3"}, "v1")
				m.repo("o/a").Refs[0].Learned = now.Add(-day)
			},
			func(p *plan.PrunePolicy) { p.EvictActive, p.Unsafe, p.Budget = true, true, 100 },
			[]string{"o/a@2 2: 100", "o/a@3[v1] 3: 100"},
			nil, nil,
		},
		"links in odd places": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 9*day)
				m.blob("o/a", "2", 100, 9*day)
				m.revision("o/a", "1", []string{"1"})
				m.revision("o/b", "2", nil, "main").Files = []hfcache.File{{Path: "f", Bytes: "models--o--a/blobs/1"}, {Path: "g", Bytes: "models--o--a/blobs/2"}}
			},
			nil, nil,
			[]string{
				"models--o--a/blobs/2: 100: a link leads to it past blobs/", "o/a@1: 100: a link of another revision leads to its file 1 past blobs/",
				"o/b@2: 0: ref main names it; --evict-active lets it go",
			},
			nil,
		},
		"an orphan in a repository that was not understood": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 9*day)
				m.inv.Problems = []hfcache.Problem{{Repo: m.repo("o/a").ID, Path: "models--o--a/snapshots/x", Why: "?", Lost: true}}
			},
			nil, nil,
			[]string{"models--o--a/blobs/1: 100: something in the repository was not understood, so it may be needed; hf-cache-sync verify o/a says more"},
			nil,
		},
		"active ones: no bucket": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 9*day)
				m.revision("o/a", "1", []string{"1"}, "main", "v1")
			},
			func(p *plan.PrunePolicy) { p.EvictActive = true },
			nil,
			[]string{"o/a@1: 100: refs main, v1 name it, and no bucket is configured from which it could come back; --unsafe lets it go"},
			nil,
		},
		"active ones: unsafe": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 9*day)
				m.revision("o/a", "1", []string{"1"}, "main", "v1")
			},
			func(p *plan.PrunePolicy) { p.EvictActive, p.Unsafe = true, true },
			[]string{"o/a@1[main v1] 1: 100"},
			nil, nil,
		},
		"active ones: the bucket is asked about as many as it takes": {
			func(m *madeCache) {
				for i, digit := range []string{"1", "2", "3", "4"} {
					m.blob("o/a", digit, 100, time.Duration(9-i)*day)
					m.revision("o/a", digit, []string{digit}, "r"+digit)
				}
			},
			func(p *plan.PrunePolicy) {
				p.EvictActive, p.Budget = true, 200
				p.Held = map[manifest.Key]error{{Repo: hub.Repo{Type: hub.Model, Name: "o/a"}, Commit: commit("1")}: errors.New("it lacks a blob")}
			},
			nil,
			[]string{
				"o/a@1: 100: ref r1 names it, and the bucket could not give it back: it lacks a blob",
				"o/a@2: 100: ref r2 names it; the bucket was not asked yet", "o/a@3: 100: ref r3 names it; the bucket was not asked yet",
				"o/a@4: 100: ref r4 names it; the bucket was not asked yet",
			},
			[]string{"2", "3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMade()
			test.cache(m)
			p := plan.NewPrune(m.inv, m.survey, pruned(test.policy))
			if diff := cmp.Diff(test.steps, what(p)); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.kept, kept(p), cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			var ask []string
			for _, key := range p.Ask {
				ask = append(ask, string(key.Commit[:1]))
			}
			if diff := cmp.Diff(test.ask, ask); diff != "" {
				t.Errorf("ask (-want +got):\n%s", diff)
			}
		})
	}
}

// random makes a cache of few repositories with much in common.
func random(r *rand.Rand) *madeCache {
	m := newMade()
	ago := func() time.Duration { return time.Duration(r.IntN(60)) * 12 * time.Hour / 8 }
	for i := range 1 + r.IntN(3) {
		name := fmt.Sprintf("o/r%d", i)
		repo := m.repo(name)
		var blobs []string
		for b := range r.IntN(6) {
			blob := fmt.Sprint("b", b)
			m.blob(name, blob, int64(1+r.IntN(100)), ago())
			switch r.IntN(4) {
			case 0:
				m.payload(name, blob, fmt.Sprintf("%02d", r.IntN(3)))
			case 1:
				n := uint64(r.IntN(3))
				m.inv.Inodes[repo.Blobs[blob].Bytes] = hfcache.Inode{Device: 1, Number: n, Names: 2 + n}
			}
			blobs = append(blobs, blob)
		}
		for c := range r.IntN(5) {
			var needs, refs []string
			for _, b := range blobs {
				if r.IntN(2) == 0 {
					needs = append(needs, b)
				}
			}
			if r.IntN(2) == 0 {
				refs = []string{fmt.Sprint("ref", c)}
			}
			rev := m.revision(name, fmt.Sprint(c), needs, refs...)
			if r.IntN(4) == 0 {
				place := repo.ID.Folder() + "/snapshots/" + string(rev.Commit) + "/real"
				rev.Files = append(rev.Files, hfcache.File{Path: "real", Size: 10, Disk: 10, Bytes: place, ModTime: now.Add(-ago()), Used: now.Add(-ago())})
			}
			if r.IntN(6) == 0 && len(rev.Files) > 0 {
				m.survey.Open[rev.Files[0].Bytes] = []hfcache.Process{{ID: 1}}
			}
		}
		for n := range r.IntN(3) {
			repo.Temps = append(repo.Temps, hfcache.Temp{Name: fmt.Sprint(n, ".incomplete"), Disk: int64(r.IntN(50)), ModTime: now.Add(-ago())})
		}
	}
	for i := range m.survey.Payloads { // one file, one number of bytes
		p := &m.survey.Payloads[i]
		p.Listed = r.IntN(5) > 0
	}
	// Inodes: the names that the cache has are at most as many as there are, and all have the bytes of the first.
	sizes, names := map[uint64]int64{}, map[uint64]uint64{}
	for _, repo := range m.inv.Repos {
		for _, name := range slices.Sorted(maps.Keys(repo.Blobs)) {
			b := repo.Blobs[name]
			inode, ok := m.inv.Inodes[b.Bytes]
			if !ok || b.Shared {
				delete(m.inv.Inodes, b.Bytes)
				continue
			}
			if _, seen := sizes[inode.Number]; !seen {
				sizes[inode.Number] = b.Disk
			}
			b.Disk = sizes[inode.Number]
			repo.Blobs[name] = b
			names[inode.Number]++
		}
	}
	for place, inode := range m.inv.Inodes {
		inode.Names = max(inode.Names, names[inode.Number])
		m.inv.Inodes[place] = inode
	}
	return m
}

// disk is what a cache takes, counted the plain way: each file once, as long as it has a name.
func (m *madeCache) disk() int64 {
	files := map[string]int64{}
	add := func(place string, size int64) {
		if inode, ok := m.inv.Inodes[place]; ok {
			place = fmt.Sprint("inode", inode.Number)
		}
		files[place] = size
	}
	for _, p := range m.survey.Payloads {
		add(p.Place, p.Disk)
	}
	for _, repo := range m.inv.Repos {
		for _, b := range repo.Blobs {
			if !b.Shared {
				add(b.Bytes, b.Disk)
			}
		}
		for _, rev := range repo.Revisions {
			for _, f := range rev.Files {
				if f.Blob == "" {
					add(f.Bytes, f.Disk)
				}
			}
		}
		for _, temp := range repo.Temps {
			add(repo.ID.Folder()+"/blobs/"+temp.Name, temp.Disk)
		}
	}
	var sum int64
	for _, size := range files {
		sum += size
	}
	return sum
}

// apply does to the values what the steps say, and what [hfcache.Remover] does to files: payloads follow their last link if their users are written down. It returns
// the bytes of files that have lost their last name.
func (m *madeCache) apply(p *plan.Prune) (freed int64) {
	var gone []string
	size := map[string]int64{}
	remove := func(place string, disk int64) { gone, size[place] = append(gone, place), disk }
	unlink := func(repo *hfcache.Repo, name string) {
		b := repo.Blobs[name]
		delete(repo.Blobs, name)
		if !b.Shared {
			remove(b.Bytes, b.Disk)
			return
		}
		for i := range m.survey.Payloads {
			payload := &m.survey.Payloads[i]
			if payload.Place == b.Bytes {
				payload.Users = slices.DeleteFunc(payload.Users, func(u string) bool { return u == repo.ID.Folder()+"/blobs/"+name })
				if len(payload.Users) == 0 && payload.Listed {
					remove(payload.Place, payload.Disk)
				}
			}
		}
	}
	for _, s := range p.Steps {
		repo := m.inv.Repo(s.Repo)
		switch s.Kind {
		case plan.PruneTemp:
			repo.Temps = slices.DeleteFunc(repo.Temps, func(temp hfcache.Temp) bool {
				found := repo.ID.Folder()+"/blobs/"+temp.Name == s.Place
				if found {
					remove(s.Place, temp.Disk)
				}
				return found
			})
		case plan.PruneRevision:
			rev := repo.Revision(s.Commit)
			for _, f := range rev.Files {
				if f.Blob == "" {
					remove(f.Bytes, f.Disk)
				}
			}
			repo.Revisions = slices.DeleteFunc(repo.Revisions, func(r *hfcache.Revision) bool { return r == rev })
			repo.Refs = slices.DeleteFunc(repo.Refs, func(r hfcache.Ref) bool { return slices.Contains(s.Refs, r.Name) })
			fallthrough
		case plan.PruneBlob:
			for _, name := range s.Blobs {
				unlink(repo, name)
			}
		case plan.PrunePayload:
			remove(s.Place, s.Bytes)
		case plan.PruneLeftover:
		}
	}
	names := map[uint64]uint64{}
	for _, place := range gone {
		inode, several := m.inv.Inodes[place]
		if !several {
			freed += size[place]
			continue
		}
		names[inode.Number]++
		if names[inode.Number] == inode.Names {
			freed += size[place]
		}
		delete(m.inv.Inodes, place)
	}
	for place, inode := range m.inv.Inodes {
		inode.Names -= names[inode.Number]
		m.inv.Inodes[place] = inode
	}
	m.survey.Payloads = slices.DeleteFunc(m.survey.Payloads, func(p hfcache.Payload) bool { return slices.Contains(gone, p.Place) })
	return freed
}

// For any cache and policy: what must stay stays, what stays has all that it needs, the figures are true, no more goes than the budget asks for, and a second run
// frees nothing.
func TestPruneProperties(t *testing.T) {
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := random(r)
		policy := pruned(func(p *plan.PrunePolicy) {
			p.Budget = int64(r.IntN(300)) - 20
			p.EvictActive, p.Unsafe, p.All = r.IntN(2) == 0, r.IntN(3) == 0, r.IntN(4) == 0
			if r.IntN(3) == 0 {
				p.OlderThan = 2 * day
			}
			if r.IntN(4) == 0 {
				p.Keep, _ = plan.ParseGlobs([]string{"o/r1"})
			}
			if r.IntN(2) == 0 {
				p.Held = map[manifest.Key]error{}
			}
		})
		p := plan.NewPrune(m.inv, m.survey, policy)
		for len(p.Ask) > 0 {
			for _, key := range p.Ask {
				policy.Held[key] = nil
				if r.IntN(3) == 0 {
					policy.Held[key] = errors.New("no")
				}
			}
			p = plan.NewPrune(m.inv, m.survey, policy)
		}
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: %s\npolicy: %+v\nsteps: %q\nkept: %q", seed, fmt.Sprintf(format, args...), policy, what(p), kept(p))
		}
		if before := m.disk(); p.Before != before {
			fail("before: %d, counted %d", p.Before, before)
		}
		mustStay(m, policy, p, fail)
		if freed := m.apply(p); p.Freed() != freed {
			fail("it says that it frees %d, and frees %d", p.Freed(), freed)
		}
		complete(m, fail)
		again := plan.NewPrune(m.inv, m.survey, policy)
		if again.Freed() != 0 {
			fail("a second run frees %d: %q", again.Freed(), what(again))
		}
		if p.Met() && !policy.All && len(p.Steps) > 0 {
			last := p.Steps[len(p.Steps)-1]
			if last.Kind == plan.PruneRevision && p.After()+last.Bytes <= p.Budget {
				fail("the last step was not needed")
			}
		}
	}
}

func mustStay(m *madeCache, policy plan.PrunePolicy, p *plan.Prune, fail func(string, ...any)) {
	for _, s := range p.Steps {
		if s.Kind != plan.PruneRevision {
			continue
		}
		rev := m.inv.Repo(s.Repo).Revision(s.Commit)
		for _, ref := range m.inv.Repo(s.Repo).Refs {
			err, asked := policy.Held[manifest.Key{Repo: s.Repo, Commit: s.Commit}]
			if ref.Commit == s.Commit && (!policy.EvictActive || !policy.Unsafe && (!asked || err != nil)) {
				fail("%s@%s goes although %s names it", s.Repo, s.Commit, ref.Name)
			}
			if ref.Commit == s.Commit && !slices.Contains(s.Refs, ref.Name) {
				fail("ref %s would dangle", ref.Name)
			}
		}
		for _, f := range rev.Files {
			if len(m.survey.Open[f.Bytes]) > 0 || now.Sub(f.ModTime) < policy.Grace || now.Sub(f.Used) < policy.OlderThan {
				fail("%s@%s goes although somebody uses it", s.Repo, s.Commit)
			}
		}
		if policy.Keep.Match(s.Repo.Name) {
			fail("%s is pinned", s.Repo)
		}
		if policy.Budget < 0 && !policy.All {
			fail("%s goes without a budget", s.Repo)
		}
	}
}

// complete checks that all that is left has what it needs.
func complete(m *madeCache, fail func(string, ...any)) {
	for _, repo := range m.inv.Repos {
		for _, rev := range repo.Revisions {
			for _, f := range rev.Files {
				if f.Blob == "" {
					continue
				}
				b, there := repo.Blobs[f.Blob]
				if !there {
					fail("%s@%s has lost blob %s", repo.ID, rev.Commit, f.Blob)
				}
				if b.Shared && !slices.ContainsFunc(m.survey.Payloads, func(p hfcache.Payload) bool { return p.Place == b.Bytes }) {
					fail("%s@%s has lost payload %s", repo.ID, rev.Commit, b.Bytes)
				}
			}
		}
	}
}

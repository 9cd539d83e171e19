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

// head is a revision of a repository that a ref names and that has no bytes. With it all revisions that no ref names are detached.
func (m *madeCache) head(repo string) { m.revision(repo, "e", nil, "head") }

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
		if k.Commit == commit("e") {
			continue // the head
		}
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
				m.head("o/a")
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
			[]string{"o/a@2: 100: active (ref main); --evict-active evicts it"},
			nil,
		},
		"a shared blob counts where its last revision goes": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 3*day)
				m.revision("o/a", "1", []string{"1"})
				m.revision("o/a", "2", []string{"1"})
				m.head("o/a")
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
				m.head("o/a")
				m.head("o/b")
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
				m.head("o/a")
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
				m.head("o/a")
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
				m.head("o/a")
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
				"5: 1: damaged, and put aside by verify; --quarantine removes it",
				"empty: 0: it is too new to tell whether somebody is at work on it (busy)",
			},
			nil,
		},
		"what a file is open in": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 2*day)
				m.revision("o/a", "1", []string{"1"})
				m.survey.Open["models--o--a/blobs/1"] = []hfcache.Process{{ID: 42, Name: "python3"}}
				m.head("o/a")
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
				m.head("o/a")
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
				m.head("o/a")
			},
			nil,
			[]string{"o/a@1 1: 100"},
			[]string{"models--o--a/blobs/9.incomplete: 0: a download may still be writing it (busy)"},
			nil,
		},
		"kept by a glob": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 2*day)
				m.revision("o/a", "1", []string{"1"})
				m.head("o/a")
			},
			func(p *plan.PrunePolicy) { p.Keep, _ = plan.ParseGlobs([]string{"o/*"}) },
			nil,
			[]string{"o/a@1: 100: kept by --keep or cache.keep"},
			nil,
		},
		"older than": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 2*day)
				m.blob("o/a", "2", 100, 40*day)
				m.revision("o/a", "1", []string{"1"})
				m.revision("o/a", "2", []string{"2"})
				m.head("o/a")
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
				m.head("o/a")
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
				m.head("o/a")
				m.head("o/b")
			},
			nil, nil,
			[]string{
				"models--o--a/blobs/2: 100: a link leads to it past blobs/", "o/a@1: 100: a link of another revision leads to its file 1 past blobs/",
				"o/b@2: 0: active (ref main); --evict-active evicts it",
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
			[]string{"o/a@1: 100: active (refs main, v1), and no bucket is configured from which it could come back; --unsafe evicts it"},
			nil,
		},
		"the order: detached, active and pinned by last use, and last of all what was used within a day": {
			func(m *madeCache) {
				for repo, ago := range map[string][]time.Duration{"o/a": {2 * day, time.Hour, 4 * day, 2 * time.Hour}, "o/p": {5 * day}, "o/q": {3 * time.Hour}} {
					for i, age := range ago {
						digit := fmt.Sprint(i + 1)
						m.blob(repo, digit, 100, age)
						var refs []string
						if repo == "o/a" && i >= 2 {
							refs = []string{"r" + digit}
						}
						m.revision(repo, digit, []string{digit}, refs...)
					}
				}
			},
			func(p *plan.PrunePolicy) { p.EvictActive, p.Unsafe, p.Grace = true, true, 0 },
			[]string{"o/a@1 1: 100", "o/p@1 1: 100", "o/a@3[r3] 3: 100", "o/q@1 1: 100", "o/a@4[r4] 4: 100", "o/a@2 2: 100"},
			nil, nil,
		},
		"what was used within a day is spared": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 2*time.Hour)
				m.revision("o/a", "1", []string{"1"})
				m.blob("o/p", "1", 100, 9*day)
				m.revision("o/p", "1", []string{"1"})
				m.head("o/a")
			},
			nil, nil,
			[]string{
				"o/a@1: 100: detached, used within a day; --evict-active evicts it",
				"o/p@1: 100: pinned (no ref names a revision of its repository); --evict-active evicts it",
			},
			nil,
		},
		"detached ones: the bucket does not hold one": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 9*day)
				m.blob("o/a", "2", 100, 8*day)
				m.revision("o/a", "1", []string{"1"})
				m.revision("o/a", "2", []string{"2"})
				m.head("o/a")
			},
			func(p *plan.PrunePolicy) {
				p.Held = map[manifest.Key]error{
					{Repo: hub.Repo{Type: hub.Model, Name: "o/a"}, Commit: commit("1")}: errors.New("it has no manifest of it"),
					{Repo: hub.Repo{Type: hub.Model, Name: "o/a"}, Commit: commit("2")}: nil,
				}
			},
			[]string{"o/a@2 2: 100"},
			[]string{"o/a@1: 100: detached, and the bucket does not hold it: it has no manifest of it"},
			nil,
		},
		"detached ones: the bucket cannot be asked": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 9*day)
				m.revision("o/a", "1", []string{"1"})
				m.head("o/a")
			},
			func(p *plan.PrunePolicy) { p.Held, p.NoAnswer = map[manifest.Key]error{}, true },
			nil,
			[]string{"o/a@1: 100: detached, and the bucket could not be asked; --unsafe evicts it"},
			nil,
		},
		"a ref without a revision detaches nothing": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 9*day)
				m.revision("o/a", "1", []string{"1"})
				m.repo("o/a").Refs = []hfcache.Ref{{Name: "main", Commit: commit("f")}}
			},
			nil, nil,
			[]string{"o/a@1: 100: pinned (no ref names a revision of its repository); --evict-active evicts it"},
			nil,
		},
		"a ref that cannot be read may name any of them": {
			func(m *madeCache) {
				m.blob("o/a", "1", 100, 9*day)
				m.revision("o/a", "1", []string{"1"})
				m.head("o/a")
				m.inv.Problems = []hfcache.Problem{{Repo: m.repo("o/a").ID, Path: "models--o--a/refs/main", Why: "?"}}
			},
			nil, nil,
			[]string{"o/a@1: 100: pinned (a ref of its repository cannot be read); --evict-active evicts it"},
			nil,
		},
		"a file in common with one that is in use": {
			func(m *madeCache) {
				m.blob("o/a", "t", 10, 2*time.Hour)
				m.blob("o/a", "1", 100, 60*day)
				m.blob("o/a", "2", 100, 2*time.Hour)
				m.revision("o/a", "1", []string{"1", "t"})
				m.revision("o/a", "2", []string{"2", "t"}, "main")
			},
			nil,
			[]string{"o/a@1 1: 100"},
			[]string{"o/a@2: 110: active (ref main), used within a day; --evict-active evicts it"},
			nil,
		},
		"a file in common, and nobody knows whose use it was": {
			func(m *madeCache) {
				m.blob("o/a", "w", 100, 2*time.Hour)
				m.blob("o/a", "1", 10, 60*day)
				m.blob("o/a", "2", 10, 60*day)
				m.revision("o/a", "1", []string{"1", "w"})
				m.revision("o/a", "2", []string{"2", "w"}, "main")
			},
			nil, nil,
			[]string{
				"o/a@1: 110: detached, used within a day; --evict-active evicts it",
				"o/a@2: 110: active (ref main), used within a day; --evict-active evicts it",
			},
			nil,
		},
		"a file in common that is most of it": {
			func(m *madeCache) {
				m.blob("o/a", "w", 100, 2*time.Hour)
				m.blob("o/a", "1", 10, 60*day)
				m.blob("o/a", "2", 10, 2*time.Hour)
				m.revision("o/a", "1", []string{"1", "w"})
				m.revision("o/a", "2", []string{"2", "w"}, "main")
			},
			nil, nil,
			[]string{
				"o/a@1: 110: detached, used within a day; --evict-active evicts it",
				"o/a@2: 110: active (ref main), used within a day; --evict-active evicts it",
			},
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
				"o/a@1: 100: active (ref r1), and the bucket does not hold it: it lacks a blob",
				"o/a@2: 100: active (ref r2); the bucket was not asked yet", "o/a@3: 100: active (ref r3); the bucket was not asked yet",
				"o/a@4: 100: active (ref r4); the bucket was not asked yet",
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

// randomPolicy is a policy and what the bucket would answer. Nothing was asked yet.
func randomPolicy(r *rand.Rand, m *madeCache) (plan.PrunePolicy, map[manifest.Key]error) {
	answers := map[manifest.Key]error{}
	policy := pruned(func(p *plan.PrunePolicy) {
		p.Budget = int64(r.IntN(300)) - 20
		p.EvictActive, p.Unsafe, p.All = r.IntN(3) > 0, r.IntN(4) == 0, r.IntN(5) == 0
		if r.IntN(4) == 0 {
			p.OlderThan = 2 * day
		}
		if r.IntN(4) == 0 {
			p.Keep, _ = plan.ParseGlobs([]string{"o/r1"})
		}
		if r.IntN(3) > 0 {
			p.Held, p.NoAnswer = map[manifest.Key]error{}, r.IntN(5) == 0
		}
		p.LastUse = map[manifest.Key]time.Time{}
	})
	for _, repo := range m.inv.Repos {
		for _, rev := range repo.Revisions {
			key := manifest.Key{Repo: repo.ID, Commit: rev.Commit}
			answers[key] = nil
			if r.IntN(3) == 0 {
				answers[key] = errors.New("no")
			}
			if r.IntN(8) == 0 {
				policy.LastUse[key] = now.Add(-time.Duration(r.IntN(60)) * time.Hour)
			}
		}
	}
	return policy, answers
}

// asked plans until there are no more questions.
func asked(m *madeCache, policy plan.PrunePolicy, answers map[manifest.Key]error) *plan.Prune {
	policy.Held = maps.Clone(policy.Held)
	for {
		p := plan.NewPrune(m.inv, m.survey, policy)
		if len(p.Ask) == 0 {
			return p
		}
		for _, key := range p.Ask {
			policy.Held[key] = answers[key]
		}
	}
}

// turns are the places of all revisions in the order of eviction: first the group, then the last use.
func turns(m *madeCache, policy plan.PrunePolicy) map[manifest.Key][2]int64 {
	all := pruned(func(p *plan.PrunePolicy) { p.LastUse = policy.LastUse })
	all.Keep, _ = plan.ParseGlobs([]string{"*"})
	at := map[manifest.Key][2]int64{}
	for _, k := range plan.NewPrune(m.inv, m.survey, all).Kept { // It names all of them, and when they were used.
		if k.Kind != plan.PruneRevision {
			continue
		}
		group := int64(1)
		if standing(m.inv.Repo(k.Repo), k.Commit) == plan.Detached {
			group = 0
		}
		if now.Sub(k.Used) < day {
			group = 2
		}
		at[manifest.Key{Repo: k.Repo, Commit: k.Commit}] = [2]int64{group, k.Used.UnixNano()}
	}
	return at
}

func standing(repo *hfcache.Repo, c hub.Commit) plan.Standing {
	named := false
	for _, ref := range repo.Refs {
		if ref.Commit == c {
			return plan.Active
		}
		named = named || repo.Revision(ref.Commit) != nil
	}
	if named {
		return plan.Detached
	}
	return plan.Pinned
}

func keyOf(s plan.PruneStep) manifest.Key { return manifest.Key{Repo: s.Repo, Commit: s.Commit} }

func evicted(p *plan.Prune) (steps []plan.PruneStep) {
	for _, s := range p.Steps {
		if s.Kind == plan.PruneRevision {
			steps = append(steps, s)
		}
	}
	return steps
}

// For any cache and policy: what must stay stays, what stays has all that it needs, the figures are true, no more is evicted than the budget asks for, and a
// second run frees nothing.
func TestPruneProperties(t *testing.T) {
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := random(r)
		policy, answers := randomPolicy(r, m)
		p := asked(m, policy, answers)
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: %s\npolicy: %+v\nsteps: %q\nkept: %q", seed, fmt.Sprintf(format, args...), policy, what(p), kept(p))
		}
		if before := m.disk(); p.Before != before {
			fail("before: %d, counted %d", p.Before, before)
		}
		mustStay(m, policy, answers, p, fail)
		if freed := m.apply(p); p.Freed() != freed {
			fail("it says that it frees %d, and frees %d", p.Freed(), freed)
		}
		complete(m, fail)
		again := asked(m, policy, answers)
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

// The order of eviction holds for any cache and policy: of the revisions that may be evicted, none stays before whose turn another one is evicted, unless it would
// free nothing; and while the budget is not met, none stays at all.
func TestPruneOrder(t *testing.T) {
	groups := map[int64]int{}
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 2))
		m := random(r)
		policy, answers := randomPolicy(r, m)
		if policy.Budget < 0 || policy.All {
			policy.Budget, policy.All = 50, false
		}
		p, at := asked(m, policy, answers), turns(m, policy)
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: %s\npolicy: %+v\nturns: %v\nsteps: %q\nkept: %q", seed, fmt.Sprintf(format, args...), policy, at, what(p), kept(p))
		}
		steps, gone := evicted(p), map[manifest.Key]bool{}
		for i, s := range steps {
			turn := at[keyOf(s)]
			groups[turn[0]]++
			gone[keyOf(s)] = true
			if i > 0 && earlier(turn, at[keyOf(steps[i-1])]) {
				fail("%s is evicted too late", keyOf(s))
			}
			if says := strings.Contains(s.Reason, "used within a day"); says != (turn[0] == 2) {
				fail("%s: it is in group %d, and the reason is %q", keyOf(s), turn[0], s.Reason)
			}
		}
		everything := policy
		everything.All = true
		could := evicted(asked(m, everything, answers))
		m.apply(p)
		for _, s := range could {
			key := keyOf(s)
			due := !p.Met() || len(steps) > 0 && earlier(at[key], at[keyOf(steps[len(steps)-1])])
			if !gone[key] && due && m.alone(key) > 0 {
				fail("%s stays although it is its turn, and it would free %d", key, m.alone(key))
			}
		}
	}
	if groups[0] < 500 || groups[1] < 500 || groups[2] < 500 {
		t.Errorf("too little was tried: %v", groups)
	}
}

func earlier(x, y [2]int64) bool { return x[0] < y[0] || x[0] == y[0] && x[1] < y[1] }

// alone is what the disk would get back by the eviction of one more revision.
func (m *madeCache) alone(key manifest.Key) int64 {
	repo := m.inv.Repo(key.Repo)
	names := map[string]bool{}
	for _, f := range repo.Revision(key.Commit).Files {
		if f.Blob != "" {
			names[f.Blob] = true
		}
	}
	for _, rev := range repo.Revisions {
		for _, f := range rev.Files {
			if rev.Commit != key.Commit {
				delete(names, f.Blob)
			}
		}
	}
	trial := &madeCache{inv: &hfcache.Inventory{Inodes: maps.Clone(m.inv.Inodes)}, survey: &hfcache.Survey{}}
	for _, p := range m.survey.Payloads {
		p.Users = slices.Clone(p.Users)
		trial.survey.Payloads = append(trial.survey.Payloads, p)
	}
	for _, r := range m.inv.Repos {
		trial.inv.Repos = append(trial.inv.Repos, &hfcache.Repo{ID: r.ID, Blobs: maps.Clone(r.Blobs), Revisions: slices.Clone(r.Revisions)})
	}
	return trial.apply(&plan.Prune{Steps: []plan.PruneStep{{Kind: plan.PruneRevision, Repo: key.Repo, Commit: key.Commit, Blobs: slices.Sorted(maps.Keys(names))}}})
}

// The bucket is asked about nothing that may stay: neither below the budget, nor what is never evicted.
func TestPruneAsksNoMoreThanNeeded(t *testing.T) {
	questions := 0
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 3))
		m := random(r)
		policy, _ := randomPolicy(r, m)
		p := plan.NewPrune(m.inv, m.survey, policy)
		questions += len(p.Ask)
		switch {
		case len(p.Ask) == 0:
			continue
		case policy.Held == nil || policy.Unsafe || policy.NoAnswer:
			t.Fatalf("seed %d: %v is asked of nobody", seed, p.Ask)
		case !policy.All && p.Met():
			t.Fatalf("seed %d: %v is asked, and the budget is met", seed, p.Ask)
		}
		yes := policy
		yes.Held = map[manifest.Key]error{}
		for _, key := range p.Ask {
			yes.Held[key] = nil
		}
		for _, s := range evicted(plan.NewPrune(m.inv, m.survey, yes)) {
			delete(yes.Held, keyOf(s))
		}
		if len(yes.Held) > 0 {
			t.Fatalf("seed %d: %v stays all the same", seed, yes.Held)
		}
	}
	if questions == 0 {
		t.Error("nothing was ever asked")
	}
}

func mustStay(m *madeCache, policy plan.PrunePolicy, answers map[manifest.Key]error, p *plan.Prune, fail func(string, ...any)) {
	at := turns(m, policy)
	for _, s := range evicted(p) {
		repo, key := m.inv.Repo(s.Repo), keyOf(s)
		rev := repo.Revision(s.Commit)
		if got := standing(repo, s.Commit); got != s.Standing {
			fail("%s is %s, it says %s", key, got, s.Standing)
		}
		beyond := at[key][0] > 0
		switch {
		case beyond && !policy.EvictActive:
			fail("%s is evicted although that was not allowed", key)
		case policy.Unsafe:
		case policy.Held == nil && beyond:
			fail("%s is evicted although there is no bucket", key)
		case policy.Held != nil && (policy.NoAnswer || answers[key] != nil):
			fail("%s is evicted although the bucket does not hold it", key)
		}
		for _, ref := range repo.Refs {
			if ref.Commit == s.Commit && !slices.Contains(s.Refs, ref.Name) {
				fail("ref %s would dangle", ref.Name)
			}
		}
		if now.Sub(s.Used) < policy.OlderThan {
			fail("%s was used within --older-than", key)
		}
		for _, f := range rev.Files {
			if len(m.survey.Open[f.Bytes]) > 0 || now.Sub(f.ModTime) < policy.Grace {
				fail("%s is evicted although somebody uses it", key)
			}
		}
		if policy.Keep.Match(s.Repo.Name) {
			fail("%s is to be kept", s.Repo)
		}
		if policy.Budget < 0 && !policy.All {
			fail("%s is evicted without a budget", key)
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

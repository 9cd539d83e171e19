package plan_test

import (
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

// theirs is a manifest of files that are named by their digits, with a listing of these and of listed beside them.
func theirs(c hub.Commit, digits string, listed ...hub.Path) *manifest.Manifest {
	m := &manifest.Manifest{Repo: model, Commit: c, Hub: &manifest.Hub{Tree: manifest.Tree{}}}
	for _, d := range digits {
		path := hub.Path(string(d) + ".bin")
		m.Files = append(m.Files, manifest.File{Path: path, Blob: blob(string(d)), Size: 5})
		m.Hub.Tree[path] = manifest.TreeEntry{Size: 5}
	}
	for _, p := range listed {
		m.Hub.Tree[p] = manifest.TreeEntry{Size: 5}
	}
	return m
}

// ours is the same as a revision of the cache.
func ours(m *manifest.Manifest) *hfcache.Revision {
	rev := &hfcache.Revision{Commit: m.Commit, Tree: m.Tree()}
	for _, f := range m.Files {
		rev.Files = append(rev.Files, hfcache.File{Path: f.Path, Size: f.Size, Blob: string(f.Blob), ID: f.Blob})
	}
	return rev
}

func claimed(m *manifest.Manifest, at time.Time) *manifest.Manifest {
	m.Hub.Refs = map[hub.Ref]time.Time{"main": at}
	return m
}

func forced(m *manifest.Manifest, at time.Time) *manifest.Manifest {
	m.Hub.Forced = map[hub.Ref]time.Time{"main": at}
	return m
}

func TestPushedRefs(t *testing.T) {
	complete := theirs(commit("a"), "12")
	for _, test := range []struct {
		name    string
		bucket  []*manifest.Manifest // the first is what the bucket's main names
		ref     remote.Ref           // what else the object tells
		rev     *manifest.Manifest   // that the cache has, and that its main names
		learned time.Time
		policy  plan.PushPolicy
		planned, kept, lost,
		force bool
	}{
		{"a part of a later commit", []*manifest.Manifest{complete}, remote.Ref{Resolved: before}, theirs(commit("b"), "3", "1.bin"), now, plan.PushPolicy{}, false, true, true, false},
		{"a part of a later commit, forced", []*manifest.Manifest{complete}, remote.Ref{Resolved: before}, theirs(commit("b"), "3", "1.bin"), now, plan.PushPolicy{ForceRefs: true}, true, false, false, true},
		{"a part that another machine has completed", []*manifest.Manifest{complete, theirs(commit("b"), "1")}, remote.Ref{Resolved: before}, theirs(commit("b"), "3", "1.bin"), now, plan.PushPolicy{}, true, false, false, false},
		{"a later commit", []*manifest.Manifest{complete}, remote.Ref{Resolved: before}, theirs(commit("b"), "12"), now, plan.PushPolicy{}, true, false, false, false},
		{"a copied cache", []*manifest.Manifest{complete, claimed(theirs(commit("b"), "12"), before.Add(-day))}, remote.Ref{Resolved: before}, theirs(commit("b"), "12"), now, plan.PushPolicy{}, false, true, false, false},
		{"a copied cache was first", []*manifest.Manifest{claimed(theirs(commit("a"), "12"), before)}, remote.Ref{Resolved: before}, theirs(commit("b"), "12"), now, plan.PushPolicy{}, true, false, false, false},
		{"after a roll-back", []*manifest.Manifest{forced(claimed(theirs(commit("a"), "12"), before), now)}, remote.Ref{Resolved: now}, theirs(commit("b"), "12"), now.Add(-time.Minute), plan.PushPolicy{}, false, true, false, false},
		{"after a roll-back, the next commit", []*manifest.Manifest{forced(claimed(theirs(commit("a"), "12"), before), now)}, remote.Ref{Resolved: now}, theirs(commit("b"), "12"), now.Add(time.Minute), plan.PushPolicy{}, true, false, false, false},
		{"back to what was forced once", []*manifest.Manifest{claimed(complete, now.Add(day)), forced(claimed(theirs(commit("b"), "12"), before), now)}, remote.Ref{Resolved: now.Add(day)}, theirs(commit("b"), "12"), now.Add(2 * day), plan.PushPolicy{}, false, true, false, false},
		{"of the Python tool, later by its object alone", []*manifest.Manifest{claimed(theirs(commit("a"), "12"), before)}, remote.Ref{Resolved: now.Add(day), Undated: true}, theirs(commit("b"), "12"), now, plan.PushPolicy{}, true, false, false, false},
		{"fast-forward to a commit that another branch had", []*manifest.Manifest{claimed(theirs(commit("a"), "12"), before), theirs(commit("b"), "12")}, remote.Ref{Resolved: before}, theirs(commit("b"), "12"), now, plan.PushPolicy{}, true, false, false, false},
		{"a slow clock lowered the claim of what the ref names", []*manifest.Manifest{claimed(theirs(commit("a"), "12"), before.Add(-day))}, remote.Ref{Resolved: before.Add(-day), After: now}, theirs(commit("b"), "12"), now, plan.PushPolicy{}, false, true, false, false},
		{"a time that nobody knows", []*manifest.Manifest{complete}, remote.Ref{Resolved: before}, theirs(commit("b"), "12"), time.Time{}, plan.PushPolicy{}, false, true, false, false},
		{
			"the Hub went back",
			[]*manifest.Manifest{complete, claimed(theirs(commit("b"), "12"), before.Add(-day))},
			remote.Ref{Resolved: before},
			theirs(commit("b"), "12"), now,
			plan.PushPolicy{FromHub: map[remote.RefKey]hub.Commit{{Repo: model, Name: "main"}: commit("b")}},
			true, false, false, true,
		},
		{
			"the Hub went back, to a part",
			[]*manifest.Manifest{complete, claimed(theirs(commit("b"), "3", "1.bin"), before.Add(-day))},
			remote.Ref{Resolved: before},
			theirs(commit("b"), "3", "1.bin"), now,
			plan.PushPolicy{FromHub: map[remote.RefKey]hub.Commit{{Repo: model, Name: "main"}: commit("b")}},
			false, true, true, false,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			idx := index()
			for _, m := range test.bucket {
				if err := m.Check(); err != nil {
					t.Fatal(err)
				}
				idx.Manifests[m.Key()] = &remote.Entry{Manifest: m}
			}
			test.ref.Name, test.ref.Commit = "main", test.bucket[0].Commit
			idx.Refs[remote.RefKey{Repo: model, Name: "main"}] = test.ref
			p := plan.NewPush(inventory([]*hfcache.Revision{ours(test.rev)}, hfcache.Ref{Name: "main", Commit: commit("b"), Learned: test.learned}), idx, test.policy)
			if (len(p.Refs) == 1) != test.planned || (len(p.Kept) == 1) != test.kept || test.kept && (p.Kept[0].Loss != nil) != test.lost {
				t.Errorf("refs %+v, kept %+v", p.Refs, p.Kept)
			}
			if test.planned && p.Refs[0].Force != test.force {
				t.Errorf("forced: %v", p.Refs[0].Force)
			}
		})
	}
}

// What stays does not keep the files of the new commit from being pushed, nor the claim of this machine.
func TestKeptRefIsClaimed(t *testing.T) {
	bucket, rev := theirs(commit("a"), "12"), theirs(commit("b"), "3", "1.bin")
	idx := index()
	idx.Manifests[bucket.Key()] = &remote.Entry{Manifest: bucket}
	idx.Refs[remote.RefKey{Repo: model, Name: "main"}] = remote.Ref{Name: "main", Commit: bucket.Commit, Resolved: before}
	refs := []hfcache.Ref{{Name: "main", Commit: rev.Commit, Learned: now}, {Name: "old", Commit: rev.Commit}}
	p := plan.NewPush(inventory([]*hfcache.Revision{ours(rev)}, refs...), idx, plan.PushPolicy{})
	if len(p.Kept) != 1 || len(p.Revisions) != 1 || len(p.Blobs) != 1 {
		t.Fatalf("plan: %+v", p)
	}
	got := p.Revisions[0].Manifest.Hub.Refs
	if len(got) != 1 || !got["main"].Equal(now) {
		t.Errorf("claims: %v; want main, and nothing of a ref whose time nobody knows", got)
	}
	if why := p.Kept[0].Why(); why != "it stays at aaaaaaaaaaaa, because bbbbbbbbbbbb lacks 1.bin and 1 more file" {
		t.Errorf("why: %q", why)
	}
}

// A claim is news if it is earlier by more than file systems round.
func TestClaimsThatAreNoNews(t *testing.T) {
	for _, test := range []struct {
		learned time.Time
		news    bool
	}{{now, false}, {now.Add(-time.Second), false}, {now.Add(time.Hour), false}, {now.Add(-time.Hour), true}, {time.Time{}, false}} {
		m := claimed(theirs(commit("a"), "12"), now)
		idx := index()
		idx.Manifests[m.Key()] = &remote.Entry{Manifest: m}
		idx.Refs[remote.RefKey{Repo: model, Name: "main"}] = remote.Ref{Name: "main", Commit: m.Commit, Resolved: now}
		p := plan.NewPush(inventory([]*hfcache.Revision{ours(m)}, hfcache.Ref{Name: "main", Commit: m.Commit, Learned: test.learned}), idx, plan.PushPolicy{})
		if len(p.Revisions) != len(p.Refs) || (len(p.Revisions) == 1) != test.news {
			t.Errorf("learned at %s: revisions %v, refs %+v", test.learned, p.Revisions, p.Refs)
		}
	}
}

func TestPulledRefs(t *testing.T) {
	complete := theirs(commit("b"), "12")
	for _, test := range []struct {
		name   string
		bucket *manifest.Manifest // that its main names
		ref    remote.Ref
		here   *manifest.Manifest // that the cache's main names; nil for no ref
		at     time.Time
		known  *manifest.Manifest // what the bucket has of that
		policy plan.PullPolicy
		why    plan.KeptWhy
	}{
		{"a part of a later commit", theirs(commit("a"), "3", "1.bin"), remote.Ref{Resolved: now}, complete, before, nil, plan.PullPolicy{}, plan.KeptWorse},
		{"a part of a later commit, forced here", theirs(commit("a"), "3", "1.bin"), remote.Ref{Resolved: now}, complete, before, nil, plan.PullPolicy{ForceRefs: true}, 0},
		{"a part of a commit, forced there", forced(theirs(commit("a"), "3", "1.bin"), now), remote.Ref{Resolved: now}, complete, before, nil, plan.PullPolicy{}, 0},
		{"a part of a commit, where there is nothing", theirs(commit("a"), "3", "1.bin"), remote.Ref{Resolved: now}, nil, before, nil, plan.PullPolicy{}, 0},
		{"a later commit", theirs(commit("a"), "12"), remote.Ref{Resolved: now}, complete, before, nil, plan.PullPolicy{}, 0},
		{"a later commit, filtered", theirs(commit("a"), "12"), remote.Ref{Resolved: now}, complete, before, nil, plan.PullPolicy{Files: filter(t, "1.bin")}, plan.KeptWorse},
		{"nothing of a commit, where there is nothing", theirs(commit("a"), "12"), remote.Ref{Resolved: now}, nil, before, nil, plan.PullPolicy{Files: filter(t, "x")}, plan.KeptEmpty},
		{"an earlier commit", theirs(commit("a"), "12"), remote.Ref{Resolved: before}, complete, now, nil, plan.PullPolicy{}, plan.KeptLater},
		{"an earlier commit, where the ref leads to nothing", theirs(commit("a"), "12"), remote.Ref{Resolved: before}, theirs(commit("b"), "", "1.bin"), now, nil, plan.PullPolicy{}, 0},
		{"a copied cache", theirs(commit("a"), "12"), remote.Ref{Resolved: before}, complete, now, claimed(theirs(commit("b"), "12"), before.Add(-day)), plan.PullPolicy{}, 0},
		{"a commit that was pushed from a copied cache", claimed(theirs(commit("a"), "12"), before), remote.Ref{Resolved: now}, complete, now.Add(-time.Minute), nil, plan.PullPolicy{}, plan.KeptLater},
		{"a roll-back", forced(claimed(theirs(commit("a"), "12"), before.Add(-day)), now), remote.Ref{Resolved: now}, complete, before, nil, plan.PullPolicy{}, 0},
		{"by the Hub's word", claimed(theirs(commit("a"), "12"), before.Add(-day)), remote.Ref{Resolved: now, FromHub: true}, complete, before, nil, plan.PullPolicy{}, 0},
		{"by the Hub's word, over a time of the future", claimed(theirs(commit("a"), "12"), before), remote.Ref{Resolved: before, FromHub: true}, complete, now, nil, plan.PullPolicy{}, 0},
		{"forced there, filtered here", forced(theirs(commit("a"), "12"), now), remote.Ref{Resolved: now}, complete, before, nil, plan.PullPolicy{Files: filter(t, "1.bin")}, plan.KeptWorse},
		{"a part, if it must be complete", theirs(commit("a"), "12", "3.bin"), remote.Ref{Resolved: now}, nil, before, nil, plan.PullPolicy{RequireComplete: true}, plan.KeptIncomplete},
		{"all of it, if it must be complete", theirs(commit("a"), "12"), remote.Ref{Resolved: now}, nil, before, nil, plan.PullPolicy{RequireComplete: true}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.ref.Name, test.ref.Commit = "main", test.bucket.Commit
			local := &hfcache.Repo{ID: model}
			known := map[hub.Commit]*manifest.Manifest{}
			if test.here != nil {
				local.Revisions, local.Refs = []*hfcache.Revision{ours(test.here)}, []hfcache.Ref{{Name: "main", Commit: test.here.Commit, Learned: test.at}}
			}
			if test.known != nil {
				known[test.known.Commit] = test.known
				if got := plan.LocalRefsToJudge(test.bucket, []remote.Ref{test.ref}, local, test.policy); len(got) != 1 || got[0] != test.known.Commit {
					t.Errorf("commits to look up: %v", got)
				}
			}
			p := plan.NewPull(test.bucket, []remote.Ref{test.ref}, local, known, test.policy)
			var why plan.KeptWhy
			if len(p.KeptRefs) == 1 {
				why = p.KeptRefs[0].Why
			}
			if why != test.why || (len(p.Refs) == 1) != (why == 0) {
				t.Errorf("refs %+v, kept %+v", p.Refs, p.KeptRefs)
			}
		})
	}
}

func filter(t *testing.T, include string) plan.Filter {
	t.Helper()
	globs, err := plan.ParseGlobs([]string{include})
	if err != nil {
		t.Fatal(err)
	}
	return plan.Filter{Include: globs}
}

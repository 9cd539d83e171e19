package plan_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

func listed(c hub.Commit, proven bool, refs []hub.Ref, files ...manifest.File) *remote.Listed {
	return &remote.Listed{Entry: entry(c, proven, files...), Refs: refs}
}

func inBucket(path hub.Path, digit string, size int64) manifest.File {
	return manifest.File{Path: path, Blob: blob(digit), Size: size}
}

func revision(c hub.Commit, files ...hfcache.File) *hfcache.Revision {
	return &hfcache.Revision{Commit: c, Files: files}
}

func TestNewDiff(t *testing.T) {
	git := hub.BlobID(strings.Repeat("a", 40))
	unnamed := hfcache.File{Path: "real", Size: 7, Bytes: "x"}
	key := manifest.Key{Repo: model, Commit: commit("a")}
	for name, test := range map[string]struct {
		local  *hfcache.Revision
		remote *remote.Listed
		want   plan.RevisionDiff
	}{
		"in sync": {
			revision(commit("a"), file("a", "1", 5), file("b", "2", 6)), listed(commit("a"), true, nil, inBucket("a", "1", 5), inBucket("b", "2", 6)),
			plan.RevisionDiff{State: plan.InSync, Files: 2, Bytes: 11},
		},
		"in sync with a manifest of the Python tool": {
			revision(commit("a"), file("a", "1", 5)), listed(commit("a"), false, nil, inBucket("a", "1", 5)),
			plan.RevisionDiff{State: plan.InSync, Files: 1, Bytes: 5, Unproven: true},
		},
		"local only":  {revision(commit("a"), file("a", "1", 5)), nil, plan.RevisionDiff{State: plan.LocalOnly, Files: 1, Bytes: 5, RemoteLacks: plan.Lack{Files: []hub.Path{"a"}, Bytes: 5}}},
		"remote only": {nil, listed(commit("a"), true, nil, inBucket("a", "1", 5)), plan.RevisionDiff{State: plan.RemoteOnly, Files: 1, Bytes: 5, LocalLacks: plan.Lack{Files: []hub.Path{"a"}, Bytes: 5}}},
		"each side lacks something": {
			revision(commit("a"), file("a", "1", 5), file("b", "2", 6)), listed(commit("a"), true, nil, inBucket("a", "1", 5), inBucket("c", "3", 7), inBucket("d", "4", 8)),
			plan.RevisionDiff{
				State: plan.Partial, Files: 4, Bytes: 26,
				LocalLacks: plan.Lack{Files: []hub.Path{"c", "d"}, Bytes: 15}, RemoteLacks: plan.Lack{Files: []hub.Path{"b"}, Bytes: 6},
			},
		},
		"nothing here but the commit": {
			revision(commit("a")), listed(commit("a"), true, nil, inBucket("a", "1", 5)),
			plan.RevisionDiff{State: plan.Partial, Files: 1, Bytes: 5, LocalLacks: plan.Lack{Files: []hub.Path{"a"}, Bytes: 5}},
		},
		"a conflict beside a lack": {
			revision(commit("a"), file("a", "1", 5), file("b", "2", 6)), listed(commit("a"), true, nil, inBucket("a", "9", 5)),
			plan.RevisionDiff{
				State: plan.Conflict, Files: 2, Bytes: 11, RemoteLacks: plan.Lack{Files: []hub.Path{"b"}, Bytes: 6},
				Conflicts: []plan.FileConflict{{Path: "a", Local: inBucket("a", "1", 5), Remote: inBucket("a", "9", 5)}},
			},
		},
		"digests of two kinds, one size": {
			revision(commit("a"), file("a", "1", 5), unnamed),
			listed(commit("a"), true, nil, manifest.File{Path: "a", Blob: git, Size: 5}, inBucket("real", "2", 7)),
			plan.RevisionDiff{State: plan.InSync, Files: 2, Bytes: 12, BySize: []hub.Path{"a", "real"}},
		},
		"digests of two kinds, two sizes": {
			revision(commit("a"), file("a", "1", 5), unnamed),
			listed(commit("a"), true, nil, manifest.File{Path: "a", Blob: git, Size: 6}, inBucket("real", "2", 8)),
			plan.RevisionDiff{
				State: plan.Conflict, Files: 2, Bytes: 12,
				Conflicts: []plan.FileConflict{
					{Path: "a", Local: inBucket("a", "1", 5), Remote: manifest.File{Path: "a", Blob: git, Size: 6}},
					{Path: "real", Local: manifest.File{Path: "real", Size: 7}, Remote: inBucket("real", "2", 8)},
				},
			},
		},
		"sizes that nobody can have": {
			nil, listed(commit("a"), true, nil, inBucket("a", "1", math.MaxInt64), inBucket("b", "2", 8)),
			plan.RevisionDiff{State: plan.RemoteOnly, Files: 2, Bytes: math.MaxInt64, LocalLacks: plan.Lack{Files: []hub.Path{"a", "b"}, Bytes: math.MaxInt64}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inv, contents := inventory(nil), &remote.Contents{}
			if test.local != nil {
				inv = inventory([]*hfcache.Revision{test.local})
			}
			if test.remote != nil {
				contents.Revisions = []*remote.Listed{test.remote}
			}
			test.want.Key = key
			d := plan.NewDiff(inv, contents)
			if diff := cmp.Diff([]plan.RevisionDiff{test.want}, d.Revisions); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if d.Empty() != (test.want.State == plan.InSync) || d.Counts()[test.want.State] != 1 {
				t.Errorf("empty: %v, counts: %v", d.Empty(), d.Counts())
			}
		})
	}
}

func TestDownloadThatHasOnlyBegunIsNoDifference(t *testing.T) {
	inv := inventory([]*hfcache.Revision{revision(commit("a"))}, hfcache.Ref{Name: "main", Commit: commit("a")})
	if d := plan.NewDiff(inv, &remote.Contents{}); !d.Empty() || len(d.Revisions) != 0 {
		t.Errorf("%+v", d)
	}
	inv.Repos[0].Revisions[0].NoExist = []hub.Path{"adapter_config.json"} // which a push would tell the bucket
	if d := plan.NewDiff(inv, &remote.Contents{}); d.Empty() {
		t.Error("what a client learned is no difference")
	}
}

func TestDiffOfRefs(t *testing.T) {
	a, b, c, gone := commit("a"), commit("b"), commit("c"), commit("d")
	inv := inventory([]*hfcache.Revision{revision(a, file("f", "1", 5)), revision(b, file("f", "2", 5))},
		hfcache.Ref{Name: "here", Commit: a},
		hfcache.Ref{Name: "local-revision", Commit: b},
		hfcache.Ref{Name: "main", Commit: a},
		hfcache.Ref{Name: "moved", Commit: a},
		hfcache.Ref{Name: "nothing", Commit: gone},
	)
	contents := &remote.Contents{Revisions: []*remote.Listed{
		listed(a, true, []hub.Ref{"main", "there"}, inBucket("f", "1", 5)),
		listed(c, true, []hub.Ref{"moved", "remote-revision"}, inBucket("f", "3", 5)),
	}}
	d := plan.NewDiff(inv, contents)
	want := []plan.RefDiff{
		{Key: remote.RefKey{Repo: model, Name: "here"}, Local: a},
		{Key: remote.RefKey{Repo: model, Name: "moved"}, Local: a, Remote: c},
		{Key: remote.RefKey{Repo: model, Name: "there"}, Remote: a},
	}
	if diff := cmp.Diff(want, d.Refs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	states := map[hub.Commit]plan.State{}
	for _, r := range d.Revisions {
		states[r.Key.Commit] = r.State
	}
	if diff := cmp.Diff(map[hub.Commit]plan.State{a: plan.InSync, b: plan.LocalOnly, c: plan.RemoteOnly}, states); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]hub.Ref{"here", "main", "moved"}, d.Revisions[0].LocalRefs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A moved ref alone is a difference.
	inv.Repos[0].Revisions, contents.Revisions = inv.Repos[0].Revisions[:1], contents.Revisions[:1]
	if d := plan.NewDiff(inv, contents); d.Empty() {
		t.Error("a moved ref is no difference")
	}
}

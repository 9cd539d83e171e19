package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

func TestUnfinished(t *testing.T) {
	id := string(blob("2"))
	tree := manifest.Tree{"here": {Size: 1, BlobID: string(commit("9")), LFSSHA256: blob("1"), LFSSize: 1}, "coming": {Size: 1, BlobID: string(commit("9")), LFSSHA256: blob("2"), LFSSize: 1}}
	has := func(c hub.Commit, tree manifest.Tree, paths ...hub.Path) *hfcache.Revision {
		r := &hfcache.Revision{Commit: c, Tree: tree}
		for _, p := range paths {
			r.Files = append(r.Files, hfcache.File{Path: p})
		}
		return r
	}
	revisions := []*hfcache.Revision{
		has(commit("a"), tree, "here"), has(commit("b"), tree, "coming", "here"), has(commit("c"), nil, "here"),
		has(commit("d"), manifest.Tree{"other": {Size: 1, BlobID: string(commit("8"))}}),
	}
	temp := func(name string, ago time.Duration) []hfcache.Temp {
		return []hfcache.Temp{{Name: name, ModTime: now.Add(-ago)}}
	}
	for name, test := range map[string]struct {
		temps  []hfcache.Temp
		locked []string
		want   []hub.Commit
	}{
		"nothing":                  {nil, nil, nil},
		"of Python today":          {temp(id+".0123abcd.incomplete", time.Hour), nil, []hub.Commit{commit("a"), commit("c")}},
		"of Python before":         {temp(id+".incomplete", time.Hour), nil, []hub.Commit{commit("a"), commit("c")}},
		"of a pull of ours":        {temp("."+id+".hf-cache-sync", time.Hour), nil, []hub.Commit{commit("a"), commit("c")}},
		"of a blob nobody listed":  {temp(string(blob("7"))+".incomplete", time.Hour), nil, []hub.Commit{commit("c")}},
		"left behind":              {temp(id+".incomplete", 25*time.Hour), nil, nil},
		"no download":              {temp(id+".lock", time.Hour), nil, nil},
		"a lock":                   {nil, []string{id}, []hub.Commit{commit("a"), commit("c")}},
		"a lock of what is there":  {nil, []string{string(blob("1"))}, nil},
		"a journal of ours, alone": {temp("."+id+".hf-cache-sync.parts", time.Hour), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			repo := &hfcache.Repo{Revisions: revisions, Temps: test.temps, Blobs: map[string]hfcache.Blob{string(blob("1")): {}}}
			if diff := cmp.Diff(test.want, plan.Unfinished(repo, test.locked, now)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWithout(t *testing.T) {
	repo := &hfcache.Repo{
		Revisions: []*hfcache.Revision{{Commit: commit("a")}, {Commit: commit("b")}},
		Refs:      []hfcache.Ref{{Name: "main", Commit: commit("a")}, {Name: "v1", Commit: commit("b")}, {Name: "elsewhere", Commit: commit("c")}},
	}
	plan.Without(repo, []hub.Commit{commit("a")})
	if len(repo.Revisions) != 1 || repo.Revisions[0].Commit != commit("b") || len(repo.Refs) != 2 || repo.Refs[0].Name != "v1" {
		t.Errorf("left: %+v", repo)
	}
}

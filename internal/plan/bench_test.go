package plan_test

import (
	"fmt"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

// Both sides of 10 revisions with 1,000 files each, of which most are the same.
func wide() (revisions []*hfcache.Revision, theirs []*manifest.Manifest) {
	for r := range 10 {
		c := hub.Commit(fmt.Sprintf("%040x", r))
		mine, m := &hfcache.Revision{Commit: c}, &manifest.Manifest{Repo: model, Commit: c}
		for i := range 1000 {
			path, id := hub.Path(fmt.Sprintf("folder/file-%06d.json", i)), hub.BlobID(fmt.Sprintf("%064x", i+r))
			mine.Files = append(mine.Files, hfcache.File{Path: path, Size: 1, Blob: string(id), Bytes: string(id), ID: id})
			m.Files = append(m.Files, manifest.File{Path: path, Blob: id, Size: 1})
		}
		revisions, theirs = append(revisions, mine), append(theirs, m)
	}
	return revisions, theirs
}

func BenchmarkNewPush(b *testing.B) {
	revisions, theirs := wide()
	inv, idx := inventory(revisions), index()
	for _, m := range theirs[:5] {
		idx.Manifests[m.Key()] = entry(m.Commit, false, m.Files...)
	}
	b.ReportAllocs()
	for b.Loop() {
		if p := plan.NewPush(inv, idx, plan.PushPolicy{}); len(p.Revisions) == 0 {
			b.Fatal("nothing is pushed")
		}
	}
}

func BenchmarkNewPull(b *testing.B) {
	revisions, theirs := wide()
	local := &hfcache.Repo{ID: model, Revisions: revisions[:5]}
	b.ReportAllocs()
	for b.Loop() {
		if p := plan.NewPull(theirs[9], nil, local, nil, plan.PullPolicy{}); len(p.Blobs) == 0 {
			b.Fatal("nothing is pulled")
		}
	}
}

package plan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

func TestRequestsText(t *testing.T) {
	for want, r := range map[string]plan.Requests{
		"no requests":                    {},
		"1 request (1 HEAD)":             {Head: 1},
		"231 requests (229 PUT, 2 LIST)": {Put: 229, List: 2},
		"15 requests (1 PUT, 2 GET, 3 HEAD, 4 LIST, 5 DELETE)": {Put: 1, Get: 2, Head: 3, List: 4, Delete: 5},
	} {
		if got := r.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	a := plan.Requests{Put: 1, Get: 2, Head: 3, List: 4, Delete: 5}
	if got := a.Plus(a).Minus(a); got != a {
		t.Errorf("adding and taking away gives %v", got)
	}
}

// TestRequestSizes goes over the sizes at which a blob takes one more request.
func TestRequestSizes(t *testing.T) {
	const mib = 1 << 20
	type counts struct{ Up, Down int }
	got := map[int64]counts{}
	want := map[int64]counts{
		0:                 {1, 1},
		16 * mib:          {1, 1},
		16*mib + 1:        {2 + 2, 3},
		32 * mib:          {2 + 2, 4},
		32*mib + 1:        {2 + 3, 5},
		160_000 * mib:     {2 + 10_000, 20_000},
		160_000*mib + 1:   {2 + 9412, 20_001}, // in parts of 17 MiB, since there are at most 10,000
		5_000_000 * mib:   {2 + 10_000, 625_000},
		5_000_000*mib + 1: {2 + 9981, 625_001},
	}
	for size := range want {
		file := hfcache.File{Path: "f", Size: size}
		push := &plan.Push{Blobs: []plan.PushBlob{{ID: "a", File: file, Known: plan.Missing}, {ID: "b", File: file, Known: plan.Present}}}
		pull := &plan.Pull{Blobs: []manifest.File{{Path: "f", Blob: "a", Size: size}}}
		got[size] = counts{push.Requests(false).Put, pull.Requests().Get}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPerRevision(t *testing.T) {
	blob := func(id hub.BlobID, size int64, known plan.Presence) plan.PushBlob {
		return plan.PushBlob{ID: id, File: hfcache.File{Size: size}, Known: known}
	}
	revision := func(c hub.Commit, ids ...hub.BlobID) plan.PushRevision {
		m := &manifest.Manifest{Commit: c}
		for _, id := range ids {
			m.Files = append(m.Files, manifest.File{Path: hub.Path("file of " + id), Blob: id})
		}
		return plan.PushRevision{Manifest: m, Merged: m}
	}
	p := &plan.Push{
		Blobs:     []plan.PushBlob{blob("a", 1, plan.Missing), blob("b", 20, plan.Present), blob("c", 300, plan.Missing)},
		Revisions: []plan.PushRevision{revision("x", "a", "a", "b"), revision("y", "a", "c"), revision("z", "c")},
	}
	want := []plan.RevisionUploads{
		{Key: manifest.Key{Commit: "x"}, Files: 3, Blobs: 1, Bytes: 1},
		{Key: manifest.Key{Commit: "y"}, Files: 2, Blobs: 1, Bytes: 300},
		{Key: manifest.Key{Commit: "z"}, Files: 1},
	}
	if diff := cmp.Diff(want, p.PerRevision()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

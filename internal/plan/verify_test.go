package plan_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

// verifyCase is a cache of one blob, called name, to which the path "f" of commit a leads.
func verifyCase(name string, tree manifest.Tree) *hfcache.Inventory {
	b := hfcache.Blob{Name: name, Size: 5, Bytes: "models--org--name/blobs/" + name}
	rev := &hfcache.Revision{Commit: commit("a"), Tree: tree, Files: []hfcache.File{{Path: "f", Size: 5, Blob: name, Bytes: b.Bytes}}}
	inv := inventory([]*hfcache.Revision{rev})
	inv.Repos[0].Blobs = map[string]hfcache.Blob{name: b}
	return inv
}

func never(string, string) bool { return false }

func TestVerifyJudge(t *testing.T) {
	git, sha, xet, other := strings.Repeat("1", 40), strings.Repeat("2", 64), strings.Repeat("3", 64), strings.Repeat("4", 64)
	got := hub.Digests{GitSHA1: hub.BlobID(git), SHA256: hub.BlobID(sha)}
	lfs := func(path hub.Path, id, xet string) manifest.Tree {
		return manifest.Tree{path: {Size: 5, BlobID: "pointer", LFSSHA256: hub.BlobID(id), LFSSize: 5, XetHash: xet}}
	}
	plain := func(path hub.Path, id string) manifest.Tree { return manifest.Tree{path: {Size: 5, BlobID: id}} }
	good := plan.Verdict{}
	for _, test := range []struct {
		name string
		blob string
		tree manifest.Tree
		want plan.Verdict
	}{
		{"git, right", git, nil, good},
		{"git, wrong", strings.Repeat("5", 40), nil, plan.Verdict{
			Bad: true, Want: hub.BlobID(strings.Repeat("5", 40)), Why: "the git blob SHA-1 of its bytes is " + git,
		}},
		{"SHA-256, right", sha, nil, good},
		{"SHA-256, right, and listed", sha, lfs("f", sha, xet), good},
		{"64 digits that nothing else tells about", other, nil, plan.Verdict{
			Bad: true, Want: hub.BlobID(other),
			Why: "the SHA-256 of its bytes is " + sha + ", and no listing says that its name is another kind of hash",
		}},
		{"SHA-256, wrong, and listed", other, lfs("f", other, ""), plan.Verdict{
			Bad: true, Want: hub.BlobID(other), Why: "the SHA-256 of its bytes is " + sha,
		}},
		{"a xet hash, right", xet, lfs("f", sha, xet), good},
		{"a xet hash, wrong", xet, lfs("f", other, xet), plan.Verdict{
			Bad: true, Want: hub.BlobID(other), Why: "the SHA-256 of its bytes is " + sha + ", not " + other + " as the commit's listing says",
		}},
		{"a xet hash that is listed for another path, right", xet, lfs("g", sha, strings.ToUpper(xet)), good},
		{"a xet hash that is listed for another path, wrong", xet, lfs("g", other, xet), plan.Verdict{
			Bad: true, Want: hub.BlobID(other), Why: "the SHA-256 of its bytes is " + sha + ", not " + other + " as the commit's listing says",
		}},
		{"an odd name, right", "odd-gzip", plain("f", git), good},
		{"an odd name, wrong", "odd-gzip", lfs("f", other, ""), plan.Verdict{
			Bad: true, Want: hub.BlobID(other), Why: "the SHA-256 of its bytes is " + sha + ", not " + other + " as the commit's listing says",
		}},
		{"a good blob where another belongs", sha, lfs("f", other, ""), plan.Verdict{
			Astray: []plan.VerifyListing{{Commit: commit("a"), Path: "f", ID: hub.BlobID(other)}},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := plan.NewVerify(verifyCase(test.blob, test.tree), nil, never)
			if len(p.Files) != 1 || len(p.Files[0].Uses) != 1 {
				t.Fatalf("planned %+v", p)
			}
			if diff := cmp.Diff(test.want, p.Files[0].Uses[0].Judge(got)); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVerifyUnchecked(t *testing.T) {
	xet := strings.Repeat("3", 64)
	shared := verifyCase(xet, nil)
	shared.Repos[0].Blobs[xet] = hfcache.Blob{Name: xet, Size: 5, Shared: true, Bytes: "blobs/33/" + xet}
	real := inventory([]*hfcache.Revision{{Commit: commit("a"), Files: []hfcache.File{{Path: "f", Size: 5, Bytes: "models--org--name/snapshots/x/f"}}}})
	for name, test := range map[string]struct {
		inv  *hfcache.Inventory
		want string
	}{
		"an odd name":                {verifyCase("odd-gzip", nil), "blobs/odd-gzip"},
		"an odd name, odd listing":   {verifyCase("odd-gzip", manifest.Tree{"f": {Size: 5, BlobID: "odd"}}), "blobs/odd-gzip"},
		"a name that is a xet hash":  {shared, "blobs/" + xet},
		"a real file without a tree": {real, "snapshots/" + string(commit("a")) + "/f"},
	} {
		t.Run(name, func(t *testing.T) {
			p := plan.NewVerify(test.inv, nil, never)
			if len(p.Files) != 0 || len(p.Unchecked) != 1 || p.Unchecked[0].Entry != test.want {
				t.Errorf("planned %+v", p)
			}
		})
	}
}

func TestVerifyReadsEachFileOnce(t *testing.T) {
	git := func(digit string) string { return strings.Repeat(digit, 40) }
	now := time.Now()
	inv := &hfcache.Inventory{}
	for _, name := range []string{"org/a", "org/b"} {
		repo := &hfcache.Repo{ID: hub.Repo{Type: hub.Model, Name: name}, Blobs: map[string]hfcache.Blob{
			git("1"): {Name: git("1"), Size: 5, Bytes: "blobs/xx/payload", ModTime: now},
			git("2"): {Name: git("2"), Size: 7, Bytes: name + "/hard", ModTime: now},
			git("3"): {Name: git("3"), Size: 7, Bytes: name + "/own", ModTime: now},
		}}
		inv.Repos = append(inv.Repos, repo)
	}
	asked := 0
	p := plan.NewVerify(inv, nil, func(a, b string) bool {
		asked++
		return strings.HasSuffix(a, "/hard") && strings.HasSuffix(b, "/hard")
	})
	got := map[string]int{}
	for _, f := range p.Files {
		got[f.Bytes] = len(f.Uses)
		if gitToo, shaToo := f.Algorithms(); !gitToo || shaToo {
			t.Errorf("%s needs %t, %t", f.Bytes, gitToo, shaToo)
		}
	}
	if diff := cmp.Diff(map[string]int{"blobs/xx/payload": 2, "org/a/hard": 2, "org/a/own": 1, "org/b/own": 1}, got); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
	if p.Bytes() != 5+3*7 || p.Files[0].Size != 7 {
		t.Errorf("%d bytes, the first file has %d", p.Bytes(), p.Files[0].Size)
	}
	if asked > 6 {
		t.Errorf("it asked %d times which files are the same", asked)
	}
}

func TestVerifyMisfit(t *testing.T) {
	inv := verifyCase("odd", nil)
	f := inv.Repos[0].Revisions[0].Files[0]
	inv.Repos[0].Revisions[0].Files = nil
	f.ID = blob("4")
	p := plan.NewVerify(inv, []plan.Misfit{{Repo: inv.Repos[0].ID, Commit: commit("a"), File: f}}, never)
	if len(p.Files) != 1 || !p.Files[0].Uses[0].Judge(hub.Digests{SHA256: blob("5")}).Bad {
		t.Errorf("planned %+v", p)
	}
}

func TestPullOnly(t *testing.T) {
	m := &manifest.Manifest{Repo: hub.Repo{Type: hub.Model, Name: "org/name"}, Commit: commit("a"), Files: []manifest.File{
		{Path: "[a]", Blob: blob("1"), Size: 1}, {Path: "a", Blob: blob("2"), Size: 1}, {Path: "b", Blob: blob("1"), Size: 1}, {Path: "c", Blob: blob("3"), Size: 1},
	}}
	p := plan.NewPull(m, nil, nil, nil, plan.PullPolicy{})
	p.Only(func(path hub.Path) bool { return path == "b" || path == "c" })
	want := []manifest.File{{Path: "[a]", Blob: blob("1"), Size: 1}, {Path: "c", Blob: blob("3"), Size: 1}}
	if diff := cmp.Diff(want, p.Blobs); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(m.Files[2:], p.Files); diff != "" || len(m.Files) != 4 {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestNewBucketVerify(t *testing.T) {
	of := func(name string, files ...manifest.File) *manifest.Manifest {
		return &manifest.Manifest{Repo: hub.Repo{Type: hub.Model, Name: name}, Commit: commit("a"), Files: files}
	}
	x := of("org/x", manifest.File{Path: "big", Blob: blob("9"), Size: 1 << 62}, manifest.File{Path: "f", Blob: blob("1"), Size: 3})
	y := of("org/y", manifest.File{Path: "big", Blob: blob("8"), Size: 1 << 62}, manifest.File{Path: "g", Blob: blob("1"), Size: 4})
	p := plan.NewBucketVerify([]*manifest.Manifest{y, x})
	if !slices.EqualFunc(p.Blobs, []hub.BlobID{blob("8"), blob("9"), blob("1")}, func(b plan.BucketBlob, id hub.BlobID) bool { return b.ID == id }) {
		t.Errorf("blobs %+v", p.Blobs)
	}
	want := []plan.BucketUser{{Key: x.Key(), Path: "f", Size: 3}, {Key: y.Key(), Path: "g", Size: 4}}
	if diff := cmp.Diff(want, p.Blobs[2].Users); diff != "" || p.Blobs[2].Size() != 4 {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if p.Bytes() != 1<<63-1 || p.Requests().Total() != 3 || p.Manifests != 2 {
		t.Errorf("%d bytes, %s", p.Bytes(), p.Requests())
	}
}

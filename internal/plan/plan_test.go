package plan_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

var (
	model  = hub.Repo{Type: hub.Model, Name: "org/name"}
	now    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	before = now.Add(-time.Hour)
)

func commit(digit string) hub.Commit { return hub.Commit(strings.Repeat(digit, 40)) }
func blob(digit string) hub.BlobID   { return hub.BlobID(strings.Repeat(digit, 64)) }

const large = plan.SmallBlob + 1

func file(path hub.Path, digit string, size int64) hfcache.File {
	return hfcache.File{Path: path, Size: size, Blob: string(blob(digit)), Bytes: "x", ID: blob(digit)}
}

func inventory(revisions []*hfcache.Revision, refs ...hfcache.Ref) *hfcache.Inventory {
	return &hfcache.Inventory{Repos: []*hfcache.Repo{{ID: model, Revisions: revisions, Refs: refs}}}
}

func index() *remote.Index {
	return &remote.Index{
		Manifests: map[manifest.Key]*remote.Entry{}, Refs: map[remote.RefKey]remote.Ref{},
		Broken: map[manifest.Key]error{}, BrokenRefs: map[remote.RefKey]error{},
	}
}

func entry(c hub.Commit, proven bool, files ...manifest.File) *remote.Entry {
	m := &manifest.Manifest{Repo: model, Commit: c, Files: files}
	if proven {
		m.Hub = &manifest.Hub{}
	}
	return &remote.Entry{Manifest: m, ObjectKey: "k", ETag: "e"}
}

func has(c hub.Commit, proven bool, files ...manifest.File) *remote.Index {
	idx := index()
	idx.Manifests[manifest.Key{Repo: model, Commit: c}] = entry(c, proven, files...)
	return idx
}

func presences(p *plan.Push) map[hub.BlobID]plan.Presence {
	got := map[hub.BlobID]plan.Presence{}
	for _, b := range p.Blobs {
		got[b.ID] = b.Known
	}
	return got
}

func TestNewPushBlobs(t *testing.T) {
	two := []*hfcache.Revision{{Commit: commit("a"), Files: []hfcache.File{file("big", "1", large), file("small", "2", 5)}}}
	for _, test := range []struct {
		name   string
		idx    *remote.Index
		policy plan.PushPolicy
		want   map[hub.BlobID]plan.Presence
		upTo   int
	}{
		{"an empty bucket", index(), plan.PushPolicy{}, map[hub.BlobID]plan.Presence{blob("1"): plan.Unknown, blob("2"): plan.Missing}, 0},
		{
			"everything there", has(commit("a"), true, manifest.File{Path: "big", Blob: blob("1"), Size: large}, manifest.File{Path: "small", Blob: blob("2"), Size: 5}),
			plan.PushPolicy{},
			map[hub.BlobID]plan.Presence{},
			1,
		},
		{
			"everything there, asked again", has(commit("a"), true, manifest.File{Path: "big", Blob: blob("1"), Size: large}, manifest.File{Path: "small", Blob: blob("2"), Size: 5}),
			plan.PushPolicy{Recheck: true},
			map[hub.BlobID]plan.Presence{blob("1"): plan.Unknown, blob("2"): plan.Unknown},
			0,
		},
		{
			"a part there", has(commit("a"), true, manifest.File{Path: "big", Blob: blob("1"), Size: large}),
			plan.PushPolicy{},
			map[hub.BlobID]plan.Presence{blob("1"): plan.Present, blob("2"): plan.Missing},
			0,
		},
		{
			"a manifest that proves nothing", has(commit("a"), false, manifest.File{Path: "big", Blob: blob("1"), Size: large}, manifest.File{Path: "small", Blob: blob("2"), Size: 5}),
			plan.PushPolicy{},
			map[hub.BlobID]plan.Presence{blob("1"): plan.Unknown, blob("2"): plan.Missing},
			0,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := plan.NewPush(inventory(two), test.idx, test.policy)
			if diff := cmp.Diff(test.want, presences(p)); diff != "" {
				t.Errorf("blobs (-want +got):\n%s", diff)
			}
			if p.UpToDate != test.upTo || p.Empty() != (test.upTo == 1) || len(p.Refused) > 0 {
				t.Errorf("%d up to date, empty %v, refused %v", p.UpToDate, p.Empty(), p.Refused)
			}
			for id, known := range test.want {
				if _, unknown := p.Unknown()[id]; unknown != (known == plan.Unknown) {
					t.Errorf("blob %s is to be asked about: %v", id, unknown)
				}
			}
			p.Settle(map[hub.BlobID]bool{blob("1"): true})
			if len(p.Unknown()) > 0 {
				t.Errorf("still unknown: %v", p.Unknown())
			}
			uploads, bytes := p.Uploads()
			for _, b := range uploads {
				if b.ID != blob("2") {
					t.Errorf("%s is uploaded though it is there", b.ID)
				}
				bytes -= b.File.Size
			}
			if bytes != 0 {
				t.Errorf("the bytes do not add up: %d are left", bytes)
			}
		})
	}
}

func TestNewPushRefuses(t *testing.T) {
	key := manifest.Key{Repo: model, Commit: commit("a")}
	broken := index()
	broken.Broken[key] = manifest.ErrInvalid
	for _, test := range []struct {
		name     string
		rev      *hfcache.Revision
		idx      *remote.Index
		why      string
		harmless bool
	}{
		{"a conflict", &hfcache.Revision{Commit: commit("a"), Files: []hfcache.File{file("f", "1", 5)}}, has(commit("a"), true, manifest.File{Path: "f", Blob: blob("2"), Size: 5}), "another content", false},
		{"a broken manifest", &hfcache.Revision{Commit: commit("a"), Files: []hfcache.File{file("f", "1", 5)}}, broken, "cannot be used", false},
		{"nothing here", &hfcache.Revision{Commit: commit("a")}, index(), "no file of it", true},
		{"a contradiction", &hfcache.Revision{Commit: commit("a"), Files: []hfcache.File{file("f", "1", 5), file("g", "1", 6)}}, index(), "contradict", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := plan.NewPush(inventory([]*hfcache.Revision{test.rev}, hfcache.Ref{Name: "main", Commit: commit("a"), Learned: now}), test.idx, plan.PushPolicy{})
			if len(p.Revisions) > 0 || len(p.Refs) > 0 || len(p.Blobs) > 0 {
				t.Errorf("planned: %+v", p)
			}
			if len(p.Refused) != 1 || !strings.Contains(p.Refused[0].Why, test.why) || p.Refused[0].Harmless != test.harmless {
				t.Errorf("refused: %+v", p.Refused)
			}
		})
	}
}

// A snapshot of which nothing can be read leaves marks of absent files, or nothing at all: neither is worth a manifest, and no ref may lead to it.
func TestRevisionWithoutFiles(t *testing.T) {
	probed := []*hfcache.Revision{{Commit: commit("a"), NoExist: []hub.Path{"x"}, Tree: manifest.Tree{"w.bin": {}}}}
	main := hfcache.Ref{Name: "main", Commit: commit("a"), Learned: now}
	good := has(commit("b"), true, manifest.File{Path: "w.bin", Blob: blob("1"), Size: 5})
	good.Refs[remote.RefKey{Repo: model, Name: "main"}] = remote.Ref{Name: "main", Commit: commit("b"), Resolved: before}
	for name, idx := range map[string]*remote.Index{"an empty bucket": index(), "a bucket with a good commit": good, "a manifest without files": has(commit("a"), true)} {
		p := plan.NewPush(inventory(probed, main), idx, plan.PushPolicy{})
		if len(p.Revisions) > 0 || len(p.Refs) > 0 || len(p.Refused) != 1 || !p.Refused[0].Harmless {
			t.Errorf("%s: plan %+v", name, p)
		}
	}
	// Where the bucket has files of the commit, what this machine knows beside is welcome.
	p := plan.NewPush(inventory(probed, main), has(commit("a"), true, manifest.File{Path: "w.bin", Blob: blob("1"), Size: 5}), plan.PushPolicy{})
	if len(p.Revisions) != 1 || len(p.Refs) != 1 {
		t.Errorf("marks for a commit that the bucket has: %+v", p)
	}
}

func TestRecheckReplacesWhatNobodyCanRead(t *testing.T) {
	key := manifest.Key{Repo: model, Commit: commit("a")}
	rev := &hfcache.Revision{Commit: commit("a"), Files: []hfcache.File{file("f", "1", 5)}}
	other := &remote.WrongBodyError{ObjectKey: manifest.ManifestKey("org__name", commit("a")), Want: key, Got: manifest.Key{Repo: hub.Repo{Type: hub.Model, Name: "a/b"}, Commit: commit("a")}}
	// 0.1.0 writes org/name and, could there be one, a repository "org__name" under the same key.
	shared := &remote.WrongBodyError{ObjectKey: other.ObjectKey, Want: key, Got: manifest.Key{Repo: hub.Repo{Type: hub.Model, Name: "org__name"}, Commit: commit("a")}}
	unreadable := &remote.UnreadableError{ObjectKey: other.ObjectKey, ETag: "e", Err: manifest.ErrInvalid}
	for _, test := range []struct {
		name    string
		err     error
		policy  plan.PushPolicy
		planned bool
	}{
		{"a push", unreadable, plan.PushPolicy{}, false},
		{"a look at the blobs", unreadable, plan.PushPolicy{Recheck: true}, false},
		{"a recheck", unreadable, plan.PushPolicy{Recheck: true, Check: plan.CheckChecksums}, true},
		{"a recheck of bytes", unreadable, plan.PushPolicy{Recheck: true, Check: plan.CheckBytes}, true},
		{"what no tool puts there", other, plan.PushPolicy{Recheck: true, Check: plan.CheckChecksums}, true},
		{"another repository's", shared, plan.PushPolicy{Recheck: true, Check: plan.CheckChecksums}, false},
		{"what was cut on the way", manifest.ErrInvalid, plan.PushPolicy{Recheck: true, Check: plan.CheckChecksums}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			idx := index()
			idx.Broken[key] = test.err
			p := plan.NewPush(inventory([]*hfcache.Revision{rev}), idx, test.policy)
			if (len(p.Revisions) == 1) != test.planned || (len(p.Refused) == 0) != test.planned {
				t.Fatalf("planned %+v, refused %+v", p.Revisions, p.Refused)
			}
			if !test.planned {
				return
			}
			if base := p.Revisions[0].Base; base == nil || base.Manifest != nil || base.ObjectKey != other.ObjectKey {
				t.Errorf("it replaces %+v", base)
			}
			p.Settle(map[hub.BlobID]bool{blob("1"): true})
			if got, want := p.Requests(false), (plan.Requests{Put: 1}); test.policy.Check == plan.CheckChecksums && got != want {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

func TestNewPushRefs(t *testing.T) {
	rev := []*hfcache.Revision{{Commit: commit("a"), Files: []hfcache.File{file("f", "1", 5)}}}
	key := remote.RefKey{Repo: model, Name: "main"}
	with := func(c hub.Commit, at time.Time) *remote.Index {
		idx := index()
		idx.Refs[key] = remote.Ref{Name: "main", Commit: c, Resolved: at}
		return idx
	}
	unreadable := index()
	unreadable.BrokenRefs[key] = errors.New("junk")
	for _, test := range []struct {
		name    string
		ref     hub.Commit
		idx     *remote.Index
		force   bool
		planned bool
		refused bool
	}{
		{"none there", commit("a"), index(), false, true, false},
		{"older there", commit("a"), with(commit("b"), before), false, true, false},
		{"newer there", commit("a"), with(commit("b"), now.Add(time.Hour)), false, false, true},
		{"newer there, forced", commit("a"), with(commit("b"), now.Add(time.Hour)), true, true, false},
		{"as old", commit("a"), with(commit("b"), now), false, false, true},
		{"the same", commit("a"), with(commit("a"), before), false, false, false},
		{"unreadable", commit("a"), unreadable, false, false, true},
		{"unreadable, forced", commit("a"), unreadable, true, true, false},
		{"a commit of which nothing is here", commit("c"), index(), false, false, true},
		{"a commit that only the bucket has", commit("c"), has(commit("c"), true, manifest.File{Path: "f", Blob: blob("1"), Size: 5}), false, true, false},
		{"a commit of which the bucket has no file", commit("c"), has(commit("c"), true), false, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := plan.NewPush(inventory(rev, hfcache.Ref{Name: "main", Commit: test.ref, Learned: now}), test.idx, plan.PushPolicy{ForceRefs: test.force})
			if (len(p.Refs) == 1) != test.planned || (len(p.Refused)+len(p.Kept) == 1) != test.refused {
				t.Errorf("refs %+v, refused %+v, kept %+v", p.Refs, p.Refused, p.Kept)
			}
		})
	}
}

func TestDisputes(t *testing.T) {
	git := hub.BlobID(strings.Repeat("3", 40))
	inv := inventory([]*hfcache.Revision{{Commit: commit("a"), Files: []hfcache.File{file("same size", "1", 5), file("other size", "2", 6), file("same kind", "4", 5)}}})
	idx := has(commit("a"), true,
		manifest.File{Path: "same size", Blob: git, Size: 5}, manifest.File{Path: "other size", Blob: git, Size: 5}, manifest.File{Path: "same kind", Blob: blob("5"), Size: 5})
	if err := idx.Manifests[manifest.Key{Repo: model, Commit: commit("a")}].Check(); err != nil {
		t.Fatal(err)
	}
	got := plan.Disputes(inv, idx)
	if len(got) != 1 || got[0].File.Path != "same size" || got[0].Theirs != git {
		t.Fatalf("disputes: %+v", got)
	}
	got[0].File.ID = got[0].Theirs
	if left := plan.Disputes(inv, idx); len(left) > 0 {
		t.Errorf("settled, and still there: %+v", left)
	}
}

func TestNewPull(t *testing.T) {
	m := &manifest.Manifest{
		Repo: model, Commit: commit("a"),
		Files: []manifest.File{{Path: "a.json", Blob: blob("1"), Size: 1}, {Path: "b/c.bin", Blob: blob("2"), Size: 2}, {Path: "d.bin", Blob: blob("2"), Size: 2}},
		Hub: &manifest.Hub{Tree: manifest.Tree{
			"a.json": {Size: 1}, "b/c.bin": {Size: 2}, "d.bin": {Size: 2}, "e.bin": {Size: 9},
		}},
	}
	globs := func(patterns ...string) plan.Globs {
		g, err := plan.ParseGlobs(patterns)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	for _, test := range []struct {
		name     string
		local    *hfcache.Repo
		filter   plan.Filter
		blobs    []hub.Path
		files    int
		filtered int
		present  int
	}{
		{"nothing here", nil, plan.Filter{}, []hub.Path{"a.json", "b/c.bin"}, 3, 0, 3},
		{"a blob here", &hfcache.Repo{Blobs: map[string]hfcache.Blob{string(blob("2")): {Size: 2}}}, plan.Filter{}, []hub.Path{"a.json"}, 3, 0, 3},
		{"a blob of another size here", &hfcache.Repo{Blobs: map[string]hfcache.Blob{string(blob("2")): {Size: 1}}}, plan.Filter{}, []hub.Path{"a.json", "b/c.bin"}, 3, 0, 3},
		{"real files here", &hfcache.Repo{Revisions: []*hfcache.Revision{{
			Commit: commit("a"), Files: []hfcache.File{{Path: "b/c.bin", Size: 2}, {Path: "d.bin", Size: 2}, {Path: "e.bin", Size: 9}},
		}}}, plan.Filter{}, []hub.Path{"a.json"}, 3, 0, 4},
		{"only some wanted", nil, plan.Filter{Include: globs("*.bin")}, []hub.Path{"b/c.bin"}, 2, 1, 2},
		{"some not wanted", nil, plan.Filter{Exclude: globs("b/*")}, []hub.Path{"a.json", "d.bin"}, 2, 1, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := plan.NewPull(m, nil, test.local, nil, plan.PullPolicy{Files: test.filter})
			var got []hub.Path
			for _, b := range p.Blobs {
				got = append(got, b.Path)
			}
			if diff := cmp.Diff(test.blobs, got); diff != "" {
				t.Errorf("blobs (-want +got):\n%s", diff)
			}
			if len(p.Files) != test.files || p.Filtered != test.filtered || p.PresentListed() != test.present {
				t.Errorf("%d files, %d filtered, %d listed ones present", len(p.Files), p.Filtered, p.PresentListed())
			}
			want := manifest.Partial
			if test.present == 4 {
				want = manifest.Complete
			}
			if p.Completeness() != want {
				t.Errorf("completeness %v, want %v", p.Completeness(), want)
			}
		})
	}
}

func TestNewPullRefs(t *testing.T) {
	m := &manifest.Manifest{Repo: model, Commit: commit("a"), Files: []manifest.File{{Path: "f", Blob: blob("1"), Size: 5}}}
	refs := []remote.Ref{{Name: "main", Commit: commit("a"), Resolved: before}}
	for _, test := range []struct {
		name    string
		local   hfcache.Ref
		force   bool
		written bool
		kept    bool
	}{
		{"none here", hfcache.Ref{Name: "other", Commit: commit("b"), Learned: now}, false, true, false},
		{"older here", hfcache.Ref{Name: "main", Commit: commit("b"), Learned: before.Add(-1)}, false, true, false},
		{"newer here", hfcache.Ref{Name: "main", Commit: commit("b"), Learned: now}, false, false, true},
		{"newer here, forced", hfcache.Ref{Name: "main", Commit: commit("b"), Learned: now}, true, true, false},
		{"the same", hfcache.Ref{Name: "main", Commit: commit("a"), Learned: now}, false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := plan.NewPull(m, refs, &hfcache.Repo{
				Refs: []hfcache.Ref{test.local}, Revisions: []*hfcache.Revision{{Commit: commit("b"), Files: []hfcache.File{file("f", "1", 5)}}},
			}, nil, plan.PullPolicy{ForceRefs: test.force})
			if (len(p.Refs) == 1) != test.written || (len(p.KeptRefs) == 1) != test.kept {
				t.Errorf("written %v, kept %v", p.Refs, p.KeptRefs)
			}
			if test.written && !p.Refs[0].Learned.Equal(before) {
				t.Errorf("the ref counts as learned at %v", p.Refs[0].Learned)
			}
		})
	}
}

// TestNewPullCleansRefs has a ref whose file holds a newline: it is written again, whatever the bucket says about it, unless it is written anyway.
func TestNewPullCleansRefs(t *testing.T) {
	m := &manifest.Manifest{Repo: model, Commit: commit("a"), Files: []manifest.File{{Path: "f", Blob: blob("1"), Size: 5}}}
	for _, test := range []struct {
		name   string
		local  hfcache.Ref
		bucket []remote.Ref
		want   []hub.Ref
	}{
		{"the same commit", hfcache.Ref{Name: "main", Commit: commit("a"), Learned: now, Unclean: true}, []remote.Ref{{Name: "main", Commit: commit("a"), Resolved: before}}, []hub.Ref{"main"}},
		{"clean", hfcache.Ref{Name: "main", Commit: commit("a"), Learned: now}, []remote.Ref{{Name: "main", Commit: commit("a"), Resolved: before}}, nil},
		{"not in the bucket", hfcache.Ref{Name: "v1", Commit: commit("b"), Learned: now, Unclean: true}, nil, []hub.Ref{"v1"}},
		{"kept", hfcache.Ref{Name: "main", Commit: commit("b"), Learned: now, Unclean: true}, []remote.Ref{{Name: "main", Commit: commit("a"), Resolved: before}}, []hub.Ref{"main"}},
		{"moved", hfcache.Ref{Name: "main", Commit: commit("b"), Learned: before.Add(-1), Unclean: true}, []remote.Ref{{Name: "main", Commit: commit("a"), Resolved: before}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := plan.NewPull(m, test.bucket, &hfcache.Repo{
				Refs: []hfcache.Ref{test.local}, Revisions: []*hfcache.Revision{{Commit: commit("b"), Files: []hfcache.File{file("f", "1", 5)}}},
			}, nil, plan.PullPolicy{})
			if diff := cmp.Diff(test.want, p.Unclean); diff != "" {
				t.Errorf("to be written again (-want +got):\n%s", diff)
			}
			p.Only(func(hub.Path) bool { return true })
			if len(p.Unclean) > 0 {
				t.Errorf("a plan for some paths writes refs: %v", p.Unclean)
			}
		})
	}
}

func TestBytesDoNotOverflow(t *testing.T) {
	m := &manifest.Manifest{Repo: model, Commit: commit("a"), Files: []manifest.File{
		{Path: "a", Blob: blob("1"), Size: math.MaxInt64}, {Path: "b", Blob: blob("2"), Size: math.MaxInt64},
	}}
	if got := plan.NewPull(m, nil, nil, nil, plan.PullPolicy{}).Bytes(); got != math.MaxInt64 {
		t.Errorf("%d bytes", got)
	}
}

func TestCaseCollision(t *testing.T) {
	for _, test := range []struct {
		paths string
		a, b  hub.Path // none if they do not collide
	}{
		{"x README.md readme.MD", "README.md", "readme.MD"},
		{"a b", "", ""},
		{"Deep/a deep/b", "", ""},
		{"Deep/a deep/A", "Deep/a", "deep/A"},
		{"notes Notes/a", "notes", "Notes/a"},
		{"Notes/a/b notes/A", "Notes/a/b", "notes/A"},
		{"straſe strase", "straſe", "strase"},
		{"λόγος λόγοσ", "λόγος", "λόγοσ"},
		{"\u212a k", "\u212a", "k"},
		{"Ünï ünÏ", "Ünï", "ünÏ"},
		{"ab a/b", "", ""},
	} {
		var files []manifest.File
		for path := range strings.FieldsSeq(test.paths) {
			files = append(files, manifest.File{Path: hub.Path(path)})
		}
		if a, b, collide := plan.CaseCollision(files); a != test.a || b != test.b || collide != (test.a != "") {
			t.Errorf("%s: %q, %q, %t", test.paths, a, b, collide)
		}
	}
}

func TestGlobs(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"org/*", "org/name", true},
		{"org/*", "other/name", false},
		{"*", "org/name", true},
		{"*.safetensors", "a/b.safetensors", true},
		{"model-0000?.bin", "model-00001.bin", true},
		{"model-0000?.bin", "model-000010.bin", false},
		{"[ab].txt", "a.txt", true},
		{"[!ab].txt", "a.txt", false},
		{"[!ab].txt", "c.txt", true},
		{"a[b", "a[b", true},
		{"a.b", "axb", false},
		{"a+(b)|c", "a+(b)|c", true},
		{`a\d`, "a1", false},
		{"ü*", "über", true},
	} {
		g, err := plan.ParseGlobs([]string{test.pattern})
		if err != nil || g.Match(test.name) != test.want {
			t.Errorf("%q matches %q: %v, %v; want %v", test.pattern, test.name, g.Match(test.name), err, test.want)
		}
	}
	if _, err := plan.ParseGlobs([]string{""}); err == nil {
		t.Error("an empty pattern was taken")
	}
}

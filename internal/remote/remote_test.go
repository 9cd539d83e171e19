package remote_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
)

var (
	model   = hub.Repo{Type: hub.Model, Name: "org/name"}
	dataset = hub.Repo{Type: hub.Dataset, Name: "org/name"}
)

func commit(digit string) hub.Commit { return hub.Commit(strings.Repeat(digit, 40)) }

func blobOf(text string) manifest.File {
	sum := sha256.Sum256([]byte(text))
	return manifest.File{Path: hub.Path(text + ".bin"), Blob: hub.BlobID(hex.EncodeToString(sum[:])), Size: int64(len(text))}
}

func manifestOf(repo hub.Repo, c hub.Commit, texts ...string) *manifest.Manifest {
	m := &manifest.Manifest{Repo: repo, Commit: c, Hub: &manifest.Hub{}}
	for _, text := range texts {
		m.Files = append(m.Files, blobOf(text))
	}
	return m
}

// update is a ref that is to name a commit of one file.
func update(repo hub.Repo, name hub.Ref, c hub.Commit, learned time.Time) remote.RefUpdate {
	return remote.RefUpdate{Name: name, Manifest: manifestOf(repo, c, "one"), Learned: learned}
}

func forced(u remote.RefUpdate) remote.RefUpdate {
	u.Force = true
	return u
}

// unconditional is a store without conditional writes, as Backblaze B2 is.
type unconditional struct{ store.Store }

func (s unconditional) Put(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions) (store.Info, error) {
	if o.IfAbsent || o.IfMatch != "" {
		return store.Info{}, &store.Error{Op: "put", Key: key, Code: "NotImplemented", Kind: store.ErrUnsupported}
	}
	return s.Store.Put(ctx, key, body, o)
}

// counting counts requests by kind.
type counting struct {
	store.Store
	mu    sync.Mutex
	count map[string]int
}

func (s *counting) Stat(ctx context.Context, key string) (store.Info, error) {
	s.mu.Lock()
	s.count["stat"]++
	s.mu.Unlock()
	return s.Store.Stat(ctx, key)
}

func newCatalog(t *testing.T) *remote.Catalog {
	t.Helper()
	s, err := filestore.Open(t.TempDir(), filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &remote.Catalog{Store: s, Now: time.Now, Settle: time.Millisecond}
}

func put(t *testing.T, s store.Store, key, text string) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, io.NewSectionReader(strings.NewReader(text), 0, int64(len(text))), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// legacy writes a manifest and a ref as the Python tool 0.1.0 does.
func legacy(t *testing.T, c *remote.Catalog, m *manifest.Manifest, ref hub.Ref) {
	t.Helper()
	m.Hub = nil
	data, err := manifest.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	repoKey := manifest.LegacyRepoKey(m.Repo)
	put(t, c.Store, manifest.ManifestKey(repoKey, m.Commit), string(data))
	put(t, c.Store, manifest.RefKey(repoKey, ref), string(m.Commit))
}

func trustAll(_ context.Context, m *manifest.Manifest) (*manifest.Manifest, error) { return m, nil }

func TestManifestsOfOneCommitMerge(t *testing.T) {
	for name, wrap := range map[string]func(store.Store) store.Store{
		"conditional writes": func(s store.Store) store.Store { return s },
		"without":            func(s store.Store) store.Store { return unconditional{s} },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCatalog(t)
			c.Store = wrap(c.Store)
			key := manifest.Key{Repo: model, Commit: commit("a")}
			if _, written, err := c.PutManifest(t.Context(), manifestOf(model, commit("a"), "one"), nil, trustAll); err != nil || !written {
				t.Fatalf("first write: %v, %v", written, err)
			}
			// The second machine looked before the first wrote: base is nil, and out of date.
			if _, written, err := c.PutManifest(t.Context(), manifestOf(model, commit("a"), "two"), nil, trustAll); err != nil || !written {
				t.Fatalf("second write: %v, %v", written, err)
			}
			entry, err := c.Manifest(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]manifest.File{blobOf("one"), blobOf("two")}, entry.Files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if _, written, err := c.PutManifest(t.Context(), manifestOf(model, commit("a"), "one"), entry, trustAll); err != nil || written {
				t.Errorf("writing what is known: %v, %v; want nothing written", written, err)
			}
		})
	}
}

func TestManyPushersEndWithEverything(t *testing.T) {
	c := newCatalog(t)
	const machines = 6
	var all sync.WaitGroup
	errs := make([]error, machines)
	for i := range machines {
		all.Go(func() {
			_, _, errs[i] = c.PutManifest(t.Context(), manifestOf(model, commit("a"), fmt.Sprint("file", i)), nil, trustAll)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	entry, err := c.Manifest(t.Context(), manifest.Key{Repo: model, Commit: commit("a")})
	if err != nil {
		t.Fatal(err)
	}
	if len(entry.Files) != machines {
		t.Errorf("the manifest has %d files, want %d", len(entry.Files), machines)
	}
}

func TestConflictChangesNothing(t *testing.T) {
	c := newCatalog(t)
	theirs := manifestOf(model, commit("a"), "one")
	if _, _, err := c.PutManifest(t.Context(), theirs, nil, trustAll); err != nil {
		t.Fatal(err)
	}
	ours := manifestOf(model, commit("a"), "other")
	ours.Files[0].Path = theirs.Files[0].Path
	_, _, err := c.PutManifest(t.Context(), ours, nil, trustAll)
	if conflict, ok := errors.AsType[*manifest.ConflictError](err); !ok || conflict.Path != theirs.Files[0].Path {
		t.Fatalf("error is %v, want a conflict about %s", err, theirs.Files[0].Path)
	}
}

func TestUnprovenManifestIsChecked(t *testing.T) {
	c := newCatalog(t)
	legacy(t, c, manifestOf(model, commit("a"), "there", "missing"), "main")
	entry, err := c.Manifest(t.Context(), manifest.Key{Repo: model, Commit: commit("a")})
	if err != nil {
		t.Fatal(err)
	}
	merged, _, err := c.PutManifest(t.Context(), manifestOf(model, commit("a"), "ours"), entry,
		func(_ context.Context, m *manifest.Manifest) (*manifest.Manifest, error) {
			proven := *m
			proven.Files = []manifest.File{blobOf("there")}
			return &proven, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]manifest.File{blobOf("ours"), blobOf("there")}, merged.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestSharedKeyIsBelievedByItsBody(t *testing.T) {
	c := newCatalog(t)
	legacy(t, c, manifestOf(dataset, commit("d"), "rows"), "main")
	if _, err := c.Manifest(t.Context(), manifest.Key{Repo: dataset, Commit: commit("d")}); err != nil {
		t.Errorf("the dataset under the legacy key: %v", err)
	}
	if ref, err := c.Ref(t.Context(), dataset, "main"); err != nil || ref.Commit != commit("d") {
		t.Errorf("the dataset's ref: %v, %v", ref, err)
	}
	_, err := c.Manifest(t.Context(), manifest.Key{Repo: model, Commit: commit("d")})
	if _, ok := errors.AsType[*remote.WrongBodyError](err); !ok {
		t.Errorf("the model of the same id: error is %v, want a WrongBodyError", err)
	}
	// The model's own ref must not take over the key.
	now := time.Now().Add(time.Hour)
	existing, err := c.Ref(t.Context(), model, "main")
	if err != nil {
		t.Fatal(err)
	}
	foreign := update(model, "main", commit("e"), now)
	foreign.Existing = &existing
	put, err := c.PutRef(t.Context(), foreign)
	if err != nil || put.Outcome != remote.RefForeign {
		t.Errorf("writing over it: %v, %v; want RefForeign", put, err)
	}
}

func TestLegacyRefOfAnotherRepositoryIsNotFound(t *testing.T) {
	c := newCatalog(t)
	legacy(t, c, manifestOf(model, commit("a"), "one"), "main")
	if _, err := c.Ref(t.Context(), dataset, "main"); !errors.Is(err, remote.ErrNotFound) {
		t.Errorf("error is %v, want ErrNotFound", err)
	}
	refs, broken, err := c.Refs(t.Context(), dataset)
	if len(refs)+len(broken) > 0 || err != nil {
		t.Errorf("refs %v, broken %v, %v; want none", refs, broken, err)
	}
	put, err := c.PutRef(t.Context(), update(dataset, "main", commit("d"), time.Now()))
	if err != nil || put.Outcome != remote.RefWritten {
		t.Errorf("the dataset's own ref: %v, %v", put, err)
	}
	if ref, err := c.Ref(t.Context(), model, "main"); err != nil || ref.Commit != commit("a") {
		t.Errorf("the model's ref is now %v, %v", ref, err)
	}
}

func TestKnownRefsAreReadAgainIfReplaced(t *testing.T) {
	c := newCatalog(t)
	put := func(to hub.Commit) remote.Ref {
		t.Helper()
		if _, err := c.PutRef(t.Context(), forced(update(model, "main", to, time.Now()))); err != nil {
			t.Fatal(err)
		}
		ref, err := c.Ref(t.Context(), model, "main")
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	commits := func(known remote.Ref) (all []hub.Commit) {
		t.Helper()
		refs, broken, err := c.Refs(t.Context(), model, known)
		if err != nil || len(broken) > 0 {
			t.Fatal(err, broken)
		}
		for _, ref := range refs {
			all = append(all, ref.Commit)
		}
		return all
	}
	known := put(commit("a"))
	known.Commit = commit("f") // tells what is known from what was read
	if got := commits(known); !slices.Equal(got, []hub.Commit{commit("f")}) {
		t.Errorf("a ref that is known: %v", got)
	}
	put(commit("b"))
	if got := commits(known); !slices.Equal(got, []hub.Commit{commit("b")}) {
		t.Errorf("a ref that was replaced since: %v", got)
	}
}

func TestRefsMoveForward(t *testing.T) {
	old, recent := time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	for _, test := range []struct {
		name    string
		there   hub.Commit
		at      time.Time
		learned time.Time
		force   bool
		want    remote.RefOutcome
		ends    hub.Commit
	}{
		{"nothing there", "", time.Time{}, old, false, remote.RefWritten, commit("b")},
		{"older there", commit("a"), old, recent, false, remote.RefWritten, commit("b")},
		{"newer there", commit("a"), recent, old, false, remote.RefOlder, commit("a")},
		{"newer there, forced", commit("a"), recent, old, true, remote.RefWritten, commit("b")},
		{"as old", commit("a"), old, old, false, remote.RefOlder, commit("a")},
		{"same commit", commit("b"), old, recent, false, remote.RefSame, commit("b")},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCatalog(t)
			for _, digit := range []string{"a", "b"} {
				if _, _, err := c.PutManifest(t.Context(), manifestOf(model, commit(digit), "one"), nil, trustAll); err != nil {
					t.Fatal(err)
				}
			}
			if test.there != "" {
				if _, err := c.PutRef(t.Context(), update(model, "feat/x", test.there, test.at)); err != nil {
					t.Fatal(err)
				}
			}
			// nil: this machine looked before the other one wrote.
			u := update(model, "feat/x", commit("b"), test.learned)
			u.Force = test.force
			got, err := c.PutRef(t.Context(), u)
			if err != nil || got.Outcome != test.want {
				t.Errorf("outcome %v, %v; want %v", got, err, test.want)
			}
			ref, err := c.Ref(t.Context(), model, "feat/x")
			if err != nil || ref.Commit != test.ends {
				t.Errorf("the ref ends as %v, %v; want %s", ref, err, test.ends)
			}
		})
	}
}

func TestWrongClockCannotFreezeARef(t *testing.T) {
	c := newCatalog(t)
	if _, err := c.PutRef(t.Context(), update(model, "main", commit("a"), time.Now().Add(1000*time.Hour))); err != nil {
		t.Fatal(err)
	}
	ref, err := c.Ref(t.Context(), model, "main")
	if err != nil {
		t.Fatal(err)
	}
	if ref.Resolved.After(time.Now()) {
		t.Errorf("the ref counts as learned at %s, in the future", ref.Resolved)
	}
}

// clocked is a store that tells whole seconds.
type clocked struct {
	store.Store
	now time.Time
}

func (c clocked) Now(context.Context) (time.Time, error) { return c.now.Truncate(time.Second), nil }

func TestRefsOfTheSameSecondsKeepTheirOrder(t *testing.T) {
	c := newCatalog(t)
	now := time.Date(2026, 11, 23, 12, 0, 0, 999_000_000, time.UTC)
	c.Store = clocked{c.Store, now}
	for i, learned := range []time.Time{now.Add(-500 * time.Millisecond), now.Add(-100 * time.Millisecond), now.Add(3 * time.Second), now.Add(time.Hour)} {
		if _, err := c.PutRef(t.Context(), update(model, "main", commit(string(rune('a'+i))), learned)); err != nil {
			t.Fatal(err)
		}
		ref, err := c.Ref(t.Context(), model, "main")
		if err != nil {
			t.Fatal(err)
		}
		if want := min(learned.UnixNano(), now.Truncate(time.Second).Add(store.ClockExact).UnixNano()); ref.Resolved.UnixNano() != want {
			t.Errorf("%d: the ref counts as learned at %s", i, ref.Resolved)
		}
	}
}

func TestDamagedObjects(t *testing.T) {
	c := newCatalog(t)
	key := manifest.ManifestKey("org__name", commit("a"))
	put(t, c.Store, key, `{"repo": "org/name", "revis`)
	put(t, c.Store, "refs/org__name/main", "not a commit")
	put(t, c.Store, "refs/org__name/big", strings.Repeat("a", 4096))
	idx, err := c.Lookup(t.Context(),
		[]manifest.Key{{Repo: model, Commit: commit("a")}, {Repo: model, Commit: commit("b")}},
		[]remote.RefKey{{Repo: model, Name: "main"}, {Repo: model, Name: "big"}, {Repo: model, Name: "gone"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(idx.Broken) != 1 || len(idx.BrokenRefs) != 2 || len(idx.Manifests)+len(idx.Refs) != 0 {
		t.Errorf("broken %v and %v, good %v and %v", idx.Broken, idx.BrokenRefs, idx.Manifests, idx.Refs)
	}
	for _, err := range idx.Broken {
		if !errors.Is(err, manifest.ErrInvalid) || !strings.Contains(err.Error(), key) {
			t.Errorf("error %q does not name %s", err, key)
		}
	}
}

func TestPresence(t *testing.T) {
	for _, test := range []struct {
		name      string
		inBucket  int // blobs there beside those that are asked about
		asked     int
		wantStats int
	}{
		{"a few are looked up one by one", 10, 3, 3},
		{"many in a small bucket are found in its listing", 10, 40, 0},
		{"some in a large bucket are looked up one by one", 1500, 12, 12},
		{"very many in a large bucket are found in its listing", 1500, 60, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCatalog(t)
			counter := &counting{Store: c.Store, count: map[string]int{}}
			for i := range test.inBucket {
				put(t, c.Store, manifest.BlobKey(blobOf(fmt.Sprint("other", i)).Blob), "")
			}
			sizes, want := map[hub.BlobID]int64{}, map[hub.BlobID]bool{}
			for i := range test.asked {
				text := fmt.Sprint("blob", i)
				f := blobOf(text)
				sizes[f.Blob] = f.Size
				switch i % 3 {
				case 0:
					put(t, c.Store, manifest.BlobKey(f.Blob), text)
					want[f.Blob] = true
				case 1:
					put(t, c.Store, manifest.BlobKey(f.Blob), "wrong size")
				}
			}
			c.Store = counter
			got, err := c.Presence(t.Context(), sizes)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("present (-want +got):\n%s", diff)
			}
			if counter.count["stat"] != test.wantStats {
				t.Errorf("%d single questions, want %d", counter.count["stat"], test.wantStats)
			}
		})
	}
}

func TestFindCommitAndFollow(t *testing.T) {
	c := newCatalog(t)
	for _, digit := range []string{"a", "b"} {
		if _, _, err := c.PutManifest(t.Context(), manifestOf(model, commit(digit), "one"), nil, trustAll); err != nil {
			t.Fatal(err)
		}
	}
	found, err := c.FindCommit(t.Context(), model, "aaaa")
	if diff := cmp.Diff([]hub.Commit{commit("a")}, found); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	put(t, c.Store, "refs/org__name/main", string(commit("b")))
	var names []remote.RefObject
	for object, err := range c.RefNames(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if object.ETag == "" {
			t.Errorf("%s has no ETag", object.Name)
		}
		object.ETag = ""
		names = append(names, object)
	}
	if diff := cmp.Diff([]remote.RefObject{{RepoKey: "org__name", Name: "main"}}, names); diff != "" {
		t.Fatalf("refs (-want +got):\n%s", diff)
	}
	entry, err := c.Follow(t.Context(), names[0])
	if err != nil || entry.Key() != (manifest.Key{Repo: model, Commit: commit("b")}) {
		t.Errorf("it leads to %v, %v", entry, err)
	}
}

func TestManifestIsTheDocumentedJSON(t *testing.T) {
	c := newCatalog(t)
	if _, _, err := c.PutManifest(t.Context(), manifestOf(model, commit("a"), "one"), nil, trustAll); err != nil {
		t.Fatal(err)
	}
	body, _, err := c.Store.Get(t.Context(), "manifests/org__name@"+string(commit("a"))+".json", store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(data, []byte("{\n  \"repo\": \"org/name\",\n  \"revision\"")) || !bytes.Contains(data, []byte(`"hub"`)) {
		t.Errorf("the manifest is %s", data)
	}
}

func TestGarbageIsReplacedWhenAsked(t *testing.T) {
	c := newCatalog(t)
	key := manifest.Key{Repo: model, Commit: commit("a")}
	ref := remote.RefKey{Repo: model, Name: "main"}
	objectKey := manifest.ManifestKey("org__name", commit("a"))
	for _, garbage := range []string{`{"repo": "org/name", "revis`, strings.Replace(string(encode(t, manifestOf(model, commit("a"), "one"))), "org/name", "org/astray", 1)} {
		put(t, c.Store, objectKey, garbage)
		put(t, c.Store, "refs/org__name/main", "not a commit")
		idx, err := c.Lookup(t.Context(), []manifest.Key{key}, []remote.RefKey{ref})
		if err != nil {
			t.Fatal(err)
		}
		at, etag, ok := remote.Replaceable(idx.Broken[key])
		if !ok || at != objectKey || etag == "" {
			t.Fatalf("%v: replaceable %v at %q with ETag %q", idx.Broken[key], ok, at, etag)
		}
		if _, _, err := c.PutManifest(t.Context(), manifestOf(model, commit("a"), "one"), nil, trustAll); err == nil {
			t.Error("a manifest was written over what nobody had looked at")
		}
		if _, written, err := c.PutManifest(t.Context(), manifestOf(model, commit("a"), "one"), &remote.Entry{ObjectKey: at, ETag: etag}, trustAll); err != nil || !written {
			t.Errorf("written %v, %v", written, err)
		}
		if entry, err := c.Manifest(t.Context(), key); err != nil || len(entry.Files) != 1 {
			t.Errorf("%+v, %v", entry, err)
		}
		if _, err := c.PutRef(t.Context(), update(model, "main", commit("a"), time.Now())); !errors.Is(err, manifest.ErrInvalid) {
			t.Errorf("a ref was written over something else without force: %v", err)
		}
		for _, existing := range []*remote.Ref{nil, {Name: "main", ObjectKey: "refs/org__name/main", ETag: "stale"}} {
			put(t, c.Store, "refs/org__name/main", "not a commit")
			u := forced(update(model, "main", commit("a"), time.Now()))
			u.Existing = existing
			if got, err := c.PutRef(t.Context(), u); err != nil || got.Outcome != remote.RefWritten {
				t.Errorf("forced: outcome %v, %v", got, err)
			}
			if got, err := c.Ref(t.Context(), model, "main"); err != nil || got.Commit != commit("a") {
				t.Errorf("%+v, %v", got, err)
			}
		}
	}
}

// TestSharedManifestIsNotReplaced has a manifest where 0.1.0 writes it: org__a/b and org/a__b stand under the same key.
func TestSharedManifestIsNotReplaced(t *testing.T) {
	c := newCatalog(t)
	theirs := hub.Repo{Type: hub.Model, Name: "org__a/b"}
	key := manifest.Key{Repo: hub.Repo{Type: hub.Model, Name: "org/a__b"}, Commit: commit("a")}
	put(t, c.Store, manifest.ManifestKey("org__a__b", commit("a")), string(encode(t, manifestOf(theirs, commit("a"), "one"))))
	_, err := c.Manifest(t.Context(), key)
	other, ok := errors.AsType[*remote.WrongBodyError](err)
	if !ok || !other.Shared() {
		t.Fatalf("got %v", err)
	}
	if _, _, ok := remote.Replaceable(err); ok {
		t.Error("another repository's manifest would be replaced")
	}
}

func TestManifestWithoutFilesIsNotWritten(t *testing.T) {
	c := newCatalog(t)
	theirs := manifestOf(model, commit("a"), "one")
	theirs.Hub = nil
	nothing := func(_ context.Context, m *manifest.Manifest) (*manifest.Manifest, error) {
		proven := *m
		proven.Files = nil
		return &proven, nil
	}
	base := &remote.Entry{Manifest: theirs, ObjectKey: manifest.ManifestKey("org__name", commit("a"))}
	for _, known := range []*remote.Entry{nil, base} {
		if _, written, err := c.PutManifest(t.Context(), manifestOf(model, commit("a")), known, nothing); written || !errors.Is(err, remote.ErrNotFound) {
			t.Errorf("written %v, %v", written, err)
		}
	}
}

func encode(t *testing.T, m *manifest.Manifest) []byte {
	t.Helper()
	data, err := manifest.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

package engine_test

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
)

var model = hub.Repo{Type: hub.Model, Name: "org/name"}

const (
	first  = hub.Commit("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	second = hub.Commit("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
)

// file is a file of a test repository.
type file struct {
	path hub.Path
	data []byte
	lfs  bool
}

func (f file) id() hub.BlobID {
	if f.lfs {
		sum := sha256.Sum256(f.data)
		return hub.BlobID(hex.EncodeToString(sum[:]))
	}
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(f.data), f.data))
	return hub.BlobID(hex.EncodeToString(sum[:]))
}

func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func sample() []file {
	return []file{
		{"config.json", []byte("{}"), false},
		{"empty", nil, false},
		{"sub/dir/weights.bin", noise(1, 40<<20), true}, // large: moved in parts
		{"model.safetensors", noise(2, 300<<10), true},
		{"name with spaces and ü.txt", []byte("x"), false},
	}
}

func openCache(t *testing.T, dir string) *hfcache.Cache {
	t.Helper()
	cache, err := hfcache.Create(dir, hfcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cache.Close(); err != nil {
			t.Error(err)
		}
	})
	return cache
}

func write(t *testing.T, cache *hfcache.Cache, repo hub.Repo, c hub.Commit, ref hub.Ref, files []file) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := cache.RepoDir(repo)
	check(err)
	defer dir.Close() //nolint:errcheck // every write into it was checked
	check(dir.MakeSnapshot(c))
	tree := manifest.Tree{}
	for _, f := range files {
		size := int64(len(f.data))
		staged, err := dir.Stage(f.id(), size)
		check(err)
		_, err = staged.WriteAt(f.data, 0)
		check(err)
		check(staged.Sync())
		check(staged.Publish())
		_, err = dir.Link(c, f.path, f.id(), size)
		check(err)
		entry := manifest.TreeEntry{Size: size, BlobID: string(f.id())}
		if f.lfs {
			entry = manifest.TreeEntry{Size: size, BlobID: strings.Repeat("0", 40), LFSSHA256: f.id(), LFSSize: size}
		}
		tree[f.path] = entry
	}
	check(dir.WriteTree(c, tree))
	check(dir.WriteNoExist(c, []hub.Path{"adapter_config.json"}))
	check(dir.WriteRef(ref, c, time.Now().Add(-time.Hour)))
}

// site is one machine beside a bucket.
func site(t *testing.T, cacheDir, bucketDir string) *engine.Engine {
	t.Helper()
	s, err := filestore.Open(bucketDir, filestore.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return &engine.Engine{Cache: openCache(t, cacheDir), Catalog: &remote.Catalog{Store: s, Now: time.Now}}
}

func push(t *testing.T, e *engine.Engine) (*plan.Push, *engine.Result, *hfcache.Inventory) {
	t.Helper()
	inv, err := e.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.PreparePush(t.Context(), inv, plan.PushPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	result, err := e.Push(t.Context(), p, plan.PushPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	return p, result, inv
}

func pull(t *testing.T, e *engine.Engine, repo hub.Repo, revision string) *engine.Result {
	t.Helper()
	p, err := e.PreparePull(t.Context(), repo, revision, plan.PullPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	result, err := e.Pull(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func wantFiles(t *testing.T, cacheDir string, repo hub.Repo, c hub.Commit, files []file) {
	t.Helper()
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(cacheDir, repo.Folder(), "snapshots", string(c), filepath.FromSlash(string(f.path))))
		if err != nil {
			t.Error(err)
			continue
		}
		if !slices.Equal(got, f.data) {
			t.Errorf("%s differs", f.path)
		}
	}
}

func TestPullAfterPushIsIdentity(t *testing.T) {
	alice, bob, bucket := t.TempDir(), t.TempDir(), t.TempDir()
	a, b := site(t, alice, bucket), site(t, bob, bucket)
	write(t, a.Cache, model, first, "main", sample())
	if _, result, _ := push(t, a); result.Failed() || result.Blobs != len(sample()) || result.Manifests != 1 || result.Refs != 1 {
		t.Fatalf("push: %+v", result)
	}
	if result := pull(t, b, model, ""); result.Failed() || result.Blobs != len(sample()) || result.Refs != 1 {
		t.Fatalf("pull: %+v", result)
	}
	wantFiles(t, bob, model, first, sample())

	here, err := a.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	there, err := b.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, inv := range []*hfcache.Inventory{here, there} { // what differs by right: when, and where
		inv.Dir = ""
		for _, r := range inv.Repos {
			for name, blob := range r.Blobs {
				blob.ModTime, blob.Used = time.Time{}, time.Time{}
				r.Blobs[name] = blob
			}
			for _, rev := range r.Revisions {
				for i := range rev.Files {
					rev.Files[i].ModTime, rev.Files[i].Used = time.Time{}, time.Time{}
				}
			}
			for i := range r.Refs {
				r.Refs[i].Learned = r.Refs[i].Learned.Truncate(time.Second)
			}
		}
	}
	if diff := cmp.Diff(here, there); diff != "" {
		t.Errorf("the caches differ (-pushed +pulled):\n%s", diff)
	}

	if p, _, _ := push(t, a); !p.Empty() {
		t.Errorf("a second push has something to do: %+v", p)
	}
	if p, _, _ := push(t, b); !p.Empty() {
		t.Errorf("a push of what was pulled has something to do: %+v", p)
	}
	if again := pull(t, b, model, ""); again.Blobs+again.Linked+again.Refs != 0 {
		t.Errorf("a second pull did something: %+v", again)
	}
}

func TestDamagedLocalBlobIsNotPushed(t *testing.T) {
	for name, f := range map[string]file{
		"small": {"weights.bin", noise(3, 100<<10), true},
		"large": {"weights.bin", noise(3, 20<<20), true},
		"git":   {"README.md", []byte("# hello"), false},
	} {
		t.Run(name, func(t *testing.T) {
			alice, bucket := t.TempDir(), t.TempDir()
			a := site(t, alice, bucket)
			good := file{"good.txt", []byte("good"), false}
			write(t, a.Cache, model, first, "main", []file{f, good})
			blob := filepath.Join(alice, model.Folder(), "blobs", string(f.id()))
			damaged := slices.Clone(f.data)
			damaged[len(damaged)/2] ^= 1
			if err := os.WriteFile(blob, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			_, result, _ := push(t, a)
			if len(result.Failures) != 1 || result.Failures[0].Path != f.path {
				t.Fatalf("failures: %v", result.Failures)
			}
			if _, ok := errors.AsType[*hub.MismatchError](result.Failures[0].Err); !ok {
				t.Errorf("the failure is %v", result.Failures[0].Err)
			}
			if _, err := a.Catalog.Store.Stat(t.Context(), manifest.BlobKey(f.id())); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("the damaged blob is in the bucket: %v", err)
			}
			entry, err := a.Catalog.Manifest(t.Context(), manifest.Key{Repo: model, Commit: first})
			if err != nil || len(entry.Files) != 1 || entry.Files[0].Path != good.path {
				t.Errorf("the manifest is %+v, %v", entry, err)
			}
			if _, err := a.Catalog.Ref(t.Context(), model, "main"); !errors.Is(err, remote.ErrNotFound) {
				t.Errorf("a ref names the revision: %v", err)
			}
		})
	}
}

func TestDamagedBucketBlobIsNotPulled(t *testing.T) {
	for name, f := range map[string]file{
		"small": {"weights.bin", noise(3, 100<<10), true},
		"large": {"weights.bin", noise(3, 20<<20), true},
		"git":   {"README.md", []byte("# hello"), false},
	} {
		for _, change := range []struct {
			name string
			make func([]byte) []byte
		}{
			{"flipped", func(b []byte) []byte { b[0] ^= 1; return b }},
			{"shorter", func(b []byte) []byte { return b[:len(b)-1] }},
			{"longer", func(b []byte) []byte { return append(b, 0) }},
		} {
			t.Run(name+" "+change.name, func(t *testing.T) {
				alice, bob, bucket := t.TempDir(), t.TempDir(), t.TempDir()
				a, b := site(t, alice, bucket), site(t, bob, bucket)
				good := file{"good.txt", []byte("good"), false}
				write(t, a.Cache, model, first, "main", []file{f, good})
				push(t, a)
				key := filepath.Join(bucket, "blobs", string(f.id()))
				if err := os.WriteFile(key, change.make(slices.Clone(f.data)), 0o600); err != nil {
					t.Fatal(err)
				}
				result := pull(t, b, model, "")
				if len(result.Failures) != 1 || result.Failures[0].Path != f.path {
					t.Fatalf("failures: %v", result.Failures)
				}
				if !strings.Contains(result.Failures[0].Err.Error(), "blobs/"+string(f.id())) {
					t.Errorf("the failure does not name the key: %v", result.Failures[0].Err)
				}
				wantFiles(t, bob, model, first, []file{good})
				entries, err := os.ReadDir(filepath.Join(bob, model.Folder(), "blobs"))
				if err != nil {
					t.Fatal(err)
				}
				if len(entries) != 1 || entries[0].Name() != string(good.id()) {
					t.Errorf("blobs holds %v, want only the good one", entries)
				}
				if _, err := os.Lstat(filepath.Join(bob, model.Folder(), "refs", "main")); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a ref names the revision: %v", err)
				}
			})
		}
	}
}

// What stands in the way of one blob stops only that one, also when it is found out after all downloads are done.
func TestBlobThatCannotBePublished(t *testing.T) {
	alice, bob, bucket := t.TempDir(), t.TempDir(), t.TempDir()
	a, b := site(t, alice, bucket), site(t, bob, bucket)
	blocked, good := file{"blocked.txt", []byte("1"), false}, file{"good.txt", []byte("2"), false}
	write(t, a.Cache, model, first, "main", []file{blocked, good})
	push(t, a)
	if err := os.MkdirAll(filepath.Join(bob, model.Folder(), "blobs", string(blocked.id()), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	result := pull(t, b, model, "")
	if len(result.Failures) != 1 || result.Failures[0].Path != blocked.path || result.Refs != 0 {
		t.Errorf("result: %+v", result)
	}
	wantFiles(t, bob, model, first, []file{good})
}

func TestTwoMachinesWithDifferentPartsOfACommit(t *testing.T) {
	alice, carol, bob, bucket := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	a, c, b := site(t, alice, bucket), site(t, carol, bucket), site(t, bob, bucket)
	one, two := file{"one", []byte("1"), false}, file{"two", []byte("2"), false}
	write(t, a.Cache, model, first, "main", []file{one})
	write(t, c.Cache, model, first, "v1.0", []file{two})
	push(t, a)
	push(t, c)
	pull(t, b, model, "v1.0")
	wantFiles(t, bob, model, first, []file{one, two})
	for _, ref := range []string{"main", "v1.0"} {
		text, err := os.ReadFile(filepath.Join(bob, model.Folder(), "refs", ref))
		if err != nil || string(text) != string(first) {
			t.Errorf("ref %s is %q, %v", ref, text, err)
		}
	}
}

func TestOlderRefDoesNotMoveTheLocalOne(t *testing.T) {
	alice, bob, bucket := t.TempDir(), t.TempDir(), t.TempDir()
	a, b := site(t, alice, bucket), site(t, bob, bucket)
	write(t, a.Cache, model, first, "main", []file{{"one", []byte("1"), false}})
	push(t, a)
	write(t, b.Cache, model, second, "main", []file{{"two", []byte("2"), false}})
	newer := time.Now()
	ref := filepath.Join(bob, model.Folder(), "refs", "main")
	if err := os.Chtimes(ref, newer, newer); err != nil {
		t.Fatal(err)
	}
	pull(t, b, model, "main")
	wantFiles(t, bob, model, first, []file{{"one", []byte("1"), false}})
	if text, err := os.ReadFile(ref); err != nil || string(text) != string(second) {
		t.Errorf("the local ref is %q, %v; want %s", text, err, second)
	}
	if _, result, _ := push(t, b); result.Refs != 1 {
		t.Errorf("the newer ref was not pushed: %+v", result)
	}
}

func TestBlobOfAnotherRepositoryIsReused(t *testing.T) {
	alice, bob, bucket := t.TempDir(), t.TempDir(), t.TempDir()
	a, b := site(t, alice, bucket), site(t, bob, bucket)
	other := hub.Repo{Type: hub.Dataset, Name: "org/name"}
	shared := file{"weights.bin", noise(4, 200<<10), true}
	write(t, a.Cache, model, first, "main", []file{shared})
	write(t, a.Cache, other, second, "main", []file{shared})
	push(t, a)
	pull(t, b, model, "")
	if result := pull(t, b, other, ""); result.Reused != 1 || result.Blobs != 0 {
		t.Errorf("pull of the second repository: %+v", result)
	}
	wantFiles(t, bob, other, second, []file{shared})
}

func TestSameFileUnderAnotherDigestIsNoConflict(t *testing.T) {
	alice, carol, bucket := t.TempDir(), t.TempDir(), t.TempDir()
	a, c := site(t, alice, bucket), site(t, carol, bucket)
	f := file{"README.md", []byte("# hello"), false}
	write(t, a.Cache, model, first, "main", []file{f})
	push(t, a)
	// The other machine has no links and no listing: nothing there tells that the file goes by its git digest.
	snapshot := filepath.Join(carol, model.Folder(), "snapshots", string(first))
	if err := os.MkdirAll(snapshot, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(snapshot, "README.md"), f.data, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, result, _ := push(t, c); len(p.Refused) > 0 || result.Failed() || result.Blobs > 0 {
		t.Errorf("push: %+v, %+v", p, result)
	}
}

func TestResolve(t *testing.T) {
	alice, bucket := t.TempDir(), t.TempDir()
	a := site(t, alice, bucket)
	write(t, a.Cache, model, first, "feat/x", []file{{"one", []byte("1"), false}})
	write(t, a.Cache, model, first[:39]+"c", "main", []file{{"one", []byte("1"), false}})
	push(t, a)
	for revision, want := range map[string]hub.Commit{
		"": first[:39] + "c", "main": first[:39] + "c", "feat/x": first, string(first): first, string(first[:39]) + "c": first[:39] + "c",
	} {
		entry, _, err := a.Resolve(t.Context(), model, revision)
		if err != nil || entry.Commit != want {
			t.Errorf("%q is %v, %v; want %s", revision, entry, err, want)
		}
	}
	if _, _, err := a.Resolve(t.Context(), model, "aaaa"); err == nil {
		t.Error("an ambiguous prefix was taken")
	} else if _, ok := errors.AsType[*engine.AmbiguousError](err); !ok {
		t.Errorf("error is %v, want an AmbiguousError", err)
	}
	for _, missing := range []string{"bbbb", "dev", string(second)} {
		if _, _, err := a.Resolve(t.Context(), model, missing); !errors.Is(err, remote.ErrNotFound) {
			t.Errorf("%q: error is %v, want ErrNotFound", missing, err)
		}
	}
}

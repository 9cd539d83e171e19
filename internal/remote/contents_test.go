package remote_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/faultstore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
)

func numbered(i int) hub.Commit {
	sum := sha1.Sum(fmt.Append(nil, i))
	return hub.Commit(hex.EncodeToString(sum[:]))
}

// bucketOf makes a bucket of so many revisions, each with a ref, below a script that counts requests.
func bucketOf(t *testing.T, revisions int) (*remote.Catalog, *faultstore.Script) {
	t.Helper()
	c := newCatalog(t)
	for i := range revisions {
		repo := hub.Repo{Type: hub.Model, Name: fmt.Sprintf("org/name-%04d", i)}
		data, err := manifest.Encode(manifestOf(repo, numbered(i), "shared", fmt.Sprint("own", i)))
		if err != nil {
			t.Fatal(err)
		}
		put(t, c.Store, manifest.ManifestKey(manifest.RepoKey(repo), numbered(i)), string(data))
		put(t, c.Store, manifest.RefKey(manifest.RepoKey(repo), hub.Main), string(numbered(i)))
	}
	script := &faultstore.Script{}
	c.Store = faultstore.New(c.Store, script)
	return c, script
}

// read reads everything, with a cache in dir as a new process would have it.
func read(t *testing.T, c *remote.Catalog, dir string) *remote.Contents {
	t.Helper()
	c.Cache = remote.NewCache(dir, c.Store.String())
	contents, err := c.Contents(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Cache.Close(); err != nil {
		t.Error(err)
	}
	return contents
}

func TestSecondReadIsAHandfulOfRequests(t *testing.T) {
	const revisions = 1000
	c, script := bucketOf(t, revisions)
	dir := filepath.Join(t.TempDir(), "not", "there")
	first := read(t, c, dir)
	if len(first.Revisions) != revisions || first.Fetched != 2*revisions || first.Cached != 0 || len(first.Broken)+len(first.Dangling) > 0 {
		t.Fatalf("%d revisions, %d fetched, %d cached, broken %v, dangling %v", len(first.Revisions), first.Fetched, first.Cached, first.Broken, first.Dangling)
	}
	before := len(script.Calls(""))
	second := read(t, c, dir)
	if requests := len(script.Calls("")) - before; requests > 10 {
		t.Errorf("the second read took %d requests: %v", requests, script.Calls("")[before:][:10])
	}
	if second.Cached != 2*revisions || second.Fetched != 0 {
		t.Errorf("%d cached, %d fetched", second.Cached, second.Fetched)
	}
	if diff := cmp.Diff(first.Revisions, second.Revisions); diff != "" {
		t.Errorf("the cache changes what is read (-bucket +cache):\n%s", diff)
	}
}

func TestReplacedObjectsAreReadAgain(t *testing.T) {
	c, _ := bucketOf(t, 3)
	dir := t.TempDir()
	read(t, c, dir)
	repo := hub.Repo{Type: hub.Model, Name: "org/name-0001"}
	more := manifestOf(repo, numbered(1), "shared", "own1", "more")
	if _, _, err := c.PutManifest(t.Context(), more, nil, trustAll); err != nil {
		t.Fatal(err)
	}
	put(t, c.Store, "refs/org__name-0002/main", string(numbered(99))) // leads to nothing now
	got := read(t, c, dir)
	if got.Fetched != 2 || got.Cached != 4 {
		t.Errorf("%d fetched, %d cached", got.Fetched, got.Cached)
	}
	if l := got.Revision(manifest.Key{Repo: repo, Commit: numbered(1)}); l == nil || len(l.Files) != 3 {
		t.Errorf("the new manifest was not read: %v", l)
	}
	if len(got.Dangling) != 1 || got.Dangling[0].Ref.ObjectKey != "refs/org__name-0002/main" || !errors.Is(got.Dangling[0], remote.ErrNotFound) {
		t.Errorf("dangling: %v", got.Dangling)
	}
}

// TestCacheIsNotTrusted changes what is on disk in every way that a disk, another program or a mistake might.
func TestCacheIsNotTrusted(t *testing.T) {
	good := func(t *testing.T, c *remote.Catalog, dir string) *remote.Contents {
		t.Helper()
		contents := read(t, c, dir)
		if len(contents.Revisions) != 2 || len(contents.Broken)+len(contents.Dangling) > 0 {
			t.Fatalf("%d revisions, broken %v, dangling %v", len(contents.Revisions), contents.Broken, contents.Dangling)
		}
		for i, l := range contents.Revisions {
			if l.Repo.Name != fmt.Sprintf("org/name-%04d", i) || len(l.Files) != 2 || len(l.Refs) != 1 {
				t.Errorf("%v has %d files and refs %v", l.Key(), len(l.Files), l.Refs)
			}
		}
		return contents
	}
	for name, damage := range map[string]func(text string, others []string) string{
		"emptied":          func(string, []string) string { return "" },
		"cut":              func(text string, _ []string) string { return text[:len(text)-3] },
		"without a body":   func(text string, _ []string) string { line, _, _ := strings.Cut(text, "\n"); return line },
		"other body":       func(text string, _ []string) string { return strings.Replace(text, `"size": 6`, `"size": 7`, 1) },
		"other commit":     func(text string, _ []string) string { return text[:len(text)-1] + "0" },
		"other ETag":       func(text string, _ []string) string { return strings.Replace(text, `"etag":"`, `"etag":"x`, 1) },
		"of another entry": func(text string, others []string) string { return others[(indexOf(others, text)+1)%len(others)] },
		"junk":             func(string, []string) string { return "\x00\n\x00" },
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := bucketOf(t, 2)
			dir := t.TempDir()
			good(t, c, dir)
			files, texts := entries(t, dir)
			if len(files) != 4 {
				t.Fatalf("%d entries", len(files))
			}
			changed := 0
			for i, text := range texts {
				if now := damage(text, texts); now != text {
					changed++
					if err := os.WriteFile(files[i], []byte(now), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got := good(t, c, dir); got.Fetched != changed || changed == 0 {
				t.Errorf("%d entries are damaged, %d were fetched", changed, got.Fetched)
			}
			if got := good(t, c, dir); got.Fetched != 0 {
				t.Errorf("%d entries were not repaired", got.Fetched)
			}
		})
	}
	t.Run("folders instead of files", func(t *testing.T) {
		c, _ := bucketOf(t, 2)
		dir := t.TempDir()
		good(t, c, dir)
		files, _ := entries(t, dir)
		for _, f := range files {
			if err := errors.Join(os.Remove(f), os.Mkdir(f, 0o700)); err != nil {
				t.Fatal(err)
			}
		}
		good(t, c, dir)
	})
	t.Run("a file instead of the folder", func(t *testing.T) {
		c, _ := bucketOf(t, 2)
		dir := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		good(t, c, dir)
	})
	t.Run("entries of another bucket", func(t *testing.T) {
		c, _ := bucketOf(t, 2)
		dir := t.TempDir()
		good(t, c, dir)
		other, _ := bucketOf(t, 2)
		if got := good(t, other, dir); got.Fetched != 4 {
			t.Errorf("%d fetched", got.Fetched)
		}
	})
}

func indexOf(all []string, one string) int {
	for i, s := range all {
		if s == one {
			return i
		}
	}
	return -1
}

// entries are the files of a cache folder and their texts.
func entries(t *testing.T, dir string) (files, texts []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(data))
	}
	return files, texts
}

func TestCacheEntriesAreValidatedLikeTheBucket(t *testing.T) {
	c, _ := bucketOf(t, 1)
	dir := t.TempDir()
	// The bucket has something that no reader accepts: it is not kept, and is named each time.
	put(t, c.Store, "manifests/org__evil@"+string(numbered(7))+".json", `{"repo": "../x", "revision": "`+string(numbered(7))+`", "files": []}`)
	put(t, c.Store, "refs/org__evil/main", "junk")
	for range 2 {
		got := read(t, c, dir)
		if len(got.Revisions) != 1 || len(got.Broken) != 2 {
			t.Fatalf("%d revisions, broken %v", len(got.Revisions), got.Broken)
		}
		for _, err := range got.Broken {
			if !errors.Is(err, manifest.ErrInvalid) || !strings.Contains(err.Error(), "org__evil") {
				t.Errorf("%v", err)
			}
		}
	}
	if files, _ := entries(t, dir); len(files) != 2 {
		t.Errorf("%d entries", len(files))
	}
}

func TestContentsOfSomeRepositories(t *testing.T) {
	c := newCatalog(t)
	for _, m := range []*manifest.Manifest{
		manifestOf(model, commit("a"), "one"),
		manifestOf(dataset, commit("b"), "one"),
		manifestOf(hub.Repo{Type: hub.Model, Name: "org/other"}, commit("c"), "one"),
	} {
		if _, _, err := c.PutManifest(t.Context(), m, nil, trustAll); err != nil {
			t.Fatal(err)
		}
	}
	// The Python tool keeps the dataset under the key of the model, and has both of its revisions.
	legacy(t, c, manifestOf(dataset, commit("d"), "two"), "v1")
	legacy(t, c, manifestOf(dataset, commit("b"), "one"), "main")
	script := &faultstore.Script{}
	c.Store = faultstore.New(c.Store, script)
	contents, err := c.Contents(t.Context(), func(r hub.Repo) bool { return r == dataset })
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]hub.Ref{}
	for _, l := range contents.Revisions {
		got[l.Key().String()+" of "+l.ObjectKey[:len("manifests/xxx")]] = l.Refs
	}
	want := map[string][]hub.Ref{
		"datasets/org/name@bbbbbbbbbbbb of manifests/dat": {"main"}, // its own key comes first
		"datasets/org/name@dddddddddddd of manifests/org": {"v1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, call := range script.Calls("get") {
		if strings.Contains(call.Key, "other") {
			t.Errorf("%s was read in vain", call.Key)
		}
	}
	if contents.Revision(manifest.Key{Repo: dataset, Commit: commit("d")}) == nil || contents.Revision(manifest.Key{Repo: model, Commit: commit("a")}) != nil {
		t.Error("Revision finds what is not there, or does not find what is")
	}
}

func TestContentsEndsWhenTheStoreDoes(t *testing.T) {
	for name, fault := range map[string]faultstore.Fault{
		"listing refs":       {Op: "list", Key: "refs/", Err: store.ErrUnavailable},
		"listing manifests":  {Op: "list", Key: "manifests/", Err: store.ErrDenied},
		"a listing cut":      {Op: "list", Key: "manifests/", Cut: true, CutAfter: 2, Err: store.ErrUnavailable},
		"reading a ref":      {Op: "get", Key: "refs/*/*", Skip: 3, Err: store.ErrDenied},
		"reading a manifest": {Op: "get", Key: "manifests/*", Skip: 3, Err: store.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			c, script := bucketOf(t, 5)
			script.Add(fault)
			if _, err := c.Contents(t.Context(), nil); !errors.Is(err, fault.Err) {
				t.Errorf("%v, want %v", err, fault.Err)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		c, script := bucketOf(t, 5)
		ctx, cancel := context.WithCancel(t.Context())
		script.Add(faultstore.Fault{Op: "get", Skip: 2, Before: func(context.Context, faultstore.Call) error { cancel(); return nil }})
		if _, err := c.Contents(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
	t.Run("gone since the listing", func(t *testing.T) {
		c, script := bucketOf(t, 5)
		script.Add(faultstore.Fault{Op: "get", Key: "manifests/*", Err: store.ErrNotFound})
		contents, err := c.Contents(t.Context(), nil)
		if err != nil || len(contents.Revisions) != 4 || len(contents.Broken)+len(contents.Dangling) > 0 {
			t.Errorf("%+v, %v", contents, err)
		}
	})
}

func TestStoreWithoutETagsIsReadAnew(t *testing.T) {
	s, err := filestore.Open(t.TempDir(), filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &remote.Catalog{Store: plain{s}, Now: time.Now}
	put(t, c.Store, "refs/org__name/main", string(commit("a")))
	dir := t.TempDir()
	for range 2 {
		if got := read(t, c, dir); got.Fetched != 1 {
			t.Errorf("%d fetched", got.Fetched)
		}
	}
}

// plain is a store that tells no ETags.
type plain struct{ store.Store }

func (p plain) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for info, err := range p.Store.List(ctx, prefix) {
			info.ETag = ""
			if !yield(info, err) {
				return
			}
		}
	}
}

func TestContentsSayHowCompleteAndKeepNoListing(t *testing.T) {
	c := newCatalog(t)
	want := map[hub.Commit]manifest.Completeness{}
	for digit, listed := range map[string][]string{"a": nil, "b": {"one"}, "c": {"one", "two"}} {
		m := manifestOf(model, commit(digit), "one")
		if listed != nil {
			m.Hub = &manifest.Hub{Tree: manifest.Tree{}}
		}
		for _, text := range listed {
			f := blobOf(text)
			m.Hub.Tree[f.Path] = manifest.TreeEntry{Size: f.Size, BlobID: string(f.Blob)}
		}
		want[commit(digit)] = []manifest.Completeness{manifest.Unknown, manifest.Complete, manifest.Partial}[len(listed)]
		data, err := manifest.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		put(t, c.Store, manifest.ManifestKey(manifest.RepoKey(model), commit(digit)), string(data))
	}
	contents, err := c.Contents(t.Context(), nil)
	if err != nil || len(contents.Broken) > 0 {
		t.Fatal(err, contents.Broken)
	}
	got := map[hub.Commit]manifest.Completeness{}
	for _, l := range contents.Revisions {
		got[l.Commit] = l.Completeness
		if l.Tree() != nil {
			t.Errorf("%s still has its listing", l.Commit)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("completeness (-want +got):\n%s", diff)
	}
}

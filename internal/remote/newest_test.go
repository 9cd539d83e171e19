package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
)

// aged is a bucket in which manifests have the ages in days that a test gives them.
type aged struct {
	*remote.Catalog
	dir string
}

func newAged(t *testing.T) *aged {
	t.Helper()
	dir := t.TempDir()
	s, err := filestore.Open(dir, filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &aged{&remote.Catalog{Store: s, Now: time.Now, Settle: time.Millisecond}, dir}
}

// put writes a manifest of a repository under a key; empty means its own.
func (a *aged) put(t *testing.T, repo hub.Repo, repoKey string, c hub.Commit, days int) {
	t.Helper()
	data, err := manifest.Encode(manifestOf(repo, c, "one"))
	if err != nil {
		t.Fatal(err)
	}
	if repoKey == "" {
		repoKey = manifest.RepoKey(repo)
	}
	a.write(t, manifest.ManifestKey(repoKey, c), string(data), days)
}

func (a *aged) write(t *testing.T, key, text string, days int) {
	t.Helper()
	put(t, a.Store, key, text)
	at := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC).AddDate(0, 0, -days)
	if err := os.Chtimes(filepath.Join(a.dir, filepath.FromSlash(key)), at, at); err != nil {
		t.Fatal(err)
	}
}

func TestNewest(t *testing.T) {
	other := hub.Repo{Type: hub.Model, Name: "org/other"}
	odd := hub.Repo{Type: hub.Model, Name: "a__b/c"}
	const own, shared, legacyOdd = "datasets--org--name", "org__name", "a__b__c"
	junk := func(t *testing.T, a *aged, repoKey, digit string, days int) {
		t.Helper()
		a.write(t, manifest.ManifestKey(repoKey, commit(digit)), "junk", days)
	}
	for name, test := range map[string]struct {
		fill   func(t *testing.T, a *aged)
		named  remote.NamedCommits
		want   func(hub.Repo) bool
		newest map[hub.Repo]hub.Commit
		broken []string // keys
	}{
		"an empty bucket": {newest: map[hub.Repo]hub.Commit{}},
		"by the time of the manifest, not by the commit": {
			fill: func(t *testing.T, a *aged) {
				t.Helper()
				a.put(t, model, "", commit("a"), 3)
				a.put(t, model, "", commit("b"), 1)
				a.put(t, model, "", commit("c"), 2)
			},
			newest: map[hub.Repo]hub.Commit{model: commit("b")},
		},
		"of one time, the smallest commit": {
			fill: func(t *testing.T, a *aged) {
				t.Helper()
				for _, digit := range []string{"c", "a", "b"} {
					a.put(t, dataset, "", commit(digit), 1)
					a.put(t, model, "", commit(digit), 1)
				}
				a.put(t, odd, "", commit("d"), 1)
				a.put(t, odd, legacyOdd, commit("c"), 1)
			},
			newest: map[hub.Repo]hub.Commit{dataset: commit("a"), model: commit("a"), odd: commit("c")},
		},
		"a key of one repository that has a ref is not read": {
			fill: func(t *testing.T, a *aged) {
				t.Helper()
				junk(t, a, own, "a", 1)
				a.put(t, dataset, "", commit("b"), 2)
			},
			named:  remote.NamedCommits{own: nil},
			newest: map[hub.Repo]hub.Commit{},
		},
		"two repositories under one key, of which a ref names one": {
			fill: func(t *testing.T, a *aged) {
				t.Helper()
				a.put(t, model, "", commit("a"), 1)
				a.put(t, dataset, shared, commit("b"), 3)
				a.put(t, dataset, shared, commit("c"), 2)
			},
			named:  remote.NamedCommits{shared: {commit("a")}},
			newest: map[hub.Repo]hub.Commit{dataset: commit("c")},
		},
		"three repositories under one key without a ref": {
			fill: func(t *testing.T, a *aged) {
				t.Helper()
				a.put(t, model, "", commit("a"), 1)
				a.put(t, dataset, shared, commit("b"), 2)
				a.put(t, hub.Repo{Type: hub.Space, Name: "org/name"}, shared, commit("c"), 3)
			},
			newest: map[hub.Repo]hub.Commit{model: commit("a"), dataset: commit("b"), {Type: hub.Space, Name: "org/name"}: commit("c")},
		},
		"one repository under two keys": {
			fill: func(t *testing.T, a *aged) {
				t.Helper()
				a.put(t, dataset, "", commit("a"), 2)
				a.put(t, dataset, shared, commit("b"), 1)
				a.put(t, odd, "", commit("c"), 1)
				a.put(t, odd, legacyOdd, commit("d"), 2)
			},
			newest: map[hub.Repo]hub.Commit{dataset: commit("b"), odd: commit("c")},
		},
		"what cannot be read is named, and the next one taken": {
			fill: func(t *testing.T, a *aged) {
				t.Helper()
				junk(t, a, shared, "a", 1)
				a.put(t, other, shared, commit("b"), 2) // under a key that is not its own
				a.put(t, model, "", commit("c"), 3)
				junk(t, a, shared, "d", 4)
				junk(t, a, own, "a", 1)
				a.put(t, dataset, "", commit("b"), 2)
			},
			newest: map[hub.Repo]hub.Commit{model: commit("c"), dataset: commit("b")},
			broken: []string{"manifests/datasets--org--name@aaaa", "manifests/org__name@aaaa", "manifests/org__name@bbbb"},
		},
		"nothing of it can be read": {
			fill:   func(t *testing.T, a *aged) { t.Helper(); junk(t, a, shared, "a", 1) },
			newest: map[hub.Repo]hub.Commit{},
			broken: []string{"manifests/org__name@aaaa"},
		},
		"damage beside a ref": {
			fill: func(t *testing.T, a *aged) {
				t.Helper()
				junk(t, a, shared, "a", 1)
				a.put(t, model, "", commit("b"), 2)
			},
			named:  remote.NamedCommits{shared: {commit("b")}},
			newest: map[hub.Repo]hub.Commit{},
		},
		"only what is wanted": {
			fill: func(t *testing.T, a *aged) {
				t.Helper()
				a.put(t, model, "", commit("a"), 1)
				a.put(t, dataset, shared, commit("b"), 2)
				junk(t, a, "org__other", "a", 1)
			},
			want:   func(r hub.Repo) bool { return r == dataset },
			newest: map[hub.Repo]hub.Commit{dataset: commit("b")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAged(t)
			if test.fill != nil {
				test.fill(t, a)
			}
			got, err := a.Newest(t.Context(), test.named, test.want)
			if err != nil {
				t.Fatal(err)
			}
			commits := map[hub.Repo]hub.Commit{}
			for repo, revision := range got.Revisions {
				commits[repo] = revision.Commit
			}
			if diff := cmp.Diff(test.newest, commits); diff != "" {
				t.Errorf("newest (-want +got):\n%s", diff)
			}
			if len(got.Broken) != len(test.broken) || got.Unread != 0 {
				t.Fatalf("broken %v, %d unread", got.Broken, got.Unread)
			}
			for i, key := range test.broken {
				if !strings.HasPrefix(got.Broken[i].Error(), key) {
					t.Errorf("broken: %v, not %s", got.Broken[i], key)
				}
			}
		})
	}
}

func TestNewestEndsWhenTheStoreDoes(t *testing.T) {
	for _, kind := range []error{store.ErrUnavailable, store.ErrDenied} {
		a := newAged(t)
		a.put(t, model, "", commit("a"), 1)
		a.Store = failing{a.Store, kind}
		if _, err := a.Newest(t.Context(), nil, nil); !errors.Is(err, kind) {
			t.Errorf("%v, not %v", err, kind)
		}
	}
}

type failing struct {
	store.Store
	kind error
}

func (f failing) Get(_ context.Context, key string, _ store.Range) (io.ReadCloser, store.Info, error) {
	return nil, store.Info{}, &store.Error{Op: "get", Key: key, Kind: f.kind}
}

// crowd is a bucket of very many manifests, which are made when they are read.
type crowd struct {
	store.Store
	keys  int
	each  int // commits of each key
	name  func(key int) hub.Repo
	gets  atomic.Int64
	worst atomic.Uint64 // bytes on the heap
}

func (c *crowd) String() string { return "crowd" }

func (c *crowd) List(_ context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for i := range c.keys {
			for j := range c.each {
				info := store.Info{Key: manifest.ManifestKey(manifest.RepoKey(c.name(i)), numbered(j)), ETag: fmt.Sprint(i, j), Modified: time.Unix(int64(j*7919%c.each), 0)}
				if strings.HasPrefix(info.Key, prefix) && !yield(info, nil) {
					return
				}
				if (i*c.each+j)%20_000 == 0 {
					c.measure()
				}
			}
		}
		c.measure()
	}
}

func (c *crowd) measure() {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c.worst.Store(max(c.worst.Load(), m.HeapAlloc))
}

func (c *crowd) Get(_ context.Context, key string, _ store.Range) (io.ReadCloser, store.Info, error) {
	c.gets.Add(1)
	repoKey, commit, err := manifest.ParseManifestKey(key)
	if err != nil {
		return nil, store.Info{}, &store.Error{Op: "get", Key: key, Kind: store.ErrNotFound}
	}
	repo, err := manifest.ParseRepoKey(repoKey)
	if err != nil {
		return nil, store.Info{}, err
	}
	data, err := manifest.Encode(manifestOf(repo, commit, "one"))
	if err != nil {
		return nil, store.Info{}, err
	}
	return io.NopCloser(bytes.NewReader(data)), store.Info{Key: key, Size: int64(len(data)), ETag: "etag"}, nil
}

// TestNewestOfALargeBucket looks at 100,000 manifests: it reads few of them and keeps few in memory.
func TestNewestOfALargeBucket(t *testing.T) {
	models := func(i int) hub.Repo { return hub.Repo{Type: hub.Model, Name: fmt.Sprintf("org/name-%06d", i)} }
	datasets := func(i int) hub.Repo { return hub.Repo{Type: hub.Dataset, Name: fmt.Sprintf("org/name-%06d", i)} }
	for name, test := range map[string]struct {
		crowd  *crowd
		refs   bool
		gets   int64
		unread int
		found  int
	}{
		"datasets with refs":      {&crowd{keys: 1000, each: 100, name: datasets}, true, 0, 0, 0},
		"datasets without refs":   {&crowd{keys: 1000, each: 100, name: datasets}, false, 1000, 0, 1000},
		"models with refs":        {&crowd{keys: 1000, each: 100, name: models}, true, 1000, 99_000, -1},
		"models without refs":     {&crowd{keys: 1000, each: 100, name: models}, false, 4000, 96_000, 1000},
		"one dataset without ref": {&crowd{keys: 1, each: 100_000, name: datasets}, false, 1, 0, 1},
		"one model without ref":   {&crowd{keys: 1, each: 100_000, name: models}, false, 1000, 99_000, 1},
	} {
		t.Run(name, func(t *testing.T) {
			named := remote.NamedCommits{}
			for i := range test.crowd.keys {
				if test.refs {
					named[manifest.RepoKey(test.crowd.name(i))] = nil
				}
			}
			test.crowd.measure()
			base := test.crowd.worst.Load()
			got, err := (&remote.Catalog{Store: test.crowd, Now: time.Now}).Newest(t.Context(), named, nil)
			if err != nil {
				t.Fatal(err)
			}
			if gets := test.crowd.gets.Load(); gets != test.gets || got.Unread != test.unread || test.found >= 0 && len(got.Revisions) != test.found {
				t.Errorf("%d read, %d unread, %d repositories; want %d, %d, %d", gets, got.Unread, len(got.Revisions), test.gets, test.unread, test.found)
			}
			for repo, revision := range got.Revisions {
				if newest := int64(test.crowd.each - 1); !test.refs && revision.Modified.Unix() != newest {
					t.Fatalf("%s: the newest is of %d, not %d", repo, revision.Modified.Unix(), newest)
				}
			}
			const most = 16 << 20
			if grown := int64(test.crowd.worst.Load()) - int64(base); grown > most {
				t.Errorf("it kept %d bytes", grown)
			}
		})
	}
}

package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
)

const fuzzCommit = "0123456789abcdef0123456789abcdef01234567"

// fuzzBucket is a folder as a bucket for all inputs of one process, and where in it an object is.
func fuzzBucket(f *testing.F) (c *Catalog, put func(t *testing.T, key string, data []byte)) {
	f.Helper()
	dir := f.TempDir()
	s, err := filestore.Open(dir, filestore.Options{})
	if err != nil {
		f.Fatal(err)
	}
	return &Catalog{Store: s, Now: time.Now}, func(t *testing.T, key string, data []byte) {
		t.Helper()
		path := filepath.Join(dir, filepath.FromSlash(key))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzRefObject reads refs of a bucket: each is a commit or damage, and nothing in between.
func FuzzRefObject(f *testing.F) {
	c, put := fuzzBucket(f)
	repo := hub.Repo{Type: hub.Model, Name: "org/name"}
	f.Add([]byte(fuzzCommit))
	f.Fuzz(func(t *testing.T, body []byte) {
		put(t, "refs/org__name/main", body)
		ref, err := c.Ref(t.Context(), repo, hub.Main)
		if err != nil {
			if !isDamage(err) || !strings.Contains(err.Error(), "refs/org__name/main") {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		if _, err := hub.ParseCommit(string(ref.Commit)); err != nil || string(ref.Commit) != strings.TrimSpace(string(body)) {
			t.Errorf("%q is %q: %v", body, ref.Commit, err)
		}
	})
}

// FuzzManifestObject reads manifests of a bucket under the key of one revision. Whatever they say, they are about that revision or refused.
func FuzzManifestObject(f *testing.F) {
	c, put := fuzzBucket(f)
	want := manifest.Key{Repo: hub.Repo{Type: hub.Model, Name: "org/name"}, Commit: fuzzCommit}
	key := manifest.ManifestKey("org__name", fuzzCommit)
	f.Add([]byte(`{"repo": "org/name", "revision": "` + fuzzCommit + `", "files": []}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		put(t, key, body)
		entry, err := c.Manifest(t.Context(), want)
		if err != nil {
			if !isDamage(err) || !strings.Contains(err.Error(), key) {
				t.Errorf("%v", err)
			}
			return
		}
		if entry.Key() != want || entry.ObjectKey != key {
			t.Errorf("%v at %s", entry.Key(), entry.ObjectKey)
		}
	})
}

// FuzzLease reads leases. What makes no sense is held by nobody, and nothing is held for longer than an hour.
func FuzzLease(f *testing.F) {
	c, put := fuzzBucket(f)
	key := manifest.Key{Repo: hub.Repo{Type: hub.Model, Name: "org/name"}, Commit: fuzzCommit}
	f.Add([]byte(`{"version": 1, "holder": "a", "host": "gpu-7", "pid": 4711, "lasts_seconds": 30, "renewed": 3}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		put(t, manifest.LeaseKey("org__name", fuzzCommit), body)
		l, err := c.Lease(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if l.Lasts < 0 || l.Lasts > time.Hour || l.Age < 0 || len(l.Host) > 255 {
			t.Errorf("%s is %+v", body, l)
		}
		// It is put a moment ago, so that one that makes sense and lasts a while is held.
		var wire wireLease
		sensible := json.Unmarshal(body, &wire) == nil && wire.Version == leaseVersion && wire.Lasts >= 60 && wire.Lasts <= 3600 && len(wire.Host) <= 255 && len(body) <= maxLease
		if sensible && l.Expired() || l.Lasts == 0 && !l.Expired() {
			t.Errorf("%s is %+v, expired %t", body, l, l.Expired())
		}
	})
}

// FuzzCacheEntry reads files of the folder of manifests that were read before. Only one that is whole, of that object, in that version, is used.
func FuzzCacheEntry(f *testing.F) {
	dir := f.TempDir()
	c := NewCache(dir, "s3://bucket")
	const key, etag = "refs/org__name/main", "5d41402abc4b2a76b9719d911017c592"
	c.put(key, etag, []byte("hello"))
	good, err := os.ReadFile(filepath.Join(dir, c.name(key)))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = c.Close() })
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, c.name(key)), data, 0o600); err != nil {
			t.Fatal(err)
		}
		body, ok := c.get(key, etag)
		if !ok {
			return
		}
		line, rest, _ := strings.Cut(string(data), "\n")
		var head entryHead
		if err := json.Unmarshal([]byte(line), &head); err != nil || head != c.head(key, etag, body) || rest != string(body) {
			t.Errorf("%q was used: %+v, %v", data, head, err)
		}
		if other, ok := c.get(key, etag+"0"); ok {
			t.Errorf("it is another version as well: %q", other)
		}
		if other, ok := NewCache(dir, "s3://other").get(key, etag); ok {
			t.Errorf("it is another bucket's as well: %q", other)
		}
	})
}

// FuzzContents lists a bucket in which one foreign object lies beside a good revision. The good one is found whatever the other is.
func FuzzContents(f *testing.F) {
	s := &fuzzStore{objects: map[string][]byte{}}
	good := manifest.Key{Repo: hub.Repo{Type: hub.Model, Name: "org/name"}, Commit: fuzzCommit}
	body, err := manifest.Encode(&manifest.Manifest{Repo: good.Repo, Commit: good.Commit})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("manifests/org__name@"+strings.Repeat("a", 40)+".json", []byte("{}"))
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		own := manifest.ManifestKey("org__name", good.Commit)
		if key == own || store.CheckKey("get", key) != nil {
			return
		}
		s.objects = map[string][]byte{own: body, key: data}
		got, err := (&Catalog{Store: s, Now: time.Now}).Contents(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Revision(good) == nil {
			t.Errorf("the good revision is gone beside %q", key)
		}
		for _, listed := range got.Revisions {
			if _, err := hub.ParseRepo(listed.Repo.Type, listed.Repo.Name); err != nil {
				t.Error(err)
			}
		}
	})
}

// fuzzStore has some objects in memory, for who reads them.
type fuzzStore struct {
	store.Store
	objects map[string][]byte
}

func (s *fuzzStore) info(key string) store.Info {
	return store.Info{Key: key, Size: int64(len(s.objects[key])), ETag: "etag of " + key}
}

// Get implements [store.Reader] for whole objects.
func (s *fuzzStore) Get(_ context.Context, key string, _ store.Range) (io.ReadCloser, store.Info, error) {
	data, ok := s.objects[key]
	if !ok {
		return nil, store.Info{}, &store.Error{Op: "get", Key: key, Kind: store.ErrNotFound}
	}
	return io.NopCloser(bytes.NewReader(data)), s.info(key), nil
}

// List implements [store.Reader].
func (s *fuzzStore) List(_ context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(s.objects)) {
			if strings.HasPrefix(key, prefix) && !yield(s.info(key), nil) {
				return
			}
		}
	}
}

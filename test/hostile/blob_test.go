package hostile_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// large is a file that is moved in parts.
func large() testenv.Content {
	return testenv.Content{Path: "large.bin", Data: testenv.Noise(2, 20<<20), LFS: true}
}

// blobCase is a bucket in which one blob is wrong. The file of the blob must
// not be in the snapshot afterwards, and all others must.
type blobCase struct {
	code  int
	spoil func(t *testing.T, s *sandbox, object string, f testenv.Content)
}

// spoiled are ways to make an object wrong that are the same for a folder and
// for a server.
func spoiled() map[string]blobCase {
	return map[string]blobCase{
		"flipped": {6, func(t *testing.T, _ *sandbox, object string, f testenv.Content) {
			t.Helper()
			data := bytes.Clone(f.Data)
			data[len(data)-1] ^= 1
			testenv.WriteFile(t, object, data)
		}},
		"zeros": {6, func(t *testing.T, _ *sandbox, object string, f testenv.Content) {
			t.Helper()
			testenv.WriteFile(t, object, make([]byte, len(f.Data)))
		}},
		"shorter": {6, func(t *testing.T, _ *sandbox, object string, f testenv.Content) {
			t.Helper()
			testenv.WriteFile(t, object, f.Data[:len(f.Data)-1])
		}},
		"longer": {6, func(t *testing.T, _ *sandbox, object string, f testenv.Content) {
			t.Helper()
			testenv.WriteFile(t, object, append(bytes.Clone(f.Data), 'x'))
		}},
		"empty": {6, func(t *testing.T, _ *sandbox, object string, _ testenv.Content) {
			t.Helper()
			testenv.WriteFile(t, object, nil)
		}},
		"missing": {3, func(t *testing.T, _ *sandbox, object string, _ testenv.Content) {
			t.Helper()
			if err := os.Remove(object); err != nil {
				t.Fatal(err)
			}
		}},
		"a folder": {3, func(t *testing.T, _ *sandbox, object string, _ testenv.Content) {
			t.Helper()
			if err := os.Remove(object); err != nil {
				t.Fatal(err)
			}
			testenv.WriteFile(t, filepath.Join(object, "below"), []byte("x"))
		}},
	}
}

// TestBlob checks blobs that are not what the manifest promises.
func TestBlob(t *testing.T) {
	t.Parallel()
	cases := spoiled()
	maps.Copy(cases, inFolder())
	for name, c := range cases {
		for _, path := range []string{"config.json", "model.safetensors", "large.bin"} {
			t.Run(name+"/"+path, func(t *testing.T) {
				t.Parallel()
				c.test(t, newSandbox(t), path)
			})
		}
	}
	for name, c := range spoiled() {
		for _, path := range []string{"model.safetensors", "large.bin"} {
			t.Run("S3/"+name+"/"+path, func(t *testing.T) {
				t.Parallel()
				s := newSandbox(t)
				s.onServer(t)
				c.test(t, s, path)
			})
		}
	}
}

func (c blobCase) test(t *testing.T, s *sandbox, path string) {
	t.Helper()
	r := testenv.Sample()
	if f := large(); path == f.Path {
		r.Files = append(r.Files, f)
	}
	r.WriteBucket(t, s.bucket)
	f := r.File(t, path)
	key := "blobs/" + f.ID()
	c.spoil(t, s, filepath.Join(s.bucket, filepath.FromSlash(key)), f)
	got := s.pull(t, "pull", r.Repo)
	outcome{c.code, []string{path, f.ID()}}.check(t, got)
	s.checkSnapshot(t, r, allBut(r, path))
	s.audit.Cache(t, s.cache)
	if !strings.Contains(got.Stdout, fmt.Sprintf("partial (%d of %d files)", len(r.Files)-1, len(r.Files))) {
		t.Errorf("the result does not say what is missing: %s", got)
	}

	// Once it is right, another pull takes it and nothing else.
	if err := os.RemoveAll(filepath.Join(s.bucket, filepath.FromSlash(key))); err != nil {
		t.Fatal(err)
	}
	testenv.WriteFile(t, filepath.Join(s.bucket, filepath.FromSlash(key)), f.Data)
	got = s.pull(t, "pull", r.Repo)
	outcome{code: 0}.check(t, got)
	if !strings.Contains(got.Stdout, "1 blob (") {
		t.Errorf("it pulled something else: %s", got)
	}
	r.Compare(t, s.cache)
	testenv.AuditCache(t, s.cache)
}

// inFolder are the things that only a folder can have in the place of an
// object.
func inFolder() map[string]blobCase {
	return map[string]blobCase{
		// Even if what is outside is right: whoever made the link could make it
		// lead to anything.
		"a link to a file outside": {3, func(t *testing.T, s *sandbox, object string, f testenv.Content) {
			t.Helper()
			testenv.WriteFile(t, filepath.Join(s.outside, "right"), f.Data)
			testenv.Symlink(t, filepath.Join(s.outside, "right"), object)
		}},
		"a relative link to a file outside": {3, func(t *testing.T, s *sandbox, object string, f testenv.Content) {
			t.Helper()
			testenv.WriteFile(t, filepath.Join(s.outside, "right"), f.Data)
			testenv.Symlink(t, "../../outside/right", object)
		}},
		"a link to nothing": {3, func(t *testing.T, _ *sandbox, object string, _ testenv.Content) {
			t.Helper()
			testenv.Symlink(t, "nothing", object)
		}},
		"a link to itself": {3, func(t *testing.T, _ *sandbox, object string, _ testenv.Content) {
			t.Helper()
			testenv.Symlink(t, filepath.Base(object), object)
		}},
		"a link to a device": {3, func(t *testing.T, _ *sandbox, object string, _ testenv.Content) {
			t.Helper()
			testenv.Symlink(t, "/dev/zero", object)
		}},
		"a pipe": {3, func(t *testing.T, _ *sandbox, object string, _ testenv.Content) {
			t.Helper()
			if err := os.Remove(object); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(object, 0o644); err != nil {
				t.Fatal(err)
			}
		}},
	}
}

// TestLinkedFolders checks a bucket whose folders lead outside: nothing of what
// is there may be taken for an object.
func TestLinkedFolders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		folder string
		code   int
		stderr string
	}{
		"blobs":              {"blobs", 3, "blobs/"},
		"manifests":          {"manifests", 2, "manifests/"},
		"refs":               {"refs", 2, "refs/"},
		"refs of repository": {"refs/org__name", 2, "refs/org__name/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			r.WriteBucket(t, s.bucket)
			folder := filepath.Join(s.bucket, filepath.FromSlash(c.folder))
			moved := filepath.Join(s.outside, "moved")
			if err := os.Rename(folder, moved); err != nil {
				t.Fatal(err)
			}
			testenv.Symlink(t, moved, folder)
			outcome{c.code, []string{c.stderr}}.check(t, s.pull(t, "pull", r.Repo))
			s.audit.Cache(t, s.cache)
			for path := range testenv.Tree(t, filepath.Join(s.cache, r.Folder(), "blobs")) {
				t.Errorf("%s was pulled", path)
			}
		})
	}
}

// TestLinkedObjects checks a manifest and a ref that are links to files
// outside.
func TestLinkedObjects(t *testing.T) {
	t.Parallel()
	r := testenv.Sample()
	for _, key := range []string{r.ManifestKey(), "refs/org__name/main"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			r.WriteBucket(t, s.bucket)
			object := filepath.Join(s.bucket, filepath.FromSlash(key))
			data, err := os.ReadFile(object)
			if err != nil {
				t.Fatal(err)
			}
			testenv.WriteFile(t, filepath.Join(s.outside, "right"), data)
			testenv.Symlink(t, filepath.Join(s.outside, "right"), object)
			outcome{2, []string{key}}.check(t, s.pull(t, "pull", r.Repo))
			checkEmpty(t, s)
		})
	}
}

// TestWrongSizes checks manifests that promise other sizes than the blobs have.
func TestWrongSizes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size int64
		code int
	}{
		"one less":    {299_999, 6},
		"one more":    {300_001, 6},
		"none":        {0, 6},
		"large":       {17 << 20, 6},
		"a petabyte":  {1 << 50, 9}, // There is no space for it, which is said before anything is fetched.
		"all it goes": {1<<63 - 1, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			r.WriteBucket(t, s.bucket)
			m := r.Manifest()
			delete(m, "hub")
			entry(m, 2)["size"] = c.size
			testenv.WriteFile(t, filepath.Join(s.bucket, filepath.FromSlash(r.ManifestKey())), testenv.JSON(t, m))
			outcome{code: c.code}.check(t, s.pull(t, "pull", r.Repo))
			if c.code == 6 {
				s.checkSnapshot(t, r, allBut(r, "model.safetensors"))
			}
			s.audit.Cache(t, s.cache)
		})
	}
	t.Run("a sum beyond 64 bits", func(t *testing.T) {
		t.Parallel()
		s, r := newSandbox(t), testenv.Sample()
		r.WriteBucket(t, s.bucket)
		m := r.Manifest()
		delete(m, "hub")
		entry(m, 2)["size"], entry(m, 3)["size"] = int64(1<<63-1), int64(1<<63-1)
		testenv.WriteFile(t, filepath.Join(s.bucket, filepath.FromSlash(r.ManifestKey())), testenv.JSON(t, m))
		outcome{code: 9}.check(t, s.pull(t, "pull", r.Repo))
		s.audit.Cache(t, s.cache)
	})
}

// TestLocalBlobIsWrong checks that a blob of the right size that another
// repository of the cache has is not taken over unread.
func TestLocalBlobIsWrong(t *testing.T) {
	t.Parallel()
	s, r := newSandbox(t), testenv.Sample()
	r.WriteBucket(t, s.bucket)
	other := testenv.Sample()
	other.Repo = "org/other"
	other.WriteCache(t, s.cache)
	f := r.File(t, "model.safetensors")
	testenv.WriteFile(t, filepath.Join(s.cache, other.Folder(), "blobs", f.ID()), make([]byte, len(f.Data)))
	outcome{code: 0}.check(t, s.pull(t, "pull", r.Repo))
	r.Compare(t, s.cache)
}

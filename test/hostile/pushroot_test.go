package hostile_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestPushRoot checks entries of the cache folder itself.
func TestPushRoot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, s *sandbox)
		want  outcome
	}{
		"repository links outside": {func(t *testing.T, s *sandbox) {
			t.Helper()
			other := testenv.Sample()
			other.Repo = "org/linked"
			other.WriteCache(t, s.outside)
			testenv.Symlink(t, in(s.outside, other.Folder()), in(s.cache, other.Folder()))
		}, outcome{3, []string{"models--org--linked"}}},
		"repository is a file": {func(t *testing.T, s *sandbox) {
			t.Helper()
			testenv.WriteFile(t, in(s.cache, "models--org--file"), []byte(secret))
		}, outcome{0, []string{"models--org--file"}}},
		"foreign folder": {func(t *testing.T, s *sandbox) {
			t.Helper()
			testenv.WriteFile(t, in(s.cache, "my stuff", "secret"), []byte(secret))
		}, outcome{0, []string{"my stuff"}}},
		"blobs without a marker": {func(t *testing.T, s *sandbox) {
			t.Helper()
			testenv.WriteFile(t, in(s.cache, "blobs", "01", xetHash()), []byte(secret))
		}, outcome{0, nil}},
		"bad repository names": {func(t *testing.T, s *sandbox) {
			t.Helper()
			for _, name := range []string{"models--..", "models--", "models--a--b--c", "models--.--x", "models--a----b", "models--a\x1b[2Jb", "--x", "models--org--x.git"} {
				testenv.WriteFile(t, in(s.cache, name, "snapshots", testenv.Commit("x"), "x"), []byte(secret))
			}
		}, outcome{0, []string{"models--a--b--c"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			r.WriteCache(t, s.cache)
			c.spoil(t, s)
			got := s.push(t, "push")
			c.want.check(t, got)
			if strings.Contains(got.Stderr, "\x1b") {
				t.Errorf("an escape sequence got through: %q", got.Stderr)
			}
			s.checkKeys(t, r)
		})
	}
}

// TestPushIntoHostileBucket checks a bucket folder that leads out: nothing may
// be written there.
func TestPushIntoHostileBucket(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{"blobs", "manifests", "refs", "refs/org__name", ".hf-cache-sync", ".hf-cache-sync/tmp", ".hf-cache-sync/locks"} {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			r.WriteCache(t, s.cache)
			testenv.Symlink(t, in(s.outside, "folder"), in(s.bucket, folder))
			got := s.run(t, s.bucket, "push")
			if got.Code == 0 || got.Code == 1 {
				t.Errorf("it ended well, or it does not know how: %s", got)
			}
			if left := slices.Collect(maps.Keys(testenv.Tree(t, in(s.outside, "folder")))); len(left) > 0 {
				t.Errorf("outside there is now %q", left)
			}
		})
	}
	t.Run("blobs are links outside", func(t *testing.T) {
		t.Parallel()
		s, r := newSandbox(t), testenv.Sample()
		r.WriteCache(t, s.cache)
		for _, f := range r.Files {
			testenv.Symlink(t, s.secretOutside(), in(s.bucket, "blobs", f.ID()))
		}
		// It may replace the links, or refuse to. It must not take them for the
		// blobs.
		got := s.run(t, s.bucket, "push")
		if got.Code == 0 {
			s.audit.Bucket(t, s.bucket)
			s.checkKeys(t, r)
		} else if !strings.Contains(got.Stderr, "blobs/") || slices.Contains(testenv.Keys(t, s.bucket), r.ManifestKey()) {
			t.Errorf("it does not name the object, or it counts as pushed: %s", got)
		}
	})
}

package hostile_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// forged is r as somebody would have it who may write the bucket: another file
// under the same path, the same repository and the same commit, and nothing in
// it that contradicts itself.
func forged(r testenv.Revision) testenv.Revision {
	r.Files = slices.Clone(r.Files)
	for i, f := range r.Files {
		if f.Path == "model.safetensors" {
			r.Files[i].Data = testenv.Noise(666, len(f.Data))
		}
	}
	return r
}

// TestWriterForgesACommit shows what SECURITY.md says that nothing here
// prevents: a commit's name is believed, because the bucket has neither git's
// commit nor its trees, which it would be a digest of.
func TestWriterForgesACommit(t *testing.T) {
	t.Parallel()
	for _, revision := range []string{"main", testenv.Sample().Commit} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), forged(testenv.Sample())
			r.WriteBucket(t, s.bucket)
			outcome{code: 0}.check(t, s.pull(t, "pull", r.Repo, "-r", revision))
			r.CompareFiles(t, s.cache, allBut(r)...)
			testenv.AuditCache(t, s.cache)
		})
	}
}

// TestWriterCannotChangeWhatIsThere has a machine that has a commit pull a forgery
// of it: its own files stay as they are, and it says what does not fit.
func TestWriterCannotChangeWhatIsThere(t *testing.T) {
	t.Parallel()
	s, r := newSandbox(t), testenv.Sample()
	r.WriteCache(t, s.cache)
	forged(r).WriteBucket(t, s.bucket)
	got := s.pull(t, "pull", r.Repo)
	if got.Code == 0 || !strings.Contains(got.Stderr, "model.safetensors") {
		t.Errorf("it does not say that the two differ: %s", got)
	}
	r.Compare(t, s.cache)
	testenv.AuditCache(t, s.cache)
}

// TestWriterMeetsAnHonestPush has a machine push what a forgery is in the place
// of. It must say so, and not leave a manifest that has something of both.
func TestWriterMeetsAnHonestPush(t *testing.T) {
	t.Parallel()
	s, r := newSandbox(t), testenv.Sample()
	r.WriteCache(t, s.cache)
	f := forged(r)
	f.WriteBucket(t, s.bucket)
	before := testenv.Tree(t, filepath.Join(s.bucket, "manifests"))
	got := s.push(t, "push", "--yes")
	if got.Code == 0 || !strings.Contains(got.Stderr, "model.safetensors") {
		t.Errorf("it does not say that the two differ: %s", got)
	}
	after := testenv.Tree(t, filepath.Join(s.bucket, "manifests"))
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s was %s and is %s", path, text, after[path])
		}
	}
	other := s.elsewhere()
	outcome{code: 0}.check(t, other.pull(t, "pull", r.Repo))
	f.CompareFiles(t, other.cache, allBut(f)...)
}

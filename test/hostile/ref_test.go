package hostile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestRef checks refs that do not hold a commit, or one that is not there.
func TestRef(t *testing.T) {
	t.Parallel()
	commit := testenv.Sample().Commit
	for name, c := range map[string]struct {
		body []byte
		code int
	}{
		"with a newline":  {[]byte(commit + "\n"), 0},
		"with spaces":     {[]byte("\r\n\t " + commit + " \r\n"), 0},
		"empty":           {nil, 6},
		"junk":            {[]byte("junk"), 6},
		"short commit":    {[]byte(commit[:12]), 6},
		"capitals":        {[]byte(strings.ToUpper(commit)), 6},
		"two commits":     {[]byte(commit + "\n" + commit), 6},
		"a path":          {[]byte("../../../../outside/secret/0000000000000"), 6},
		"git's own way":   {[]byte("ref: refs/heads/main\n"), 6},
		"a megabyte":      {[]byte(strings.Repeat("a", 1<<20)), 6},
		"NUL":             {[]byte(commit[:39] + "\x00"), 6},
		"unknown commit":  {[]byte(testenv.Commit("unknown")), 5},
		"another's":       {[]byte(testenv.Commit("other's")), 5},
		"terminal escape": {[]byte("\x1b]0;owned\x07\x1b[2J"), 6},
	} {
		for _, where := range []string{"file", "S3"} {
			t.Run(name+"/"+where, func(t *testing.T) {
				t.Parallel()
				s, r := newSandbox(t), testenv.Sample()
				if where == "S3" {
					s.onServer(t)
				}
				r.WriteBucket(t, s.bucket)
				others := testenv.Sample()
				others.Repo, others.Commit = "zeta/good", testenv.Commit("other's")
				others.WriteBucket(t, s.bucket)
				testenv.WriteFile(t, filepath.Join(s.bucket, "refs", "org__name", "main"), c.body)
				want := outcome{code: c.code}
				if c.code == 6 {
					want.stderr = []string{"refs/org__name/main"}
				}
				got := s.pull(t, "pull", r.Repo)
				want.check(t, got)
				if strings.Contains(got.Stderr, "\x1b") {
					t.Errorf("an escape sequence got through: %q", got.Stderr)
				}
				if c.code == 0 {
					r.Compare(t, s.cache)
					testenv.AuditCache(t, s.cache)
					return
				}
				checkEmpty(t, s)

				// The other repository is pulled all the same, and this one by its
				// commit.
				outcome{3, []string{"refs/org__name/main"}}.check(t, s.pull(t, "pull-all"))
				others.Compare(t, s.cache)
				outcome{code: 0}.check(t, s.pull(t, "pull", r.Repo, "-r", r.Commit))
				r.CompareFiles(t, s.cache, allBut(r)...)
				s.audit.Cache(t, s.cache)
			})
		}
	}
}

// TestRefFolder checks a folder where a ref is asked for.
func TestRefFolder(t *testing.T) {
	t.Parallel()
	s, r := newSandbox(t), testenv.Sample()
	r.WriteBucket(t, s.bucket)
	testenv.WriteFile(t, filepath.Join(s.bucket, "refs", "org__name", "feat", "x"), []byte(r.Commit))
	outcome{5, []string{"feat"}}.check(t, s.pull(t, "pull", r.Repo, "-r", "feat"))
	checkEmpty(t, s)
	outcome{code: 0}.check(t, s.pull(t, "pull", r.Repo, "-r", "feat/x"))
	r.Compare(t, s.cache)
}

// TestBadRefBeside checks that refs which cannot be read do no harm to the one
// that is asked for.
func TestBadRefBeside(t *testing.T) {
	t.Parallel()
	s, r := newSandbox(t), testenv.Sample()
	r.WriteBucket(t, s.bucket)
	refs := filepath.Join(s.bucket, "refs", "org__name")
	testenv.WriteFile(t, filepath.Join(refs, "junk"), []byte("junk"))
	testenv.WriteFile(t, filepath.Join(refs, "large"), make([]byte, 1<<20))
	testenv.Symlink(t, s.secretOutside(), filepath.Join(refs, "linked"))
	testenv.Symlink(t, "/dev/zero", filepath.Join(refs, "device"))
	testenv.WriteFile(t, filepath.Join(refs, `back\slash`), []byte(r.Commit))
	testenv.WriteFile(t, filepath.Join(refs, "C:drive"), []byte(r.Commit))
	testenv.WriteFile(t, filepath.Join(refs, "new\nline"), []byte(r.Commit))
	outcome{code: 0}.check(t, s.pull(t, "pull", r.Repo))
	r.Compare(t, s.cache)
	testenv.AuditCache(t, s.cache)
	refsHere, err := os.ReadDir(filepath.Join(s.cache, r.Folder(), "refs"))
	if err != nil || len(refsHere) != 1 {
		t.Errorf("refs in the cache: %v, %v", refsHere, err)
	}
}

// TestRevisionArgument checks what a user, or a script with foreign input, may
// pass as a revision.
func TestRevisionArgument(t *testing.T) {
	t.Parallel()
	for _, revision := range []string{
		"../../x", "..", ".", "/etc/passwd", "a//b", "refs/../../../x", `a\b`, "a:b", "a\nb", strings.Repeat("x", 3000),
	} {
		t.Run(revision[:min(len(revision), 20)], func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			r.WriteBucket(t, s.bucket)
			testenv.WriteFile(t, filepath.Join(s.bucket, "x"), []byte(r.Commit))
			outcome{code: 2}.check(t, s.pull(t, "pull", r.Repo, "-r", revision))
			checkEmpty(t, s)
		})
	}
}

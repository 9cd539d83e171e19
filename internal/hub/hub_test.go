package hub_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

func TestRepoAndFolder(t *testing.T) {
	for _, test := range []struct {
		repoType hub.RepoType
		name     string
		folder   string
	}{
		{hub.Model, "gpt2", "models--gpt2"},
		{hub.Model, "openai-community/gpt2", "models--openai-community--gpt2"},
		{hub.Dataset, "org/name", "datasets--org--name"},
		{hub.Space, "org/a_b.c-d", "spaces--org--a_b.c-d"},
		{hub.Kernel, "org/k", "kernels--org--k"},
		{hub.Model, "_org_/__name__", "models--_org_--__name__"},
		{hub.Model, "größe/modèle", "models--größe--modèle"},
	} {
		repo, err := hub.ParseRepo(test.repoType, test.name)
		if err != nil || repo.Folder() != test.folder {
			t.Errorf("%s is %q, %v; want %q", test.name, repo.Folder(), err, test.folder)
		}
		back, err := hub.ParseFolder(test.folder)
		if err != nil || back != repo {
			t.Errorf("%s is %v, %v; want %v", test.folder, back, err, repo)
		}
	}
}

func TestRepoRefusals(t *testing.T) {
	for _, name := range []string{
		"", "/", "a/", "/a", "a/b/c", "a--b", "a..b", "..", ".", "-a", "a-", ".a", "a.", "a.git", "a/b.git", "a b", "a\x00b", "a\nb", `a\b`, "a:b", "a/../b",
		strings.Repeat("a", 97), "o/" + strings.Repeat("a", 97), strings.Repeat("a", 97) + "/n", "a\xffb",
	} {
		if repo, err := hub.ParseRepo(hub.Model, name); !errors.Is(err, hub.ErrRepo) {
			t.Errorf("%q is %v, %v", name, repo, err)
		}
	}
	for _, folder := range []string{"", "models", "models--", "model--a", "--a", "blobs", "models--a--b--c", "models--..", "metrics--a--b"} {
		if repo, err := hub.ParseFolder(folder); !errors.Is(err, hub.ErrRepo) {
			t.Errorf("folder %q is %v, %v", folder, repo, err)
		}
	}
}

func TestPath(t *testing.T) {
	for _, good := range []string{
		"config.json", "a/b/c.bin", "name with spaces", "ünï/çødé.txt", ".gitattributes", "a/.b", "...", "a..b", "CON", strings.Repeat("x", 255),
	} {
		if p, err := hub.ParsePath(good); err != nil || string(p) != good {
			t.Errorf("%q is %q, %v", good, p, err)
		}
	}
	for _, bad := range []string{
		"", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", ".", "./a", "a/./b", "a//b", "a/", `a\b`, `..\x`, "C:x", "ab:c", `x\C:y`, "a\x00", "a\n", "a\x7f",
		"a\xff", "a\uFFFD", strings.Repeat("x", 256), strings.Repeat("abcdefgh/", 300) + "x",
	} {
		if p, err := hub.ParsePath(bad); !errors.Is(err, hub.ErrPath) {
			t.Errorf("%q is %q, %v", bad, p, err)
		}
		if r, err := hub.ParseRef(bad); !errors.Is(err, hub.ErrRef) {
			t.Errorf("ref %q is %q, %v", bad, r, err)
		}
	}
}

func TestCommitAndBlobID(t *testing.T) {
	forty, sixtyFour := strings.Repeat("0a", 20), strings.Repeat("0a", 32)
	if c, err := hub.ParseCommit(forty); err != nil || c.Short() != forty[:12] {
		t.Errorf("%s is %v, %v", forty, c, err)
	}
	for _, bad := range []string{"", "main", forty[1:], forty + "0", strings.ToUpper(forty), sixtyFour, forty[:39] + "g", forty[:39] + "\n"} {
		if c, err := hub.ParseCommit(bad); !errors.Is(err, hub.ErrCommit) {
			t.Errorf("%q is %v, %v", bad, c, err)
		}
	}
	for text, want := range map[string]hub.Algorithm{forty: hub.GitSHA1, sixtyFour: hub.SHA256} {
		if id, err := hub.ParseBlobID(text); err != nil || id.Algorithm() != want {
			t.Errorf("%s is %v, %v", text, id.Algorithm(), err)
		}
	}
	for _, bad := range []string{"", forty[1:], sixtyFour[1:], strings.ToUpper(forty), forty + "-gzip", "../" + forty[3:]} {
		if id, err := hub.ParseBlobID(bad); !errors.Is(err, hub.ErrBlobID) {
			t.Errorf("%q is %v, %v", bad, id, err)
		}
	}
}

// Digests that git hash-object and sha256sum give.
const (
	helloGit    hub.BlobID = "ce013625030ba8dba906f756967f9e9ca394464a"
	hello256    hub.BlobID = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
	nothingGit  hub.BlobID = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
	nothing256  hub.BlobID = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	helloPlain             = "hello\n"
	wrongButFit            = "jello\n"
)

func TestVerifier(t *testing.T) {
	for _, test := range []struct {
		name string
		id   hub.BlobID
		size int64
		data string
		good bool
	}{
		{"git", helloGit, 6, helloPlain, true},
		{"SHA-256", hello256, 6, helloPlain, true},
		{"empty git", nothingGit, 0, "", true},
		{"empty SHA-256", nothing256, 0, "", true},
		{"other bytes, git", helloGit, 6, wrongButFit, false},
		{"other bytes, SHA-256", hello256, 6, wrongButFit, false},
		{"too few", hello256, 6, "hello", false},
		{"too many", hello256, 6, helloPlain + "x", false},
		{"wrong size announced, git", helloGit, 7, helloPlain, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for chunk := 1; chunk <= len(test.data)+1; chunk++ {
				v := hub.NewVerifier(test.id, test.size)
				for rest := []byte(test.data); len(rest) > 0; {
					n := min(chunk, len(rest))
					if _, err := v.Write(rest[:n]); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				err := v.Verify()
				mismatch, isMismatch := errors.AsType[*hub.MismatchError](err)
				switch {
				case test.good && err != nil:
					t.Errorf("in pieces of %d: %v", chunk, err)
				case !test.good && !isMismatch:
					t.Errorf("in pieces of %d: %v, want a mismatch", chunk, err)
				case isMismatch && !strings.Contains(mismatch.Error(), string(test.id)):
					t.Errorf("%q does not name the blob", mismatch)
				}
			}
		})
	}
}

func TestDigestReader(t *testing.T) {
	buf := make([]byte, 3)
	got, err := hub.DigestReader(strings.NewReader(helloPlain), 6, buf)
	if err != nil || got.SHA256 != hello256 || got.GitSHA1 != helloGit || !helloGit.Matches(got) || nothingGit.Matches(got) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, size := range []int64{5, 7} {
		if _, err := hub.DigestReader(bytes.NewReader([]byte(helloPlain)), size, buf); err == nil {
			t.Errorf("6 bytes where %d were announced: no error", size)
		}
	}
}

package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// FuzzRepoArg reads repositories as users type them, or scripts with foreign input do.
func FuzzRepoArg(f *testing.F) {
	f.Add("hf://datasets/org/name@refs/pr/1", "")
	f.Fuzz(func(t *testing.T, arg, typeFlag string) {
		repo, revision, err := parseRepoArg(arg, typeFlag)
		if err != nil {
			return
		}
		if !filepath.IsLocal(repo.Folder()) || strings.ContainsAny(repo.Folder(), `/\:`) {
			t.Errorf("%q is %v, in the folder %q", arg, repo, repo.Folder())
		}
		if back, err := hub.ParseRepo(repo.Type, repo.Name); err != nil || back != repo {
			t.Errorf("%q is %v: %v", arg, repo, err)
		}
		if strings.Contains(arg, "@") != (revision != "") || !strings.HasSuffix(arg, revision) {
			t.Errorf("%q has the revision %q", arg, revision)
		}
		text := repo.String()
		if revision != "" {
			text += "@" + revision
		}
		if again, sameRevision, err := parseRepoArg(text, ""); err != nil || again != repo || sameRevision != revision {
			t.Errorf("%q is %q, which is %v at %q, %v", arg, text, again, sameRevision, err)
		}
	})
}

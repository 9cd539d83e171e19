package cli

import (
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// parseRepoArg reads a repository as users type it: "org/name", "datasets/org/name", "hf://datasets/org/name@revision". typeFlag is the value of --repo-type, which is
// for ids without a type in front; it may be empty.
func parseRepoArg(arg, typeFlag string) (repo hub.Repo, revision string, err error) {
	id, isURL := strings.CutPrefix(arg, "hf://")
	if i := strings.LastIndex(id, "@"); i >= 0 {
		id, revision = id[:i], id[i+1:]
		if revision == "" {
			return hub.Repo{}, "", usagef("%q has no revision after the @", arg)
		}
		if before, after, found := strings.Cut(arg, "@"); !isURL && found { // "org/name@refs/pr/1"
			id, revision = before, after
		}
	}
	repoType := hub.Model
	if typeFlag != "" {
		if repoType, err = hub.ParseRepoType(typeFlag); err != nil {
			return hub.Repo{}, "", usagef("--repo-type: %w", err)
		}
	}
	if first, rest, found := strings.Cut(id, "/"); found {
		for _, t := range hub.RepoTypes() {
			if first != t.Plural() {
				continue
			}
			if typeFlag != "" && repoType != t {
				return hub.Repo{}, "", usagef("%q is a %s, but --repo-type says %s", arg, t, repoType)
			}
			id, repoType = rest, t
		}
	}
	repo, err = hub.ParseRepo(repoType, id)
	return repo, revision, err
}

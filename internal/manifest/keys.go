package manifest

import (
	"fmt"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Prefixes of the three kinds of object.
const (
	BlobPrefix     = "blobs/"
	ManifestPrefix = "manifests/"
	RefPrefix      = "refs/"
)

const manifestSuffix = ".json"

// BlobKey is where a blob's bytes are.
func BlobKey(id hub.BlobID) string { return BlobPrefix + string(id) }

// RepoKey is a repository's name inside keys. For a model it is the Python tool's "org__name" if decoding that gives the same id back; every other repository uses
// its cache folder name, in which "--" makes it unique.
func RepoKey(r hub.Repo) string {
	if key := LegacyRepoKey(r); r.Type == hub.Model && strings.Replace(key, "__", "/", 1) == r.Name {
		return key
	}
	return r.Folder()
}

// LegacyRepoKey is what the Python tool 0.1.0 uses for every repository, whatever its type: different repositories can share it.
func LegacyRepoKey(r hub.Repo) string { return strings.ReplaceAll(r.Name, "/", "__") }

// ParseRepoKey inverts [RepoKey]. What the Python tool wrote under a shared key is read as a model; the manifest's body tells the truth.
func ParseRepoKey(key string) (hub.Repo, error) {
	if strings.Contains(key, "--") {
		return hub.ParseFolder(key)
	}
	return hub.ParseRepo(hub.Model, strings.Replace(key, "__", "/", 1))
}

// LeaseKey is where it stands who fetches a revision from the Hub for all others.
func LeaseKey(repoKey string, c hub.Commit) string { return "leases/" + repoKey + "@" + string(c) }

// ManifestKey is the key of a manifest object.
//
//nolint:revive // it stands beside BlobKey and RefKey
func ManifestKey(repoKey string, c hub.Commit) string {
	return ManifestPrefix + repoKey + "@" + string(c) + manifestSuffix
}

// RefKey is the key of a ref object.
func RefKey(repoKey string, r hub.Ref) string { return RefPrefix + repoKey + "/" + string(r) }

// RefsPrefix is the common prefix of a repository's refs.
func RefsPrefix(repoKey string) string { return RefPrefix + repoKey + "/" }

// ParseManifestKey splits the key of a manifest object into repository key and commit.
func ParseManifestKey(key string) (repoKey string, c hub.Commit, err error) {
	body, isManifest := strings.CutPrefix(key, ManifestPrefix)
	body, isJSON := strings.CutSuffix(body, manifestSuffix)
	repoKey, commit, hasAt := strings.Cut(body, "@")
	if !isManifest || !isJSON || !hasAt || repoKey == "" || strings.Contains(repoKey, "/") {
		return "", "", fmt.Errorf("%w: key %q is not manifests/<repo>@<commit>.json", ErrInvalid, key)
	}
	c, err = hub.ParseCommit(commit)
	if err != nil {
		return "", "", fmt.Errorf("%w: key %q: %w", ErrInvalid, key, err)
	}
	return repoKey, c, nil
}

// ParseRefKey splits the key of a ref object into repository key and ref.
func ParseRefKey(key string) (repoKey string, r hub.Ref, err error) {
	body, isRef := strings.CutPrefix(key, RefPrefix)
	repoKey, name, hasName := strings.Cut(body, "/")
	if !isRef || !hasName || repoKey == "" {
		return "", "", fmt.Errorf("%w: key %q is not refs/<repo>/<ref>", ErrInvalid, key)
	}
	r, err = hub.ParseRef(name)
	if err != nil {
		return "", "", fmt.Errorf("%w: key %q: %w", ErrInvalid, key, err)
	}
	return repoKey, r, nil
}

package plan

import (
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// AbandonedAfter is from when on an unfinished download counts as left behind: nothing that goes on stands still for so long.
const AbandonedAfter = 24 * time.Hour

// Unfinished are the revisions of a repository that a client is downloading at present, sorted: their listing names a file that is missing and whose download has begun, or whose lock is
// held. Where there is no listing, any download in the repository may be theirs. locked are the names in blobs/ whose lock somebody holds.
func Unfinished(repo *hfcache.Repo, locked []string, now time.Time) []hub.Commit {
	var under []string // names of blobs that are on their way
	for _, t := range repo.Temps {
		if id, is := downloadOf(t.Name); is && now.Sub(t.ModTime) < AbandonedAfter {
			under = append(under, id)
		}
	}
	for _, name := range locked {
		if _, there := repo.Blobs[name]; !there {
			under = append(under, name)
		}
	}
	return lacking(repo, under)
}

// Interrupted are the revisions of a repository that may need one of the unfinished downloads beside them, however old these are, sorted.
func Interrupted(repo *hfcache.Repo) []hub.Commit {
	var under []string
	for _, t := range repo.Temps {
		if id, is := downloadOf(t.Name); is {
			under = append(under, id)
		}
	}
	return lacking(repo, under)
}

// lacking are the revisions that may need one of the blobs that are on their way.
func lacking(repo *hfcache.Repo, under []string) []hub.Commit {
	if len(under) == 0 {
		return nil
	}
	var unfinished []hub.Commit
	for _, rev := range repo.Revisions {
		if lacks(rev, under) {
			unfinished = append(unfinished, rev.Commit)
		}
	}
	return unfinished
}

// lacks says whether a revision may need one of the blobs that are on their way.
func lacks(rev *hfcache.Revision, under []string) bool {
	if rev.Tree == nil {
		return true
	}
	have := make(map[hub.Path]bool, len(rev.Files))
	for _, f := range rev.Files {
		have[f.Path] = true
	}
	for p, entry := range rev.Tree {
		if !have[p] && slices.Contains(under, string(entry.ID())) {
			return true
		}
	}
	return false
}

// downloadOf says of which blob a temporary file is the unfinished download.
func downloadOf(name string) (id string, _ bool) {
	if !isDownload(name) {
		return "", false
	}
	id, _, _ = strings.Cut(strings.TrimPrefix(name, "."), ".")
	return id, true
}

// Without takes revisions out of a repository, and the refs that name them.
func Without(repo *hfcache.Repo, commits []hub.Commit) {
	repo.Revisions = slices.DeleteFunc(repo.Revisions, func(r *hfcache.Revision) bool { return slices.Contains(commits, r.Commit) })
	repo.Refs = slices.DeleteFunc(repo.Refs, func(r hfcache.Ref) bool { return slices.Contains(commits, r.Commit) })
}

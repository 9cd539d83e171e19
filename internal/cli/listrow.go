package cli

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/query"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// listRow is one line of a listing: a repository, or if it has a commit a revision.
type listRow struct {
	repo               hub.Repo
	commit             hub.Commit
	revisions, files   int // of a repository, the files of all its revisions
	size               int64
	complete           string     // "yes", "no" or "unknown"
	cached             bool       // and not in a bucket
	damaged, missing   int        // files that clients look for in vain
	broken             hub.Commit // a revision with such a file
	accessed, modified time.Time  // zero if unknown
	refs               []string

	// alone are the bytes that no other row shares, and places where the rest is, with how much it is.
	alone  int64
	places iter.Seq2[string, int64]
}

// id is what --quiet prints, and what other commands take.
func (r listRow) id() string {
	if r.commit == "" {
		return r.repo.String()
	}
	return r.repo.String() + "@" + string(r.commit)
}

func (r listRow) ask() query.Row {
	return query.Row{Name: r.id(), Type: r.repo.Type.String(), Size: r.size, Accessed: r.accessed, Modified: r.modified, Refs: r.refs}
}

// cell is what stands in a column of the table.
func (r listRow) cell(column string, now time.Time) string {
	switch column {
	case "ID":
		return r.repo.String()
	case "REVISION":
		return r.commit.Short()
	case "FILES":
		return ui.Plural(r.files, "file")
	case "SIZE":
		return ui.Size(r.size)
	case "COMPLETE":
		switch {
		case r.damaged > 0:
			return "damaged"
		case r.missing > 0:
			return "missing"
		}
		return r.complete
	case "LAST ACCESSED":
		return ago(r.accessed, now)
	case "LAST MODIFIED":
		return ago(r.modified, now)
	default:
		return strings.Join(r.refs, " ")
	}
}

func ago(t, now time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return ui.Ago(t, now)
}

// brokenCounts are what only a cache can tell.
type brokenCounts struct {
	Damaged int `json:"damaged_files"`
	Missing int `json:"missing_files"`
}

func (r listRow) brokenCounts() *brokenCounts {
	if !r.cached {
		return nil
	}
	return &brokenCounts{r.damaged, r.missing}
}

// jsonRepo is an element of list --json.
type jsonRepo struct {
	Repo      string   `json:"repo"`
	RepoType  string   `json:"repo_type"`
	Revisions int      `json:"revisions"`
	Refs      []string `json:"refs"`
	Size      int64    `json:"size"`
	*brokenCounts
	LastAccessed *time.Time `json:"last_accessed"`
	LastModified *time.Time `json:"last_modified"`
}

// jsonRevision is an element of list --revisions --json.
type jsonRevision struct {
	Repo     string   `json:"repo"`
	RepoType string   `json:"repo_type"`
	Commit   string   `json:"commit"`
	Refs     []string `json:"refs"`
	Files    int      `json:"files"`
	Size     int64    `json:"size"`
	Complete string   `json:"complete"`
	*brokenCounts
	LastAccessed *time.Time `json:"last_accessed"`
	LastModified *time.Time `json:"last_modified"`
}

func (r listRow) jsonRepo() jsonRepo {
	return jsonRepo{r.repo.Name, r.repo.Type.String(), r.revisions, r.refs, r.size, r.brokenCounts(), jsonTime(r.accessed), jsonTime(r.modified)}
}

func (r listRow) jsonRevision() jsonRevision {
	return jsonRevision{
		r.repo.Name, r.repo.Type.String(), string(r.commit), r.refs, r.files, r.size, r.complete, r.brokenCounts(),
		jsonTime(r.accessed), jsonTime(r.modified),
	}
}

// jsonTime is a time in RFC 3339 and UTC, to the second; null if it is unknown.
func jsonTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// totalSize counts bytes that rows share once.
func totalSize(rows []listRow) int64 {
	var alone int64
	for _, r := range rows {
		alone = addSize(alone, r.alone)
	}
	return addSize(alone, distinctSize(func(yield func(string, int64) bool) {
		for _, r := range rows {
			for place, size := range r.places {
				if !yield(place, size) {
					return
				}
			}
		}
	}))
}

// distinctSize adds up sizes, those of one place once.
func distinctSize(places iter.Seq2[string, int64]) (sum int64) {
	seen := map[string]bool{}
	for place, size := range places {
		if !seen[place] {
			seen[place] = true
			sum = addSize(sum, size)
		}
	}
	return sum
}

// addSize is the sum, or the largest number: a manifest can make up sizes that add up to more than there are numbers.
func addSize(sum, size int64) int64 {
	if sum > math.MaxInt64-size {
		return math.MaxInt64
	}
	return sum + size
}

// cachedRows are the rows of a cache, made while it is scanned.
type cachedRows struct {
	of func(*hfcache.Repo) []listRow

	mu   sync.Mutex
	rows []listRow
}

// take makes the rows of a repository, and leaves nothing of it but what they need: a cache has hundreds of repositories and may have hundreds of thousands of files. It may run
// several times at once.
func (c *cachedRows) take(repo *hfcache.Repo) {
	rows := c.of(repo)
	repo.Revisions, repo.Blobs = nil, nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows = append(c.rows, rows...)
}

// sorted are the rows by type, name and commit.
func (c *cachedRows) sorted() []listRow {
	slices.SortFunc(c.rows, func(a, b listRow) int {
		return cmp.Or(a.repo.Compare(b.repo), strings.Compare(string(a.commit), string(b.commit)))
	})
	return c.rows
}

func cachedRevisions(repo *hfcache.Repo) (rows []listRow) {
	for _, rev := range repo.Revisions {
		row := listRow{
			repo: repo.ID, cached: true, commit: rev.Commit, revisions: 1, files: len(rev.Files), complete: completeWord(localCompleteness(rev)), refs: []string{},
			places: revisionPlaces(rev.Files),
		}
		for _, ref := range repo.Refs {
			if ref.Commit == rev.Commit {
				row.refs = append(row.refs, string(ref.Name))
			}
		}
		row.addFiles(rev.Files)
		row.addMissing(rev)
		rows = append(rows, row)
	}
	return rows
}

func cachedRepo(repo *hfcache.Repo) []listRow {
	row := listRow{repo: repo.ID, cached: true, revisions: len(repo.Revisions), refs: []string{}}
	for _, ref := range repo.Refs {
		row.refs = append(row.refs, string(ref.Name))
	}
	places, shared := map[string]int64{}, map[string]int64{}
	own := repo.ID.Folder() + "/"
	for _, rev := range repo.Revisions {
		row.files += len(rev.Files)
		row.addFiles(rev.Files)
		row.addMissing(rev)
		for place, size := range revisionPlaces(rev.Files) {
			if strings.HasPrefix(place, own) {
				places[place] = size
			} else {
				shared[place] = size // in the shared blob store, where others may have it, too
			}
		}
	}
	row.places = maps.All(shared)
	for _, size := range places {
		row.alone = addSize(row.alone, size)
	}
	row.size = row.alone
	for _, size := range shared {
		row.size = addSize(row.size, size)
	}
	return []listRow{row}
}

// addFiles adds the sizes of files, and takes the newest of their times.
func (r *listRow) addFiles(files []hfcache.File) {
	for i := range files {
		f := &files[i]
		r.size = addSize(r.size, f.Size)
		if f.Used.After(r.accessed) {
			r.accessed = f.Used
		}
		if f.ModTime.After(r.modified) {
			r.modified = f.ModTime
		}
	}
}

func (r *listRow) addMissing(rev *hfcache.Revision) {
	for _, f := range rev.Missing {
		r.broken = rev.Commit
		if f.Damaged {
			r.damaged++
		} else {
			r.missing++
		}
	}
}

func revisionPlaces(files []hfcache.File) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for i := range files {
			if !yield(files[i].Bytes, files[i].Size) {
				return
			}
		}
	}
}

func completeWord(c manifest.Completeness) string {
	return map[manifest.Completeness]string{manifest.Complete: "yes", manifest.Partial: "no", manifest.Unknown: "unknown"}[c]
}

func localCompleteness(rev *hfcache.Revision) manifest.Completeness {
	if rev.Tree == nil {
		return manifest.Unknown
	}
	listed := 0
	for i := range rev.Files {
		if _, ok := rev.Tree[rev.Files[i].Path]; ok {
			listed++
		}
	}
	if listed < len(rev.Tree) {
		return manifest.Partial
	}
	return manifest.Complete
}

func pushedRevisions(contents *remote.Contents) []listRow {
	rows := []listRow{}
	for _, l := range contents.Revisions {
		row := listRow{
			repo: l.Repo, commit: l.Commit, revisions: 1, files: len(l.Files), complete: completeWord(l.Completeness), modified: l.Modified,
			refs: refNames(l.Refs), places: entryPlaces(l),
		}
		for _, f := range l.Files {
			row.size = addSize(row.size, f.Size)
		}
		rows = append(rows, row)
	}
	return rows
}

func pushedRepos(contents *remote.Contents) []listRow {
	rows := []listRow{}
	all := contents.Revisions
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].Repo == all[0].Repo {
			n++
		}
		revisions := all[:n]
		row := listRow{repo: all[0].Repo, revisions: n, refs: []string{}}
		for _, l := range revisions {
			row.files += len(l.Files)
			row.refs = append(row.refs, refNames(l.Refs)...)
			if l.Modified.After(row.modified) {
				row.modified = l.Modified
			}
		}
		slices.Sort(row.refs)
		row.places = func(yield func(string, int64) bool) {
			for _, l := range revisions {
				for place, size := range entryPlaces(l) {
					if !yield(place, size) {
						return
					}
				}
			}
		}
		row.size = distinctSize(row.places)
		rows, all = append(rows, row), all[n:]
	}
	return rows
}

func entryPlaces(l *remote.Listed) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for _, f := range l.Files {
			if !yield(string(f.Blob), f.Size) {
				return
			}
		}
	}
}

func refNames(refs []hub.Ref) []string {
	names := []string{}
	for _, r := range refs {
		names = append(names, string(r))
	}
	return names
}

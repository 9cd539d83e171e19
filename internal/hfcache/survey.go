package hfcache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Survey is what deciding about deletions needs to know beside an [Inventory]: what lies around outside of blobs/ and snapshots/, and who is at work.
type Survey struct {
	// SharedStore says that the cache has a shared blob store that is marked as one.
	SharedStore bool
	// Payloads are the shared store's, sorted by place, whoever uses them.
	Payloads []Payload
	// Leftovers are what programs left behind outside of blobs/, sorted by place. Those in blobs/ are [Repo.Temps].
	Leftovers []Leftover
	// Changed is when somebody last added or removed a name in a revision: the newest time of its folders. It is never older than an unfinished download into it that has
	// made its folders already.
	Changed map[hub.Repo]map[hub.Commit]time.Time
	// Open are the files that other processes have open or mapped, by place, as far as the system tells: on Linux those of the same user, or of all for root.
	Open map[string][]Process
	// Shared is how many bytes of a file on the disk other files share (reflinks), by place. Removing the file gives at least its size on the disk without them. Files
	// that share nothing are not in it, and it is empty where the file system cannot tell.
	Shared map[string]int64
}

// Payload is a file of the shared blob store.
type Payload struct {
	Place   string // below the cache folder, slash-separated
	Size    int64  // bytes
	Disk    int64  // bytes on the disk
	ModTime time.Time
	// Listed says that its list of users could be read. Without one nobody may collect it (huggingface_hub utils/_shared_blobs.py).
	Listed bool
	// Users are the names in blobs/ that the list gives and that lead here at present: "<repo folder>/blobs/<name>", sorted.
	Users []string
}

// Leftover is something outside of blobs/ that no client needs once it is old.
type Leftover struct {
	Repo    hub.Repo // zero if it is outside of any repository
	Place   string   // below the cache folder, slash-separated
	Kind    LeftoverKind
	Disk    int64 // bytes on the disk, of everything below it
	ModTime time.Time
}

// LeftoverKind says what a [Leftover] is.
type LeftoverKind uint8

// The kinds of leftovers.
const (
	// LeftoverTemp is a temporary file or folder that a program did not remove: of a ref, of a listing, of the shared store, a probe.
	LeftoverTemp LeftoverKind = iota + 1
	// LeftoverTree is the listing of a commit of which nothing else is there.
	LeftoverTree
	// LeftoverTrash is what an interrupted prune of ours has put aside to delete.
	LeftoverTrash
	// LeftoverEmpty is the folder of a repository without any content.
	LeftoverEmpty
	// LeftoverQuarantine is a damaged file that verify has put aside, or the record of one that is back or whose revision is gone.
	LeftoverQuarantine
)

// Process is a process of this machine.
type Process struct {
	ID   int
	Name string // of its command; empty if the system does not say
}

// Survey looks at what an inventory of all repositories leaves out. It asks for the times of folders and not of files, but for the few that are leftovers. What cannot be read
// is passed over: then it is no leftover, and a payload without readable users is not [Payload.Listed].
func (c *Cache) Survey(ctx context.Context, inv *Inventory) (*Survey, error) {
	s := &surveyor{
		cache: c, names: newNames(), out: &Survey{Changed: map[hub.Repo]map[hub.Commit]time.Time{}},
		pythonTemp: regexp.MustCompile(`^tmp[0-9a-z_]{8}$`),      // Python's tempfile; people have names like it, but for the length
		treeTemp:   regexp.MustCompile(`^tmp[0-9a-z_]{8}\.tmp$`), // huggingface_hub _tree_cache.py: likewise
		markerTemp: regexp.MustCompile(`^` + regexp.QuoteMeta(sharedMarker) + `\.[0-9a-f]{8}\.tmp$`),
	}
	s.hubRoot()
	if s.out.SharedStore = c.hasSharedStore(); s.out.SharedStore {
		s.store(ctx)
	}
	for _, repo := range inv.Repos {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.repo(repo)
	}
	slices.SortFunc(s.out.Leftovers, func(a, b Leftover) int { return strings.Compare(a.Place, b.Place) })
	slices.SortFunc(s.out.Payloads, func(a, b Payload) int { return strings.Compare(a.Place, b.Place) })
	var err error
	if s.out.Open, err = c.openFiles(ctx); err != nil {
		return nil, err
	}
	s.out.Shared = c.sharedBytes(ctx, inv, s.out.Payloads)
	return s.out, ctx.Err()
}

// surveyor is one call of Survey.
type surveyor struct {
	cache                            *Cache
	names                            *names
	out                              *Survey
	pythonTemp, treeTemp, markerTemp *regexp.Regexp
}

// list lists a folder below the cache folder, following no link. One that cannot be read is empty.
func (s *surveyor) list(rel string) []fs.DirEntry {
	entries, _ := s.listed(rel)
	return entries
}

// listed also says whether all of the folder is known: it could be read, or there is none.
func (s *surveyor) listed(rel string) ([]fs.DirEntry, bool) {
	dir, err := openFolders(s.cache.root, rel)
	if err != nil {
		return nil, errors.Is(err, fs.ErrNotExist)
	}
	defer dir.Close() //nolint:errcheck // only read from
	entries, err := readDir(dir)
	if err != nil {
		return nil, false
	}
	return entries, true
}

// leftover takes one down, with all that is in it.
func (s *surveyor) leftover(kind LeftoverKind, repo hub.Repo, place string) {
	info, err := s.cache.root.Lstat(filepath.FromSlash(place))
	if err != nil {
		return // gone since
	}
	l := Leftover{Repo: repo, Place: place, Kind: kind, ModTime: info.ModTime()}
	switch {
	case info.Mode().IsRegular():
		l.Disk = diskOf(info)
	case info.IsDir():
		l.Disk = s.below(place, 0, &l.ModTime)
	}
	s.out.Leftovers = append(s.out.Leftovers, l)
}

// below adds up the files below a folder, and finds the newest time.
func (s *surveyor) below(place string, depth int, newest *time.Time) (disk int64) {
	if depth > maxDepth {
		return 0
	}
	for _, e := range s.list(place) {
		info, err := e.Info()
		if err != nil {
			continue
		}
		if info.ModTime().After(*newest) {
			*newest = info.ModTime()
		}
		switch {
		case info.IsDir():
			disk += s.below(place+"/"+e.Name(), depth+1, newest)
		case info.Mode().IsRegular():
			disk += diskOf(info)
		}
	}
	return disk
}

// stray takes down an old download, or a probe of what the file system can do, in the folder at.
func (s *surveyor) stray(repo hub.Repo, at string, e fs.DirEntry) {
	place := path.Join(at, e.Name())
	switch {
	case e.Type().IsRegular() && (at == "" && s.pythonTemp.MatchString(e.Name()) || at != "" && s.names.nameOfTmp.MatchString(e.Name())):
		s.leftover(LeftoverTemp, repo, place)
	case e.IsDir() && s.names.oldRootTmp.MatchString(e.Name()):
		inside, known := s.listed(place)
		if known && !slices.ContainsFunc(inside, func(e fs.DirEntry) bool { return e.IsDir() || !strings.HasPrefix(e.Name(), "dummy_file_") }) {
			s.leftover(LeftoverTemp, repo, place)
		}
	}
}

// hubRoot finds old downloads and probes right in the cache folder (huggingface_hub <= 0.20, >= 1.32).
func (s *surveyor) hubRoot() {
	for _, e := range s.list(".") {
		s.stray(hub.Repo{}, "", e)
	}
}

// store reads the shared blob store: payloads, their users, and what interrupted writes left.
func (s *surveyor) store(ctx context.Context) {
	for _, e := range s.list(blobsDir) {
		place := blobsDir + "/" + e.Name()
		if e.Type().IsRegular() && s.markerTemp.MatchString(e.Name()) {
			s.leftover(LeftoverTemp, hub.Repo{}, place)
		}
		if !e.IsDir() || ctx.Err() != nil {
			continue
		}
		dir, err := openFolders(s.cache.root, place)
		if err != nil {
			continue
		}
		for _, e := range s.list(place) {
			switch inner := place + "/" + e.Name(); {
			case !e.Type().IsRegular():
			case s.names.isListTemp(inner):
				s.leftover(LeftoverTemp, hub.Repo{}, inner)
			case s.names.isPayload(inner):
				s.payload(dir, inner, e)
			}
		}
		_ = dir.Close() // only read from
	}
}

func (s *surveyor) payload(dir *os.Root, place string, e fs.DirEntry) {
	info, err := e.Info()
	if err != nil {
		return
	}
	p := Payload{Place: place, Size: info.Size(), Disk: diskOf(info), ModTime: info.ModTime()}
	reader := sweeper{Remover: s.cache.Remover(RemoveOptions{})}
	users, _, err := reader.users(&payloadClaim{place: place, name: e.Name(), dir: dir})
	p.Users, p.Listed = users, err == nil
	s.out.Payloads = append(s.out.Payloads, p)
}

func (s *surveyor) repo(repo *Repo) {
	folder := repo.ID.Folder()
	for _, e := range s.list(folder) {
		s.stray(repo.ID, folder, e)
	}
	s.refs(repo, folder+"/"+refsDir, 0)
	known, all := s.commits(folder)
	s.out.Changed[repo.ID] = known
	s.trees(repo, known, all)
	for _, e := range s.list(folder + "/" + trashDir) {
		s.leftover(LeftoverTrash, repo.ID, folder+"/"+trashDir+"/"+e.Name())
	}
	for _, e := range s.list(folder + "/" + quarantineDir) {
		// The record of a file that is still missing is all that says so: it stays when the bytes go.
		if e.Type().IsRegular() && !s.cache.isOpenRecord(folder, e) {
			s.leftover(LeftoverQuarantine, repo.ID, folder+"/"+quarantineDir+"/"+e.Name())
		}
	}
	if all && len(known) == 0 && len(repo.Blobs)+len(repo.Temps)+len(repo.Refs) == 0 && s.hollow(folder) {
		s.leftover(LeftoverEmpty, repo.ID, folder)
	}
}

// commits finds the folders of commits, with the newest time of each. all is false if there may be more.
func (s *surveyor) commits(folder string) (known map[hub.Commit]time.Time, all bool) {
	known, all = map[hub.Commit]time.Time{}, true
	for _, parent := range []string{snapshotsDir, noExistDir} {
		entries, ok := s.listed(folder + "/" + parent)
		all = all && ok
		for _, e := range entries {
			commit, err := hub.ParseCommit(e.Name())
			switch {
			case err != nil:
			case e.IsDir():
				known[commit] = s.changed(folder+"/"+parent+"/"+e.Name(), known[commit], 0)
			default:
				all = false // a link: somebody has the commit elsewhere
			}
		}
	}
	return known, all
}

// trees finds listings without a commit. One that a ref names counts as being at work: clients write the listing and the ref before the snapshot's folder.
func (s *surveyor) trees(repo *Repo, known map[hub.Commit]time.Time, all bool) {
	folder := repo.ID.Folder() + "/" + treesDir
	for _, e := range s.list(folder) {
		if !e.Type().IsRegular() {
			continue
		}
		name, isListing := strings.CutSuffix(e.Name(), ".json")
		commit, err := hub.ParseCommit(name)
		_, there := known[commit]
		switch {
		case s.treeTemp.MatchString(e.Name()):
			s.leftover(LeftoverTemp, repo.ID, folder+"/"+e.Name())
		case isListing && err == nil && all && !there && !slices.ContainsFunc(repo.Refs, func(r Ref) bool { return r.Commit == commit }):
			s.leftover(LeftoverTree, repo.ID, folder+"/"+e.Name())
		}
	}
}

// hollow says whether there are only empty folders in a repository's folder.
func (s *surveyor) hollow(folder string) bool {
	dir, err := openFolders(s.cache.root, folder)
	if err != nil {
		return false
	}
	defer dir.Close() //nolint:errcheck // only read from
	_, empty := hollow(dir, "", 0)
	return empty
}

// changed is the newest time of a folder and those below it.
func (s *surveyor) changed(place string, newest time.Time, depth int) time.Time {
	info, err := s.cache.root.Lstat(filepath.FromSlash(place))
	if err != nil || depth > maxDepth {
		return newest
	}
	if info.ModTime().After(newest) {
		newest = info.ModTime()
	}
	for _, e := range s.list(place) {
		if e.IsDir() {
			newest = s.changed(place+"/"+e.Name(), newest, depth+1)
		}
	}
	return newest
}

// refs finds what interrupted writes of refs have left.
func (s *surveyor) refs(repo *Repo, place string, depth int) {
	for _, e := range s.list(place) {
		switch inner := place + "/" + e.Name(); {
		case e.IsDir() && depth < maxDepth:
			s.refs(repo, inner, depth+1)
		case e.Type().IsRegular() && s.names.refTemp.MatchString(e.Name()):
			s.leftover(LeftoverTemp, repo.ID, inner)
		}
	}
}

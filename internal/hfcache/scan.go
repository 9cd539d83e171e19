package hfcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// The shared blob store's marker and what it holds (huggingface_hub utils/_shared_blobs.py).
const (
	sharedMarker  = ".huggingface-shared-blobs"
	sharedVersion = "1\n"
)

// Scan reads the cache. Only repositories that want says yes to are looked into; nil means all. It fails only if the cache folder itself
// cannot be read or ctx is done; whatever else is wrong becomes a [Problem].
func (c *Cache) Scan(ctx context.Context, want func(hub.Repo) bool) (*Inventory, error) {
	return c.ScanEach(ctx, want, func(*Repo) {})
}

// ScanFiles is [Cache.Scan] for those who look at files and refs alone. It leaves out [Repo.Blobs], [Revision.Tree] and [File.Bytes], which take more memory than all the rest.
func (c *Cache) ScanFiles(ctx context.Context, want func(hub.Repo) bool) (*Inventory, error) {
	return c.ScanEach(ctx, want, (*Repo).dropAllButFiles)
}

// DropAllButFiles makes of an inventory what [Cache.ScanFiles] would have given, to free the memory.
func (inv *Inventory) DropAllButFiles() {
	for _, r := range inv.Repos {
		r.dropAllButFiles()
	}
}

func (r *Repo) dropAllButFiles() {
	r.Blobs = nil
	for _, rev := range r.Revisions {
		rev.Tree = nil
		for i := range rev.Files {
			rev.Files[i].Bytes = ""
		}
	}
}

// ScanEach is [Cache.Scan] for those who do not need all of the cache at once. It hands each repository over as soon as that has been read, from several goroutines; what is taken
// from it there is not in the inventory and takes no more memory.
func (c *Cache) ScanEach(ctx context.Context, want func(hub.Repo) bool, each func(*Repo)) (*Inventory, error) {
	s := &scan{cache: c, names: newNames(), shared: c.hasSharedStore(), each: each, inodes: map[string]Inode{}}
	entries, err := readDir(c.root)
	if err != nil {
		return nil, fmt.Errorf("cache folder %s: %w", c.dir, err)
	}
	var work errgroup.Group
	work.SetLimit(2 * runtime.GOMAXPROCS(0)) // a scan waits for directories as much as it computes
	for _, entry := range entries {
		id, ok := s.repoEntry(entry)
		if !ok || (want != nil && !want(id)) {
			continue
		}
		work.Go(func() error {
			if ctx.Err() == nil {
				s.repo(ctx, id)
			}
			return ctx.Err()
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	inv := &Inventory{Dir: c.dir, Repos: s.repos, Problems: s.problems, Inodes: s.inodes}
	slices.SortFunc(inv.Repos, func(a, b *Repo) int { return a.ID.Compare(b.ID) })
	slices.SortStableFunc(inv.Problems, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	return inv, nil
}

// hasSharedStore says whether <hub>/blobs is a shared store of the one layout that clients understand. Without its marker the folder is somebody else's.
func (c *Cache) hasSharedStore() bool {
	info, err := c.root.Lstat(blobsDir)
	if err != nil || !info.IsDir() {
		return false
	}
	marker := blobsDir + "/" + sharedMarker
	if info, err = c.root.Lstat(marker); err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(sharedVersion)) {
		return false
	}
	text, err := c.root.ReadFile(marker)
	return err == nil && string(text) == sharedVersion
}

// scan is one run of Scan.
type scan struct {
	cache  *Cache
	names  *names
	shared bool
	each   func(*Repo)

	mu       sync.Mutex // guards what follows
	repos    []*Repo
	problems []Problem
	inodes   map[string]Inode
}

// disk returns what a regular file takes on the disk, and remembers it if it has other names.
func (s *scan) disk(place string, info fs.FileInfo) int64 {
	bytes, inode := onDisk(info)
	if inode.Names > 1 {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inodes[place] = inode
	}
	return bytes
}

func (s *scan) problem(p Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, p)
}

// repoEntry tells which repository an entry of the cache folder is, if any.
func (s *scan) repoEntry(entry fs.DirEntry) (hub.Repo, bool) {
	name := entry.Name()
	if s.names.rootJunk(name) || (name == blobsDir && s.shared) {
		return hub.Repo{}, false
	}
	id, err := hub.ParseFolder(name)
	switch {
	case err != nil:
		s.problem(Problem{Path: name, Why: "it is not part of a Hub cache"})
		return hub.Repo{}, false
	case entry.Type()&fs.ModeSymlink != 0:
		s.problem(Problem{
			Repo: id, Path: name, Lost: true,
			Why: "the repository's folder is a link; move the folder into the cache, or set HF_HUB_CACHE to where it is",
		})
		return hub.Repo{}, false
	case !entry.IsDir():
		s.problem(Problem{Repo: id, Path: name, Why: "it is named like a repository but is no folder"})
		return hub.Repo{}, false
	case id.Folder() != name: // "models--a----b" and the like
		s.problem(Problem{Repo: id, Path: name, Why: "its name is not how clients write " + id.String()})
		return hub.Repo{}, false
	}
	return id, true
}

// repoScan is the scan of one repository.
type repoScan struct {
	*scan
	dir  *os.Root
	repo *Repo
	// trees are the listings that were decoded ahead; nil for commits that have none.
	trees map[hub.Commit]manifest.Tree
	// dangling are blobs whose link leads nowhere: what is linked to them is missing.
	dangling map[string]bool
	ours     bool // there is a folder that only this program makes
}

func (r *repoScan) note(rel, why string) {
	r.problem(Problem{Repo: r.repo.ID, Path: path.Join(r.repo.ID.Folder(), rel), Why: why})
}

func (r *repoScan) lost(rel, why string) {
	r.problem(Problem{Repo: r.repo.ID, Path: path.Join(r.repo.ID.Folder(), rel), Why: why, Lost: true})
}

func (s *scan) repo(ctx context.Context, id hub.Repo) {
	r := &repoScan{scan: s, repo: &Repo{ID: id, Blobs: map[string]Blob{}}, dangling: map[string]bool{}}
	dir, err := s.cache.root.OpenRoot(id.Folder())
	if err != nil {
		r.lost("", "cannot be opened: "+reason(err))
		return
	}
	defer dir.Close() //nolint:errcheck // only read from
	r.dir = dir
	entries, err := readDir(dir)
	if err != nil {
		r.lost("", "cannot be read: "+reason(err))
		return
	}
	for _, e := range entries {
		r.ours = r.ours || e.Name() == ourDir
		if !s.names.repoJunk(e.Name()) {
			r.note(e.Name(), "it is not part of a repository's folder")
		}
	}
	// Decoding a listing takes the processor, and reading blobs/ the system: they go side by side.
	ahead := make(chan map[hub.Commit]manifest.Tree, 1)
	go func() { ahead <- r.treesAhead(ctx) }()
	r.blobs()
	r.refs("")
	r.trees = <-ahead
	r.revisions(ctx)
	s.each(r.repo)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos = append(s.repos, r.repo)
}

// blobs reads blobs/, following shared-store links to sizes.
func (r *repoScan) blobs() {
	dir, entries, ok := r.openNames(r.dir, blobsDir, blobsDir)
	if !ok {
		return
	}
	defer dir.Close() //nolint:errcheck // only read from
	r.repo.Blobs = make(map[string]Blob, len(entries))
	folder := r.repo.ID.Folder() + "/" + blobsDir + "/"
	for _, name := range entries {
		if r.names.osJunk(name) {
			continue
		}
		info, err := dir.Lstat(name)
		if err != nil {
			continue // removed since the listing; whatever links to it is reported as missing
		}
		rel := folder + name
		name := rel[len(folder):] // one string in memory for both
		switch {
		case r.names.temp(name):
			r.repo.Temps = append(r.repo.Temps, Temp{Name: name, Size: info.Size(), Disk: diskOf(info), ModTime: info.ModTime()})
		case info.Mode().IsRegular():
			r.repo.Blobs[name] = Blob{Name: name, Size: info.Size(), Disk: r.disk(rel, info), Bytes: rel, ModTime: info.ModTime(), Used: lastUse(info)}
		case info.Mode()&fs.ModeSymlink != 0:
			r.linkedBlob(name, rel)
		default:
			r.note(path.Join(blobsDir, name), "it is neither a file nor a link")
		}
	}
	slices.SortFunc(r.repo.Temps, func(a, b Temp) int { return strings.Compare(a.Name, b.Name) })
}

func (r *repoScan) linkedBlob(name, rel string) {
	bytes, info, err := r.cache.resolve(rel)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.dangling[name] = true
		r.note(path.Join(blobsDir, name), "it is a link to a blob that is gone")
	case err != nil:
		r.lost(path.Join(blobsDir, name), reason(err))
	default:
		shared := r.shared && strings.HasPrefix(bytes, blobsDir+"/") && r.names.xetHash.MatchString(path.Base(bytes))
		r.repo.Blobs[name] = Blob{Name: name, Size: info.Size(), Disk: r.disk(bytes, info), Bytes: bytes, Shared: shared, ModTime: info.ModTime(), Used: lastUse(info)}
	}
}

// refs reads refs/ and the folders in it.
func (r *repoScan) refs(prefix string) {
	rel := path.Join(refsDir, prefix)
	dir, entries, ok := r.openDir(r.dir, rel, rel)
	if !ok {
		return
	}
	defer dir.Close() //nolint:errcheck // only read from
	for _, e := range entries {
		name := path.Join(prefix, e.Name())
		switch {
		case r.names.osJunk(e.Name()):
		case r.names.refTemp.MatchString(e.Name()):
			r.badRef(e, name, "a client was stopped while it wrote a ref")
		case e.IsDir():
			r.refs(name)
		case e.Type().IsRegular():
			ref, err := readRef(dir, e.Name(), name)
			if err != nil {
				r.note(path.Join(refsDir, name), reason(err))
				r.badRef(e, name, reason(err))
				continue
			}
			r.repo.Refs = append(r.repo.Refs, ref)
		default:
			r.note(path.Join(refsDir, name), "it is neither a file nor a folder")
		}
	}
	if prefix == "" {
		slices.SortFunc(r.repo.Refs, func(a, b Ref) int { return strings.Compare(string(a.Name), string(b.Name)) })
		slices.SortFunc(r.repo.BadRefs, func(a, b BadRef) int { return strings.Compare(a.Name, b.Name) })
	}
}

func (r *repoScan) badRef(e fs.DirEntry, name, why string) {
	if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
		r.repo.BadRefs = append(r.repo.BadRefs, BadRef{name, why, info.ModTime(), r.names.refTemp.MatchString(e.Name())})
	}
}

// maxRef is more than any ref file holds: 40 digits, and a newline from careless tools.
const maxRef = 128

func readRef(dir *os.Root, file, name string) (Ref, error) {
	ref, err := hub.ParseRef(name)
	if err != nil {
		return Ref{}, err
	}
	info, err := dir.Lstat(file)
	if err != nil {
		return Ref{}, err
	}
	if info.Size() > maxRef {
		return Ref{}, fmt.Errorf("it has %d bytes, which is no ref", info.Size())
	}
	text, err := dir.ReadFile(file)
	if err != nil {
		return Ref{}, err
	}
	commit, err := hub.ParseCommit(strings.TrimSpace(string(text)))
	if err != nil {
		return Ref{}, err
	}
	return Ref{ref, commit, plausible(info.ModTime()), string(text) != string(commit)}, nil
}

// plausible is a time at which a client can have learned of a ref. The layout of the cache is of June 2022 (huggingface_hub 0.8): a file that claims to be older was made so, as images do
// that set all times to 1970, and says nothing.
func plausible(t time.Time) time.Time {
	if t.Before(time.Date(2022, time.January, 1, 0, 0, 0, 0, time.UTC)) {
		return time.Time{}
	}
	return t
}

// openDir opens and lists a folder, by its entries.
func (r *repoScan) openDir(parent *os.Root, name, rel string) (*os.Root, []fs.DirEntry, bool) {
	return openListed(r, parent, name, rel, readDir)
}

// openNames is openDir for the names alone. Asking for entries costs a call of the system for each where the folder was opened below an [os.Root].
func (r *repoScan) openNames(parent *os.Root, name, rel string) (*os.Root, []string, bool) {
	return openListed(r, parent, name, rel, readNames)
}

// openListed opens a folder and lists it. A missing one is an empty one; anything else that stands in the way is reported.
func openListed[T any](r *repoScan, parent *os.Root, name, rel string, list func(*os.Root) ([]T, error)) (*os.Root, []T, bool) {
	dir, err := parent.OpenRoot(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, false
	}
	if err != nil {
		r.lost(rel, "cannot be opened: "+reason(err))
		return nil, nil, false
	}
	entries, err := list(dir)
	if err != nil {
		r.lost(rel, "cannot be read: "+reason(err))
		_ = dir.Close() // only read from
		return nil, nil, false
	}
	return dir, entries, true
}

// readNames lists a folder in the order of its names.
func readNames(dir *os.Root) ([]string, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	entries, err := f.Readdirnames(-1)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	slices.Sort(entries)
	return entries, err
}

// diskOf is what a file takes on the disk.
func diskOf(info fs.FileInfo) int64 {
	bytes, _ := onDisk(info)
	return bytes
}

// lastUse is when a file was last read or written, as far as the file system keeps it.
func lastUse(info fs.FileInfo) time.Time {
	modified := info.ModTime()
	if read, ok := accessTime(info); ok && read.After(modified) {
		return read
	}
	return modified
}

func readDir(dir *os.Root) ([]fs.DirEntry, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

// reason is an error without the path that the message around it names already.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// BlobPlaces says where in the cache the bytes of blobs are, by their names in any repository's blobs/, without looking at sizes. It is for
// finding a blob that another repository has already; whoever uses one checks it.
func (c *Cache) BlobPlaces(ctx context.Context) (map[hub.BlobID][]string, error) {
	entries, err := readDir(c.root)
	if err != nil {
		return nil, fmt.Errorf("cache folder %s: %w", c.dir, err)
	}
	places := map[hub.BlobID][]string{}
	for _, entry := range entries {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if _, err := hub.ParseFolder(entry.Name()); err != nil || !entry.IsDir() {
			continue
		}
		rel := entry.Name() + "/" + blobsDir
		dir, err := c.root.OpenRoot(rel)
		if err != nil {
			continue // no blobs, or none that can be read
		}
		blobs, err := readDir(dir)
		_ = dir.Close() // only read from
		if err != nil {
			continue
		}
		for _, blob := range blobs {
			if id, err := hub.ParseBlobID(blob.Name()); err == nil {
				places[id] = append(places[id], rel+"/"+blob.Name())
			}
		}
	}
	return places, nil
}

// Resolve follows the links from a path of [Cache.BlobPlaces] to the regular file that holds the bytes, and gives its size.
func (c *Cache) Resolve(rel string) (bytes string, size int64, err error) {
	bytes, info, err := c.resolve(rel)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %s", rel, reason(err))
	}
	return bytes, info.Size(), nil
}

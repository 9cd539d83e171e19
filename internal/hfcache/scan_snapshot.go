package hfcache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// maxDepth bounds the folders in a snapshot, so that no tree of folders can exhaust the stack or the open files.
const maxDepth = 64

// revisions reads snapshots/, .no_exist/ and trees/. A commit counts if one of the first two knows it: a tree alone is what is left of a deleted revision.
func (r *repoScan) revisions(ctx context.Context) {
	revs := map[hub.Commit]*Revision{}
	r.eachCommit(ctx, snapshotsDir, revs, func(rev *Revision, dir *os.Root, rel string) {
		rev.Tree = r.tree(rev.Commit)
		// As many as there can be, so that what is there is not copied while it grows; what a part of a commit does not need is given back.
		rev.Files = make([]File, 0, min(len(rev.Tree), len(r.repo.Blobs)))
		r.snapshot(rev, dir, rel, "", 0)
		if cap(rev.Files) > len(rev.Files)+len(rev.Files)/4 {
			rev.Files = append([]File(nil), rev.Files...)
		}
		slices.SortFunc(rev.Files, func(a, b File) int { return strings.Compare(string(a.Path), string(b.Path)) })
	})
	r.eachCommit(ctx, noExistDir, revs, func(rev *Revision, dir *os.Root, rel string) {
		if rev.Tree == nil {
			rev.Tree = r.tree(rev.Commit)
		}
		r.noExist(rev, dir, rel, "", 0)
		slices.Sort(rev.NoExist)
	})
	r.quarantined(revs)
	for _, rev := range revs {
		slices.SortFunc(rev.Missing, func(a, b MissingFile) int { return strings.Compare(string(a.Path), string(b.Path)) })
		r.repo.Revisions = append(r.repo.Revisions, rev)
	}
	slices.SortFunc(r.repo.Revisions, func(a, b *Revision) int { return strings.Compare(string(a.Commit), string(b.Commit)) })
}

// quarantined adds the files that verify has taken away and that did not come back. Their names are gone, so only its records know of them.
func (r *repoScan) quarantined(revs map[hub.Commit]*Revision) {
	if !r.ours {
		return
	}
	files, err := r.cache.StillMissing(r.repo.ID)
	if err != nil {
		r.note(quarantineDir, "cannot be read: "+reason(err))
	}
	for _, f := range files {
		if rev := revs[f.Commit]; rev != nil {
			rev.Missing = append(rev.Missing, MissingFile{Path: f.Path, Damaged: true, Why: "it was damaged, is quarantined, and did not come back"})
		}
	}
}

func (r *repoScan) eachCommit(ctx context.Context, folder string, revs map[hub.Commit]*Revision, visit func(*Revision, *os.Root, string)) {
	dir, entries, ok := r.openDir(r.dir, folder, folder)
	if !ok {
		return
	}
	defer dir.Close() //nolint:errcheck // only read from
	for _, e := range entries {
		rel := path.Join(folder, e.Name())
		commit, err := hub.ParseCommit(e.Name())
		switch {
		case ctx.Err() != nil:
			return
		case r.names.osJunk(e.Name()):
			continue
		case err == nil && e.Type()&fs.ModeSymlink != 0:
			r.lost(rel, "the commit's folder is a link")
			continue
		case !e.IsDir():
			r.note(rel, "it is not the folder of a commit")
			continue
		case err != nil:
			r.lost(rel, "its name is not a commit of 40 lower-case hex digits")
			continue
		}
		rev := revs[commit]
		if rev == nil {
			rev = &Revision{Commit: commit}
			revs[commit] = rev
		}
		sub, err := dir.OpenRoot(e.Name())
		if err != nil {
			r.lost(rel, "cannot be opened: "+reason(err))
			continue
		}
		visit(rev, sub, rel)
		_ = sub.Close() // only read from
	}
}

// snapshot reads one folder of a snapshot. rel is its path below the repository, prefix its path below the snapshot.
func (r *repoScan) snapshot(rev *Revision, dir *os.Root, rel, prefix string, depth int) {
	r.walk(dir, rel, prefix, depth, walker{
		folder: func(sub *os.Root, rel, prefix string) { r.snapshot(rev, sub, rel, prefix, depth+1) },
		link: func(text string, p hub.Path, rel string) {
			file, gone, ok := r.linkedFile(text, strings.Count(prefix, "/")+min(1, len(prefix)), rel)
			if ok {
				r.add(rev, file, p, rel)
			} else if gone != "" {
				r.note(rel, gone)
				rev.Missing = append(rev.Missing, MissingFile{Path: p, Why: gone})
			}
		},
		file: func(info fs.FileInfo, p hub.Path, rel string) {
			if !info.Mode().IsRegular() {
				r.lost(rel, errNoContent.Error())
			} else if file, ok := r.realFile(rev, info, p, rel); ok {
				r.add(rev, file, p, rel)
			}
		},
	})
}

// add takes a file of a snapshot into the revision, unless it cannot be what the commit says.
func (r *repoScan) add(rev *Revision, file File, p hub.Path, rel string) {
	file.Path = p
	if r.identify(rev, &file, rel) {
		rev.Files = append(rev.Files, file)
	}
}

// linkedFile takes one hop, which names the blob; the blob knows where the bytes are. text is what the link says, depth how many folders of the snapshot are above it.
// gone says that the bytes are missing, and why; other reasons for there being no file have become problems.
func (r *repoScan) linkedFile(text string, depth int, rel string) (_ File, gone string, ok bool) {
	// What clients write needs no thought: "../../blobs/<name>", with one ".." more for each folder.
	if name, usual := strings.CutPrefix(text, strings.Repeat("../", depth+2)+blobsDir+"/"); usual {
		if blob, known := r.repo.Blobs[name]; known {
			return blob.file(), "", true
		}
	}
	folder := r.repo.ID.Folder()
	target, err := r.cache.target(path.Join(folder, path.Dir(rel)), text)
	if err != nil {
		r.lost(rel, reason(err))
		return File{}, "", false
	}
	if name, isBlob := strings.CutPrefix(target, folder+"/"+blobsDir+"/"); isBlob && !strings.Contains(name, "/") {
		if blob, known := r.repo.Blobs[name]; known {
			return blob.file(), "", true
		}
		if r.names.temp(name) {
			r.lost(rel, "it links to the unfinished download "+name)
			return File{}, "", false
		}
		return File{}, fmt.Sprintf("it links to blob %s, which is not there", name), false
	}
	bytes, info, err := r.cache.resolve(target) // no client links like this, but the bytes may well be good
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return File{}, "it is a link to nothing", false
	case err != nil:
		r.lost(rel, reason(err))
		return File{}, "", false
	}
	return File{Size: info.Size(), Disk: r.disk(bytes, info), Bytes: bytes, ModTime: info.ModTime(), Used: lastUse(info)}, "", true
}

// file is a file of a snapshot that is linked to the blob.
func (b Blob) file() File {
	return File{Size: b.Size, Disk: b.Disk, Blob: b.Name, Bytes: b.Bytes, ModTime: b.ModTime, Used: b.Used}
}

// realFile is a file of a cache without links, or something that a tool put beside the model.
func (r *repoScan) realFile(rev *Revision, info fs.FileInfo, p hub.Path, rel string) (File, bool) {
	if _, listed := rev.Tree[p]; rev.Tree != nil && !listed {
		r.note(rel, "it is not a file of this commit; some tool put it there")
		return File{}, false
	}
	place := path.Join(r.repo.ID.Folder(), rel)
	return File{Size: info.Size(), Disk: r.disk(place, info), Bytes: place, ModTime: info.ModTime(), Used: lastUse(info)}, true
}

// identify decides what the file's bytes should hash to. The commit's listing knows best: a blob's name can be a xet hash or a mirror's invention.
func (r *repoScan) identify(rev *Revision, f *File, rel string) bool {
	if entry, listed := rev.Tree[f.Path]; listed {
		if entry.Size != f.Size {
			r.lost(rel, fmt.Sprintf("it has %d bytes where the commit's listing says %d", f.Size, entry.Size))
			return false
		}
		f.ID = entry.ID()
	}
	if f.ID == "" && f.Blob != "" {
		if id, err := hub.ParseBlobID(f.Blob); err == nil {
			f.ID = id
		}
	}
	return true
}

func (r *repoScan) noExist(rev *Revision, dir *os.Root, rel, prefix string, depth int) {
	r.walk(dir, rel, prefix, depth, walker{
		folder: func(sub *os.Root, rel, prefix string) { r.noExist(rev, sub, rel, prefix, depth+1) },
		link:   func(_ string, p hub.Path, _ string) { rev.NoExist = append(rev.NoExist, p) },
		file:   func(_ fs.FileInfo, p hub.Path, _ string) { rev.NoExist = append(rev.NoExist, p) },
	})
}

// walker is what to do with the entries of a folder.
type walker struct {
	folder func(sub *os.Root, rel, prefix string)
	link   func(text string, p hub.Path, rel string)
	file   func(info fs.FileInfo, p hub.Path, rel string) // or what else is neither a folder nor a link
}

// walk visits the entries of one folder; descending is up to the walker. Only real folders are entered, never links to folders. Most entries are links, so each is taken for one
// first: one call of the system tells that it is, and where it leads.
func (r *repoScan) walk(dir *os.Root, rel, prefix string, depth int, w walker) {
	entries, err := readNames(dir)
	if err != nil {
		r.lost(rel, "cannot be read: "+reason(err))
		return
	}
	for _, name := range entries {
		entryRel, inSnapshot := rel+"/"+name, name
		if prefix != "" {
			inSnapshot = prefix + "/" + name
		}
		p, err := hub.ParsePath(inSnapshot)
		switch {
		case r.names.osJunk(name):
			continue
		case err != nil:
			r.lost(entryRel, reason(err))
			continue
		}
		if text, err := dir.Readlink(name); err == nil {
			w.link(text, p, entryRel)
			continue
		}
		info, err := dir.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			r.note(entryRel, "it vanished while the cache was read")
		case err != nil:
			r.lost(entryRel, "cannot be read: "+reason(err))
		case info.IsDir() && depth >= maxDepth:
			r.lost(entryRel, fmt.Sprintf("it is more than %d folders deep", maxDepth))
		case info.IsDir():
			sub, err := dir.OpenRoot(name)
			if err != nil {
				r.lost(entryRel, "cannot be opened: "+reason(err))
				continue
			}
			w.folder(sub, entryRel, inSnapshot)
			_ = sub.Close() // only read from
		default:
			w.file(info, p, entryRel)
		}
	}
}

// treeBuffer is how much of a listing is read at once.
const treeBuffer = 64 << 10

// treesAhead decodes the listings of the commits that have a snapshot.
func (r *repoScan) treesAhead(ctx context.Context) map[hub.Commit]manifest.Tree {
	trees := map[hub.Commit]manifest.Tree{}
	dir, err := r.dir.OpenRoot(snapshotsDir)
	if err != nil {
		return trees // said where the snapshots are read
	}
	defer dir.Close() //nolint:errcheck // only read from
	commits, err := readNames(dir)
	if err != nil {
		return trees // likewise
	}
	for _, name := range commits {
		if commit, err := hub.ParseCommit(name); err == nil && ctx.Err() == nil {
			trees[commit] = r.decodeTree(commit)
		}
	}
	return trees
}

// tree is the listing of a commit, nil if there is none that can be used.
func (r *repoScan) tree(c hub.Commit) manifest.Tree {
	if tree, ahead := r.trees[c]; ahead {
		return tree
	}
	return r.decodeTree(c)
}

// decodeTree reads trees/<commit>.json. A listing that clients would ignore is ignored here as well, but said.
func (r *repoScan) decodeTree(c hub.Commit) manifest.Tree {
	name := treesDir + "/" + string(c) + ".json"
	info, err := r.dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		r.note(name, reason(err))
		return nil
	case !info.Mode().IsRegular() || info.Size() > manifest.MaxSize:
		r.note(name, "it is no listing of a commit")
		return nil
	}
	file, err := r.dir.Open(name)
	if err != nil {
		r.note(name, "cannot be read: "+reason(err))
		return nil
	}
	defer file.Close() //nolint:errcheck // only read from
	tree, err := manifest.ReadTreeFile(bufio.NewReaderSize(io.LimitReader(file, manifest.MaxSize), treeBuffer))
	if err != nil {
		r.note(name, reason(err))
		return nil
	}
	return tree
}

package hfcache

import (
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// Inventory is what a scan found. It holds values only; the files may have changed since.
type Inventory struct {
	Dir      string    // the cache folder, absolute
	Repos    []*Repo   // sorted by type, then name
	Problems []Problem // of the whole cache, in order of discovery
	// Inodes are the files that have more than one name (hard links), by place. It is empty on systems that do not say.
	Inodes map[string]Inode
}

// Inode is a file on the disk that has several names. Its bytes are free when the last of them is gone.
type Inode struct {
	Device, Number uint64
	Names          uint64 // how many there are, outside the cache too
}

// Repo is one repository's folder.
type Repo struct {
	ID        hub.Repo
	Revisions []*Revision     // sorted by commit
	Refs      []Ref           // sorted by name; a ref may name a commit that is no revision here
	BadRefs   []BadRef        // files in refs/ that name no commit, sorted by name
	Blobs     map[string]Blob // by name in blobs/, unfinished downloads left out
	Temps     []Temp          // unfinished downloads and other leftovers in blobs/
}

// Revision is one commit of which this cache has files, or at least marks of absent files.
type Revision struct {
	Commit  hub.Commit
	Files   []File        // sorted by path
	Tree    manifest.Tree // the commit's full listing, nil if the cache has none
	NoExist []hub.Path    // sorted
	Missing []MissingFile // sorted by path
}

// MissingFile is a file that a snapshot had and whose bytes are not there any more.
type MissingFile struct {
	Path hub.Path
	// Damaged says that its bytes were wrong and that verify has quarantined them, as opposed to a link that leads nowhere.
	Damaged bool
	Why     string // for people
}

// File is one file of a snapshot whose bytes are there.
type File struct {
	Path    hub.Path
	Size    int64  // bytes
	Disk    int64  // bytes on the disk, which holes make fewer and blocks more; 0 if only the size is known
	Blob    string // its name in blobs/; empty for a real file inside the snapshot
	Bytes   string // where the bytes are: a regular file, relative to the cache folder, slash-separated
	ModTime time.Time
	Used    time.Time // when the bytes were last read or written, as far as the file system keeps it

	// ID is what the bytes should hash to, from the commit's tree or the blob's name. Nothing has been hashed yet, so the bytes may turn out to be
	// others. It is empty if neither tells; [Cache.Identify] then computes it.
	ID hub.BlobID
}

// Ref is a branch, tag or pull request that a client asked for.
type Ref struct {
	Name    hub.Ref
	Commit  hub.Commit
	Learned time.Time // the file's modification time: when this machine learned of it; zero if it cannot be that
	// Unclean says that the file holds more than the digits of the commit, such as the newline that echo writes. Python clients read it raw: they cannot follow the
	// ref, and their scan gives up on the repository.
	Unclean bool
}

// BadRef is a file in refs/ that is no ref.
type BadRef struct {
	Name    string // below refs/, slash-separated
	Why     string
	ModTime time.Time
	// Leftover says that it is the temporary file of a ref that a client was writing.
	Leftover bool
}

// Blob is one entry of blobs/.
type Blob struct {
	Name    string
	Size    int64  // bytes
	Disk    int64  // bytes on the disk
	Bytes   string // the regular file that holds the bytes, relative to the cache folder, slash-separated
	Shared  bool   // the bytes are in the cache's shared blob store
	ModTime time.Time
	Used    time.Time // when the bytes were last read or written, as far as the file system keeps it
}

// Temp is an unfinished download or a leftover of one. It may belong to a client that is at work.
type Temp struct {
	Name    string // in blobs/
	Size    int64  // bytes so far
	Disk    int64  // bytes on the disk
	ModTime time.Time
}

// Problem is something in the cache that was not understood or cannot be used.
type Problem struct {
	Repo hub.Repo // zero if it lies outside any repository
	Path string   // relative to the cache folder, slash-separated
	Why  string
	// Lost says that the content of a snapshot is left out because of it, as opposed to something that only lies around.
	Lost bool
}

// String is one line for people.
func (p Problem) String() string { return p.Path + ": " + p.Why }

// Repo finds a repository, or nil.
func (inv *Inventory) Repo(id hub.Repo) *Repo {
	for _, r := range inv.Repos {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// PresentListed counts the files of the commit's listing that are there.
func (r *Revision) PresentListed() int {
	n := 0
	for _, f := range r.Files {
		if _, listed := r.Tree[f.Path]; listed {
			n++
		}
	}
	return n
}

// Revision finds a revision, or nil.
func (r *Repo) Revision(c hub.Commit) *Revision {
	for _, rev := range r.Revisions {
		if rev.Commit == c {
			return rev
		}
	}
	return nil
}

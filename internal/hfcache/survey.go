package hfcache

import (
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
	// LeftoverQuarantine is a damaged file that verify has put aside, or the record of one.
	LeftoverQuarantine
)

// Process is a process of this machine.
type Process struct {
	ID   int
	Name string // of its command; empty if the system does not say
}

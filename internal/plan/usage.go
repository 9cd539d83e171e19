package plan

import (
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Usage is what a cache takes on the disk, in bytes. Bytes that several files share, by links or in the shared blob store, count once.
type Usage struct {
	Repos, Revisions int
	Total            int64 // everything below, and what refs keep

	// Revisions that no ref names, and what only they need.
	Detached      int
	DetachedBytes int64
	// Blobs that no revision needs.
	Orphans     int
	OrphanBytes int64
	// Temporary files: unfinished downloads, and what is left of others.
	Temps     int
	TempBytes int64
	// Unfinished downloads among the temporary files.
	Incomplete      int
	IncompleteBytes int64
}

// Reclaimable is what could be freed without taking anything from a revision that a ref names.
func (u Usage) Reclaimable() int64 { return u.DetachedBytes + u.OrphanBytes + u.TempBytes }

// NewUsage adds up a cache. What it calls reclaimable may include what a client is about to finish at this moment: it is for people to look at, not for deleting.
func NewUsage(inv *hfcache.Inventory) Usage {
	u := Usage{Repos: len(inv.Repos)}
	blobs := 0
	for _, repo := range inv.Repos {
		blobs += len(repo.Blobs)
	}
	// Bytes are told apart by where they are; of several hard links the first that is met stands for all.
	kept, detached := make(map[string]bool, blobs), map[string]int64{}
	inodes := map[[2]uint64]string{}
	one := func(place string) string {
		inode, several := inv.Inodes[place]
		if !several {
			return place
		}
		id := [2]uint64{inode.Device, inode.Number}
		if _, met := inodes[id]; !met {
			inodes[id] = place
		}
		return inodes[id]
	}
	for _, repo := range inv.Repos {
		named := map[hub.Commit]bool{}
		for _, ref := range repo.Refs {
			named[ref.Commit] = true
		}
		for _, rev := range repo.Revisions {
			u.Revisions++
			if !named[rev.Commit] {
				u.Detached++
			}
			for _, f := range rev.Files {
				place := one(f.Bytes)
				if !named[rev.Commit] {
					detached[place] = f.Size
				} else if !kept[place] {
					kept[place] = true
					u.Total += f.Size
				}
			}
		}
	}
	for place, size := range detached {
		if !kept[place] {
			kept[place] = true
			u.DetachedBytes += size
		}
	}
	for _, repo := range inv.Repos {
		for _, blob := range repo.Blobs {
			if place := one(blob.Bytes); !kept[place] {
				kept[place] = true
				u.Orphans++
				u.OrphanBytes += blob.Size
			}
		}
		for _, temp := range repo.Temps {
			u.Temps++
			u.TempBytes += temp.Size
			if isDownload(temp.Name) {
				u.Incomplete++
				u.IncompleteBytes += temp.Size
			}
		}
	}
	u.Total += u.Reclaimable()
	return u
}

// isDownload tells unfinished downloads from locks and markers by their names.
func isDownload(name string) bool {
	for _, suffix := range []string{
		".incomplete",         // Python, JS, Rust 1.x
		".part",               // Rust 0.x
		".downloadInProgress", // llama.cpp
	} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	// Ours are ".<blob id>.hf-cache-sync"; other temporary files have other words in the middle.
	id, ours := strings.CutSuffix(strings.TrimPrefix(name, "."), ".hf-cache-sync")
	_, err := hub.ParseBlobID(id)
	return ours && err == nil
}

package plan

import (
	"fmt"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// How blobs are cut into requests.
const (
	// LargeBlob is from when on a blob is moved in parts, resumably.
	LargeBlob = 16 << 20
	// DownloadPart is what of a large blob is noted at a time as having arrived, and mostly one ranged request: long enough that a round trip is small beside it, short enough that a
	// kill wastes little.
	DownloadPart = 8 << 20
	// fewBlobs is up to how many blobs are looked up one by one, as [remote.Catalog.Presence] does it.
	fewBlobs = 4
)

// UploadPart is the size of the parts in which a large blob is uploaded. It is within the limits of every S3 store.
func UploadPart(size int64) int64 {
	const (
		mib      = 1 << 20
		least    = 16 * mib
		maxParts = 10_000
	)
	part := (size-1)/maxParts + 1 // and not (size+maxParts-1)/maxParts, which overflows
	return max(least, (part+mib-1)/mib*mib)
}

// Requests are requests to a store, in the classes that services charge by. Starting and completing an upload in parts counts as PUT.
type Requests struct {
	Put    int
	Get    int
	Head   int
	List   int
	Delete int
}

// Total is their number.
func (r Requests) Total() int { return r.Put + r.Get + r.Head + r.List + r.Delete }

// Plus adds up class by class.
func (r Requests) Plus(o Requests) Requests {
	return Requests{r.Put + o.Put, r.Get + o.Get, r.Head + o.Head, r.List + o.List, r.Delete + o.Delete}
}

// Minus takes away class by class.
func (r Requests) Minus(o Requests) Requests {
	return Requests{r.Put - o.Put, r.Get - o.Get, r.Head - o.Head, r.List - o.List, r.Delete - o.Delete}
}

// String is "231 requests (229 PUT, 2 LIST)".
func (r Requests) String() string {
	var classes []string
	for _, c := range []struct {
		n    int
		name string
	}{{r.Put, "PUT"}, {r.Get, "GET"}, {r.Head, "HEAD"}, {r.List, "LIST"}, {r.Delete, "DELETE"}} {
		if c.n > 0 {
			classes = append(classes, fmt.Sprintf("%d %s", c.n, c.name))
		}
	}
	switch r.Total() {
	case 0:
		return "no requests"
	case 1:
		return "1 request (" + classes[0] + ")"
	default:
		return fmt.Sprintf("%d requests (%s)", r.Total(), strings.Join(classes, ", "))
	}
}

// Requests is what carrying the plan out takes, if nothing fails and nobody pushes the same meanwhile. What an earlier push left unfinished makes it less.
// unconditional says that the store checks no conditions on writes, so that manifests and refs are looked at before and after.
func (p *Push) Requests(unconditional bool) Requests {
	var r Requests
	if p.check == CheckBytes {
		unproven, _ := p.ReadBacks()
		r.Get += len(unproven)
	}
	uploads, _ := p.Uploads()
	for _, b := range uploads {
		r.Put++
		if size := b.File.Size; size > LargeBlob {
			const startAndComplete = 2
			part := UploadPart(size)
			r.Put += startAndComplete - 1 + int((size+part-1)/part)
			r.List = 1 // for unfinished uploads, once
		}
	}
	write := Requests{Put: 1}
	if unconditional {
		write.Head, write.Get = 1, 1
	}
	for _, rev := range p.Revisions {
		if rev.news() {
			r = r.Plus(write).Plus(p.proof(rev))
		}
	}
	for _, ref := range p.Refs {
		if r = r.Plus(write); ref.Existing != nil && ref.Old == nil && ref.Existing.Commit != ref.Commit && !ref.Force {
			r.Get++ // the manifest that the ref names now, to see whose it is
		}
	}
	return r
}

// known says whether the bucket has a manifest of the revision that can be read.
// news says whether the bucket's manifest has to be written. A recheck plans revisions of which it knows all.
func (r PushRevision) news() bool {
	return !r.known() || !r.Base.Covers(r.Manifest) || len(r.Force) > 0
}

// Manifests counts those that have to be written.
func (p *Push) Manifests() int {
	n := 0
	for _, rev := range p.Revisions {
		if rev.news() {
			n++
		}
	}
	return n
}

func (r PushRevision) known() bool { return r.Base != nil && r.Base.Manifest != nil }

// proof is what it takes to find out which blobs of another tool's manifest are there, beyond those that are pushed.
func (p *Push) proof(rev PushRevision) Requests {
	if !rev.known() || rev.Base.Hub != nil {
		return Requests{}
	}
	ours := map[hub.BlobID]bool{}
	for _, b := range p.Blobs {
		ours[b.ID] = true
	}
	asked := map[hub.BlobID]bool{}
	for _, f := range rev.Base.Files {
		if !ours[f.Blob] {
			asked[f.Blob] = true
		}
	}
	if len(asked) <= fewBlobs {
		return Requests{Head: len(asked)}
	}
	return Requests{List: 1} // more in a large bucket, which nobody knows without asking
}

// Requests is what carrying the plan out takes, if nothing fails. What an earlier pull left unfinished, and blobs that other repositories of the cache hold, make it
// less, and so does a network that is faster than the hash.
func (p *Pull) Requests() Requests {
	var r Requests
	for _, f := range p.Blobs {
		r.Get += downloads(f.Size)
	}
	return r
}

func downloads(size int64) int {
	if size <= LargeBlob {
		return 1
	}
	return int((size + DownloadPart - 1) / DownloadPart)
}

// RevisionUploads is what one revision of a push brings into the bucket. A blob that several need counts for the first.
type RevisionUploads struct {
	Key          manifest.Key
	Files, Blobs int   // files that it names, blobs to be uploaded
	Bytes        int64 // to be uploaded
	// Listed is how many files the commit has, and Present how many of these the bucket will have; both 0 if nobody knows the listing.
	Listed, Present int
}

// PerRevision splits what has to be uploaded by the revisions that need it, in their order. Those of which the bucket has everything are left out.
func (p *Push) PerRevision() []RevisionUploads {
	missing := map[hub.BlobID]int64{}
	uploads, _ := p.Uploads()
	for _, b := range uploads {
		missing[b.ID] = b.File.Size
	}
	split := []RevisionUploads{}
	for _, rev := range p.Revisions {
		u := RevisionUploads{Key: rev.Manifest.Key(), Files: len(rev.Manifest.Files), Listed: len(rev.Merged.Tree())}
		for path := range rev.Merged.Tree() {
			if _, ok := rev.Merged.File(path); ok {
				u.Present++
			}
		}
		for _, f := range rev.Manifest.Files {
			if size, ok := missing[f.Blob]; ok {
				delete(missing, f.Blob)
				u.Blobs++
				u.Bytes += size
			}
		}
		if u.Blobs > 0 || rev.news() {
			split = append(split, u)
		}
	}
	return split
}

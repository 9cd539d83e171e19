package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

// SmallBlob is up to how many bytes a blob is uploaded without asking whether it is there: storing it again costs no more than the question.
const SmallBlob = 64 << 10

// PushPolicy is what the user wants of a push.
type PushPolicy struct {
	// Recheck asks the store about every blob, whatever the manifests say.
	Recheck bool
	// Check is how far a recheck goes with the blobs that are there. Beyond sizes it also replaces manifests that nobody can read.
	Check Check
	// ForceRefs moves refs even if the bucket's were learned later.
	ForceRefs bool
}

// Check says by what a blob in the bucket is compared.
type Check uint8

// What is compared.
const (
	CheckSizes     Check = iota
	CheckChecksums       // those that the store tells, at the cost of reading the local files
	// CheckBytes reads every blob back: a checksum that a store keeps beside the bytes says what was put once, and not what is there now.
	CheckBytes
)

// Push is what has to be done so that the bucket knows what the cache has.
type Push struct {
	Revisions []PushRevision // sorted by repository and commit
	Blobs     []PushBlob     // each once, in the order in which the revisions need them
	Refs      []PushRef      // sorted; all that may have to move
	Refused   []Refusal
	UpToDate  int // revisions that the bucket covers already

	check Check // as its policy says
}

// PushRevision is a manifest to be written once its blobs are there.
type PushRevision struct {
	Manifest *manifest.Manifest // what this machine knows
	Base     *remote.Entry      // what the bucket knew, or nil; without a manifest it is one that cannot be read and is replaced
}

// PushBlob is a blob that the bucket may lack.
type PushBlob struct {
	ID    hub.BlobID
	Repo  hub.Repo     // the first that needs it
	File  hfcache.File // a file with these bytes
	Known Presence
	// Damage is why the object under its key is not this blob; nil if there is none, or nothing is known against it.
	Damage error
}

// Presence is what is known about a blob in the bucket.
type Presence uint8

// Whether a blob is there.
const (
	Unknown Presence = iota // the store has to be asked
	Missing                 // it has to be uploaded
	Present
	Unproven // something of its size is there
)

// PushRef is a ref that may have to move.
type PushRef struct {
	Key      remote.RefKey
	Commit   hub.Commit
	Learned  time.Time
	Existing *remote.Ref // nil if the bucket has none
}

// Refusal is something that will not be pushed, and why.
type Refusal struct {
	Key  manifest.Key // Commit is empty if a whole repository is meant
	Ref  hub.Ref      // set if it is about a ref
	Path hub.Path     // set if it is about one file
	Why  string
	Err  error // the cause where there is one
	// Harmless says that nothing is lost: the bucket has something newer, or the machine has nothing yet.
	Harmless bool
}

// Dispute is a file that goes by different digests here and in the bucket, one of SHA-256 and one of git. It may still be the same file.
type Dispute struct {
	Repo   *hfcache.Repo
	File   *hfcache.File
	Theirs hub.BlobID
}

// Disputes lists the files whose bytes must be hashed before a push can be planned. Setting a file's ID to the other digest settles it.
func Disputes(inv *hfcache.Inventory, idx *remote.Index) []Dispute {
	var disputes []Dispute
	for _, repo := range inv.Repos {
		for _, rev := range repo.Revisions {
			entry := idx.Manifests[manifest.Key{Repo: repo.ID, Commit: rev.Commit}]
			if entry == nil {
				continue
			}
			for i := range rev.Files {
				f := &rev.Files[i]
				theirs, ok := entry.File(f.Path)
				if ok && theirs.Size == f.Size && theirs.Blob.Algorithm() != f.ID.Algorithm() {
					disputes = append(disputes, Dispute{repo, f, theirs.Blob})
				}
			}
		}
	}
	return disputes
}

// NewPush compares a cache, in which every file has an id, with what the bucket knows of the same revisions and refs.
func NewPush(inv *hfcache.Inventory, idx *remote.Index, policy PushPolicy) *Push {
	b := pushBuilder{push: &Push{check: policy.Check}, idx: idx, policy: policy, blobs: map[hub.BlobID]int{}}
	for _, repo := range inv.Repos {
		proven := b.proven(repo)
		usable := map[hub.Commit]bool{}
		for _, rev := range repo.Revisions {
			usable[rev.Commit] = b.revision(repo, rev, proven)
		}
		for _, ref := range repo.Refs {
			b.ref(repo, ref, usable)
		}
	}
	return b.push
}

type pushBuilder struct {
	push   *Push
	idx    *remote.Index
	policy PushPolicy
	blobs  map[hub.BlobID]int // index into push.Blobs
}

// proven are the blobs that manifests of the repository vouch for: ours are written only after the blobs that they name.
func (b *pushBuilder) proven(repo *hfcache.Repo) map[hub.BlobID]int64 {
	proven := map[hub.BlobID]int64{}
	if b.policy.Recheck {
		return proven
	}
	for _, rev := range repo.Revisions {
		entry := b.idx.Manifests[manifest.Key{Repo: repo.ID, Commit: rev.Commit}]
		if entry == nil || entry.Hub == nil {
			continue
		}
		for _, f := range entry.Files {
			proven[f.Blob] = f.Size
		}
	}
	return proven
}

// revision plans one revision and says whether refs may name it.
func (b *pushBuilder) revision(repo *hfcache.Repo, rev *hfcache.Revision, proven map[hub.BlobID]int64) bool {
	key := manifest.Key{Repo: repo.ID, Commit: rev.Commit}
	entry := b.idx.Manifests[key]
	broken := b.replaceable(key)
	if err := b.idx.Broken[key]; err != nil && broken == nil {
		b.push.Refused = append(b.push.Refused, Refusal{Key: key, Why: "the bucket's manifest cannot be used", Err: err})
		return false
	}
	if len(rev.Files) == 0 && len(rev.NoExist) == 0 {
		if entry == nil {
			b.push.Refused = append(b.push.Refused, Refusal{Key: key, Why: "no file of it is here yet", Harmless: true})
		}
		return entry != nil
	}
	ours := &manifest.Manifest{Repo: repo.ID, Commit: rev.Commit, Hub: &manifest.Hub{Tree: rev.Tree, NoExist: slices.Clone(rev.NoExist)}}
	for _, f := range rev.Files {
		ours.Files = append(ours.Files, manifest.File{Path: f.Path, Blob: f.ID, Size: f.Size})
	}
	if err := ours.Check(); err != nil {
		b.push.Refused = append(b.push.Refused, Refusal{Key: key, Why: "its files contradict each other", Err: err})
		return false
	}
	if entry != nil {
		if _, err := manifest.Merge(ours, entry.Manifest); err != nil {
			b.push.Refused = append(b.push.Refused, Refusal{Key: key, Why: "the bucket has another content for the same commit", Err: err})
			return false
		}
		if entry.Covers(ours) && !b.policy.Recheck {
			b.push.UpToDate++
			return true
		}
	}
	if entry == nil {
		entry = broken
	}
	b.push.Revisions = append(b.push.Revisions, PushRevision{ours, entry})
	for _, f := range rev.Files {
		b.blob(repo.ID, f, proven)
	}
	return true
}

// replaceable is the object in the place of a manifest that a recheck may replace, or nil.
func (b *pushBuilder) replaceable(key manifest.Key) *remote.Entry {
	objectKey, etag, ok := remote.Replaceable(b.idx.Broken[key])
	if !ok || b.policy.Check == CheckSizes {
		return nil
	}
	return &remote.Entry{ObjectKey: objectKey, ETag: etag}
}

func (b *pushBuilder) blob(repo hub.Repo, f hfcache.File, proven map[hub.BlobID]int64) {
	if _, planned := b.blobs[f.ID]; planned {
		return
	}
	known := Unknown
	if size, ok := proven[f.ID]; ok && size == f.Size {
		known = Present
	} else if f.Size <= SmallBlob && !b.policy.Recheck {
		known = Missing
	}
	b.blobs[f.ID] = len(b.push.Blobs)
	b.push.Blobs = append(b.push.Blobs, PushBlob{ID: f.ID, Repo: repo, File: f, Known: known})
}

func (b *pushBuilder) ref(repo *hfcache.Repo, ref hfcache.Ref, usable map[hub.Commit]bool) {
	key := remote.RefKey{Repo: repo.ID, Name: ref.Name}
	refuse := func(r Refusal) {
		r.Key, r.Ref = manifest.Key{Repo: repo.ID, Commit: ref.Commit}, ref.Name
		b.push.Refused = append(b.push.Refused, r)
	}
	if err := b.idx.BrokenRefs[key]; err != nil && !b.policy.ForceRefs {
		refuse(Refusal{Why: "the bucket's ref cannot be read", Err: err})
		return
	}
	switch ok, here := usable[ref.Commit]; {
	case here && !ok:
		return // said about the revision already
	case !here && b.idx.Manifests[manifest.Key{Repo: repo.ID, Commit: ref.Commit}] == nil:
		refuse(Refusal{Why: "it names a commit of which nothing is here", Harmless: true})
		return
	}
	planned := PushRef{Key: key, Commit: ref.Commit, Learned: ref.Learned}
	if objectKey, etag, ok := remote.Replaceable(b.idx.BrokenRefs[key]); ok {
		planned.Existing = &remote.Ref{Name: ref.Name, ObjectKey: objectKey, ETag: etag}
	}
	if existing, ok := b.idx.Refs[key]; ok {
		planned.Existing = &existing
		if existing.Commit == ref.Commit {
			return
		}
		if !ref.Learned.After(existing.Resolved) && !b.policy.ForceRefs {
			refuse(Refusal{Why: "the bucket's ref was learned later; it names " + existing.Commit.Short(), Harmless: true})
			return
		}
	}
	b.push.Refs = append(b.push.Refs, planned)
}

// Unknown are the sizes of the blobs about which the store has to be asked.
func (p *Push) Unknown() map[hub.BlobID]int64 {
	sizes := map[hub.BlobID]int64{}
	for _, b := range p.Blobs {
		if b.Known == Unknown {
			sizes[b.ID] = b.File.Size
		}
	}
	return sizes
}

// Settle takes the store's answer for the blobs of Unknown. What the store has is Present, or Unproven if [PushPolicy.Check] goes beyond its size.
func (p *Push) Settle(present map[hub.BlobID]bool) {
	for i := range p.Blobs {
		if b := &p.Blobs[i]; b.Known == Unknown {
			switch {
			case !present[b.ID]:
				b.Known = Missing
			case p.check != CheckSizes:
				b.Known = Unproven
			default:
				b.Known = Present
			}
		}
	}
}

// ReadBacks are the blobs of which only the size is known, and their bytes together.
func (p *Push) ReadBacks() (blobs []*PushBlob, bytes int64) {
	for i := range p.Blobs {
		if b := &p.Blobs[i]; b.Known == Unproven {
			blobs = append(blobs, b)
			bytes += b.File.Size
		}
	}
	return blobs, bytes
}

// Uploads are the blobs that have to be moved, and their bytes together.
func (p *Push) Uploads() (blobs []PushBlob, bytes int64) {
	for _, b := range p.Blobs {
		if b.Known == Missing {
			blobs = append(blobs, b)
			bytes += b.File.Size
		}
	}
	return blobs, bytes
}

// Empty says that the bucket has everything already.
func (p *Push) Empty() bool { return len(p.Revisions) == 0 && len(p.Refs) == 0 }

// ComparePushBlobs orders blobs by size, the largest first: what takes longest should not start last.
func ComparePushBlobs(a, b PushBlob) int { return cmp.Compare(b.File.Size, a.File.Size) }

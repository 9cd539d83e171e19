package plan

import (
	"cmp"
	"fmt"
	"maps"
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
	// ForceRefs moves refs whatever the bucket says. Those that move count as learned now, so that readers follow.
	ForceRefs bool
	// FromHub are refs of which the Hub itself said just now which commit they name. They move even if the bucket's were learned later.
	FromHub map[remote.RefKey]hub.Commit
	// Behind is how far this machine's clock is behind the store's, by which the times of its files are too early; 0 if it is not. [engine.Engine.PreparePush] sets it.
	Behind time.Duration
}

// learned is when this machine learned of a ref, by the store's clock. A clock that is ahead needs no care: claims that are too late give way to the earliest.
func learned(ref hfcache.Ref, behind time.Duration) time.Time {
	if ref.Learned.IsZero() {
		return ref.Learned
	}
	return ref.Learned.Add(behind)
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
	Kept      []KeptRef      // refs of the bucket that stay, sorted
	Refused   []Refusal
	UpToDate  int // revisions that the bucket covers already

	check Check // as its policy says
}

// PushRevision is a manifest to be written once its blobs are there.
type PushRevision struct {
	Manifest *manifest.Manifest // what this machine knows
	Base     *remote.Entry      // what the bucket knew, or nil; without a manifest it is one that cannot be read and is replaced
	Merged   *manifest.Manifest // what the bucket will know
	Force    []ForcedRef        // refs that are made to name it whatever the claims say
}

// ForcedRef is a ref that is made to name a commit whatever the claims say.
type ForcedRef struct {
	Name hub.Ref
	// Above is a time that the new one must be later than, or readers would not follow: that of the ref which is replaced. A clock that was ahead can have made it one of the future.
	Above time.Time
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
	Manifest *manifest.Manifest // what the bucket has of the commit once its revision is pushed
	Existing *remote.Ref        // nil if the bucket has none
	Old      *manifest.Manifest // what the bucket has of the commit that Existing names; nil if that is not known
	Force    bool
}

// KeptRef is a ref of the bucket that stays although this machine's names another commit.
type KeptRef struct {
	Key    remote.RefKey
	Commit hub.Commit // that this machine's ref names
	Kept   hub.Commit // that the bucket's ref names
	// Loss is what would be missing if it moved; nil if it stays because it was learned later.
	Loss *manifest.Loss
}

// Why says why the ref stays, for people.
func (k KeptRef) Why() string {
	if k.Loss == nil {
		return "the bucket's ref was learned later; it names " + k.Kept.Short()
	}
	return fmt.Sprintf("it stays at %s, because %s lacks %s", k.Kept.Short(), k.Commit.Short(), k.Loss)
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

// RefsToJudge are the revisions that the bucket's refs name, where this machine's name others: what the bucket has of them decides whether the refs move. The caller looks them up and adds them to
// the index.
func RefsToJudge(inv *hfcache.Inventory, idx *remote.Index, policy PushPolicy) []manifest.Key {
	var keys []manifest.Key
	listed := map[manifest.Key]bool{}
	for _, repo := range inv.Repos {
		for _, ref := range repo.Refs {
			existing, ok := idx.Refs[remote.RefKey{Repo: repo.ID, Name: ref.Name}]
			key := manifest.Key{Repo: repo.ID, Commit: existing.Commit}
			if !ok || existing.Commit == ref.Commit || policy.ForceRefs || idx.Manifests[key] != nil || listed[key] {
				continue
			}
			var ours *manifest.Manifest
			if entry := idx.Manifests[manifest.Key{Repo: repo.ID, Commit: ref.Commit}]; entry != nil {
				ours = entry.Manifest
			}
			if policy.mayMove(existing, ours, repo.ID, ref) {
				keys, listed[key] = append(keys, key), true
			}
		}
	}
	return keys
}

// mayMove says whether the bucket's ref can be older than this machine's, for all that its object tells.
func (p PushPolicy) mayMove(existing remote.Ref, ours *manifest.Manifest, repo hub.Repo, ref hfcache.Ref) bool {
	fromHub := p.FromHub[remote.RefKey{Repo: repo, Name: ref.Name}] == ref.Commit
	return fromHub || existing.Undated || ours.RefTime(ref.Name, learned(ref, p.Behind)).After(existing.Resolved)
}

// NewPush compares a cache, in which every file has an id, with what the bucket knows of the same revisions and refs, and of those of [RefsToJudge].
func NewPush(inv *hfcache.Inventory, idx *remote.Index, policy PushPolicy) *Push {
	b := pushBuilder{push: &Push{check: policy.Check}, idx: idx, policy: policy, blobs: map[hub.BlobID]int{}}
	for _, repo := range inv.Repos {
		b.repo(repo)
	}
	return b.push
}

type pushBuilder struct {
	push   *Push
	idx    *remote.Index
	policy PushPolicy
	blobs  map[hub.BlobID]int // index into push.Blobs
}

// pushed is a revision as it will be in the bucket.
type pushed struct {
	ours   *manifest.Manifest // what this machine adds
	base   *remote.Entry
	merged *manifest.Manifest
	force  []ForcedRef
}

func (b *pushBuilder) repo(repo *hfcache.Repo) {
	proven := b.proven(repo)
	revisions := map[hub.Commit]*pushed{} // nil for one that refs must not name
	for _, rev := range repo.Revisions {
		revisions[rev.Commit] = b.revision(repo, rev)
	}
	for _, ref := range repo.Refs {
		b.ref(repo, ref, revisions)
	}
	for _, rev := range repo.Revisions {
		if p := revisions[rev.Commit]; p != nil && b.publish(p) {
			for _, f := range rev.Files {
				b.blob(repo.ID, f, proven)
			}
		}
		delete(revisions, rev.Commit)
	}
	for _, commit := range slices.Sorted(maps.Keys(revisions)) { // of which only the bucket has anything
		if p := revisions[commit]; len(p.force) > 0 {
			b.publish(p)
		}
	}
}

// publish plans the manifest, unless the bucket knows all of it already.
func (b *pushBuilder) publish(p *pushed) bool {
	rev := PushRevision{p.ours, p.base, p.merged, p.force}
	if !rev.news() && !b.policy.Recheck {
		b.push.UpToDate++
		return false
	}
	b.push.Revisions = append(b.push.Revisions, rev)
	return true
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

// revision says what the bucket will have of a revision, nil if it cannot be pushed. A manifest without files is never written: whoever pulls it would have nothing, and think that all was well.
func (b *pushBuilder) revision(repo *hfcache.Repo, rev *hfcache.Revision) *pushed {
	key := manifest.Key{Repo: repo.ID, Commit: rev.Commit}
	entry := b.idx.Manifests[key]
	refuse := func(r Refusal) *pushed {
		r.Key = key
		b.push.Refused = append(b.push.Refused, r)
		return nil
	}
	broken := b.replaceable(key)
	if err := b.idx.Broken[key]; err != nil && broken == nil {
		return refuse(Refusal{Why: "the bucket's manifest cannot be used", Err: err})
	}
	if len(rev.Files) == 0 && (entry == nil || len(entry.Files) == 0) {
		return refuse(Refusal{Why: "no file of it is here yet", Harmless: true})
	}
	ours := &manifest.Manifest{Repo: repo.ID, Commit: rev.Commit, Hub: &manifest.Hub{
		Tree: rev.Tree, NoExist: slices.Clone(rev.NoExist), Refs: b.claims(repo, rev.Commit, entry),
	}}
	for _, f := range rev.Files {
		ours.Files = append(ours.Files, manifest.File{Path: f.Path, Blob: f.ID, Size: f.Size})
	}
	if err := ours.Check(); err != nil {
		return refuse(Refusal{Why: "its files contradict each other", Err: err})
	}
	p := &pushed{ours: ours, base: entry, merged: ours}
	if entry != nil {
		var err error
		if p.merged, err = manifest.Merge(ours, entry.Manifest); err != nil {
			return refuse(Refusal{Why: "the bucket has another content for the same commit", Err: err})
		}
	}
	if entry == nil {
		p.base = broken
	}
	return p
}

// claims are when this machine learned that its refs name a commit. What is earlier than the bucket's claim by no more than file systems round is no news.
func (b *pushBuilder) claims(repo *hfcache.Repo, commit hub.Commit, entry *remote.Entry) map[hub.Ref]time.Time {
	const rounding = 2 * time.Second
	var known map[hub.Ref]time.Time
	if entry != nil && entry.Hub != nil {
		known = entry.Hub.Refs
	}
	claimed := map[hub.Ref]time.Time{}
	for _, ref := range repo.Refs {
		if ref.Commit != commit || ref.Learned.IsZero() {
			continue
		}
		at := learned(ref, b.policy.Behind)
		if before := known[ref.Name]; before.Sub(at).Abs() <= rounding {
			at = before
		}
		claimed[ref.Name] = at
	}
	return claimed
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

func (b *pushBuilder) ref(repo *hfcache.Repo, ref hfcache.Ref, revisions map[hub.Commit]*pushed) {
	key := remote.RefKey{Repo: repo.ID, Name: ref.Name}
	revision := manifest.Key{Repo: repo.ID, Commit: ref.Commit}
	refuse := func(r Refusal) {
		r.Key, r.Ref = revision, ref.Name
		b.push.Refused = append(b.push.Refused, r)
	}
	if err := b.idx.BrokenRefs[key]; err != nil && !b.policy.ForceRefs {
		refuse(Refusal{Why: "the bucket's ref cannot be read", Err: err})
		return
	}
	p, here := revisions[ref.Commit]
	if here && p == nil {
		return // said about the revision already
	}
	if !here {
		entry := b.idx.Manifests[revision]
		if entry == nil || len(entry.Files) == 0 {
			refuse(Refusal{Why: "it names a commit of which nothing is here", Harmless: true})
			return
		}
		p = &pushed{ours: &manifest.Manifest{Repo: repo.ID, Commit: ref.Commit, Hub: &manifest.Hub{}}, base: entry, merged: entry.Manifest}
		revisions[ref.Commit] = p
	}
	planned := PushRef{Key: key, Commit: ref.Commit, Learned: learned(ref, b.policy.Behind), Manifest: p.merged}
	if objectKey, etag, ok := remote.Replaceable(b.idx.BrokenRefs[key]); ok {
		planned.Existing = &remote.Ref{Name: ref.Name, ObjectKey: objectKey, ETag: etag}
	}
	if existing, ok := b.idx.Refs[key]; ok {
		planned.Existing = &existing
		if existing.Commit == ref.Commit {
			if existing.Unsettled(p.merged, planned.Learned) {
				b.push.Refs = append(b.push.Refs, planned)
			}
			return
		}
		if kept := b.judge(&planned, repo, ref); kept != nil {
			b.push.Kept = append(b.push.Kept, *kept)
			return
		}
	}
	if planned.Force {
		// What the object tells is no earlier than the ref's time, whatever is claimed about the commit.
		above := planned.Existing.Resolved
		if planned.Existing.After.After(above) {
			above = planned.Existing.After
		}
		p.force = append(p.force, ForcedRef{ref.Name, above})
	}
	b.push.Refs = append(b.push.Refs, planned)
}

// judge says whether the bucket's ref stays, and else completes the plan for it.
func (b *pushBuilder) judge(planned *PushRef, repo *hfcache.Repo, ref hfcache.Ref) *KeptRef {
	if b.policy.ForceRefs {
		planned.Force = true
		return nil
	}
	existing := planned.Existing
	kept := &KeptRef{Key: planned.Key, Commit: planned.Commit, Kept: existing.Commit}
	if !b.policy.mayMove(*existing, planned.Manifest, repo.ID, ref) {
		return kept
	}
	old := manifest.Key{Repo: repo.ID, Commit: existing.Commit}
	if b.idx.Broken[old] != nil {
		return nil // the catalogue finds out whether it is another repository's
	}
	if entry := b.idx.Manifests[old]; entry != nil {
		planned.Old = entry.Manifest
	}
	outcome, loss := existing.Replaceable(planned.Manifest, planned.Learned, planned.Old, hfcache.CanHold)
	if outcome == remote.RefOlder && b.policy.FromHub[planned.Key] == planned.Commit {
		planned.Force = true // the Hub stands above all claims, but cannot know what the bucket would lose
		if loss = manifest.Worse(planned.Old.Contents(), planned.Manifest.Contents(), hfcache.CanHold); loss == nil {
			outcome = remote.RefWritten
		}
	}
	if outcome == remote.RefWritten {
		return nil
	}
	kept.Loss = loss
	return kept
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

package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// Verify is what has to be read to find out whether the bytes of a cache are what they should be.
type Verify struct {
	Files     []VerifyFile // to be hashed, each file of the disk once; largest first
	Unchecked []VerifyUse  // nothing tells what their bytes should be
}

// VerifyFile is one regular file, and everything in the cache that leads to it.
type VerifyFile struct {
	Bytes   string // as in [hfcache.File]
	Size    int64
	ModTime time.Time
	Uses    []VerifyUse
}

// VerifyUse is one name of a file: an entry of blobs/, or a file that a snapshot holds itself.
type VerifyUse struct {
	Repo   hub.Repo
	Entry  string // below the repository's folder: "blobs/<name>" or "snapshots/<commit>/<path>"
	Bytes  string // as in [hfcache.File]
	Listed []VerifyListing

	name    hub.BlobID   // what the blob's name says, if it is a digest by its form
	certain bool         // the name is a digest: a listing of the repository gives it as one, or it has the form of git's
	byXet   []hub.BlobID // what listings give for files whose xet hash the name is
}

// VerifyListing is what a commit's listing says of a path of its snapshot that leads to a file.
type VerifyListing struct {
	Commit hub.Commit
	Path   hub.Path
	ID     hub.BlobID
}

// Misfit is a file that a scan left out because of its size; see [hfcache.Cache.Misfits].
type Misfit struct {
	Repo   hub.Repo
	Commit hub.Commit
	File   hfcache.File
}

// NewVerify plans to check an inventory. same says whether two paths are one file on the disk; it is asked only about files of equal size and time.
func NewVerify(inv *hfcache.Inventory, misfits []Misfit, same func(a, b string) bool) *Verify {
	p := &Verify{}
	b := verifyBuilder{plan: p, same: same, byBytes: map[string]int{}, alike: map[likeness][]int{}}
	for _, repo := range inv.Repos {
		b.repo(repo, misfits)
	}
	slices.SortStableFunc(p.Files, func(x, y VerifyFile) int { return cmp.Or(cmp.Compare(y.Size, x.Size), cmp.Compare(x.Bytes, y.Bytes)) })
	return p
}

// Bytes is how much has to be read.
func (p *Verify) Bytes() (sum int64) {
	for _, f := range p.Files {
		sum += f.Size
	}
	return sum
}

type likeness struct {
	size int64
	time int64
}

type verifyBuilder struct {
	plan    *Verify
	same    func(a, b string) bool
	byBytes map[string]int     // place in plan.Files
	alike   map[likeness][]int // likewise
}

// verifyRepo is what the listings of one repository say, whatever the commit.
type verifyRepo struct {
	*hfcache.Repo
	digests map[hub.BlobID]bool        // ids of files
	xet     map[string][]hub.BlobID    // ids by xet hash
	listed  map[string][]VerifyListing // by name in blobs/
	real    []VerifyUse                // in order of discovery
	files   map[string]hfcache.File    // of real, by entry
}

func (b *verifyBuilder) repo(repo *hfcache.Repo, misfits []Misfit) {
	r := verifyRepo{
		Repo: repo, digests: map[hub.BlobID]bool{}, xet: map[string][]hub.BlobID{},
		listed: map[string][]VerifyListing{}, files: map[string]hfcache.File{},
	}
	for _, rev := range repo.Revisions {
		for _, e := range rev.Tree {
			id := e.ID()
			if id == "" {
				continue
			}
			r.digests[id] = true
			if hash := strings.ToLower(e.XetHash); hash != "" && !slices.Contains(r.xet[hash], id) {
				r.xet[hash] = append(r.xet[hash], id)
			}
		}
		for _, f := range rev.Files {
			var id hub.BlobID
			if entry, listed := rev.Tree[f.Path]; listed {
				id = entry.ID()
			}
			r.add(rev.Commit, f, id)
		}
	}
	for _, m := range misfits {
		if m.Repo == repo.ID {
			r.add(m.Commit, m.File, m.File.ID)
		}
	}
	names := make([]string, 0, len(repo.Blobs))
	for name := range repo.Blobs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		blob := repo.Blobs[name]
		b.add(r.blob(blob), blob.Size, blob.ModTime)
	}
	for _, use := range r.real {
		f := r.files[use.Entry]
		b.add(use, f.Size, f.ModTime)
	}
}

// add takes note of one file of a snapshot. id is what the listing says, or empty.
func (r *verifyRepo) add(commit hub.Commit, f hfcache.File, id hub.BlobID) {
	var listed []VerifyListing
	if id != "" {
		listed = []VerifyListing{{commit, f.Path, id}}
	}
	if f.Blob != "" {
		r.listed[f.Blob] = append(r.listed[f.Blob], listed...)
		return
	}
	use := VerifyUse{Repo: r.ID, Entry: "snapshots/" + string(commit) + "/" + string(f.Path), Bytes: f.Bytes, Listed: listed}
	r.real = append(r.real, use)
	r.files[use.Entry] = f
}

func (r *verifyRepo) blob(blob hfcache.Blob) VerifyUse {
	use := VerifyUse{Repo: r.ID, Entry: "blobs/" + blob.Name, Bytes: blob.Bytes, Listed: r.listed[blob.Name]}
	id, err := hub.ParseBlobID(blob.Name)
	if err != nil {
		return use
	}
	use.byXet = r.xet[blob.Name]
	if blob.Shared && strings.HasSuffix(blob.Bytes, "/"+blob.Name) && !r.digests[id] {
		return use // the store names payloads by their xet hash, so this name is one
	}
	use.name = id
	use.certain = id.Algorithm() == hub.GitSHA1 || r.digests[id]
	return use
}

func (b *verifyBuilder) add(use VerifyUse, size int64, modTime time.Time) {
	if len(use.wants()) == 0 {
		b.plan.Unchecked = append(b.plan.Unchecked, use)
		return
	}
	at, known := b.byBytes[use.Bytes]
	if !known {
		like := likeness{size, modTime.UnixNano()}
		for _, other := range b.alike[like] {
			if b.same(b.plan.Files[other].Bytes, use.Bytes) {
				at, known = other, true
				break
			}
		}
		if !known {
			at = len(b.plan.Files)
			b.plan.Files = append(b.plan.Files, VerifyFile{Bytes: use.Bytes, Size: size, ModTime: modTime})
			b.alike[like] = append(b.alike[like], at)
		}
		b.byBytes[use.Bytes] = at
	}
	b.plan.Files[at].Uses = append(b.plan.Files[at].Uses, use)
}

// wants are all ids that would make the bytes right in some way.
func (u VerifyUse) wants() []hub.BlobID {
	var ids []hub.BlobID
	for _, l := range u.Listed {
		ids = append(ids, l.ID)
	}
	ids = append(ids, u.byXet...)
	if u.name != "" {
		ids = append(ids, u.name)
	}
	return ids
}

// Algorithms says which digests have to be computed.
func (f VerifyFile) Algorithms() (git, sha bool) {
	for _, u := range f.Uses {
		for _, id := range u.wants() {
			git = git || id.Algorithm() == hub.GitSHA1
			sha = sha || id.Algorithm() == hub.SHA256
		}
	}
	return git, sha
}

// Verdict is what the digests of a file say about one use of it.
type Verdict struct {
	Bad  bool
	Want hub.BlobID // what the bytes should be, if they are bad
	Why  string     // likewise
	// Astray are paths of snapshots that lead to bytes which are good and are not those of the path.
	Astray []VerifyListing
}

// Judge compares digests with what is known. Only digests of the algorithms that the file asked for need to be set.
//
// A listing knows best. A name of 64 digits that is not the SHA-256 of the bytes can be a xet hash, which only listings tell (huggingface.js
// downloadFileToCacheDir); without any, the bytes count as bad, which is why bad bytes are put aside and never removed.
func (u VerifyUse) Judge(got hub.Digests) Verdict {
	var astray []VerifyListing
	good := false
	for _, l := range u.Listed {
		if l.ID.Matches(got) {
			good = true
		} else {
			astray = append(astray, l)
		}
	}
	if good || (u.name != "" && u.name.Matches(got)) {
		return Verdict{Astray: astray}
	}
	matches := func(id hub.BlobID) bool { return id.Matches(got) }
	want := u.name
	switch {
	case len(u.Listed) > 0:
		want = u.Listed[0].ID
	case slices.ContainsFunc(u.byXet, matches):
		return Verdict{}
	case len(u.byXet) > 0:
		want = u.byXet[0]
	}
	sum := got.SHA256
	if want.Algorithm() == hub.GitSHA1 {
		sum = got.GitSHA1
	}
	why := fmt.Sprintf("the %s of its bytes is %s", want.Algorithm(), sum)
	if want != u.name || !strings.HasPrefix(u.Entry, "blobs/") {
		why += ", not " + string(want) + " as the commit's listing says"
	} else if !u.certain {
		why += ", and no listing says that its name is another kind of hash"
	}
	return Verdict{Bad: true, Want: want, Why: why}
}

// Only leaves of a plan what is needed for some paths. No ref will be written.
func (p *Pull) Only(wanted func(hub.Path) bool) {
	p.Files = slices.DeleteFunc(p.Files, func(f manifest.File) bool { return !wanted(f.Path) })
	needed := make(map[hub.BlobID]bool, len(p.Files))
	for _, f := range p.Files {
		needed[f.Blob] = true
	}
	p.Blobs = slices.DeleteFunc(p.Blobs, func(f manifest.File) bool { return !needed[f.Blob] })
	p.Refs, p.KeptRefs, p.Unclean = nil, nil, nil
}

// BucketVerify is what has to be read to find out whether the blobs of a bucket are what manifests promise.
type BucketVerify struct {
	Manifests int
	Blobs     []BucketBlob // each once, largest first
}

// BucketBlob is a blob that manifests name.
type BucketBlob struct {
	ID    hub.BlobID
	Users []BucketUser // in order of repository, commit and path
}

// BucketUser is a file of a manifest.
type BucketUser struct {
	Key  manifest.Key
	Path hub.Path
	Size int64 // bytes, as the manifest says
}

// Size is the largest that a manifest announces.
func (b BucketBlob) Size() (size int64) {
	for _, u := range b.Users {
		size = max(size, u.Size)
	}
	return size
}

// NewBucketVerify plans to check the blobs that the manifests name.
func NewBucketVerify(manifests []*manifest.Manifest) *BucketVerify {
	p := &BucketVerify{Manifests: len(manifests)}
	at := map[hub.BlobID]int{}
	for _, m := range slices.SortedFunc(slices.Values(manifests), func(a, b *manifest.Manifest) int {
		return cmp.Or(a.Repo.Compare(b.Repo), strings.Compare(string(a.Commit), string(b.Commit)))
	}) {
		for _, f := range m.Files {
			i, known := at[f.Blob]
			if !known {
				i = len(p.Blobs)
				at[f.Blob] = i
				p.Blobs = append(p.Blobs, BucketBlob{ID: f.Blob})
			}
			p.Blobs[i].Users = append(p.Blobs[i].Users, BucketUser{m.Key(), f.Path, f.Size})
		}
	}
	slices.SortStableFunc(p.Blobs, func(a, b BucketBlob) int {
		return cmp.Or(cmp.Compare(b.Size(), a.Size()), strings.Compare(string(a.ID), string(b.ID)))
	})
	return p
}

// Bytes is how much has to be read. Sizes that a manifest made up can add up to more than there are numbers; then it is the largest number.
func (p *BucketVerify) Bytes() (sum int64) {
	for _, b := range p.Blobs {
		size := b.Size()
		if sum > math.MaxInt64-size {
			return math.MaxInt64
		}
		sum += size
	}
	return sum
}

// Requests is what carrying the plan out takes, if nothing fails.
func (p *BucketVerify) Requests() Requests { return Requests{Get: len(p.Blobs)} }

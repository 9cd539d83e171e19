package plan

import (
	"fmt"
	"path"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// account knows what the disk gets back when names go. Everything can be put back again, so that a plan can be tried out.
type account struct {
	total int64
	files map[string]*accountFile  // by place, several of one inode sharing the same
	repos map[hub.Repo]*repoBlobs  // what repositories have in blobs/
	store map[string]*storePayload // the shared store's, by place
}

// accountFile is a file on the disk.
type accountFile struct {
	frees int64 // bytes that the disk gets back with the last name
	names int   // that are left, outside the cache too
}

// storePayload is a file of the shared store.
type storePayload struct {
	users     map[string]bool // names in blobs/ that lead to it: "<folder>/blobs/<name>"
	collected bool            // it may be, once nobody uses it
}

// repoBlobs are the entries of one repository's blobs/.
type repoBlobs struct {
	folder string
	blobs  map[string]hfcache.Blob
	users  map[string]int // revisions that need a blob, by its name
}

func newAccount(inv *hfcache.Inventory, survey *hfcache.Survey) *account {
	a := &account{files: map[string]*accountFile{}, repos: map[hub.Repo]*repoBlobs{}, store: map[string]*storePayload{}}
	inodes := map[string]*accountFile{}
	add := func(place string, disk int64) {
		if a.files[place] != nil {
			return
		}
		names := 1
		if inode, several := inv.Inodes[place]; several {
			key := fmt.Sprint(inode.Device, ":", inode.Number)
			if file := inodes[key]; file != nil {
				a.files[place] = file
				return
			}
			names = int(min(inode.Names, 1<<30))
			inodes[key] = &accountFile{}
			a.files[place] = inodes[key]
		} else {
			a.files[place] = &accountFile{}
		}
		a.total += disk
		*a.files[place] = accountFile{frees: max(0, disk-survey.Shared[place]), names: names}
	}
	for _, p := range survey.Payloads {
		add(p.Place, p.Disk)
		payload := &storePayload{users: map[string]bool{}, collected: p.Listed}
		for _, user := range p.Users {
			payload.users[user] = true
		}
		a.store[p.Place] = payload
	}
	for _, repo := range inv.Repos {
		folder := repo.ID.Folder()
		blobs := &repoBlobs{folder: folder, blobs: repo.Blobs, users: map[string]int{}}
		a.repos[repo.ID] = blobs
		for name, b := range repo.Blobs {
			if payload := a.store[b.Bytes]; payload != nil {
				payload.users[blobs.place(name)] = true
			} else if b.Bytes == blobs.place(name) {
				add(b.Bytes, b.Disk)
			}
		}
		for _, rev := range repo.Revisions {
			for _, f := range rev.Files {
				if f.Blob == "" && strings.HasPrefix(f.Bytes, snapshotPlace(repo.ID, rev.Commit)) {
					add(f.Bytes, f.Disk)
				}
			}
			for name := range needs(rev) {
				blobs.users[name]++
			}
		}
		for _, temp := range repo.Temps {
			add(blobs.place(temp.Name), temp.Disk)
		}
	}
	for _, l := range survey.Leftovers {
		add(l.Place, l.Disk)
	}
	return a
}

func (r *repoBlobs) place(name string) string { return path.Join(r.folder, "blobs", name) }

func snapshotPlace(repo hub.Repo, c hub.Commit) string {
	return repo.Folder() + "/snapshots/" + string(c) + "/"
}

// needs are the names in blobs/ that a revision's files lead to.
func needs(rev *hfcache.Revision) map[string]bool {
	names := map[string]bool{}
	for _, f := range rev.Files {
		if f.Blob != "" {
			names[f.Blob] = true
		}
	}
	return names
}

// drop takes one name of a file away, or with a negative sign puts it back, and returns what the disk gets back.
func (a *account) drop(place string, sign int) int64 {
	file := a.files[place]
	if file == nil {
		return 0
	}
	if sign < 0 {
		file.names++
		if file.names == 1 {
			return -file.frees
		}
		return 0
	}
	file.names--
	if file.names == 0 {
		return file.frees
	}
	return 0
}

// blob takes an entry of blobs/ away, or puts it back.
func (a *account) blob(repo *repoBlobs, name string, sign int) int64 {
	b := repo.blobs[name]
	payload := a.store[b.Bytes]
	switch user := repo.place(name); {
	case payload == nil && b.Bytes == user:
		return a.drop(b.Bytes, sign)
	case payload == nil:
		return 0 // a link to somewhere else; what it leads to has its own name
	case sign > 0:
		delete(payload.users, user)
		if len(payload.users) == 0 && payload.collected {
			return a.drop(b.Bytes, sign)
		}
	default:
		payload.users[user] = true
		if len(payload.users) == 1 && payload.collected {
			return a.drop(b.Bytes, sign)
		}
	}
	return 0
}

// revision takes a revision away, or puts it back, and returns what the disk gets back and the blobs that nobody needs then.
func (a *account) revision(repo hub.Repo, rev *hfcache.Revision, sign int) (freed int64, blobs []string) {
	r := a.repos[repo]
	for name := range needs(rev) {
		last := sign > 0 && r.users[name] == 1 || sign < 0 && r.users[name] == 0
		r.users[name] -= sign
		if _, there := r.blobs[name]; last && there {
			freed += a.blob(r, name, sign)
			blobs = append(blobs, name)
		}
	}
	own := map[string]bool{}
	for _, f := range rev.Files {
		if f.Blob == "" && !own[f.Bytes] && strings.HasPrefix(f.Bytes, snapshotPlace(repo, rev.Commit)) {
			own[f.Bytes] = true
			freed += a.drop(f.Bytes, sign)
		}
	}
	return freed, blobs
}

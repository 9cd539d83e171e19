//go:build linux && (amd64 || arm64)

package powerloss

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// The parts of a world.
const (
	homeDir   = "home"   // HOME
	cacheDir  = "hub"    // the cache
	bucketDir = "bucket" // a bucket, or two levels down in it
	workDir   = "work"   // where the program runs
)

// isFinal says whether a path of the world is one that its readers trust: by its
// being there they know that its content is whole. Empty marks, locks, journals
// that a digest judges, and entries that hold a digest of themselves are not.
func isFinal(name string) bool {
	first, rest, _ := strings.Cut(name, "/")
	switch first {
	case workDir:
		return rest == ".hf-cache-sync.yaml"
	case homeDir:
		return regexp.MustCompile(`/last-use-[0-9a-f]+\.json$|/\.hf-cache-sync\.yaml$`).MatchString(rest)
	case cacheDir:
		return regexp.MustCompile(`^[^/]+/(blobs/[0-9a-f]{40,64}|refs/.+|trees/[0-9a-f]{40}\.json|snapshots/.+|\.hf-cache-sync/quarantine/.+\.json)$`).MatchString(rest)
	case bucketDir:
		_, private, isPrivate := strings.Cut(rest, ".hf-cache-sync/")
		return !isPrivate || regexp.MustCompile(`^(meta/[0-9a-f]+\.json|uploads/[^/]+/upload\.json)$`).MatchString(private)
	default:
		return false
	}
}

// Checked is what was looked at in a record.
type Checked struct {
	Renames int // final names given to files
	Refs    int // refs and manifests, with all that they lead to
	Removed int // blobs that were removed, with all that led to them
	Wrong   []string
}

func (c *Checked) wrong(format string, args ...any) {
	c.Wrong = append(c.Wrong, fmt.Sprintf(format, args...))
}

// Check holds the record against the order that is promised: no final name
// before the bytes are synced, nothing that leads to something before that is
// durable, and nothing removed while something durable leads to it.
func (d *Disk) Check() Checked {
	var checked Checked
	for _, c := range d.changes {
		if c.to.dir != nil && isFinal(c.toPath) && c.node.mode.IsRegular() {
			checked.Renames++
			if d.dirty(c.node, c.begin) {
				checked.wrong("%s got its name at moment %d and its bytes were not synced", c.toPath, c.begin)
			}
			d.checkAfter(&checked, c)
			d.checkLeads(&checked, c)
		}
		if c.to.dir == nil || !isFinal(c.toPath) {
			d.checkRemoved(&checked, c)
		}
	}
	slices.Sort(checked.Wrong)
	checked.Wrong = slices.Compact(checked.Wrong)
	return checked
}

// checkAfter looks for writes to a file that has its final name.
func (d *Disk) checkAfter(checked *Checked, named *change) {
	until := never
	for _, c := range d.changes {
		if c.end > named.end && c.node == named.node && c.from == named.to {
			until = c.begin
			break
		}
	}
	for _, w := range named.node.writes {
		if w.end > named.begin && w.begin < until && w.size > 0 {
			checked.wrong("%s was written to at moment %d under its final name", named.toPath, w.begin)
			return
		}
	}
}

// checkLeads looks whether all that a ref or a manifest leads to is durable when
// it gets its name.
func (d *Disk) checkLeads(checked *Checked, c *change) {
	running := d.at(c.begin, func(*change) bool { return true })
	durable := d.at(c.begin, func(*change) bool { return false })
	content := string(c.node.small(c.begin))
	first, rest, _ := strings.Cut(c.toPath, "/")
	switch first {
	case cacheDir:
		repo, ref, _ := strings.Cut(rest, "/")
		if !strings.HasPrefix(ref, "refs/") {
			return
		}
		checked.Refs++
		for _, below := range []string{"snapshots/" + content, "trees/" + content + ".json"} {
			d.compare(checked, c, running, durable, path.Join(cacheDir, repo, below))
		}
	case bucketDir:
		bucket, key, found := splitKey(c.toPath)
		if !found {
			return
		}
		checked.Refs++
		kind, name, _ := strings.Cut(key, "/")
		if kind == "refs" {
			repo, _, _ := strings.Cut(name, "/")
			d.reach(checked, c, durable, path.Join(bucket, "manifests", repo+"@"+content+".json"))
		} else {
			d.blobsOf(checked, c, durable, bucket, content)
		}
	}
}

// splitKey takes a ref or a manifest in a bucket apart from the path of the bucket.
func splitKey(name string) (bucket, key string, found bool) {
	elems := strings.Split(name, "/")
	i := slices.IndexFunc(elems, func(e string) bool { return e == "refs" || e == "manifests" })
	if i < 0 || slices.Contains(elems, ".hf-cache-sync") {
		return "", "", false
	}
	return path.Join(elems[:i]...), path.Join(elems[i:]...), true
}

func (d *Disk) blobsOf(checked *Checked, c *change, durable tree, bucket, content string) {
	var m struct {
		Files []struct{ Blob string }
	}
	if err := json.Unmarshal([]byte(content), &m); err != nil {
		checked.wrong("%s is no manifest: %v", c.toPath, err)
	}
	for _, f := range m.Files {
		d.reach(checked, c, durable, path.Join(bucket, "blobs", f.Blob))
	}
}

// reach complains unless what is called name is durable with its bytes.
func (d *Disk) reach(checked *Checked, c *change, durable tree, name string) {
	if n := durable.find(d.top, name); n == nil {
		checked.wrong("%s got its name at moment %d, and %s, to which it leads, was not durable", c.toPath, c.begin, name)
	} else if d.dirty(n, c.begin) {
		checked.wrong("%s got its name at moment %d, and the bytes of %s, to which it leads, were not durable", c.toPath, c.begin, name)
	}
}

// compare complains about each file below name that the running system has and
// that is not durable.
func (d *Disk) compare(checked *Checked, c *change, running, durable tree, name string) {
	n := running.find(d.top, name)
	if n == nil {
		return
	}
	if !n.mode.IsDir() {
		d.reach(checked, c, durable, name)
		return
	}
	if durable.find(d.top, name) == nil {
		checked.wrong("%s got its name at moment %d, and the folder %s was not durable", c.toPath, c.begin, name)
		return
	}
	for entry := range running.list(n) {
		d.compare(checked, c, running, durable, path.Join(name, entry))
	}
}

// checkRemoved looks whether something that is durable leads to a blob that is
// removed.
func (d *Disk) checkRemoved(checked *Checked, c *change) {
	elems := strings.Split(c.fromPath, "/")
	const blob = 4 // hub, the repository, blobs, the name
	if len(elems) != blob || elems[0] != cacheDir || elems[2] != "blobs" || !isFinal(c.fromPath) || strings.Contains(c.toPath, "/quarantine/") {
		return
	}
	checked.Removed++
	durable := d.at(c.begin, func(*change) bool { return false })
	repo := path.Join(elems[:2]...)
	refs := durable.find(d.top, path.Join(repo, "refs"))
	for commit, snapshot := range durable.list(orNone(durable.find(d.top, path.Join(repo, "snapshots")))) {
		if named(durable, refs, commit, c.begin) && linksTo(durable, snapshot, elems[3]) {
			checked.wrong("%s was removed at moment %d, and a durable ref leads to it by the snapshot %s", c.fromPath, c.begin, commit)
		}
	}
}

func orNone(n *node) *node {
	if n == nil {
		return &node{}
	}
	return n
}

// named says whether a ref below dir names the commit.
func named(t tree, dir *node, commit string, at int) bool {
	for _, n := range t.list(orNone(dir)) {
		if n.mode.IsDir() && named(t, n, commit, at) || n.mode.IsRegular() && string(n.small(at)) == commit {
			return true
		}
	}
	return false
}

// linksTo says whether a link below dir leads to the blob.
func linksTo(t tree, dir *node, blob string) bool {
	for _, n := range t.list(dir) {
		if n.mode.IsDir() && linksTo(t, n, blob) || n.mode&fs.ModeSymlink != 0 && path.Base(n.target) == blob {
			return true
		}
	}
	return false
}

// Volatile lists what is final at the end of the record and would be lost, or
// damaged, if the power were lost then.
func (d *Disk) Volatile(below string) []string {
	running := d.at(d.clock, func(*change) bool { return true })
	durable := d.at(d.clock, func(*change) bool { return false })
	var lost []string
	var walk func(dir *node, rel string)
	walk = func(dir *node, rel string) {
		for name, n := range running.list(dir) {
			at := path.Join(rel, name)
			switch {
			case n.mode.IsDir():
				walk(n, at)
			case isFinal(at) && (durable.find(d.top, at) != n || d.dirty(n, d.clock)):
				lost = append(lost, at)
			}
		}
	}
	if top := running.find(d.top, below); top != nil {
		walk(top, below)
	}
	slices.Sort(lost)
	return lost
}

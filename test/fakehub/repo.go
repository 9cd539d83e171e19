package fakehub

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Type is the kind of a repository, in the singular: "model".
type Type string

// The kinds of repository that the Hub serves to cache clients.
const (
	Model   Type = "model"
	Dataset Type = "dataset"
	Space   Type = "space"
	Kernel  Type = "kernel"
)

func (t Type) plural() string { return string(t) + "s" }

// prefix is what stands before the id in a resolve address.
func (t Type) prefix() string {
	if t == Model {
		return ""
	}
	return t.plural() + "/"
}

type repoKey struct {
	kind Type
	id   string
}

// Repo is one repository of a [Server]. Its methods may run while the server
// is being asked.
type Repo struct {
	server  *Server
	key     repoKey
	refs    map[string]*Commit // By revision text: "main", "v1.0", "refs/pr/1".
	tags    map[string]bool    // Which of refs are tags.
	commits map[string]*Commit
}

// Commit is one immutable state of a repository.
type Commit struct {
	id     string
	title  string
	date   time.Time
	parent *Commit
	files  map[string]entry
}

// entry is a file and the commit that last touched its path.
type entry struct {
	File
	last *Commit
}

// ID is the commit's name, 40 hexadecimal digits.
func (c *Commit) ID() string { return c.id }

// Files is the whole commit, sorted by path.
func (c *Commit) Files() []File {
	files := make([]File, 0, len(c.files))
	for _, path := range slices.Sorted(maps.Keys(c.files)) {
		files = append(files, c.files[path].File)
	}
	return files
}

// Digests is the SHA-256 of each file's bytes by the file's path.
func (c *Commit) Digests() map[string]string {
	digests := make(map[string]string, len(c.files))
	for path, f := range c.files {
		digests[path] = f.sha256
	}
	return digests
}

// ID is the repository's id: "org/name", or "name" for the oldest ones.
func (r *Repo) ID() string { return r.key.id }

// Type is the repository's kind.
func (r *Repo) Type() Type { return r.key.kind }

// Commit adds a commit with files on top of ref, and moves ref to it. A ref
// that does not exist yet begins with an empty tree. Files of the state below
// stay unless they are replaced or given by [Delete].
func (r *Repo) Commit(ref string, files ...File) *Commit {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	c := r.newCommit(r.refs[ref], files)
	r.refs[ref] = c
	return c
}

// Branch makes name a branch at c, or moves it there. A name that begins with
// "refs/pr/" is a pull request and one that begins with "refs/convert/" a
// conversion.
func (r *Repo) Branch(name string, c *Commit) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.refs[name] = c
}

// Tag makes name a tag at c.
func (r *Repo) Tag(name string, c *Commit) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.refs[name] = c
	r.tags[name] = true
}

// newCommit computes the id from everything that tells the commit apart, so
// that two runs that do the same have the same ids. The server is locked.
func (r *Repo) newCommit(parent *Commit, files []File) *Commit {
	n := len(r.commits)
	c := &Commit{
		title: fmt.Sprintf("Commit %d", n+1),
		date:  time.Date(2024, time.May, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Hour),
		files: map[string]entry{}, parent: parent,
	}
	if parent != nil {
		maps.Copy(c.files, parent.files)
	}
	h := sha1.New()
	h.Write(fmt.Appendf(nil, "%s %s %d\n", r.key.kind, r.key.id, n))
	for _, f := range files {
		h.Write(fmt.Appendf(nil, "%s %q %t\n", f.oid, f.path, f.deleted))
		if f.deleted {
			delete(c.files, f.path)
			continue
		}
		c.files[f.path] = entry{File: f, last: c}
	}
	c.id = hex.EncodeToString(h.Sum(nil))
	r.commits[c.id] = c
	return c
}

// revision finds the commit that text names, and whether text is the commit's
// own full id, whose answers never change. The server is locked.
func (r *Repo) revision(text string) (c *Commit, pinned bool) {
	if c, pinned = r.commits[text]; pinned {
		return c, true
	}
	if text == "HEAD" {
		text = "main"
	}
	if c = r.refs[text]; c != nil {
		return c, false
	}
	if len(text) < 7 {
		return nil, false
	}
	for id, candidate := range r.commits {
		if strings.HasPrefix(id, text) {
			if c != nil {
				return nil, false
			}
			c = candidate
		}
	}
	return c, false
}

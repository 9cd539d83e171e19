package hfcache

import (
	"regexp"
	"strings"
)

// names knows the file names that clients and systems leave in a cache and that are not content. All of them were seen written by a released client
// or are named in its source; the comments say by which.
type names struct {
	vllmLock   *regexp.Regexp
	refTemp    *regexp.Regexp
	xetHash    *regexp.Regexp
	nameOfTmp  *regexp.Regexp
	oldRootTmp *regexp.Regexp
}

func newNames() *names {
	return &names{
		vllmLock:   regexp.MustCompile(`^[0-9a-f]{64}.*\.lock$`), // vLLM, when its download dir is the cache
		refTemp:    regexp.MustCompile(`\.[0-9a-f]{8}\.tmp$`),    // huggingface_hub >= 1.18, an interrupted ref write
		xetHash:    regexp.MustCompile(`^[0-9a-f]{64}$`),         // a payload of the shared store
		nameOfTmp:  regexp.MustCompile(`^tmp_[0-9a-f-]{36}$`),    // huggingface_hub, umask probe
		oldRootTmp: regexp.MustCompile(`^tmp[0-9a-zA-Z_]{6,}$`),  // huggingface_hub <= 0.20 downloads, >= 1.32 link probes
	}
}

// osJunk are files that file managers drop into every folder they show.
func (*names) osJunk(name string) bool {
	switch name {
	case ".DS_Store", "Thumbs.db", "desktop.ini":
		return true
	}
	return strings.HasPrefix(name, "._") // macOS resource forks on foreign file systems
}

// rootJunk are entries of the cache folder that are no repository and no cause for a question.
func (n *names) rootJunk(name string) bool {
	switch name {
	case locksDir, "CACHEDIR.TAG", "version.txt", ".hf-cache-sync.lock":
		return true
	}
	return n.osJunk(name) || n.vllmLock.MatchString(name) || n.oldRootTmp.MatchString(name)
}

// repoJunk are entries of a repository's folder beside those that mean something.
func (n *names) repoJunk(name string) bool {
	switch name {
	case blobsDir, snapshotsDir, refsDir, noExistDir, treesDir, ourDir:
		return true
	}
	return n.osJunk(name) || n.nameOfTmp.MatchString(name) || n.oldRootTmp.MatchString(name)
}

// temp says whether an entry of blobs/ is an unfinished download, a lock or another leftover rather than content.
func (n *names) temp(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "tmp_") && n.nameOfTmp.MatchString(name) {
		return true // our own, and .<etag>.<8hex>.shared, .new, .old of huggingface_hub >= 1.32
	}
	for _, suffix := range []string{
		".incomplete",         // Python, JS, Rust 1.x
		".part",               // Rust 0.x; ".sync.part" too
		".lock",               // Python <= 0.18, Rust 0.x
		".downloadInProgress", // llama.cpp
		".etag", ".json",      // llama.cpp before it used the Hub's layout
		".tmp", // Python hf-cache-sync 0.1.0
	} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

package histories_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

var repo = hub.Repo{Type: hub.Model, Name: "org/m"}

// content is one file of a commit.
type content struct {
	data []byte
	lfs  bool
}

func (c content) id() hub.BlobID {
	if c.lfs {
		sum := sha256.Sum256(c.data)
		return hub.BlobID(hex.EncodeToString(sum[:]))
	}
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(c.data), c.data))
	return hub.BlobID(hex.EncodeToString(sum[:]))
}

func (c content) entry() manifest.TreeEntry {
	e := manifest.TreeEntry{Size: int64(len(c.data)), BlobID: string(c.id())}
	if c.lfs {
		e.BlobID, e.LFSSHA256, e.LFSSize = strings.Repeat("0", 40), c.id(), e.Size
	}
	return e
}

// revision is a commit on the Hub.
type revision struct {
	number int // how many there were before: a later one has a higher number
	commit hub.Commit
	files  map[hub.Path]content
}

func (r *revision) tree() manifest.Tree {
	tree := manifest.Tree{}
	for p, c := range r.files {
		tree[p] = c.entry()
	}
	return tree
}

// theHub is what everybody downloads from. Branches only move forward.
type theHub struct {
	revisions []*revision
	heads     map[hub.Ref]int
}

func newHub(r *rand.Rand) *theHub {
	h := &theHub{heads: map[hub.Ref]int{}}
	h.commit(r)
	h.heads["main"], h.heads["dev"] = 0, 0
	return h
}

// commit adds a revision: some files change, weights are cut otherwise or change their format, a file comes or goes.
func (h *theHub) commit(r *rand.Rand) *revision {
	next := &revision{number: len(h.revisions), files: map[hub.Path]content{}}
	sum := sha1.Sum(fmt.Appendf(nil, "commit %d", next.number))
	next.commit = hub.Commit(hex.EncodeToString(sum[:]))
	text := func(p hub.Path) content {
		weights := strings.HasPrefix(string(p), "w")
		return content{data: fmt.Appendf(nil, "%s of %d", p, next.number), lfs: weights}
	}
	if next.number > 0 {
		maps.Copy(next.files, h.revisions[next.number-1].files)
	} else {
		for _, p := range []hub.Path{"README.md", "config.json", "tokenizer.json", "w.bin"} {
			next.files[p] = text(p)
		}
	}
	for p := range next.files {
		if r.IntN(3) == 0 {
			next.files[p] = text(p)
		}
	}
	if r.IntN(3) == 0 {
		maps.DeleteFunc(next.files, func(p hub.Path, _ content) bool { return strings.HasPrefix(string(p), "w") })
		for _, p := range [][]hub.Path{{"w.bin"}, {"w-1.bin", "w-2.bin"}, {"w.safetensors"}, {"w.bin", "w.safetensors"}}[r.IntN(4)] {
			next.files[p] = text(p)
		}
	}
	if p := hub.Path("extra.json"); r.IntN(4) == 0 {
		if _, there := next.files[p]; there {
			delete(next.files, p)
		} else {
			next.files[p] = text(p)
		}
	}
	h.revisions = append(h.revisions, next)
	return next
}

// move moves a branch forward: to a new commit, or main to where dev is.
func (h *theHub) move(r *rand.Rand) {
	switch {
	case r.IntN(2) == 0:
		h.heads["dev"] = h.commit(r).number
	case h.heads["main"] < h.heads["dev"]:
		h.heads["main"] = h.heads["dev"]
	default:
		h.heads["main"] = h.commit(r).number
		h.heads["dev"] = h.heads["main"]
	}
}

func (h *theHub) head(ref hub.Ref) *revision { return h.revisions[h.heads[ref]] }

func (h *theHub) find(c hub.Commit) *revision {
	for _, rev := range h.revisions {
		if rev.commit == c {
			return rev
		}
	}
	return nil
}

// Revision implements [engine.Upstream].
func (h *theHub) Revision(_ context.Context, _ hub.Repo, name string) (*engine.UpstreamRevision, error) {
	if name == "" {
		name = "main"
	}
	if _, branch := h.heads[hub.Ref(name)]; branch {
		rev := h.head(hub.Ref(name))
		return &engine.UpstreamRevision{Commit: rev.commit, Ref: hub.Ref(name), Tree: rev.tree()}, nil
	}
	if rev := h.find(hub.Commit(name)); rev != nil {
		return &engine.UpstreamRevision{Commit: rev.commit, Tree: rev.tree()}, nil
	}
	return nil, fmt.Errorf("the Hub has no %q", name)
}

// Open implements [engine.Upstream].
func (h *theHub) Open(_ context.Context, _ hub.Repo, c hub.Commit, p hub.Path, rng store.Range) (io.ReadCloser, int64, error) {
	data := h.find(c).files[p].data
	part := data[rng.Offset:]
	if rng.Length > 0 {
		part = part[:rng.Length]
	}
	return io.NopCloser(bytes.NewReader(part)), int64(len(data)), nil
}

func sortedPaths[V any](m map[hub.Path]V) []hub.Path { return slices.Sorted(maps.Keys(m)) }

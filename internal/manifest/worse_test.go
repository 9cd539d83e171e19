package manifest_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// contents has the given paths, and a listing of these and of those behind "|"; without a "|" nobody knows the listing. A path behind "-" is there and not listed. Those that begin with w are LFS files.
func contents(text string) manifest.Contents {
	has, rest, listed := strings.Cut(text, "|")
	c := manifest.Contents{Has: map[hub.Path]bool{}}
	if listed {
		c.Tree = manifest.Tree{}
	}
	for p := range strings.FieldsSeq(has) {
		name, foreign := strings.CutPrefix(p, "-")
		c.Has[hub.Path(name)] = true
		if listed && !foreign {
			c.Tree[hub.Path(name)] = entryOf(hub.Path(name))
		}
	}
	for p := range strings.FieldsSeq(rest) {
		c.Tree[hub.Path(p)] = entryOf(hub.Path(p))
	}
	return c
}

func entryOf(p hub.Path) manifest.TreeEntry {
	if p[0] == 'w' {
		return manifest.TreeEntry{LFSSHA256: sha256ID}
	}
	return manifest.TreeEntry{}
}

func TestWorse(t *testing.T) {
	for _, test := range []struct {
		name, old, new string
		lost           hub.Path
	}{
		{"two small files of the next commit (unsloth#9347)", "a.json w.bin |", "a.json | w.bin", "w.bin"},
		{"without any listing every path counts", "a.json w.bin", "a.json", "w.bin"},
		{"without the new listing every path counts", "a.json w.bin |", "a.json", "w.bin"},
		{"all that was there is there", "a.json", "a.json b.json", ""},
		{"all that was there is there, of a part", "a.json | w.bin", "a.json | w.bin", ""},
		{"nothing was there", "", "", ""},
		{"nothing was there, something is", "", "a.json | w.bin", ""},
		{"nothing is there", "a.json", "", "a.json"},
		{"dropped by a commit that is complete", "a.json w.bin |", "a.json w.safetensors |", ""},
		{"weights cut otherwise, and all there", "a.json w.bin | x", "a.json w-1.bin w-2.bin | x", ""},
		{"weights cut otherwise, and only some there", "a.json w.bin | x", "a.json w-1.bin | w-2.bin x", "w.bin"},
		{"dropped, and nothing listed has its extension", "a.json w.bin | x", "a.json | x", ""},
		{"weights in another format, and not there", "a.json w.bin", "a.json | w.safetensors", "w.bin"},
		{"weights in another format, and there", "a.json w.bin", "a.json w.safetensors | README.md", ""},
		{"weights in two other formats, and one of them there", "a.json w.bin", "a.json w.safetensors | w.msgpack", ""},
		{"weights in another format, and a part of them there", "a.json w.bin", "a.json w-1.safetensors | w-2.safetensors", "w.bin"},
		{"an empty listing is none", "a.json w.bin", "-a.json |", "w.bin"},
		{"complete, and then not", "a.json |", "a.json | README.md", "README.md"},
		{"a file beside the repository's own", "a.json -np/cache |", "a.json |", ""},
		{"a file that this platform cannot have", "a.json con |", "a.json | con", ""},
		{"only a file that this platform cannot have is missing", "a.json |", "a.json | con", ""},
		{"without an extension", "LICENSE a.json | x.y", "a.json | COPYING x.y", "LICENSE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			loss := manifest.Worse(contents(test.old), contents(test.new), func(p hub.Path) bool { return p != "con" })
			var got hub.Path
			if loss != nil {
				got = loss.Path
			}
			if got != test.lost {
				t.Errorf("%q to %q loses %q, want %q", test.old, test.new, got, test.lost)
			}
		})
	}
}

// For any two commits: one that is complete is never worse; nor is one that has all that is there of itself and of the other, unless the other is complete; what a loss names is missing; and who could load
// all of a commit by its ref still can when the ref has moved.
func TestWorseProperties(t *testing.T) {
	names := []hub.Path{"a.json", "b.json", "w.bin", "w-1.bin", "w.safetensors", "README.md", "LICENSE"}
	random := func(r *rand.Rand) manifest.Contents {
		c := manifest.Contents{Has: map[hub.Path]bool{}}
		if r.IntN(4) > 0 {
			c.Tree = manifest.Tree{}
		}
		for _, p := range names {
			if c.Tree != nil && r.IntN(3) > 0 {
				c.Tree[p] = entryOf(p)
			}
			if _, listed := c.Tree[p]; (listed || c.Tree == nil) && r.IntN(3) > 0 {
				c.Has[p] = true
			}
		}
		if c.Tree != nil && r.IntN(3) == 0 {
			for p := range c.Tree {
				c.Has[p] = true
			}
		}
		return c
	}
	complete := func(c manifest.Contents) bool { return len(c.Tree) > 0 && len(c.Has) == len(c.Tree) }
	moved, kept := 0, 0
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 2))
		old, new := random(r), random(r)
		fail := func(why string) {
			t.Fatalf("seed %d: %s\nold %v of %v\nnew %v of %v", seed, why, paths(old.Has), paths(old.Tree), paths(new.Has), paths(new.Tree))
		}
		loss := manifest.Worse(old, new, nil)
		if loss == nil {
			moved++
		} else {
			kept++
		}
		superset := !slices.ContainsFunc(paths(old.Has), func(p hub.Path) bool { return !new.Has[p] })
		switch {
		case loss != nil && (complete(new) || len(old.Has) == 0 && !complete(old)):
			fail("it stays for nothing: " + loss.String())
		case loss != nil && superset && !complete(old):
			fail("nothing would be missing, and it stays: " + loss.String())
		case loss != nil && (new.Has[loss.Path] || loss.Incomplete == old.Has[loss.Path]):
			fail("it names a path that would not be missing: " + loss.String())
		case loss == nil && complete(old) && len(new.Tree) > 0 && !complete(new):
			fail("a complete commit gives way to a part")
		}
		for p := range old.Has {
			if _, listed := new.Tree[p]; loss == nil && !new.Has[p] && (len(new.Tree) == 0 || listed) {
				fail("it moves, and is lost: " + string(p))
			}
			for q := range new.Tree {
				if loss == nil && !new.Has[p] && !new.Has[q] && path.Ext(string(p)) == path.Ext(string(q)) {
					fail(fmt.Sprintf("it moves, and of %s and %s there is neither", p, q))
				}
			}
		}
		if manifest.Worse(old, old, nil) != nil {
			fail("a commit is worse than itself")
		}
	}
	if moved < 1000 || kept < 1000 {
		t.Errorf("%d moved, %d kept: the made-up commits say little", moved, kept)
	}
}

func paths[V any](m map[hub.Path]V) []hub.Path { return slices.Sorted(maps.Keys(m)) }

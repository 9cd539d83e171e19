package scale_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
)

// TestPushOfNothingNew pushes a cache that the bucket has already, into a small
// bucket and into a large one: what it asks grows with the cache alone.
func TestPushOfNothingNew(t *testing.T) {
	sizes := []int{100, proof.Times(500, 5000)}
	var asked [2][2]map[string]int // By bucket and by cache.
	caches := []int{10, 50}
	var homes []string
	for _, revisions := range caches {
		home := homeDir(t)
		writeCache(t, home, 0, revisions, filesEach)
		homes = append(homes, home)
	}
	figures := ""
	runs := 0
	for i, size := range sizes {
		b := newBucket(t, size)
		for j, revisions := range caches {
			var report struct {
				Blobs struct {
					Uploaded int `json:"uploaded"`
				} `json:"blobs"`
			}
			b.asked(t)
			b.measure(t, homes[j], "push", "--json", "--yes").decode(t, &report)
			asked[i][j] = b.asked(t)
			runs++
			refs := revisions / 5
			// One for each revision, one for each ref, and as many again for all that does not grow.
			if bound := revisions + refs + 10; total(asked[i][j]) > bound {
				t.Errorf("a push of %d revisions, %d refs, with nothing new into a bucket of %d revisions made %v requests, more than %d",
					revisions, refs, size, asked[i][j], bound)
			}
			if asked[i][j]["PUT"]+asked[i][j]["LIST"] > 1 {
				t.Errorf("a push of nothing new: %v", asked[i][j])
			}
			figures += fmt.Sprintf("; %d revisions, %d blobs there: %d", revisions, b.blobs, total(asked[i][j]))
		}
	}
	if diff := cmp.Diff(asked[0], asked[1]); diff != "" {
		t.Errorf("requests depend on the bucket's size (-small +large):\n%s", diff)
	}
	t.Log(figures[2:])
	proof.Row{
		Class: proof.Scale, Times: runs, Tried: "pushes with nothing new, into a small and into a large bucket",
		Figures: "requests: " + figures[2:],
	}.Record(t)
}

// TestMemory bounds the memory of commands that look at all of a large bucket
// and at all of a large cache.
func TestMemory(t *testing.T) {
	most := int64(proof.Times(90, 150)) << 20
	revisions, repos, files := proof.Times(500, 5000), proof.Times(4, 20), 5000
	b := newBucket(t, revisions)
	home := homeDir(t)
	// Half of the cache is one revision, and the other half is many.
	writeCache(t, home, revisions, revisions+1, repos*files/2)
	writeCache(t, home, revisions+5, revisions+5+repos/2, files)
	links := repos * files
	large := 0
	figures := ""
	commands := [][]string{
		{"list", "--json"},
		{"list", "--revisions"},
		{"status", "--local"},
		{"list", "--remote"},
		{"list", "--remote", "--revisions"},
		{"diff"},
		{"status"},
	}
	for _, args := range commands {
		b.asked(t)
		m := b.measure(t, home, args...)
		if m.peak > most {
			t.Errorf("%q took %s of memory, more than %s", args, mib(m.peak), mib(most))
			large++
		}
		t.Logf("%q: %s, %v", args, mib(m.peak), b.asked(t))
		figures += fmt.Sprintf("; %s %s", args[0], mib(m.peak))
	}
	proof.Row{
		Class: proof.Scale, Times: len(commands), Lost: large,
		Tried:   fmt.Sprintf("commands that look at %d blobs in %d revisions of a bucket, or at a cache of %d files, within %s of memory", b.blobs, revisions, links, mib(most)),
		Figures: "at most: " + figures[2:],
	}.Record(t)
}

package hfcache

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// errKilled is what a test panics with to end a removal where it stands.
type errKilled struct{}

// A process that is killed between any two changes leaves a cache that clients and scans find nothing wrong with, and the next prune goes on from there.
func TestRemoveKilledAtEveryStep(t *testing.T) {
	for kill := 1; ; kill++ {
		entries := sharedByTwo()
		for _, folder := range []string{scanRepo, sweepSecond} {
			entries[folder+"refs/refs/pr/1"] = scanCommit
			entries[folder+"blobs/own"] = "own"
			entries[folder+"snapshots/"+scanCommit+"/sub/own"] = "->../../../blobs/own"
			entries[folder+"snapshots/"+scanCommit+"/real"] = "real"
			entries[folder+".no_exist/"+scanCommit+"/x"] = ""
		}
		entries[removeOther+"a"] = "->../../blobs/own" // the first repository keeps another revision
		dir := layout(t, entries)
		all := func(r *Remover) error {
			for _, repo := range []hub.Repo{quarantineRepo, secondRepo} {
				if _, err := r.Revision(t.Context(), repo, scanCommit, []hub.Ref{"main", "refs/pr/1"}, []string{scanSHA, "own"}); err != nil {
					return err
				}
			}
			return nil
		}
		r := remover(t, dir)
		steps := 0
		r.step = func(what string) {
			steps++
			wantSound(t, r.cache, what)
			if steps == kill {
				panic(errKilled{})
			}
		}
		killed := func() (killed bool) {
			defer func() {
				if what := recover(); what != nil {
					killed = true
					if _, ours := what.(errKilled); !ours {
						panic(what)
					}
				}
			}()
			finish(t, all(r))
			return false
		}()

		r = remover(t, dir)
		for _, repo := range []hub.Repo{quarantineRepo, secondRepo} {
			_, err := r.Leftover(t.Context(), Leftover{Repo: repo, Place: repo.Folder() + "/" + trashDir, Kind: LeftoverTrash})
			finish(t, err)
		}
		finish(t, all(r))
		for _, repo := range []hub.Repo{quarantineRepo, secondRepo} {
			_, err := r.Blobs(t.Context(), repo, []string{scanSHA, "own"})
			finish(t, err)
		}
		_, err := r.Payload(t.Context(), sweepPlace)
		finish(t, err)
		wantSound(t, r.cache, "the end")
		want := []string{
			"blobs/.huggingface-shared-blobs", sweepPlace + ".lock", removeBlobs + "own", removeOther + "a -> ../../blobs/own",
		}
		got := slices.DeleteFunc(remains(t, dir), func(name string) bool { return name == sweepPlace+".refs" }) // killed before the last removal of all
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("killed at step %d, the cache (-want +got):\n%s", kill, diff)
		}
		if !killed {
			if kill < 20 {
				t.Errorf("there were only %d steps", kill-1)
			}
			return
		}
	}
}

// wantSound makes sure that nothing is missing that a client would look for: no link dangles, and no ref names a commit without a snapshot.
func wantSound(t *testing.T, c *Cache, when string) {
	t.Helper()
	inv, err := c.Scan(t.Context(), nil)
	finish(t, err)
	for _, p := range inv.Problems {
		t.Errorf("%s: %s", when, p)
	}
	for _, repo := range inv.Repos {
		for _, ref := range repo.Refs {
			lstat(t, filepath.Join(c.dir, repo.ID.Folder(), "snapshots", string(ref.Commit)))
		}
	}
}

func TestRemoveEmptyRepository(t *testing.T) {
	oneRevision := map[string]string{
		removeBlobs + "first": "first", scanSnap + "sub/b": "->../../../blobs/first", scanRepo + "refs/refs/pr/1": scanCommit, scanRepo + "refs/v1": scanCommit,
		scanRepo + "trees/" + scanCommit + ".json": scanTree, scanRepo + ".no_exist/" + scanCommit + "/x": "",
	}
	for _, test := range []struct {
		name  string
		extra map[string]string
		young string // a folder that is young when we come
		want  []string
		stays bool
	}{
		{name: "nothing is left"},
		{name: "a blob is left", extra: map[string]string{removeBlobs + "none": "none"}, want: []string{"blobs/none"}, stays: true},
		{name: "an empty snapshot is left", extra: map[string]string{removeOther: ""}, stays: true},
		{name: "a quarantined file is left", extra: map[string]string{scanRepo + quarantineDir + "/x": "x"}, want: []string{quarantineDir + "/x"}, stays: true},
		{name: "a listing is left", extra: map[string]string{scanRepo + "trees/" + quarantineOther + ".json": "{}"}, want: []string{"trees/" + quarantineOther + ".json"}, stays: true},
		{name: "a client has just made blobs", young: "blobs", stays: true},
		{name: "a client has just made snapshots", young: "snapshots", stays: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries := maps.Clone(oneRevision)
			maps.Copy(entries, test.extra)
			dir := layout(t, entries)
			if test.young != "" {
				touch(t, filepath.Join(dir, scanRepo, test.young))
			}
			lock := filepath.Join(dir, ".locks", scanRepo, "first.lock")
			put(t, lock, "")
			out := removing(t, dir, func() (Removed, error) { return remover(t, dir).first(t) })
			if out.Skipped != nil {
				t.Errorf("skipped %v", out.Skipped)
			}
			lstat(t, lock)
			if !test.stays {
				if diff := cmp.Diff([]string(nil), remains(t, dir)); diff != "" {
					t.Errorf("the cache (-want +got):\n%s", diff)
				}
				if _, err := os.Lstat(filepath.Join(dir, scanRepo)); err == nil {
					t.Error("the folder is still there")
				}
				return
			}
			wantListing(t, filepath.Join(dir, scanRepo), test.want...)
			lstat(t, filepath.Join(dir, scanRepo, "snapshots")) // else a client's scan warns
		})
	}
}

// A client that comes back while the folders go finds, or makes, what it needs.
func TestRemoveEmptyRepositoryInUse(t *testing.T) {
	dir := layout(t, map[string]string{scanRepo + "snapshots/": "", scanRepo + "refs/": "", scanRepo + "blobs/": ""})
	r := remover(t, dir)
	r.step = func(what string) {
		if what == "removed the folder snapshots" {
			put(t, filepath.Join(dir, removeBlobs, "x.incomplete"), "")
		}
	}
	out := removing(t, dir, func() (Removed, error) {
		return r.Leftover(t.Context(), Leftover{Repo: quarantineRepo, Place: "models--org--name", Kind: LeftoverEmpty})
	})
	if len(out.Skipped) != 1 {
		t.Errorf("skipped %v", out.Skipped)
	}
	wantListing(t, filepath.Join(dir, scanRepo), "blobs/x.incomplete")
	lstat(t, filepath.Join(dir, scanRepo, "snapshots"))
}

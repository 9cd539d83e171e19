package races_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// revision is a commit with so many small files, and all of its content differs
// from that of every other label.
func revision(label string, files, size int) testenv.Revision {
	r := testenv.Revision{Repo: "org/name", Commit: testenv.Commit(label), Refs: []string{"main"}}
	for i := range files {
		data := append(fmt.Appendf(nil, "%s %d ", label, i), testenv.Noise(uint64(i), size)...)
		r.Files = append(r.Files, testenv.Content{Path: fmt.Sprintf("parts/%02d.bin", i), Data: data, LFS: i%2 == 0})
	}
	return r
}

// part is a machine that has only some files of the revision. It knows the
// listing of all, as clients do, or of none.
func part(t *testing.T, r testenv.Revision, listed bool, has func(i int) bool) (home string) {
	t.Helper()
	home = t.TempDir()
	some := r
	some.Bare, some.Files = true, nil
	for i, f := range r.Files {
		if has(i) {
			some.Files = append(some.Files, f)
		}
	}
	some.WriteCache(t, cacheOf(home))
	if listed {
		tree := testenv.JSON(t, map[string]any{"format_version": 1, "files": r.Tree()})
		testenv.WriteFile(t, filepath.Join(cacheOf(home), r.Folder(), "trees", r.Commit+".json"), tree)
	}
	return home
}

// manifestPaths are the paths that the bucket's manifest of r names, with their
// blobs.
func manifestPaths(t *testing.T, dir string, r testenv.Revision) map[string]string {
	t.Helper()
	var m struct {
		Files []struct{ Path, Blob string }
	}
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(r.ManifestKey())))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		t.Errorf("the manifest: %v", err)
	}
	paths := map[string]string{}
	for _, f := range m.Files {
		paths[f.Path] = f.Blob
	}
	return paths
}

// TestPushersOfOneCommit lets machines that each have other files of one commit
// push at the same moment: the manifest ends with all of them.
func TestPushersOfOneCommit(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		for _, pushers := range []int{2, 6} {
			t.Run(fmt.Sprintf("%s/%d", kind, pushers), func(t *testing.T) {
				t.Parallel()
				rounds := times(kind, map[int]int{2: 4, 6: 2}[pushers], map[int]int{2: 60, 6: 20}[pushers])
				r := revision("merge", 12, 2000)
				var homes []string
				for p := range pushers {
					homes = append(homes, part(t, r, p%2 == 0, func(i int) bool { return i%pushers == p || i == 0 }))
				}
				want := map[string]string{}
				for _, f := range r.Files {
					want[f.Path] = f.ID()
				}
				lost := 0
				for range rounds {
					b := newBucket(t, kind)
					var runs []*process
					for _, home := range homes {
						runs = append(runs, b.start(t, home, "push", "--yes"))
					}
					good := true
					for _, run := range runs {
						good = run.mustWait(t) && good
					}
					if diff := cmp.Diff(want, manifestPaths(t, b.dir, r)); diff != "" {
						t.Errorf("the manifest (-want +got):\n%s", diff)
						good = false
					}
					var audit testenv.Auditor
					audit.Bucket(t, b.dir)
					if !good {
						lost++
					}
				}
				b := newBucket(t, kind)
				for _, home := range homes {
					b.must(t, home, "push", "--yes")
				}
				away := t.TempDir()
				b.must(t, away, "pull", r.Repo, "--require-complete")
				r.Compare(t, cacheOf(away))
				proof.Row{
					Class: proof.Races, Times: rounds, Lost: lost,
					Tried: fmt.Sprintf("%d machines push different files of one commit at once, bucket %s", pushers, kindName(kind)),
				}.Record(t)
			})
		}
	}
}

// times is [proof.Times], and half as often where every write takes a second:
// without conditional writes it is read back after that.
func times(kind string, some, full int) int {
	n := proof.Times(some, full)
	if kind == "unconditional" {
		n /= 2
	}
	return n
}

// kindName is how the page calls a kind of bucket.
func kindName(kind string) string {
	switch kind {
	case "unconditional":
		return "on S3 without conditional writes"
	case "s3":
		return "on S3"
	}
	return "in a folder"
}

// TestPushesOfOneCache pushes one cache eight times at once: the bucket ends as
// after one push. How much is uploaded more than once is told.
func TestPushesOfOneCache(t *testing.T) {
	const pushes = 8
	rounds := proof.Times(1, 8)
	r := revision("same", 30, 200_000)
	home := t.TempDir()
	r.WriteCache(t, cacheOf(home))
	var bytes int64
	for _, f := range r.Files {
		bytes += int64(len(f.Data))
	}
	var stored int64
	lost := 0
	for range rounds {
		b, p := behindProxy(t, nil)
		var runs []*process
		for range pushes {
			runs = append(runs, b.start(t, home, "push", "--yes"))
		}
		good := true
		for _, run := range runs {
			good = run.mustWait(t) && good
		}
		if diff := cmp.Diff(testenv.ObjectKeys(r), testenv.Keys(t, b.dir)); diff != "" {
			t.Errorf("the bucket's keys (-want +got):\n%s", diff)
			good = false
		}
		var audit testenv.Auditor
		audit.Bucket(t, b.dir)
		_, up := p.totals()
		stored += up
		if !good {
			lost++
		}
	}
	times := float64(stored) / float64(bytes*int64(rounds))
	t.Logf("%d pushes of one cache at once upload its bytes %.2f times", pushes, times)
	if times > pushes+1 {
		t.Errorf("they were uploaded %.2f times", times)
	}
	proof.Row{
		Class: proof.Races, Times: rounds, Lost: lost,
		Tried:   fmt.Sprintf("%d pushes of one cache at once", pushes),
		Figures: fmt.Sprintf("the bytes are uploaded %.1f times, which is harmless: blobs never change", times),
	}.Record(t)
}

// TestMovingRef lets two machines move a branch from commit to commit, in turns and
// each time by news that is newer, while others pull it. A pull gives one commit,
// whole. The branch ends where the newest news says.
func TestMovingRef(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			moves, pullers := proof.Times(6, 60), 2
			b := newBucket(t, kind)
			var commits []testenv.Revision
			machines := []string{t.TempDir(), t.TempDir()}
			for i := range moves + 1 {
				r := revision(fmt.Sprintf("moving %d", i), 6, 500)
				commits = append(commits, r)
				for _, home := range machines {
					r.WriteCache(t, cacheOf(home))
				}
			}
			base := time.Now().Add(-24 * time.Hour)
			move := func(home string, k int) bool {
				r := commits[k]
				ref := filepath.Join(cacheOf(home), r.Folder(), "refs", "main")
				testenv.WriteFile(t, ref, []byte(r.Commit))
				at := base.Add(time.Duration(k) * time.Second)
				if err := os.Chtimes(ref, at, at); err != nil {
					t.Error(err)
				}
				return b.must(t, home, "push", "--yes")
			}
			move(machines[0], 0)
			var bad tally
			var pushing, pulling sync.WaitGroup
			over := make(chan struct{})
			for m, home := range machines {
				pushing.Go(func() {
					for k := 1 + m; k <= moves; k += len(machines) {
						bad.count(move(home, k))
					}
				})
			}
			pulls := make([]int, pullers)
			for p := range pullers {
				pulling.Go(func() {
					for done := false; !done; pulls[p]++ {
						select {
						case <-over:
							done = true // Once more, after the last move.
						default:
						}
						bad.count(pullsOne(t, b, commits))
					}
				})
			}
			pushing.Wait()
			close(over)
			pulling.Wait()
			last := commits[moves]
			if got, err := os.ReadFile(filepath.Join(b.dir, "refs", last.Key(), "main")); err != nil || string(got) != last.Commit {
				t.Errorf("the branch ends at %q, %v; want %s", got, err, last.Commit)
				bad.count(false)
			}
			times := 0
			for _, n := range pulls {
				times += n
			}
			proof.Row{
				Class: proof.Races, Times: times, Lost: min(bad.lost, times),
				Tried:   "pulls of a branch that two machines move, bucket " + kindName(kind),
				Figures: fmt.Sprintf("%d moves", moves),
			}.Record(t)
		})
	}
}

// TestNewestNewsWins lets two machines move a branch at the same moment, to
// different commits: the one that learned later has its way, whoever comes
// first. Every other time the branch is there before, at a third commit.
func TestNewestNewsWins(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			rounds := times(kind, 4, 60)
			var homes [3]string
			var commits [3]testenv.Revision
			for i := range homes {
				homes[i], commits[i] = t.TempDir(), revision(fmt.Sprintf("news %d", i), 2, 100)
				commits[i].WriteCache(t, cacheOf(homes[i]))
			}
			base := time.Now().Add(-24 * time.Hour)
			learned := func(machine int, after time.Duration) {
				ref, at := filepath.Join(cacheOf(homes[machine]), commits[machine].Folder(), "refs", "main"), base.Add(after)
				if err := os.Chtimes(ref, at, at); err != nil {
					t.Fatal(err)
				}
			}
			lost := 0
			for round := range rounds {
				b := newBucket(t, kind)
				learned(0, 0)
				newest := 1 + round/2%2
				learned(newest, 2*time.Hour)
				learned(3-newest, time.Hour)
				good := round%2 == 0 || b.must(t, homes[0], "push", "--yes")
				runs := []*process{b.start(t, homes[1], "push", "--yes"), b.start(t, homes[2], "push", "--yes")}
				for _, run := range runs {
					good = run.mustWait(t) && good
				}
				want := commits[newest]
				if got, err := os.ReadFile(filepath.Join(b.dir, "refs", want.Key(), "main")); err != nil || string(got) != want.Commit {
					t.Errorf("round %d: the branch is at %q, %v; want %s", round, got, err, want.Commit)
					good = false
				}
				if !good {
					lost++
				}
			}
			proof.Row{
				Class: proof.Races, Times: rounds, Lost: lost,
				Tried: "two machines move a branch to different commits at once, bucket " + kindName(kind),
			}.Record(t)
		})
	}
}

// pullsOne pulls the branch into a new cache, and says whether it got one of the
// commits, whole.
func pullsOne(t *testing.T, b bucket, commits []testenv.Revision) bool {
	t.Helper()
	home := t.TempDir()
	if !b.must(t, home, "pull", commits[0].Repo, "--require-complete") {
		return false
	}
	repo := filepath.Join(cacheOf(home), commits[0].Folder())
	at, err := os.ReadFile(filepath.Join(repo, "refs", "main"))
	if err != nil {
		t.Errorf("the ref of a pull: %v", err)
		return false
	}
	snapshots, err := os.ReadDir(filepath.Join(repo, "snapshots"))
	if err != nil || len(snapshots) != 1 || snapshots[0].Name() != string(at) {
		t.Errorf("the snapshots of a pull of %s: %v, %v", at, snapshots, err)
		return false
	}
	for _, r := range commits {
		if r.Commit == string(at) {
			r.Compare(t, cacheOf(home))
			return !t.Failed()
		}
	}
	t.Errorf("the branch is at %s, which nobody pushed", at)
	return false
}

package races_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// bulky is a revision with large files, which are fetched in parts, and with
// small ones.
func bulky() (r testenv.Revision, size int64) {
	r = testenv.Revision{Repo: "org/bulky", Commit: testenv.Commit("bulky"), Refs: []string{"main"}}
	for i, bytes := range []int{40 << 20, 20 << 20, 20 << 20, 18 << 20} {
		r.Files = append(r.Files, testenv.Content{Path: fmt.Sprintf("model-%d.safetensors", i), Data: testenv.Noise(uint64(i), bytes), LFS: true})
	}
	for i := range 60 {
		r.Files = append(r.Files, testenv.Content{Path: fmt.Sprintf("parts/%02d.json", i), Data: testenv.Noise(uint64(100+i), 20_000), LFS: i%2 == 0})
	}
	for _, f := range r.Files {
		size += int64(len(f.Data))
	}
	return r, size
}

// TestPullsOfOneRepository pulls one repository into one cache, eight times at
// once: each byte of the large files is fetched once, by whichever has the file's
// lock. Small ones are not locked, and some are fetched by several. Then again,
// with the first killed when half of it is there: the others carry on from what
// had arrived whole.
func TestPullsOfOneRepository(t *testing.T) {
	const pulls = 8
	r, size := bulky()
	for name, kill := range map[string]bool{"all live": false, "one is killed": true} {
		t.Run(name, func(t *testing.T) {
			rounds := proof.Times(1, 8)
			lost, worstLarge, worst := 0, 0.0, 0.0
			for range rounds {
				b, p := behindProxy(t, nil)
				r.WriteBucket(t, b.dir)
				home := t.TempDir()
				var runs []*process
				if kill {
					first := b.start(t, home, "pull", r.Repo)
					half := make(chan struct{})
					var once sync.Once
					p.watch(func(served int64) {
						if served > size/2 {
							once.Do(func() { close(half) })
						}
					})
					for range pulls - 1 {
						runs = append(runs, b.start(t, home, "pull", r.Repo, "--require-complete"))
					}
					<-half
					_ = first.cmd.Process.Kill() // It may have ended.
					first.wait(t)
				} else {
					for range pulls {
						runs = append(runs, b.start(t, home, "pull", r.Repo, "--require-complete"))
					}
				}
				good := true
				for _, run := range runs {
					good = run.mustWait(t) && good
				}
				r.Compare(t, cacheOf(home))
				var audit testenv.Auditor
				audit.Cache(t, cacheOf(home)) // What the dead one left behind under names of its own may stay for a day.
				all, large := p.ratios(r)
				worst, worstLarge = max(worst, all), max(worstLarge, large)
				if !good || t.Failed() {
					lost++
				}
			}
			t.Logf("%d pulls at once, %s: the bucket serves the bytes %.2f times, those of large files %.2f times", pulls, name, worst, worstLarge)
			// What is on its way when the process dies is fetched again, and nothing a third time.
			if most := map[bool]float64{false: 1, true: 2}[kill]; worstLarge > most {
				t.Errorf("the bucket has served the bytes of a large file %.2f times", worstLarge)
			}
			proof.Row{
				Class: proof.Races, Times: rounds * pulls, Lost: lost,
				Tried:   fmt.Sprintf("%d pulls of one repository into one cache at once, %s", pulls, name),
				Figures: fmt.Sprintf("the bucket serves the bytes %.2f times at worst, those of any large file %.2f times", worst, worstLarge),
			}.Record(t)
		})
	}
}

// TestPullBesidePruneBesideClient has three at work on one cache: pulls of a
// branch that goes back and forth between commits that share files, prunes that
// take whatever no branch names any more, and downloads by the real client from
// the Hub of a branch that moves. Whatever a pull or a download has just brought
// loads, whole.
func TestPullBesidePruneBesideClient(t *testing.T) {
	t.Parallel()
	rounds := proof.Times(4, 60)
	client := testenv.Python(t, "2.4.0")
	hub := fakehub.New()
	web := httptest.NewServer(hub)
	t.Cleanup(web.Close)
	b := newBucket(t, "file")
	home := t.TempDir()

	// What the two have in common is an orphan for a moment when a prune has taken one and the other is about to come.
	commits := []testenv.Revision{revision("here", 20, 20_000), revision("there", 20, 20_000)}
	for i := range 10 {
		commits[1].Files[i] = commits[0].Files[i]
	}
	for _, r := range commits {
		r.WriteBucket(t, b.dir)
	}
	testenv.Mkdir(t, cacheOf(home)) // Or the first prune finds no cache.
	over := make(chan struct{})
	var pruning sync.WaitGroup
	var bad tally
	var prunes, removed int
	pruning.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			// Shorter than any of the work takes is no grace at all: it is the other rules that are tried here.
			// The bucket does not hold what the client downloads.
			testenv.AgeDetached(t, cacheOf(home), 2*time.Second)
			p := b.start(t, home, "prune", "--yes", "--unsafe", "--max-size", "0", "--grace", "2s", "--json")
			bad.count(p.mustWait(t))
			prunes++
			if !strings.Contains(p.output.String(), `"freed": 0,`) {
				removed++
			}
		}
	})
	base := time.Now().Add(-24 * time.Hour)
	for k := range rounds {
		r := commits[k%2]
		ref := fmt.Sprintf("%s/refs/%s/main", b.dir, r.Key())
		testenv.WriteFile(t, ref, []byte(r.Commit))
		at := base.Add(time.Duration(k) * time.Second)
		if err := os.Chtimes(ref, at, at); err != nil {
			t.Fatal(err)
		}
		repo := hub.Repo(fakehub.Model, "acme/moving")
		commit := repo.Commit("main", fakehub.Git("config.json", fmt.Appendf(nil, "%d", k)), fakehub.Git("same.json", []byte("{}")))
		var both sync.WaitGroup
		both.Go(func() { bad.count(b.must(t, home, "pull", r.Repo, "--require-complete")) })
		both.Go(func() {
			o := client.Run(t, home, web.URL, testenv.Step{"do": "download", "repo": repo.ID(), "revision": "main"})[0]
			if o.Error != "" {
				t.Errorf("a download: %s", o)
				bad.count(false)
			}
		})
		both.Wait()
		for name, want := range map[string]string{r.Repo: r.Commit, repo.ID(): commit.ID()} {
			o := client.Run(t, home, "", testenv.Step{"do": "offline", "repo": name, "revision": "main"})[0]
			if o.Error != "" || !strings.Contains(string(o.OK), want) {
				t.Errorf("round %d: loading %s gives %s, want %s", k, name, o, want)
				bad.count(false)
			}
		}
		r.CompareFiles(t, cacheOf(home), paths(r)...)
	}
	close(over)
	pruning.Wait()
	if removed == 0 {
		t.Error("no prune has removed anything")
	}
	var audit testenv.Auditor
	audit.Cache(t, cacheOf(home))
	if t.Failed() {
		bad.count(false)
	}
	proof.Row{
		Class: proof.Races, Times: 2 * rounds, Lost: min(bad.lost, 2*rounds),
		Tried:   "a pull and a download by huggingface_hub beside prunes of the same cache",
		Figures: fmt.Sprintf("%d prunes, of which %d removed something", prunes, removed),
	}.Record(t)
}

func paths(r testenv.Revision) (all []string) {
	for _, f := range r.Files {
		all = append(all, f.Path)
	}
	return all
}

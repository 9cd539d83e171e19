package faults_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/faultproxy"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
)

// surmountable are the faults that a client can do something about. Those that
// take long happen to a path a single time.
func surmountable() []*faultproxy.Fault {
	return []*faultproxy.Fault{
		faultproxy.Internal(),
		faultproxy.BadGateway(),
		faultproxy.SlowDown(0),
		faultproxy.ResetFirst(),
		faultproxy.ResetSending(),
		faultproxy.ResetAnswering(),
		faultproxy.Cut(),
		faultproxy.LostAnswer(),
		faultproxy.FailedAnswer(),
		faultproxy.ErrorInOK(false),
		faultproxy.ErrorInOK(true),
		faultproxy.Flip().AtMostOnce(),
		faultproxy.Vanish(faultproxy.Part),
		faultproxy.Drip(),
		faultproxy.StallFirst().AtMostOnce(),
		faultproxy.StallSending().AtMostOnce(),
		faultproxy.StallAnswering().AtMostOnce(),
	}
}

// TestRandom has three of ten requests of whole pushes and pulls meet a fault,
// whichever, in as many ways as there are seeds.
func TestRandom(t *testing.T) {
	t.Parallel()
	const percent = 30
	var mu sync.Mutex
	requests, faulty, lost := 0, 0, 0
	kinds := map[string]int{}
	var waste again
	seeds := proof.Times(8, 200)
	t.Run("seeds", func(t *testing.T) {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				s, r := newSite(t, patchy()), model()
				s.Use(faultproxy.Random(seed, percent, surmountable()...))
				from, to := home(t, r), t.TempDir()
				s.must(t, 0, from, "push")
				s.checkBucket(t, r)
				s.must(t, 0, to, "pull", r.Repo)
				checkCache(t, to, r)
				up, down := s.Moved()
				if got := s.must(t, 0, to, "status"); !strings.Contains(got.Stdout, "bucket") {
					t.Errorf("status: %s", got)
				}
				s.must(t, 0, to, "verify", "--remote")
				all, bad := s.Totals()
				mu.Lock()
				defer mu.Unlock()
				requests, faulty = requests+all, faulty+bad
				waste.add(t, r, up)
				waste.add(t, r, down)
				for kind, n := range s.Counts() {
					kinds[kind] += n
				}
				if t.Failed() {
					lost++
				}
			})
		}
	})
	if faulty == 0 {
		t.Error("nothing happened")
	}
	proof.Row{
		Class: proof.Faults, Tried: fmt.Sprintf("pushes and pulls of which %d %% of the requests fail, in %d ways at random", percent, len(kinds)),
		Times: seeds, Lost: lost, Figures: fmt.Sprintf("%d of %d requests failed; %s; %s", faulty, requests, &waste, list(kinds)),
	}.Record(t)
}

// total are the ways in which every request can fail.
func total() []*faultproxy.Fault {
	return []*faultproxy.Fault{
		faultproxy.Internal(),
		faultproxy.BadGateway(),
		faultproxy.SlowDown(0),
		faultproxy.Refuse(http.StatusGatewayTimeout, "GatewayTimeout", "Nobody is there."),
		faultproxy.ResetFirst(),
		faultproxy.StallFirst(),
	}
}

// TestNothingWorks has every request of every command fail. Commands that need
// the bucket end with 7, those that tell about it say so, and all end.
func TestNothingWorks(t *testing.T) {
	t.Parallel()
	for _, f := range total() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			r := small()
			s := holding(t, resigned(), r)
			before := s.Counts()
			s.Use(faultproxy.Always(f))
			full := home(t, r)
			for _, c := range []struct {
				code int
				says string // On either stream.
				args []string
			}{
				{7, "hint: ", []string{"push"}},
				{7, "hint: ", []string{"push", "--dry-run"}},
				{7, "hint: ", []string{"pull", r.Repo}},
				{7, "hint: ", []string{"pull", r.Repo, "-r", r.Commit}},
				{7, "hint: ", []string{"pull", r.Repo, "-r", r.Commit[:8]}},
				{7, "hint: ", []string{"pull-all"}},
				{7, "hint: ", []string{"list", "--remote"}},
				{7, "hint: ", []string{"diff"}},
				{7, "hint: ", []string{"verify", "--remote"}},
				{7, "hint: ", []string{"prune", "--max-size", "0", "--grace", "0s", "--evict-active"}},
				{0, "bucket ", []string{"status"}},
				{1, "✗ bucket reachable", []string{"doctor"}},
				// These do not need the bucket.
				{0, "", []string{"list"}},
				{0, "", []string{"verify"}},
				{0, "", []string{"prune", "--dry-run", "--max-size", "0"}},
			} {
				t.Run(strings.Join(c.args, " "), func(t *testing.T) {
					t.Parallel()
					got := s.must(t, c.code, full, c.args...)
					if !strings.Contains(got.Stdout+got.Stderr, c.says) {
						t.Errorf("it does not say %q: %s", c.says, got)
					}
					if c.args[0] == "status" && strings.Contains(got.Stdout, "reachable\n") {
						t.Errorf("it says that the bucket is reachable: %s", got)
					}
				})
			}
			t.Cleanup(func() {
				s.Use(nil)
				r.Compare(t, hub(full))
				s.audit.Cache(t, hub(full))
				s.checkBucket(t, r)
				record(t, "every request of every command: "+f.Name, s.Count(f.Name)-before[f.Name], figures(s.Proxy))
			})
		})
	}
}

package faults_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/test/faultproxy"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
)

// TestClasses has one kind of fault happen again and again, mostly to every
// other request that it can happen to, in a push, in one that has nothing to do,
// in a pull and in a listing.
func TestClasses(t *testing.T) {
	t.Parallel()
	first := func(f *faultproxy.Fault) faultproxy.Plan { return faultproxy.FirstOfEach(1, f) } // Each takes its time.
	for _, c := range []struct {
		fault *faultproxy.Fault
		env   []string
		plan  func(*faultproxy.Fault) faultproxy.Plan // nil: every other request
		once  bool                                    // No byte of a blob goes up a second time.
	}{
		{fault: faultproxy.Internal(), env: eager()},
		{fault: faultproxy.BadGateway(), env: eager()},
		{fault: faultproxy.SlowDown(0), env: eager()},
		{fault: faultproxy.Refuse(http.StatusTooManyRequests, "TooManyRequests", "Slow down."), env: eager()},
		{fault: faultproxy.Refuse(http.StatusRequestTimeout, "RequestTimeout", "Your socket connection to the server was not read from or written to."), env: eager()},
		{fault: faultproxy.ResetFirst(), env: eager()},
		{fault: faultproxy.ResetSending(), env: eager()},
		{fault: faultproxy.ResetAnswering(), env: eager()},
		{fault: faultproxy.Cut(), env: eager()},
		{fault: faultproxy.Drip(), env: impatient()},
		{fault: faultproxy.StallFirst(), env: impatient(), plan: first},
		{fault: faultproxy.StallSending(), env: impatient()},
		{fault: faultproxy.StallAnswering(), env: impatient()},
		{fault: faultproxy.Flip().AtMostOnce(), env: eager()},
		{fault: faultproxy.LostAnswer(), env: eager()},
		{fault: faultproxy.FailedAnswer(), env: eager()},
		{fault: faultproxy.ErrorInOK(false), env: eager(), once: true},
		{fault: faultproxy.ErrorInOK(true), env: eager(), once: true},
		{fault: faultproxy.NoConditions(), env: eager(), plan: faultproxy.Always}, // A service has them or has not.
		{fault: faultproxy.Vanish(faultproxy.Part), env: eager()},
		{fault: faultproxy.Vanish(faultproxy.Complete), env: eager()},
		{fault: faultproxy.Lag(2), env: eager()},
		{fault: faultproxy.OtherTime(5 * time.Hour), env: eager()},
		{fault: faultproxy.OtherTime(-5 * time.Hour), env: eager()},
	} {
		if c.plan == nil {
			c.plan = faultproxy.EveryOther
		}
		t.Run(c.fault.Name, func(t *testing.T) {
			t.Parallel()
			requests, times := 0, 0
			var waste again
			for range proof.Times(1, 5) {
				s := newSite(t, c.env)
				s.Use(c.plan(c.fault))
				thereAndBack(t, s)
				all, _ := s.Totals()
				requests, times = requests+all, times+s.Count(c.fault.Name)
				up, down := s.Moved()
				waste.add(t, model(), up)
				if c.once && up != size(model()) {
					t.Errorf("%d bytes of blobs went up, %d were to go", up, size(model()))
				}
				waste.add(t, model(), down)
			}
			record(t, c.fault.Name+": pushes, pulls and listings", times, fmt.Sprintf("%d requests, %s", requests, &waste))
		})
	}
}

// thereAndBack pushes the model from one machine, looks what there is to push
// again, and pulls it to another one.
func thereAndBack(t *testing.T, s *site) {
	t.Helper()
	r := model()
	from, to := home(t, r), t.TempDir()
	s.must(t, 0, from, "push")
	s.checkBucket(t, r)
	s.must(t, 0, from, "push")
	s.must(t, 0, to, "pull", r.Repo)
	checkCache(t, to, r)
	s.must(t, 0, to, "list", "--remote")
	s.checkBucket(t, r)
}

package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// drain takes everything that is due.
func drain(q *watchQueue) (names []string) {
	for {
		name, ok := q.take()
		if !ok {
			return names
		}
		names = append(names, name)
	}
}

func TestWatchQueue(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	q := newWatchQueue()
	q.add("b", "a", "b")
	q.add("a", "c")
	if diff := cmp.Diff([]string{"b", "a", "c"}, drain(q)); diff != "" {
		t.Errorf("first come, first served, and each once (-want +got):\n%s", diff)
	}

	q.postpone("a", now.Add(time.Minute))
	q.postpone("a", now.Add(time.Hour)) // it is sooner anyway
	q.postpone("b", now.Add(time.Hour))
	if got := q.pause(now, 2*time.Hour); got != time.Minute {
		t.Errorf("the next is due in %s", got)
	}
	q.wake(now.Add(59 * time.Second))
	if names := drain(q); names != nil {
		t.Errorf("too soon: %q", names)
	}
	q.wake(now.Add(time.Minute))
	if diff := cmp.Diff([]string{"a"}, drain(q)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// Something happened in it meanwhile, and so it comes at once, and only once.
	q.add("b")
	q.postpone("b", now)
	q.wake(now.Add(2 * time.Hour))
	if diff := cmp.Diff([]string{"b"}, drain(q)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(q.later)+len(q.queued) != 0 {
		t.Errorf("left: %+v", q)
	}
}

func TestWatchQueueRetries(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	q := newWatchQueue()
	wait := func() time.Duration {
		q.failed("a", now)
		at := q.later["a"]
		delete(q.later, "a")
		return at.Sub(now)
	}
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		if got := wait(); got < want/2 || got > want*3/2 {
			t.Errorf("try %d: after %s, not about %s", i, got, want)
		}
	}
	for range 20 {
		if got := wait(); got > longestWait*3/2 {
			t.Fatalf("after %s", got)
		}
	}
	if got := wait(); got < longestWait/2 {
		t.Errorf("it has failed very often and is tried after %s", got)
	}
	q.done("a")
	if got := wait(); got > 2*time.Second {
		t.Errorf("it had worked and is tried after %s", got)
	}

	q.failed("b", now)
	q.hurry()
	if diff := cmp.Diff([]string{"b"}, drain(q)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(q.retries) != 0 {
		t.Errorf("it remembers failures: %v", q.retries)
	}
}

func TestSaidOnce(t *testing.T) {
	said, calls := saidOnce{}, 0
	for range 3 {
		said.say("a", func() { calls++ })
		said.say("b", func() { calls++ })
	}
	if delete(said, "a"); calls != 2 {
		t.Errorf("%d calls", calls)
	}
	if said.say("a", func() { calls++ }); calls != 3 {
		t.Error("what was forgotten is not said again")
	}
}

func TestChangedSettings(t *testing.T) {
	before := []setting{{"bucket", "s3://a"}, {"keep", "org/*"}}
	after := []setting{{"bucket", "s3://b"}, {"keep", "org/*"}}
	if diff := cmp.Diff([]string{`bucket: "s3://b", was "s3://a"`}, changed(before, after)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := changed(before, before); got == nil || len(got) != 0 {
		t.Errorf("nothing changed: %#v", got)
	}
}

package cli

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// watchQueue is what a watcher has to do: repositories, by the names of their folders, each at most once. So it holds no more than the cache does, whatever happens.
type watchQueue struct {
	next    []string                   // to be looked at now, first come, first served
	queued  map[string]bool            // what is in next
	later   map[string]time.Time       // to be looked at then
	retries map[string]backoff.BackOff // of what could not be done the last time
}

func newWatchQueue() *watchQueue {
	return &watchQueue{queued: map[string]bool{}, later: map[string]time.Time{}, retries: map[string]backoff.BackOff{}}
}

// add puts repositories at the end, unless they wait already.
func (q *watchQueue) add(names ...string) {
	for _, name := range names {
		delete(q.later, name)
		if !q.queued[name] {
			q.queued[name] = true
			q.next = append(q.next, name)
		}
	}
}

// postpone has a repository looked at again then, unless it is sooner anyway.
func (q *watchQueue) postpone(name string, until time.Time) {
	if at, waits := q.later[name]; !q.queued[name] && (!waits || until.Before(at)) {
		q.later[name] = until
	}
}

// failed has a repository tried again, less and less often. Others go on meanwhile.
func (q *watchQueue) failed(name string, now time.Time) {
	retry := q.retries[name]
	if retry == nil {
		retry = newRetry()
		q.retries[name] = retry
	}
	q.postpone(name, now.Add(retry.NextBackOff()))
}

// done forgets that a repository has failed.
func (q *watchQueue) done(name string) { delete(q.retries, name) }

// wake takes in what has waited for long enough.
func (q *watchQueue) wake(now time.Time) {
	for name, at := range q.later {
		if !at.After(now) {
			q.add(name)
		}
	}
}

// hurry ends all waiting.
func (q *watchQueue) hurry() {
	for name := range q.later {
		q.add(name)
	}
	clear(q.retries)
}

// take gives out the first.
func (q *watchQueue) take() (name string, ok bool) {
	if len(q.next) == 0 {
		return "", false
	}
	name = q.next[0]
	if q.next = q.next[1:]; len(q.next) == 0 {
		q.next = nil // so that its memory goes
	}
	delete(q.queued, name)
	return name, true
}

// pause is how long it is until something that waits is due; most if nothing is sooner.
func (q *watchQueue) pause(now time.Time, most time.Duration) time.Duration {
	for _, at := range q.later {
		most = min(most, at.Sub(now))
	}
	return max(most, 0)
}

// newRetry says how long to wait between tries: from a second to five minutes, give or take a half, so that machines that failed together do not come back together.
func newRetry() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = time.Second, longestWait, 2
	return b
}

// longestWait is the most that is waited before something is tried again.
const longestWait = 5 * time.Minute

package watch

import (
	"slices"
	"time"
)

// pending are the units in which something has happened, and when last. It decides without a clock of its own.
type pending struct {
	quiet time.Duration        // after so long without an event a unit is due
	last  map[string]time.Time // by name
}

func newPending(quiet time.Duration) *pending {
	return &pending{quiet: quiet, last: map[string]time.Time{}}
}

// touch notes that something happened in a unit.
func (p *pending) touch(name string, now time.Time) {
	if now.After(p.last[name]) {
		p.last[name] = now
	}
}

// due takes out the units that have been quiet for long enough, sorted, and says how long it is until the next will be; 0 if there is none.
func (p *pending) due(now time.Time) (names []string, next time.Duration) {
	for name, last := range p.last {
		wait := last.Add(p.quiet).Sub(now)
		switch {
		case wait <= 0:
			names = append(names, name)
			delete(p.last, name)
		case next == 0 || wait < next:
			next = wait
		}
	}
	slices.Sort(names)
	return names, next
}

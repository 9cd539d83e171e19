package watch

import (
	"slices"
	"time"
)

// pending are the units in which something has happened, and when last. It decides without a clock of its own.
type pending struct {
	quiet time.Duration        // after so long without an event a unit is due
	last  map[string]time.Time // by name
	next  time.Time            // none is due before; only of use if there are any
}

func newPending(quiet time.Duration) *pending {
	return &pending{quiet: quiet, last: map[string]time.Time{}}
}

// touch notes that something happened in a unit.
func (p *pending) touch(name string, now time.Time) {
	last, known := p.last[name]
	if !known && (len(p.last) == 0 || now.Add(p.quiet).Before(p.next)) {
		p.next = now.Add(p.quiet)
	}
	if now.After(last) {
		p.last[name] = now // which only puts it off, so that a flood of events does not have all units looked at for each
	}
}

// due takes out the units that have been quiet for long enough, sorted, and says how long it is until the next may be; 0 if there is none.
func (p *pending) due(now time.Time) (names []string, next time.Duration) {
	if len(p.last) > 0 && now.Before(p.next) {
		return nil, p.next.Sub(now)
	}
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
	p.next = now.Add(next)
	slices.Sort(names)
	return names, next
}

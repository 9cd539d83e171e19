package ui

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
)

const (
	rateWindow  = 15 * time.Second // what the rate is the mean of
	sampleEvery = time.Second / 2
	itemsShown  = 4
)

// meter adds up events. Its owner guards it.
type meter struct {
	active      int // transfers that have not ended
	items, done int
	bytes       int64 // to move
	moved       int64
	flight      map[string]*item
	samples     []sample // of the last rateWindow, and one older
}

type item struct {
	id, repo    string
	path        string // of the file, where it is known
	size, moved int64
}

type sample struct {
	at    time.Time
	moved int64
}

// add takes an event in. The totals are those of all transfers that overlap; when the first of several begins, they start at zero.
func (m *meter) add(e event.Event, now time.Time) {
	switch e.Kind {
	case event.TransferStarted:
		if m.active == 0 {
			*m = meter{flight: map[string]*item{}, samples: []sample{{at: now}}}
		}
		m.active++
		m.items += e.Items
		m.bytes += e.Bytes
	case event.TransferDone:
		m.active = max(0, m.active-1)
	case event.ItemStarted:
		if m.active > 0 {
			m.flight[e.Item] = &item{id: e.Item, repo: e.Repo, path: e.Path, size: e.Bytes}
		}
	case event.ItemProgress:
		m.moved += e.Bytes
		if i := m.flight[e.Item]; i != nil {
			i.moved += e.Bytes
		}
	case event.ItemDone:
		m.done++
		delete(m.flight, e.Item)
	case event.Waiting, event.Retrying, event.Note, event.Phase:
	}
	if n := len(m.samples); n > 0 && now.Sub(m.samples[n-1].at) >= sampleEvery {
		m.samples = append(m.samples, sample{now, m.moved})
		for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= rateWindow {
			m.samples = m.samples[1:]
		}
	}
}

// rate returns bytes per second, 0 if it cannot be told.
func (m *meter) rate(now time.Time) float64 {
	if len(m.samples) == 0 {
		return 0
	}
	seconds := now.Sub(m.samples[0].at).Seconds()
	if seconds <= 0 {
		return 0
	}
	return max(0, float64(m.moved-m.samples[0].moved)/seconds)
}

// shown returns the bytes moved, within what there is to move: an item that is moved a second time must not make it more than all.
func (m *meter) shown() int64 { return min(max(m.moved, 0), m.bytes) }

// line is the state in one line: "pushing 12.3M of 2.0G, 35.1M/s, 58s left, 3 of 9 files".
func (m *meter) line(verb string, now time.Time) string {
	var parts []string
	if m.bytes > 0 {
		parts = append(parts, Size(m.shown())+" of "+Size(m.bytes))
		if rate := m.rate(now); rate >= 1 {
			parts = append(parts, Size(int64(rate))+"/s")
			if left := m.bytes - m.shown(); left > 0 {
				if seconds := float64(left) / rate; seconds < (99 * time.Hour).Seconds() { // more than that is no forecast
					parts = append(parts, Duration(max(time.Second, time.Duration(seconds*float64(time.Second)).Round(time.Second)))+" left")
				}
			}
		}
	}
	parts = append(parts, fmt.Sprintf("%d of %s", m.done, Plural(m.items, "file")))
	return strings.TrimLeft(verb+" ", " ") + strings.Join(parts, ", ")
}

// largest returns the items in flight that have the most bytes, in an order that does not jump while they move.
func (m *meter) largest() []item {
	all := make([]item, 0, len(m.flight))
	for _, i := range m.flight {
		all = append(all, *i)
	}
	slices.SortFunc(all, func(a, b item) int { return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.id, b.id)) })
	return all[:min(len(all), itemsShown)]
}

// line is the state of one item: "  [====>    ]  40%  1.2G  org/name model.safetensors". Of a long name the end is kept: the files of one model differ there.
func (i item) line(width int) string {
	share := 0.0
	if i.size > 0 {
		share = min(1, max(0, float64(i.moved)/float64(i.size)))
	}
	name := Clean(i.path)
	if name == "" {
		name = Clean(i.id)
		if len(name) >= 40 && !strings.Contains(name, "/") { // a digest is told from others by its beginning
			name = name[:12]
		}
	}
	line := fmt.Sprintf("  %s %3.0f%% %7s  ", bar(share, 20), math.Floor(100*share), Size(i.size))
	name = strings.TrimLeft(Clean(i.repo)+" "+name, " ")
	if width > 0 {
		name = clipLeft(name, max(1, width-columns(line)))
	}
	return clip(line+name, width)
}

// overall is the line of the whole operation: what [meter.line] says, behind the share in percent and a bar if there is room for them.
func (m *meter) overall(verb string, now time.Time, width int) string {
	share := 0.0
	switch {
	case m.bytes > 0:
		share = float64(m.shown()) / float64(m.bytes)
	case m.items > 0:
		share = min(1, float64(m.done)/float64(m.items))
	}
	line := Clean(m.line(verb, now))
	const shortest, longest = 8, 20
	line = fmt.Sprintf("%3.0f%% %s", math.Floor(100*share), line)
	if room := width - columns(line) - 1; room >= shortest {
		line = bar(share, min(room, longest)) + " " + line
	}
	return clip(line, width)
}

// bar draws a share of 1 in a field of width characters.
func bar(share float64, width int) string {
	inner := width - 2
	full := int(share * float64(inner))
	if full >= inner {
		return "[" + strings.Repeat("=", inner) + "]"
	}
	return "[" + strings.Repeat("=", full) + ">" + strings.Repeat(" ", inner-full-1) + "]"
}

package ui

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
)

// clock is a time that only the test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// locked is a buffer that the goroutine that draws bars and the test may both use.
type locked struct {
	mu    sync.Mutex
	b     bytes.Buffer
	drawn chan struct{} // unless nil, closed when something with a bar in it was written
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drawn != nil && bytes.Contains(p, []byte("[>")) {
		close(l.drawn)
		l.drawn = nil
	}
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func progressed(id string, n int64) event.Event {
	return event.Event{Kind: event.ItemProgress, Item: id, Bytes: n}
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	p := NewProgress(&out, Lines, c.now)
	p.Verb("pushing")
	send := func(after time.Duration, e event.Event) {
		c.add(after)
		p.Event(e)
	}
	send(time.Hour, event.Event{Kind: event.TransferStarted, Items: 3, Bytes: 100e6})
	send(0, event.Event{Kind: event.ItemStarted, Item: "a", Repo: "org/name", Bytes: 60e6})
	send(1999*time.Millisecond, progressed("a", 1e6)) // too early for a line
	send(time.Millisecond, progressed("a", 19e6))
	send(time.Second, progressed("a", 10e6))
	send(0, event.Event{Kind: event.Waiting, Text: "a lock on\x1b[2J x"})
	send(0, event.Event{Kind: event.Retrying, Item: "blobs/x", Err: errors.New("put blobs/x: 503\nbusy"), Text: "trying again in 2s"})
	send(0, event.Event{Kind: event.Note, Text: "a note"})
	send(time.Second, event.Event{Kind: event.ItemDone, Item: "a"})
	send(2*time.Second, progressed("b", -10e6))
	send(2*time.Second, progressed("b", 200e6)) // more than there is, as when bytes move twice
	send(time.Second, event.Event{Kind: event.TransferDone})
	p.Close()
	want := `
pushing 20.0M of 100.0M, 10.0M/s, 8s left, 0 of 3 files
waiting: a lock on\x1b[2J x
retrying: put blobs/x: 503\nbusy; trying again in 2s
a note
pushing 30.0M of 100.0M, 7.5M/s, 9s left, 1 of 3 files
pushing 20.0M of 100.0M, 3.3M/s, 24s left, 1 of 3 files
pushing 100.0M of 100.0M, 27.5M/s, 1 of 3 files
pushing 100.0M of 100.0M, 24.4M/s, 1 of 3 files
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLinesOfWhatIsOverAtOnce(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	p := NewProgress(&out, Lines, c.now)
	p.Verb("pulling")
	for range 3 {
		c.add(time.Hour) // a transfer does not inherit the time since the last
		p.Event(event.Event{Kind: event.TransferStarted, Items: 1, Bytes: 10})
		p.Event(progressed("a", 10))
		p.Event(event.Event{Kind: event.TransferDone})
	}
	p.Close()
	if out.Len() > 0 {
		t.Errorf("wrote %q", out.String())
	}
}

func TestOverlappingTransfersAddUp(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	p := NewProgress(&out, Lines, c.now)
	p.Event(event.Event{Kind: event.TransferStarted, Items: 1, Bytes: 1000})
	p.Event(event.Event{Kind: event.TransferStarted, Items: 2, Bytes: 3000})
	p.Event(progressed("a", 500))
	p.Event(event.Event{Kind: event.TransferDone})
	c.add(2 * time.Second)
	p.Event(progressed("b", 500))
	p.Event(event.Event{Kind: event.TransferDone})
	p.Event(event.Event{Kind: event.TransferStarted, Items: 1, Bytes: 50})
	c.add(2 * time.Second)
	p.Event(event.Event{Kind: event.ItemDone, Item: "c"})
	want := "1.0K of 4.0K, 500/s, 6s left, 0 of 3 files\n" + "1.0K of 4.0K, 500/s, 6s left, 0 of 3 files\n" + "0 of 50, 1 of 1 file\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRateForgets(t *testing.T) {
	c := newClock()
	var m meter
	m.add(event.Event{Kind: event.TransferStarted, Items: 1, Bytes: 1e9}, c.now())
	for range 60 { // a fast minute, then a slow one
		c.add(time.Second)
		m.add(progressed("a", 1e6), c.now())
	}
	for range 60 {
		c.add(time.Second)
		m.add(progressed("a", 1000), c.now())
	}
	if got := m.rate(c.now()); got != 1000 {
		t.Errorf("the rate is %v, want 1000", got)
	}
	if got := m.line("", c.now()); !strings.Contains(got, ", 1.0K/s, 0 of 1 file") { // eleven days are no forecast
		t.Errorf("got %q", got)
	}
	if n := len(m.samples); n > 40 {
		t.Errorf("%d samples are kept", n)
	}
}

func TestSilentKeepsNotes(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, Silent, newClock().now)
	for k := event.TransferStarted; k <= event.Phase; k++ {
		p.Event(event.Event{Kind: k, Item: "i", Text: "text of " + k.String(), Err: errors.New("failed")})
	}
	p.Close()
	if want := "text of note\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestBars(t *testing.T) {
	var out locked
	c := newClock()
	p := NewProgress(&out, Bars, c.now)
	p.Verb("pulling")
	p.Event(event.Event{Kind: event.Note, Text: "before"})
	p.Event(event.Event{Kind: event.TransferStarted, Items: 9, Bytes: 2e9})
	id := strings.Repeat("0123456789abcdef", 4)
	p.Event(event.Event{Kind: event.ItemStarted, Item: id, Repo: "org/na\x1bme", Bytes: 1e9})
	c.add(2 * time.Second)
	p.Event(progressed(id, 5e8))
	p.Event(event.Event{Kind: event.Note, Text: "a note\x1b"})
	p.Event(event.Event{Kind: event.TransferDone})
	p.Event(event.Event{Kind: event.Note, Text: "after"})
	p.Event(event.Event{Kind: event.TransferStarted, Items: 1, Bytes: 10})
	p.Close()
	p.Close()
	p.Event(event.Event{Kind: event.Note, Text: "closed"})
	p.Event(event.Event{Kind: event.TransferStarted, Items: 1, Bytes: 10})
	if p.screen != nil {
		t.Error("bars are drawn after Close")
	}
	got := out.String()
	at := -1
	for _, part := range []string{"before\n", "a note\\x1b\n", "after\n", "closed\n"} {
		i := strings.Index(got, part)
		if i <= at {
			t.Errorf("%q is missing or too early in %q", part, got)
		}
		at = i
	}
	// What was drawn last must have been erased: the cursor went up and the rest of the screen was cleared.
	drawn, erased := strings.LastIndex(got, " of 10, "), strings.LastIndex(got, "A\x1b[J")
	if drawn < 0 || erased < drawn {
		t.Errorf("the bars were not drawn or stay on the screen: %q", got)
	}
}

// screen is what a terminal shows after what was written to it, for the sequences that bars are drawn with.
func screen(written string) []string {
	lines := []string{""}
	for written != "" {
		var up int
		switch {
		case strings.HasPrefix(written, "\x1b["):
			if _, err := fmt.Sscanf(written, "\x1b[%dA\x1b[J", &up); err != nil {
				return []string{"not understood: " + written}
			}
			lines = append(lines[:max(0, len(lines)-1-up)], "")
			written = written[strings.Index(written, "J")+1:]
		case written[0] == '\n':
			lines = append(lines, "")
			written = written[1:]
		default:
			end := strings.IndexAny(written, "\n\x1b")
			if end < 0 {
				end = len(written)
			}
			lines[len(lines)-1] += strings.TrimPrefix(written[:end], toMargin) // it stands there already
			written = written[end:]
		}
	}
	return lines
}

func TestNotesStayAndBarsGo(t *testing.T) {
	drawn := make(chan struct{})
	out := locked{drawn: drawn}
	p := NewProgress(&out, Bars, newClock().now)
	p.Event(event.Event{Kind: event.Note, Text: "before"})
	p.Event(event.Event{Kind: event.TransferStarted, Items: 9, Bytes: 2e9})
	p.Event(event.Event{Kind: event.ItemStarted, Item: "item", Bytes: 1e9})
	<-drawn
	p.Event(event.Event{Kind: event.Note, Text: "meanwhile"})
	p.Event(event.Event{Kind: event.TransferDone})
	p.Event(event.Event{Kind: event.Note, Text: "after"})
	if diff := cmp.Diff([]string{"before", "meanwhile", "after", ""}, screen(out.String())); diff != "" {
		t.Errorf("the screen (-want +got):\n%s\nwritten: %q", diff, out.String())
	}
}

func TestBarLines(t *testing.T) {
	c := newClock()
	var m meter
	m.add(event.Event{Kind: event.TransferStarted, Items: 9, Bytes: 2e9}, c.now())
	for i := range 6 {
		m.add(event.Event{Kind: event.ItemStarted, Item: fmt.Sprint("item", i), Repo: "org/name", Bytes: int64(i%3) * 1e8}, c.now())
	}
	id := strings.Repeat("0123456789abcdef", 4)
	m.add(event.Event{Kind: event.ItemStarted, Item: id, Repo: "org/na\x1bme", Bytes: 1e9}, c.now())
	path := "a/very/long/folder/of/files/model-00001-of-00002.safetensors"
	m.add(event.Event{Kind: event.ItemStarted, Item: "item7", Path: path, Repo: "org/name", Bytes: 9e8}, c.now())
	c.add(10 * time.Second)
	m.add(progressed(id, 5e8), c.now())
	m.add(progressed("item2", 2e8), c.now())
	m.add(event.Event{Kind: event.ItemDone, Item: "item1"}, c.now())

	got := []string{m.overall("pulling", c.now(), 80)}
	got = append(got, m.overall("pulling", c.now(), 65), m.overall("pulling", c.now(), 60), m.overall("pulling", c.now(), 40))
	for _, i := range m.largest() {
		got = append(got, i.line(80))
	}
	want := []string{
		"[=====>           ]  35% pulling 700.0M of 2.0G, 70.0M/s, 19s left, 1 of 9 files",
		" 35% pulling 700.0M of 2.0G, 70.0M/s, 19s left, 1 of 9 files",
		" 35% pulling 700.0M of 2.0G, 70.0M/s, 19s left, 1 of 9 files",
		" 35% pulling 700.0M of 2.0G, 70.0M/s, 1…",
		`  [=========>        ]  50%    1.0G  org/na\x1bme 0123456789ab`,
		"  [>                 ]   0%  900.0M  …/of/files/model-00001-of-00002.safetensors",
		"  [==================] 100%  200.0M  org/name item2",
		"  [>                 ]   0%  200.0M  org/name item5",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for width := 1; width < 100; width++ {
		for _, line := range []string{m.overall("größer", c.now(), width), m.largest()[0].line(width)} {
			if n := columns(line); n > width {
				t.Errorf("%q is %d wide, want at most %d", line, n, width)
			}
		}
	}
}

func TestConcurrentEvents(t *testing.T) {
	for _, mode := range []Mode{Silent, Lines, Bars} {
		var out locked
		c := newClock()
		p := NewProgress(&out, mode, c.now)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				id := fmt.Sprint(i)
				for range 20 {
					p.Verb("verb" + id)
					p.Event(event.Event{Kind: event.TransferStarted, Items: 1, Bytes: 100})
					p.Event(event.Event{Kind: event.ItemStarted, Item: id, Bytes: 100})
					c.add(time.Second)
					p.Event(progressed(id, 100))
					p.Event(event.Event{Kind: event.Note, Text: "note of " + id})
					p.Event(event.Event{Kind: event.ItemDone, Item: id})
					p.Event(event.Event{Kind: event.TransferDone})
				}
			})
		}
		wg.Wait()
		p.Close()
		if n := strings.Count(out.String(), "note of "); n != 160 {
			t.Errorf("mode %d: %d of 160 notes were shown", mode, n)
		}
		if p.meter.active != 0 || p.screen != nil {
			t.Errorf("mode %d: %d transfers are left, bars: %v", mode, p.meter.active, p.screen != nil)
		}
	}
}

package ui

import (
	"io"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
)

const (
	lineEvery = 2 * time.Second
	// phaseAfter is how long what precedes a transfer may take without a word.
	phaseAfter = time.Second
)

// Mode says how progress is shown.
type Mode uint8

// The modes of [Progress].
const (
	// Silent shows only what the user has to know: notes.
	Silent Mode = iota
	// Lines writes a line of text every few seconds, if something happened: for logs.
	Lines
	// Bars draws over the last lines of a terminal.
	Bars
)

// Progress is an [event.Sink] that shows what is reported to it. It is safe for concurrent use.
type Progress struct {
	mode Mode
	now  func() time.Time

	mu       sync.Mutex // guards what follows; held while bars are drawn, so never while waiting for them
	verb     string
	meter    meter
	lastLine time.Time
	wrote    bool // a line, since the transfer began
	phase    phase
	closed   bool

	out    sync.Mutex // held while writing and while bars appear or go; taken before mu, never after it
	w      io.Writer
	screen *mpb.Progress // nil while nothing moves
	bar    *mpb.Bar
}

// phase is what is being done before anything is moved.
type phase struct {
	text  string
	since time.Time
	shown bool // it has taken so long that it is on the screen
	timer *time.Timer
	id    int
}

// NewProgress returns a Progress that writes to w. now is called for every event.
func NewProgress(w io.Writer, mode Mode, now func() time.Time) *Progress {
	return &Progress{w: w, mode: mode, now: now}
}

// Verb sets the word that the state begins with, such as "pushing".
func (p *Progress) Verb(verb string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verb = verb
}

// Close takes the bars off the screen and waits until they are gone. After it only notes are shown. It may be called more than once.
func (p *Progress) Close() {
	p.mu.Lock()
	p.closed = true
	p.endPhase()
	p.mu.Unlock()
	p.redraw()
}

// Say writes a line of text, above the bars if there are any, whatever the mode.
func (p *Progress) Say(text string) { p.say(Clean(text)) }

// Event shows what an event says, in so far as the mode wants it.
func (p *Progress) Event(e event.Event) {
	if text := p.message(e); text != "" {
		p.say(text)
		return
	}
	if p.mode == Silent {
		return
	}
	if e.Kind == event.Phase {
		p.enter(e.Text)
		return
	}
	if text := p.count(e); text != "" {
		p.say(text)
	}
	if p.mode == Bars && (e.Kind == event.TransferStarted || e.Kind == event.TransferDone) {
		p.redraw()
	}
}

// enter begins a phase, or ends the last. One that follows another on the screen takes its place at once; any other has to last before it is shown.
func (p *Progress) enter(text string) {
	p.mu.Lock()
	shown := p.phase.shown
	p.endPhase()
	if text != "" && !p.closed && p.meter.active == 0 {
		id := p.phase.id
		p.phase = phase{text: Clean(text), since: p.now(), shown: shown && p.mode == Bars, id: id}
		p.phase.timer = time.AfterFunc(phaseAfter, func() { p.show(id) })
	}
	p.mu.Unlock()
	if shown {
		p.redraw()
	}
}

// show is called when a phase has lasted. It may be another's turn by then.
func (p *Progress) show(id int) {
	p.mu.Lock()
	current := p.phase.id == id
	text := p.phase.text
	if current {
		p.phase.shown = true
	}
	p.mu.Unlock()
	switch {
	case current && p.mode == Lines:
		p.say(text)
	case current:
		p.redraw()
	}
}

// endPhase forgets the phase. The lock is held.
func (p *Progress) endPhase() {
	if p.phase.timer != nil {
		p.phase.timer.Stop()
	}
	p.phase = phase{id: p.phase.id + 1}
}

// message returns the line that an event is worth by itself.
func (p *Progress) message(e event.Event) string {
	switch e.Kind {
	case event.Note:
		return Clean(e.Text)
	case event.Waiting:
		if p.mode != Silent {
			return "waiting: " + Clean(e.Text)
		}
	case event.Retrying:
		if p.mode != Silent {
			return retrying(e)
		}
	case event.TransferStarted, event.ItemStarted, event.ItemProgress, event.ItemDone, event.TransferDone, event.Phase:
	}
	return ""
}

func retrying(e event.Event) string {
	var parts []string
	if e.Err != nil {
		parts = append(parts, Clean(e.Err.Error()))
	} else if e.Item != "" {
		parts = append(parts, Clean(e.Item))
	}
	if e.Text != "" {
		parts = append(parts, Clean(e.Text))
	}
	return "retrying: " + strings.Join(parts, "; ")
}

// count adds an event up and returns the line that is due, if any. The last line of a transfer comes only where there were others: what is over at once needs none.
func (p *Progress) count(e event.Event) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if e.Kind == event.TransferStarted {
		p.endPhase()
	}
	before := p.meter.active
	p.meter.add(e, now)
	if p.mode != Lines || p.closed || before == 0 {
		p.lastLine, p.wrote = now, false
		return ""
	}
	over := p.meter.active == 0
	if over && !p.wrote || !over && now.Sub(p.lastLine) < lineEvery {
		return ""
	}
	p.lastLine, p.wrote = now, true
	return p.meter.line(p.verb, now)
}

// say writes one line, above the bars if there are any.
func (p *Progress) say(line string) {
	p.out.Lock()
	defer p.out.Unlock()
	if p.screen != nil {
		if _, err := p.screen.Write([]byte(toMargin + line + "\n")); err == nil {
			return
		}
	}
	_, _ = io.WriteString(p.w, line+"\n") // a lost line of progress is no reason to fail
}

// redraw makes the bars appear or go, as the state wants it by now.
func (p *Progress) redraw() {
	p.out.Lock()
	defer p.out.Unlock()
	p.mu.Lock()
	wanted := p.mode == Bars && (p.meter.active > 0 || p.phase.shown) && !p.closed
	p.mu.Unlock()
	switch {
	case wanted && p.screen == nil:
		// Automatic refresh is what a terminal gets anyway; it also holds for a terminal behind another writer.
		p.screen = mpb.New(mpb.WithOutput(p.w), mpb.WithAutoRefresh())
		p.bar = p.screen.MustAdd(0, mpb.BarFillerFunc(p.fillOverall),
			mpb.BarFillerTrim(), mpb.BarExtender(mpb.BarFillerFunc(p.fillItems), false))
	case !wanted && p.screen != nil:
		p.bar.Abort(true)
		p.screen.Wait()
		p.screen, p.bar = nil, nil
	}
}

func (p *Progress) fillOverall(w io.Writer, s decor.Statistics) error {
	p.mu.Lock()
	var line string
	if p.phase.shown {
		line = clip(p.phase.text+", "+Duration(p.now().Sub(p.phase.since).Truncate(time.Second)), s.AvailableWidth)
	} else {
		line = p.meter.overall(p.verb, p.now(), s.AvailableWidth)
	}
	p.mu.Unlock()
	_, err := io.WriteString(w, toMargin+line)
	return err
}

// toMargin goes before what is drawn first: the library goes up to where it began, but not to the left, and what was typed meanwhile has moved the cursor.
const toMargin = "\r"

func (p *Progress) fillItems(w io.Writer, s decor.Statistics) error {
	p.mu.Lock()
	items := p.meter.largest()
	p.mu.Unlock()
	for _, i := range items {
		if _, err := io.WriteString(w, i.line(s.AvailableWidth)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

package ui

import (
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
)

// progressEvery is how often the progress of one item is reported as JSON. Work reports it for every buffer.
const progressEvery = time.Second / 2

// JSONEvents is an [event.Sink] that writes one JSON object a line (NDJSON). docs/json.md describes them. It is safe for concurrent use.
type JSONEvents struct {
	w   io.Writer
	now func() time.Time

	mu     sync.Mutex // guards what follows, and keeps lines whole
	flight map[string]*unreported
}

// unreported is progress that has not been written yet.
type unreported struct {
	event.Event
	last time.Time
}

// NewJSONEvents returns a JSONEvents that writes to w. now is called for every event.
func NewJSONEvents(w io.Writer, now func() time.Time) *JSONEvents {
	return &JSONEvents{w: w, now: now, flight: map[string]*unreported{}}
}

// jsonEvent is one line. Numbers that a kind does not fill are left out, as are empty texts.
type jsonEvent struct {
	Kind  string `json:"kind"`
	Time  string `json:"time"` // RFC 3339, in UTC
	Item  string `json:"item,omitempty"`
	Path  string `json:"path,omitempty"`
	Repo  string `json:"repo,omitempty"`
	Bytes *int64 `json:"bytes,omitempty"`
	Items *int   `json:"items,omitempty"`
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
}

// Event writes an event. The progress of an item is added up and written every half second, and before the item is done.
func (j *JSONEvents) Event(e event.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.now()
	switch e.Kind {
	case event.ItemStarted:
		j.flight[e.Item] = &unreported{Event: event.Event{Kind: event.ItemProgress, Item: e.Item, Path: e.Path, Repo: e.Repo}}
	case event.ItemProgress:
		u := j.flight[e.Item]
		if u == nil {
			break
		}
		if u.Bytes += e.Bytes; now.Sub(u.last) >= progressEvery {
			j.progress(u, now)
		}
		return
	case event.ItemDone:
		if u := j.flight[e.Item]; u != nil {
			j.progress(u, now)
			delete(j.flight, e.Item)
		}
	case event.TransferStarted, event.TransferDone, event.Waiting, event.Retrying, event.Note, event.Phase:
	}
	j.write(e, now)
}

// progress writes what an item has moved since the last time. The lock is held.
func (j *JSONEvents) progress(u *unreported, now time.Time) {
	if u.Bytes == 0 {
		return
	}
	j.write(u.Event, now)
	u.Bytes, u.last = 0, now
}

func (j *JSONEvents) write(e event.Event, now time.Time) {
	line := jsonEvent{Kind: e.Kind.String(), Item: e.Item, Path: e.Path, Repo: e.Repo, Text: e.Text}
	switch e.Kind {
	case event.TransferStarted:
		line.Bytes, line.Items = &e.Bytes, &e.Items
	case event.ItemStarted, event.ItemProgress:
		line.Bytes = &e.Bytes
	case event.ItemDone, event.TransferDone, event.Waiting, event.Retrying, event.Note, event.Phase:
	}
	if e.Err != nil {
		line.Error = e.Err.Error()
	}
	j.encode(line, now)
}

// Say writes a text for people as an object of the given kind, such as "warning" or "error".
func (j *JSONEvents) Say(kind, text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.encode(jsonEvent{Kind: kind, Text: text}, j.now())
}

func (j *JSONEvents) encode(line jsonEvent, now time.Time) {
	line.Time = now.UTC().Format(time.RFC3339Nano)
	enc := json.NewEncoder(j.w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(line) // a lost line of progress is no reason to fail
}

package ui_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

func TestJSONEvents(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 9, 1, 12, 0, 0, 5e8, time.FixedZone("", 3600))
	j := ui.NewJSONEvents(&out, func() time.Time { return now })
	send := func(after time.Duration, e event.Event) {
		now = now.Add(after)
		j.Event(e)
	}
	item := event.Event{Item: "abc", Path: "a \"b\"/<c>", Repo: "org/name"}
	started, done, progress := item, item, event.Event{Kind: event.ItemProgress, Item: "abc", Bytes: 10}
	started.Kind, started.Bytes = event.ItemStarted, 0
	done.Kind, done.Err = event.ItemDone, errors.New("it\nfailed")
	send(0, event.Event{Kind: event.Phase, Text: "scanning"})
	send(0, event.Event{Kind: event.Phase})
	send(0, event.Event{Kind: event.TransferStarted, Items: 2, Bytes: 100})
	send(time.Second, started)
	send(0, progress) // at once
	send(400*time.Millisecond, progress)
	send(99*time.Millisecond, progress)
	send(time.Millisecond, progress) // the sum of three
	send(0, progress)
	send(0, done) // the rest comes before it
	send(0, progress)
	send(0, event.Event{Kind: event.Waiting, Item: "abc", Text: "for a lock"})
	send(0, event.Event{Kind: event.Retrying, Item: "blobs/abc", Text: "again", Err: errors.New("503")})
	send(0, event.Event{Kind: event.Note, Text: "a\x1bnote"})
	send(0, event.Event{Kind: event.TransferDone})
	j.Say("warning", "careful")
	want := `
{"kind":"phase","time":"2026-09-01T11:00:00.5Z","text":"scanning"}
{"kind":"phase","time":"2026-09-01T11:00:00.5Z"}
{"kind":"transfer_started","time":"2026-09-01T11:00:00.5Z","bytes":100,"items":2}
{"kind":"item_started","time":"2026-09-01T11:00:01.5Z","item":"abc","path":"a \"b\"/<c>","repo":"org/name","bytes":0}
{"kind":"item_progress","time":"2026-09-01T11:00:01.5Z","item":"abc","path":"a \"b\"/<c>","repo":"org/name","bytes":10}
{"kind":"item_progress","time":"2026-09-01T11:00:02Z","item":"abc","path":"a \"b\"/<c>","repo":"org/name","bytes":30}
{"kind":"item_progress","time":"2026-09-01T11:00:02Z","item":"abc","path":"a \"b\"/<c>","repo":"org/name","bytes":10}
{"kind":"item_done","time":"2026-09-01T11:00:02Z","item":"abc","path":"a \"b\"/<c>","repo":"org/name","error":"it\nfailed"}
{"kind":"item_progress","time":"2026-09-01T11:00:02Z","item":"abc","bytes":10}
{"kind":"waiting","time":"2026-09-01T11:00:02Z","item":"abc","text":"for a lock"}
{"kind":"retrying","time":"2026-09-01T11:00:02Z","item":"blobs/abc","text":"again","error":"503"}
{"kind":"note","time":"2026-09-01T11:00:02Z","text":"a\u001bnote"}
{"kind":"transfer_done","time":"2026-09-01T11:00:02Z"}
{"kind":"warning","time":"2026-09-01T11:00:02Z","text":"careful"}
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestJSONEventsAddUp reports the same item from many goroutines: lines stay whole, and what they say adds up.
func TestJSONEventsAddUp(t *testing.T) {
	var out bytes.Buffer
	j := ui.NewJSONEvents(&out, time.Now)
	for i := range 4 {
		j.Event(event.Event{Kind: event.ItemStarted, Item: fmt.Sprint(i), Bytes: 8000})
	}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for range 1000 {
				j.Event(event.Event{Kind: event.ItemProgress, Item: fmt.Sprint(i % 4), Bytes: 1})
			}
		})
	}
	wg.Wait()
	for i := range 4 {
		j.Event(event.Event{Kind: event.ItemDone, Item: fmt.Sprint(i)})
	}
	got := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var e struct {
			Kind, Item string
			Bytes      int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Kind == "item_progress" {
			got[e.Item] += e.Bytes
		}
	}
	if diff := cmp.Diff(map[string]int{"0": 8000, "1": 8000, "2": 8000, "3": 8000}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

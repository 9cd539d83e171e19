package cli

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
)

func TestTally(t *testing.T) {
	for _, tc := range []struct {
		want string
		tally
	}{
		{"", tally{}},
		{"; 1 failed", tally{lost: 1}},
		{"; skipped 3 (3 filtered out)", tally{filtered: 3}},
		{"; skipped 8 (1 gated, 2 changed while read, 1 not here yet, 2 refs kept, 2 excluded by the configuration file); 3 failed", tally{
			excluded: 2, lost: 1, kept: 1,
			failures: []engine.Failure{
				{Err: errors.New("bad")},
				{Err: fmt.Errorf("x: %w", engine.ErrChanged), Harmless: true, Path: "a"},
				{Err: engine.ErrChanged, Harmless: true, Path: "b"},
				{Err: &gatedError{}, Harmless: true},
				{Err: errors.New("older"), Harmless: true, Ref: "main"},
				{Err: errors.New("worse"), Ref: "main"},
				{Err: refusalError("no file of it is here yet"), Harmless: true},
			},
		}},
	} {
		if diff := cmp.Diff(tc.want, tc.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestPace(t *testing.T) {
	for _, tc := range []struct {
		elapsed time.Duration
		moved   int64
		want    string
	}{
		{0, 0, "in 0.1s"},
		{0, 1000, "in 0.1s, 10.0K/s"},
		{41 * time.Second, 3_407_100_000, "in 41s, 83.1M/s"},
		{time.Hour, 0, "in 1h"},
		{time.Second, -5, "in 1s"},
	} {
		if got := pace(tc.elapsed, tc.moved); got != tc.want {
			t.Errorf("%v, %d: %q, want %q", tc.elapsed, tc.moved, got, tc.want)
		}
	}
}

// TestStopwatch leaves out the time in which somebody thinks about an answer.
func TestStopwatch(t *testing.T) {
	now := time.Unix(0, 0)
	pass := func(d time.Duration) { now = now.Add(d) }
	w := newStopwatch(func() time.Time { return now })
	pass(time.Second)
	answer := errors.New("no")
	if err := w.without(func() error { pass(time.Hour); return answer }); !errors.Is(err, answer) {
		t.Errorf("the answer is lost: %v", err)
	}
	pass(time.Second)
	if got := w.elapsed(); got != 2*time.Second {
		t.Errorf("got %v", got)
	}
}

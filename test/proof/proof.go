// Package proof is how tests say what they tried to break, and how often, so
// that docs/reliability.md tells what was done and not what was meant.
//
// A test records one Row for each kind of harm. The row travels as an attribute
// in the events of `go test -json`; `make proof` collects the rows of a whole run
// and writes the page. A test that fails has its row too, and the page then says
// so: what is lost is never left out.
package proof

import (
	"encoding/json"
	"os"
	"testing"
)

// Key is the name of the attribute that holds a row as JSON.
const Key = "proof"

// The classes of harm, which are the sections of the page.
const (
	Faults  = "Faults of the store and the network"
	Crashes = "Crashes and power loss"
	Hostile = "Hostile buckets and caches"
	Races   = "Several at once"
	Scale   = "Large buckets and caches"
	Stores  = "Stores"
	Clients = "Beside other people's clients"
	Fuzz    = "Fuzzing"
)

// Row is one kind of harm that was tried.
type Row struct {
	Class string `json:"class"`
	// Tried is what was done to what, as a line of prose without a full stop.
	Tried string `json:"tried"`
	// Times is how often it was done in this run, counted while doing it.
	Times int `json:"times"`
	// Lost is how many of those times something was lost, wrong or left in the
	// way. It is counted by the test; any but 0 must also fail it.
	Lost int `json:"lost"`
	// Figures is what else was measured, such as "12.0 MiB of 4.2 GiB sent again".
	Figures string `json:"figures,omitempty"`
}

// Record adds r to what the run of tb tells. A row of nothing fails the test.
func (r Row) Record(tb testing.TB) {
	tb.Helper()
	if r.Class == "" || r.Tried == "" || r.Times == 0 {
		tb.Errorf("a row of the proof that says nothing: %+v", r)
	}
	if r.Lost != 0 {
		tb.Errorf("%s: lost %d of %d times", r.Tried, r.Lost, r.Times)
	}
	text, err := json.Marshal(r)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Attr(Key, string(text))
}

// Times is how often a test does something: full in `make proof`, which sets
// HFCS_PROOF, and some in an ordinary run.
func Times(some, full int) int {
	if os.Getenv("HFCS_PROOF") != "" {
		return full
	}
	return some
}

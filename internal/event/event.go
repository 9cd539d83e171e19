// Package event is how work reports what it does, without knowing who watches: a terminal, a log, a stream of JSON or nobody.
//
// Work calls a [Sink] from many goroutines at once and never waits for what the sink does with an event, so a Sink must be safe for concurrent use
// and quick.
package event

// Kind says what happened.
type Kind uint8

// The kinds of event, with the fields that they fill.
const (
	// TransferStarted: Items and Bytes are what the whole operation will move.
	TransferStarted Kind = iota + 1
	// ItemStarted: Item, Path, Repo and Bytes (its size).
	ItemStarted
	// ItemProgress: Item and Bytes (moved since the last report of this item; negative when bytes have to be moved again).
	ItemProgress
	// ItemDone: Item, Path, Repo, and Err if it failed.
	ItemDone
	// TransferDone ends what TransferStarted began.
	TransferDone
	// Waiting: Text says for what, such as a lock that another process holds.
	Waiting
	// Retrying: Item is the key, Err the failure, Text what happens next.
	Retrying
	// Note: Text is something the user should know although the work goes on.
	Note
	// Phase: Text says what is being done before anything can be moved, such as "scanning the cache". It lasts until the next one, or until a transfer starts; an
	// empty Text ends it.
	Phase
)

// String returns the name used in JSON output.
func (k Kind) String() string {
	names := [...]string{"", "transfer_started", "item_started", "item_progress", "item_done", "transfer_done", "waiting", "retrying", "note", "phase"}
	if int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// Event is one report. Which fields are set depends on the kind.
type Event struct {
	Kind  Kind
	Item  string // a blob id or a key
	Path  string // the file that a blob is needed for, the first of them if there are several; slash-separated
	Repo  string
	Items int
	Bytes int64
	Text  string
	Err   error
}

// Sink receives events.
type Sink interface {
	Event(e Event)
}

// Discard is a Sink for when nobody watches.
type Discard struct{}

// Event does nothing.
func (Discard) Event(Event) {}

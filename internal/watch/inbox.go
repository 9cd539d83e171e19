package watch

import (
	"path/filepath"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// inboxSize bounds how many notifications wait. With more of them it is cheaper to compare all folders.
const inboxSize = 4096

// inbox is where notifications wait until somebody has time for them. It is always ready to take more: the library holds a lock, or on Windows the only thread
// it has, while it hands over what it has to tell, so who adds a watch and is the one that listens may wait for itself.
type inbox struct {
	prefix string        // of names below the root
	filled chan struct{} // has an element if there is something to take

	mu   sync.Mutex // guards mail
	mail mail
}

// mail is what came in.
type mail struct {
	count   int
	events  []fsnotify.Event    // that made, removed or renamed something, in order
	written map[string]struct{} // entries of the root in which a file was written to, be it once or a million times
	lost    error               // why some are missing; nil if none are
}

func newInbox(root string) *inbox {
	root = filepath.Clean(root)
	return &inbox{prefix: strings.TrimSuffix(root, string(filepath.Separator)) + string(filepath.Separator), filled: make(chan struct{}, 1)}
}

// listen takes in notifications until both channels are closed.
func (b *inbox) listen(events <-chan fsnotify.Event, failures <-chan error) {
	for events != nil || failures != nil {
		select {
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			b.put(e)
		case err, ok := <-failures:
			if !ok {
				failures = nil
				continue
			}
			b.fail(err)
		}
	}
}

func (b *inbox) put(e fsnotify.Event) {
	b.mu.Lock()
	b.mail.count++
	switch {
	case e.Has(fsnotify.Create) || e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename):
		if len(b.mail.events) < inboxSize {
			b.mail.events = append(b.mail.events, e)
		} else {
			b.mail.lost = fsnotify.ErrEventOverflow
		}
	case e.Has(fsnotify.Write):
		if rel, below := strings.CutPrefix(e.Name, b.prefix); below {
			if b.mail.written == nil {
				b.mail.written = map[string]struct{}{}
			}
			b.mail.written[unitOf(filepath.ToSlash(rel))] = struct{}{}
		}
	default: // times and modes: reading a file is no change
	}
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) fail(err error) {
	b.mu.Lock()
	b.mail.lost = err
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) signal() {
	select {
	case b.filled <- struct{}{}:
	default:
	}
}

// take empties the inbox.
func (b *inbox) take() mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mail
	b.mail = mail{}
	return m
}

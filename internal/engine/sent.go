package engine

import (
	"io"
	"sync"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// watch returns a body that reports the progress of a blob, and what has to be called when the body has been stored or has failed.
func (r *pushRun) watch(id hub.BlobID, body *io.SectionReader) (watched *io.SectionReader, done func(error)) {
	report := func(n int64) {
		if n != 0 {
			r.emit(event.Event{Kind: event.ItemProgress, Item: string(id), Bytes: n})
		}
	}
	s := &sent{r: body, size: body.Size(), report: report}
	if r.Options.WatchSent {
		body = io.NewSectionReader(s, 0, body.Size())
	}
	return body, s.end
}

// sent is a body that reports how much of it was read, which for one on its way to the network is how much was sent. What a retry reads again does not count.
type sent struct {
	r      io.ReaderAt
	size   int64
	report func(n int64)

	mu       sync.Mutex
	reached  int64
	reported int64
	ended    bool
}

// ReadAt implements [io.ReaderAt].
func (s *sent) ReadAt(p []byte, off int64) (int, error) {
	const worthIt = 64 << 10 // bytes: an event costs little, but not nothing
	n, err := s.r.ReadAt(p, off)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reached = max(s.reached, off+int64(n))
	if s.reached-s.reported >= worthIt && !s.ended {
		s.report(s.reached - s.reported)
		s.reported = s.reached
	}
	return n, err
}

// end reports the rest of a body that was stored, or takes back what was said of one that was not.
func (s *sent) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if err != nil {
		s.report(-s.reported)
	} else {
		s.report(s.size - s.reported)
	}
}

package engine

// partState is where a part of a large blob is.
type partState uint8

const (
	partMissing  partState = iota
	partFetching           // it is on its way
	partFetched            // it is in the staged file since a moment ago
	partKept               // an earlier run left it there
)

// step is what the front does next.
type step uint8

const (
	stepDone   step = iota
	stepStream      // fetch the part and hash it on the way
	stepRead        // hash the part from the staged file
	stepWait        // a helper is still fetching it
)

// window decides which parts of a large blob are fetched ahead of the hash.
//
// The hash takes the parts in order; the front is who brings them to it. Where the network is slow, helpers fetch parts ahead, several at once, and the hash reads them back from the file.
// Where it is fast, the hash is what takes longest, and whoever fetches ahead only takes the processor from it: the front alone then fetches one part after the other, and the hash gets each
// piece while it is in the processor's cache. Which of the two it is shows while the blob moves: a hash that finds parts piled up in the file needs fewer helpers, and one that has to wait
// needs more.
//
// It does no I/O and is not safe for concurrent use.
type window struct {
	parts   []partState
	next    int // the part that the hash needs next
	ranges  int // parts that are fetched at once, at most
	helpers int // of them, how many ahead of the front
	fetch   int // parts that are being fetched
	leading int // of them, how many by the front: one or none
	ready   int // parts in the file, of this run, that the hash has not got to
	low     int // no part before this one is missing
	calm    int // parts in a row that the front has fetched without having to wait for the hash
}

const (
	// spare is how many parts may lie in the file, beside those that are on their way.
	spare = 4
	// piled is how many parts in the file show that the hash is slower than the network.
	piled = 2
	// calmAfter is for how many parts in a row the hash has to be waiting for the network before it gets help.
	calmAfter = 4
	// rowParts is how many parts the front asks for at once while nobody helps. A request costs a round trip, and some servers more than that.
	rowParts = 16
)

func newWindow(parts, ranges int, kept func(i int) bool) *window {
	w := &window{parts: make([]partState, parts), ranges: ranges, helpers: ranges}
	for i := range w.parts {
		if kept(i) {
			w.parts[i] = partKept
		}
	}
	return w
}

// front is what is to be done with the next part. After stepStream comes streamed, after stepRead hashed, and after stepWait front again once something has changed.
func (w *window) front() step {
	if w.next == len(w.parts) {
		return stepDone
	}
	switch w.parts[w.next] {
	case partMissing:
		w.parts[w.next] = partFetching
		w.fetch++
		w.leading++
		return stepStream
	case partFetching:
		return stepWait
	default:
		return stepRead
	}
}

// row is how many parts the front may ask for by one request, as it goes by itself. Helpers may get to some of them first.
func (w *window) row() int {
	n := 1
	for w.helpers == 0 && n < rowParts && w.next+n < len(w.parts) && w.parts[w.next+n] == partMissing {
		n++
	}
	return n
}

// streamed says that the front has given the next part to the hash. waited says that the hash was not ready for it all the time.
func (w *window) streamed(waited bool) {
	w.parts[w.next] = partFetched
	w.next++
	w.fetch--
	w.leading--
	w.calm++
	if waited {
		w.calm = 0
	}
	if w.calm >= calmAfter {
		w.calm = 0
		w.starved()
	}
}

// hashed says that the next part was read back.
func (w *window) hashed() {
	if w.parts[w.next] == partFetched {
		w.ready--
		if w.ready >= piled && w.helpers > 0 {
			w.helpers--
		}
	}
	w.next++
}

// starved says that the hash waits for the network.
func (w *window) starved() { w.helpers = min(w.ranges, max(1, 2*w.helpers)) }

// ahead is a part for a helper, if there is one now. After it comes fetched.
func (w *window) ahead() (int, bool) {
	fetch, helping := w.fetch, w.fetch-w.leading
	if w.next < len(w.parts) && w.parts[w.next] == partMissing {
		fetch++ // the front is about to
	}
	if fetch >= w.ranges || helping >= w.helpers || helping+w.ready >= w.ranges+spare {
		return 0, false
	}
	w.low = max(w.low, w.next+1)
	for w.low < len(w.parts) && w.parts[w.low] != partMissing {
		w.low++
	}
	if w.low >= len(w.parts) {
		return 0, false
	}
	w.parts[w.low] = partFetching
	w.fetch++
	return w.low, true
}

// fetched says that a helper is done with a part.
func (w *window) fetched(i int) {
	w.parts[i] = partFetched
	w.fetch--
	w.ready++
}

// last says that there will be nothing more for helpers.
func (w *window) last() bool {
	for i := max(w.low, w.next); i < len(w.parts); i++ {
		if w.parts[i] == partMissing {
			return false
		}
	}
	return true
}

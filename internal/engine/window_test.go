package engine

import (
	"math/rand/v2"
	"testing"
)

// route is a network and a processor, in units of a part per tick.
type route struct {
	network    float64 // over all requests
	connection float64 // over one
	hash       float64
}

// trip plays a download by the window's decisions.
type trip struct {
	w *window

	helping          map[int]float64 // what a helper has still to fetch of a part
	ticks            int
	streamed, read   int // parts
	requests, widest int // of the front; at once
}

// help starts as many helpers as the window lets.
func (tr *trip) help(t *testing.T, kept func(int) bool) {
	t.Helper()
	for {
		i, ok := tr.w.ahead()
		if !ok {
			return
		}
		if _, twice := tr.helping[i]; twice || kept(i) || i <= tr.w.next {
			t.Fatalf("part %d is given to a helper, the front is at %d", i, tr.w.next)
		}
		tr.helping[i] = 1
	}
}

// travel goes on until all parts are hashed, and checks every decision on the way.
func travel(t *testing.T, parts, ranges int, r route, kept func(int) bool) *trip {
	t.Helper()
	tr := &trip{w: newWindow(parts, ranges, kept), helping: map[int]float64{}}
	doing, left, waited, row, starving := stepWait, 0.0, false, 0, false
	for ; ; tr.ticks++ {
		if tr.ticks > 1_000_000 {
			t.Fatalf("%d of %d parts after %d ticks", tr.w.next, parts, tr.ticks)
		}
		tr.help(t, kept)
		if doing == stepWait {
			doing = tr.w.front()
			switch doing {
			case stepDone:
				return tr
			case stepWait:
				if !starving {
					tr.w.starved()
				}
				starving = true
			case stepStream:
				row, left, waited, starving = tr.w.row(), 1, false, false
				tr.requests++
			case stepRead:
				left, starving = 1, false
			}
		}
		tr.help(t, kept)
		active := len(tr.helping)
		if doing == stepStream {
			active++
		}
		tr.widest = max(tr.widest, active)
		if active != tr.w.fetch || active > ranges || len(tr.helping)+tr.w.ready > ranges+spare {
			t.Fatalf("%d fetches at once, of %d; the window counts %d, and %d parts in the file", active, ranges, tr.w.fetch, tr.w.ready)
		}
		share := min(r.connection, r.network/float64(max(1, active)))
		for i := range tr.helping {
			if tr.helping[i] -= share; tr.helping[i] <= 0 {
				delete(tr.helping, i)
				tr.w.fetched(i)
			}
		}
		switch doing {
		case stepStream:
			left -= min(share, r.hash)
			waited = waited || share > r.hash
		case stepRead:
			left -= r.hash
		case stepWait, stepDone:
			continue
		}
		if left > 0 {
			continue
		}
		if doing == stepRead {
			tr.read++
			tr.w.hashed()
			doing = stepWait
			continue
		}
		tr.streamed++
		tr.w.streamed(waited)
		doing = stepWait
		if row--; row > 0 && tr.w.front() == stepStream {
			doing, left, waited = stepStream, 1, false
		}
	}
}

func none(int) bool { return false }

func TestWindowFastNetwork(t *testing.T) {
	const parts = 1000
	tr := travel(t, parts, 8, route{network: 0.9, connection: 0.6, hash: 0.1}, none)
	if tr.read > parts/10 || tr.requests > parts/10 {
		t.Errorf("%d parts were read back, the others came by %d requests; the hash is six times slower than a connection, so that one after the other is enough", tr.read, tr.requests)
	}
	if least := parts * 10; tr.ticks > least*11/10 {
		t.Errorf("it took %d ticks where the hash needs %d", tr.ticks, least)
	}
}

func TestWindowSlowNetwork(t *testing.T) {
	const parts = 1000
	tr := travel(t, parts, 8, route{network: 1, connection: 0.02, hash: 0.9}, none)
	if tr.widest != 8 {
		t.Errorf("at most %d at once, of 8", tr.widest)
	}
	// With 8 connections a part takes 6.25 ticks.
	if least := parts * 50 / 8; tr.ticks > least*115/100 {
		t.Errorf("it took %d ticks where 8 connections need %d", tr.ticks, least)
	}
}

// TestWindowGetsHelpAgain begins where the hash is the slower one.
func TestWindowGetsHelpAgain(t *testing.T) {
	w := newWindow(1000, 8, none)
	w.helpers = 0
	for i := range calmAfter * 4 {
		if step := w.front(); step != stepStream {
			t.Fatalf("part %d: step %d", i, step)
		}
		w.streamed(false)
	}
	if w.helpers != 8 {
		t.Errorf("%d helpers after %d parts for which the hash had to wait", w.helpers, calmAfter*4)
	}
	w.helpers = 0
	for range 100 {
		w.front()
		w.streamed(true)
	}
	if w.helpers != 0 {
		t.Errorf("%d helpers where the hash is what takes longest", w.helpers)
	}
}

func TestWindowLeavesWhatIsThere(t *testing.T) {
	kept := func(i int) bool { return i < 500 || i%3 == 0 }
	tr := travel(t, 1000, 8, route{network: 1, connection: 0.1, hash: 0.5}, kept)
	if tr.read < 500+500/3 {
		t.Errorf("%d parts were read from the file", tr.read)
	}
}

func TestWindowProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		parts, ranges, share := 1+random.IntN(100), 1+random.IntN(10), random.Float64()
		there := make([]bool, parts)
		for i := range there {
			there[i] = random.Float64() < share*share
		}
		r := route{network: 0.01 + random.Float64(), connection: 0.01 + random.Float64(), hash: 0.01 + random.Float64()}
		tr := travel(t, parts, ranges, r, func(i int) bool { return there[i] })
		if tr.streamed+tr.read != parts || tr.w.ready != 0 || tr.w.fetch != 0 || !tr.w.last() {
			t.Errorf("%d parts: %d streamed, %d read; %d in the file, %d on their way", parts, tr.streamed, tr.read, tr.w.ready, tr.w.fetch)
		}
	}
}

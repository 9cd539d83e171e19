package faultproxy

import (
	"hash/fnv"
	"math/rand/v2"
	"strconv"
)

// Always has every request that a fault can happen to meet it.
func Always(f *Fault) Plan {
	return func(r *Request) *Fault {
		if r.Can(f) {
			return f
		}
		return nil
	}
}

// EveryOther has the first request that a fault can happen to meet it, the
// third, and so on, each operation counted for itself.
func EveryOther(f *Fault) Plan {
	seen := map[Op]int{}
	return func(r *Request) *Fault {
		if !r.Can(f) {
			return nil
		}
		seen[r.Op]++
		if seen[r.Op]%2 == 0 {
			return nil
		}
		return f
	}
}

// FirstOfEach has the first so many requests of each operation meet the fault.
func FirstOfEach(n int, f *Fault) Plan {
	seen := map[Op]int{}
	return func(r *Request) *Fault {
		if !r.Can(f) || seen[r.Op] == n {
			return nil
		}
		seen[r.Op]++
		return f
	}
}

// After lets the first n requests pass that a fault can happen to. All others
// meet it.
func After(n int, f *Fault) Plan {
	return func(r *Request) *Fault {
		if !r.Can(f) {
			return nil
		}
		if n--; n >= 0 {
			return nil
		}
		return f
	}
}

// Random has so many of a hundred requests meet one of the faults. Chance is
// the seed's, the request's, and how many like it there were.
func Random(seed uint64, percent int, faults ...*Fault) Plan {
	return func(r *Request) *Fault {
		h := fnv.New64a()
		_, _ = h.Write([]byte(r.id() + " " + strconv.Itoa(r.N))) // It never fails.
		chance := rand.New(rand.NewPCG(seed, h.Sum64()))
		if chance.IntN(100) >= percent {
			return nil
		}
		var can []*Fault
		for _, f := range faults {
			if r.Can(f) {
				can = append(can, f)
			}
		}
		if len(can) == 0 {
			return nil
		}
		return can[chance.IntN(len(can))]
	}
}

package hfcache

import (
	"encoding/binary"
	"testing"
)

// extent is one of an answer: where it begins in the file, its length, and its flags.
type extent struct {
	logical, length uint64
	flags           uint32
}

func extentsAnswer(order binary.ByteOrder, mapped uint32, all ...extent) []byte {
	buf := make([]byte, fiemapHead+extentsPerCall*fiemapExtent)
	order.PutUint32(buf[20:], mapped)
	for i, e := range all {
		at := buf[fiemapHead+i*fiemapExtent:]
		order.PutUint64(at[0:], e.logical)
		order.PutUint64(at[8:], 1<<40) // where it is on the disk is of no interest
		order.PutUint64(at[16:], e.length)
		order.PutUint32(at[40:], e.flags)
	}
	return buf
}

func TestExtents(t *testing.T) {
	const encoded = 0x8
	full := make([]extent, extentsPerCall)
	for i := range full {
		full[i] = extent{uint64(i) * 10, 10, fiemapShared}
	}
	for _, test := range []struct {
		name   string
		mapped uint32
		all    []extent
		next   uint64
		shared int64
		last   bool
	}{
		{"none", 0, nil, 0, 0, true},
		{"one of its own", 1, []extent{{0, 4096, fiemapLast}}, 4096, 0, true},
		{"one that is shared", 1, []extent{{0, 4096, fiemapLast | fiemapShared | encoded}}, 4096, 4096, true},
		{"some of both, with a hole", 3, []extent{{0, 4096, fiemapShared}, {8192, 100, 0}, {1 << 33, 1 << 32, fiemapShared | fiemapLast}}, 1<<33 + 1<<32, 4096 + 1<<32, true},
		{"more to come", 2, []extent{{0, 4096, fiemapShared}, {4096, 4096, 0}}, 8192, 4096, false},
		{"fewer than there were", 1, []extent{{0, 4096, 0}, {4096, 4096, fiemapShared}}, 4096, 0, false},
		{"a full answer", extentsPerCall, full, 10 * extentsPerCall, 10 * extentsPerCall, false},
		{"more than fit", extentsPerCall + 1, full, 10 * extentsPerCall, 10 * extentsPerCall, false},
	} {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			next, shared, last := extents(extentsAnswer(order, test.mapped, test.all...), order)
			if next != test.next || shared != test.shared || last != test.last {
				t.Errorf("%s, %s: next %d, shared %d, last %t; want %d, %d, %t", test.name, order, next, shared, last, test.next, test.shared, test.last)
			}
		}
	}
}

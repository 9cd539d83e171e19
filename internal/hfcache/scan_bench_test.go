package hfcache

import (
	"fmt"
	"math"
	"testing"
)

// wideFolder is a cache with one revision of n small files, a blob each.
func wideFolder(tb testing.TB, n int) *Cache {
	tb.Helper()
	entries := map[string]string{scanRepo + "refs/main": scanCommit}
	for i := range n {
		blob := fmt.Sprintf("%040x", i)
		entries[scanRepo+"blobs/"+blob] = "x"
		entries[scanSnap+fmt.Sprintf("folder-%02d/file-%06d.json", i%20, i)] = "->../../../blobs/" + blob
	}
	c, err := Open(layout(tb, entries), Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

func BenchmarkScan(b *testing.B) {
	const files = 2000
	c := wideFolder(b, files)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Scan(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/files, "ns/file")
}

// What a file of a snapshot and its blob allocate, a large cache allocates 100,000 times: names, what the system says of them, and where they lead. It is 13.1 now, or
// 14.1 where the race detector empties pools; a second look at each blob makes it 16.1.
func TestScanAllocatesLittlePerFile(t *testing.T) {
	const few, many, most = 100, 1100, 15
	measure := func(c *Cache) float64 {
		// The least of some runs: what the runtime allocates beside them is none of the scan's.
		least := math.Inf(1)
		for range 5 {
			least = min(least, testing.AllocsPerRun(1, func() {
				if _, err := c.Scan(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}))
		}
		return least
	}
	perFile := (measure(wideFolder(t, many)) - measure(wideFolder(t, few))) / (many - few)
	t.Logf("%.1f allocations for a file", perFile)
	if perFile > most {
		t.Errorf("a scan allocates %.1f times for a file, more than %d", perFile, most)
	}
}

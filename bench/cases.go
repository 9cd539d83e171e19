package main

import "time"

// Kind is what a case does.
type Kind string

const (
	transfer Kind = "transfer" // Up, then down.
	nothing  Kind = "nothing"  // Push with nothing new.
	scan     Kind = "scan"
	start    Kind = "start"
)

// Case is one thing to measure. A transfer gives the results "<name>-up" and
// "<name>-down".
type Case struct {
	Name   string
	Title  string
	Kind   Kind
	Sizes  []int64 // Of the files.
	Sparse bool    // The files are holes for the most part.
	Delay  time.Duration
	Rate   float64 // Bytes a second each way; 0 for no limit.
	Once   bool    // One round: the memory is what counts.
	Fill   int     // How many blobs the bucket holds besides.
	Repos  int     // Of a wide cache, each of Files.
	Files  int
	Runs   int             // Instead of the rounds.
	Skip   map[string]bool // Tools left out.
	Note   string
}

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// Names of the cases that targets speak of.
const (
	caseLarge   = "2gib"
	caseSmall   = "5000x16kib"
	caseHuge    = "4gib"
	caseNoop1k  = "nothing-new-1k"
	caseNoop    = "nothing-new-100k"
	caseScan    = "scan-100k"
	caseStart   = "start"
	caseFarMany = "40ms-2000x16kib"
	caseFarOne  = "40ms-512mib"
)

// Cases is all cases; quick ones are tiny, to try the harness itself.
func Cases(quick bool) []Case {
	size, count := func(n int64) int64 { return n }, func(n int) int { return n }
	if quick {
		size = func(n int64) int64 { return max(n>>6, min(n, 16*kib)) }
		count = func(n int) int { return max(1, n/50) }
	}
	small := repeat(20, 16*kib)
	bare := map[string]bool{copyR: true, sha: true}
	return []Case{
		{Name: caseLarge, Title: "One file of 2 GiB", Kind: transfer, Sizes: []int64{size(2 * gib)}},
		{Name: "4x512mib", Title: "4 files of 512 MiB", Kind: transfer, Sizes: repeat(4, size(512*mib))},
		{Name: caseSmall, Title: "5,000 files of 16 KiB", Kind: transfer, Sizes: repeat(count(5000), 16*kib)},
		{Name: "model", Title: "A model: 3 shards and 12 small files", Kind: transfer, Sizes: []int64{
			size(640 * mib), size(640 * mib), size(300 * mib), 9 * mib, 4*mib + 7, 2 * mib, 800 * kib, 60 * kib, 30 * kib, 12 * kib, 7000, 1500, 1200, 600, 150,
		}},
		{
			Name: caseHuge, Title: "One file of 4 GiB", Kind: transfer, Sizes: []int64{size(4 * gib)}, Sparse: true, Once: true, Skip: bare,
			Note: "One round: the memory is what counts here. The file has random bytes in one page of each MiB, so that it fits into memory thrice.",
		},
		{Name: caseFarMany, Title: "2,000 files of 16 KiB, 40 ms away", Kind: transfer, Sizes: repeat(count(2000), 16*kib), Delay: longDelay, Skip: bare},
		{Name: caseFarOne, Title: "One file of 512 MiB, 40 ms away, 1 Gbit/s", Kind: transfer, Sizes: []int64{size(512 * mib)}, Delay: longDelay, Rate: gigabit, Skip: bare},
		{Name: caseNoop1k, Title: "Push with nothing new, 1,000 other blobs in the bucket", Kind: nothing, Sizes: small, Fill: count(1000)},
		{Name: caseNoop, Title: "Push with nothing new, 100,000 other blobs in the bucket", Kind: nothing, Sizes: small, Fill: count(100_000)},
		{Name: caseScan, Title: "Looking at a cache of 100,000 files", Kind: scan, Repos: count(100), Files: count(1000)},
		{Name: caseStart, Title: "Start-up", Kind: start, Runs: count(40)},
	}
}

// space is what the case takes at most: its files thrice, which are the source, the
// bucket, and either the parts of an upload or a download, and something for many
// small files, links and temporary ones.
func (c *Case) space() int64 {
	need := gib
	for _, size := range c.Sizes {
		need += 3 * size
	}
	return need
}

func repeat(n int, size int64) []int64 {
	sizes := make([]int64, n)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes
}

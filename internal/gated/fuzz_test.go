package gated_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/gated"
)

func FuzzFrontMatter(f *testing.F) {
	f.Add([]byte("---\nextra_gated_prompt: x\n---\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c gated.Checker
		var found gated.Finding
		var is bool
		if taken := allocated(func() { found, is = c.Look(map[string][]byte{"README.md": data}) }); tooMuch(taken, len(data)) {
			t.Errorf("%d bytes took %d to read", len(data), taken)
		}
		if is && !bytes.Contains(data, []byte("gated")) && !bytes.ContainsAny(data, `"\`) { // a quoted key may be written with escapes
			t.Errorf("gated by %q, which is not there", found.Signal)
		}
		if is != (found != gated.Finding{}) {
			t.Errorf("%v: %+v", is, found)
		}
		// What stands behind the block says nothing.
		_, again := c.Look(map[string][]byte{"README.md": append(bytes.Clone(data), "\n---\ngated: true\n---\n"...)})
		if is && !again {
			t.Error("it is gated, and with more behind it is not")
		}
	})
}

// allocated is how many bytes f allocates, be they garbage by now, and what others do meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// tooMuch says whether what was allocated for an input of size bytes is more than a multiple of it, beyond what is needed anyway.
func tooMuch(taken uint64, size int) bool { return taken > 1<<20+500*uint64(size) }

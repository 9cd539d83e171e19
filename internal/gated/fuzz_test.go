package gated_test

import (
	"bytes"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/gated"
)

func FuzzFrontMatter(f *testing.F) {
	f.Add([]byte("---\nextra_gated_prompt: x\n---\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c gated.Checker
		found, is := c.Look(map[string][]byte{"README.md": data})
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

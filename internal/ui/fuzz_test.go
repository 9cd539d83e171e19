package ui_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// FuzzClean makes foreign text fit for a terminal: nothing in it can move the cursor, end the line or turn the direction of writing.
func FuzzClean(f *testing.F) {
	f.Add("org/name \x1b[2J")
	f.Fuzz(func(t *testing.T, s string) {
		got := ui.Clean(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) {
			t.Errorf("%q becomes %q", s, got)
		}
		if again := ui.Clean(got); again != got {
			t.Errorf("%q becomes %q and then %q", s, got, again)
		}
	})
}

package ui

import (
	"strings"
	"unicode"
)

// columns is how many columns of a terminal a clean text takes. East Asian characters and pictures take two (Unicode Standard Annex #11), marks that go on the character
// before them none. Where terminals differ it counts the wider: a line that is too short does no harm, one that wraps cannot be drawn over.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	const (
		lastASCII   = 0x7f
		firstWide   = 0x1100 // Hangul Jamo
		lastWide    = 0x303e // what is wide among the symbols, and the punctuation of East Asia
		firstKana   = 0x3041
		lastCJK     = 0xa4cf
		firstHangul = 0xac00
		lastHangul  = 0xd7a3
		firstPict   = 0x1f000
		lastPict    = 0x1faff
		firstPlane2 = 0x20000
		lastPlane3  = 0x3fffd
	)
	switch {
	case r <= lastASCII:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= firstWide && r <= 0x115f, r >= 0x2e80 && r <= lastWide, r >= firstKana && r <= lastCJK, r >= 0xa960 && r <= 0xa97c,
		r >= firstHangul && r <= lastHangul, r >= 0xf900 && r <= 0xfaff, r >= 0xfe10 && r <= 0xfe6b, r >= 0xff01 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x16fe0 && r <= 0x18fff, r >= 0x1aff0 && r <= 0x1b2ff, r >= firstPict && r <= lastPict, r >= firstPlane2 && r <= lastPlane3,
		r >= 0x2300 && r <= 0x27bf && unicode.Is(unicode.So, r): // pictures among the symbols
		return 2
	}
	return 1
}

// clip shortens a line to a width at its end: one that wraps cannot be drawn over.
func clip(s string, width int) string {
	if width <= 0 || columns(s) <= width {
		return s
	}
	used := 0
	for i, r := range s {
		if used += runeColumns(r); used >= width { // one column is for the ellipsis
			return s[:i] + "…"
		}
	}
	return s
}

// clipLeft shortens a text to a width at its beginning.
func clipLeft(s string, width int) string {
	over := columns(s) - width
	if width <= 0 || over <= 0 {
		return s
	}
	cut := 0
	for i, r := range s {
		if cut > over { // one more, for the ellipsis
			return "…" + strings.TrimLeftFunc(s[i:], func(r rune) bool { return runeColumns(r) == 0 })
		}
		cut += runeColumns(r)
	}
	return "…"
}

package ui

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// IsTerminal says whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// Size returns a number of bytes as "532", "1.2K", "35.1M", "1.2G" or "4.0T".
func Size(n int64) string {
	if n > -1000 && n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	f := float64(n)
	for _, unit := range "KMGTPE" {
		f /= 1000
		// The text decides, not the number: 999,960 would be "1000.0K".
		if s := strconv.FormatFloat(f, 'f', 1, 64); s != "1000.0" && s != "-1000.0" && math.Abs(f) < 1000 {
			return s + string(unit)
		}
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + "E" // not reached: an int64 ends at 9.2E
}

// Plural returns a number and its noun: "1 file", "2 files", "3 repositories".
func Plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	many := one + "s"
	switch stem, isY := strings.CutSuffix(one, "y"); {
	case isY && stem != "" && !strings.ContainsRune("aeiou", rune(stem[len(stem)-1])):
		many = stem + "ies"
	case strings.HasSuffix(one, "ch"), strings.HasSuffix(one, "sh"), strings.HasSuffix(one, "s"), strings.HasSuffix(one, "x"):
		many = one + "es"
	}
	return strconv.Itoa(n) + " " + many
}

// Ago returns how long before now t was, in the words of the hf command: "a few seconds ago", "2 days ago". A time after now is "in 2 days": a clock is
// wrong somewhere, and that should show. The zero time is "never".
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	switch s := about(d.Abs()); {
	case s == "":
		return "a few seconds ago"
	case d < 0:
		return "in " + s
	default:
		return s + " ago"
	}
}

// about rounds as huggingface_hub's format_timesince does, and is empty for less than 20 seconds.
func about(d time.Duration) string {
	const day = 24 * time.Hour
	if d < 20*time.Second {
		return ""
	}
	for _, u := range []struct {
		name string
		unit time.Duration
		most float64 // more of them are told in the next unit
	}{
		{"second", time.Second, 60},
		{"minute", time.Minute, 60},
		{"hour", time.Hour, 24},
		{"day", day, 6},
		{"week", 7 * day, 6},
		{"month", 2629800 * time.Second, 11},
		{"year", 31557600 * time.Second, math.Inf(1)},
	} {
		if n := math.RoundToEven(float64(d) / float64(u.unit)); n <= u.most {
			return Plural(int(n), u.name)
		}
	}
	return "" // not reached: the last unit has no end
}

// Duration returns a length of time for people: "0.4s", "58s", "1m 5s", "2h 10m", "3d 4h".
func Duration(d time.Duration) string {
	const day = 24 * time.Hour
	two := func(big time.Duration, bigName string, small time.Duration, smallName string) string {
		s := fmt.Sprintf("%d%s", d/big, bigName)
		if rest := d % big / small; rest > 0 {
			s += fmt.Sprintf(" %d%s", rest, smallName)
		}
		return s
	}
	sign := ""
	if d < 0 {
		sign, d = "-", d.Abs()
	}
	if tenths := d.Round(time.Second / 10); tenths < 10*time.Second {
		return sign + strings.TrimSuffix(strconv.FormatFloat(tenths.Seconds(), 'f', 1, 64), ".0") + "s"
	}
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return sign + strconv.FormatInt(int64(d/time.Second), 10) + "s"
	case d < time.Hour:
		return sign + two(time.Minute, "m", time.Second, "s")
	case d < day:
		return sign + two(time.Hour, "h", time.Minute, "m")
	default:
		return sign + two(day, "d", time.Hour, "h")
	}
}

// Clean makes text that others wrote fit for a terminal and a log: what is not to be seen, such as control characters, line ends, escape sequences and marks that reverse the
// direction of writing, is shown as a Go escape, and bytes that are not UTF-8 as \x and their number. All other text stays as it is. Cleaning twice changes nothing.
func Clean(s string) string {
	if strings.IndexFunc(s, hidden) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case hidden(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// hidden says whether a rune shows nothing itself. The two joiners are part of how several scripts are spelled.
func hidden(r rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d'
	return !unicode.IsGraphic(r) && r != nonJoiner && r != joiner
}

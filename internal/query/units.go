package query

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// unit is a word that may follow a number, and what it stands for.
type unit struct {
	name  string
	value float64
}

func sizes() []unit {
	return []unit{
		{"", 1}, {"b", 1}, {"k", 1e3}, {"kb", 1e3}, {"m", 1e6}, {"mb", 1e6}, {"g", 1e9}, {"gb", 1e9}, {"t", 1e12}, {"tb", 1e12}, {"p", 1e15}, {"pb", 1e15},
	}
}

func ages() []unit {
	const second = float64(time.Second)
	return []unit{
		{"s", second},
		{"m", 60 * second},
		{"h", 3600 * second},
		{"d", 86400 * second},
		{"w", 7 * 86400 * second},
		{"mo", 30 * 86400 * second},
		{"y", 365 * 86400 * second},
	}
}

// ParseSize reads a number of bytes such as "500", "1.5gb" or "200M". Units are decimal.
func ParseSize(text string) (int64, error) {
	return parse("size", text, "a number of bytes, or one with kb, mb, gb or tb, as in 1.5gb", sizes())
}

// ParseAge reads a length of time such as "90s", "12h", "30d" or "6mo".
func ParseAge(text string) (time.Duration, error) {
	n, err := parse("age", text, "a number with s, m, h, d, w, mo or y, as in 30d", ages())
	return time.Duration(n), err
}

func parse(what, text, form string, units []unit) (int64, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz ")
	name := strings.TrimSpace(text[len(digits):])
	wrong := fmt.Errorf("%q is no %s: write %s", text, what, form)
	if strings.Trim(digits, "0123456789.") != "" { // no sign, no exponent, no hexadecimal
		return 0, wrong
	}
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0, wrong
	}
	for _, u := range units {
		if u.name != name {
			continue
		}
		if value := number * u.value; value < math.MaxInt64 {
			return int64(math.Round(value)), nil
		}
		return math.MaxInt64, nil // nothing is larger or older
	}
	return 0, wrong
}

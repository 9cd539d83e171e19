// Package suggest finds what somebody may have meant who mistyped a word.
//
// It is pure and safe for concurrent use.
package suggest

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agnivade/levenshtein"
)

// shortest is how many letters a word must have at least to count as the beginning of another.
const shortest = 3

// Nearest returns the known word that is most like word, upper and lower case being the same, and whether any is like it at all: at most two letters, or a third of them,
// are other, or one is the beginning of the other. Of several it is the first.
func Nearest(word string, known []string) (string, bool) {
	near := NearestOf(word, known, 1)
	if len(near) == 0 {
		return "", false
	}
	return near[0], true
}

// NearestOf returns up to most known words that are like word by the rule of [Nearest], the most alike first.
func NearestOf(word string, known []string, most int) []string {
	word = strings.ToLower(word)
	length := utf8.RuneCountInString(word)
	limit := max(2, length/3)
	type candidate struct {
		word     string
		distance int
	}
	var near []candidate
	for _, k := range known {
		lower := strings.ToLower(k)
		distance := levenshtein.ComputeDistance(word, lower)
		if distance >= length { // nothing is left of it
			distance = limit + 1
		}
		switch {
		case length >= shortest && strings.HasPrefix(lower, word):
			distance = min(distance, 1)
		case utf8.RuneCountInString(lower) >= shortest && strings.HasPrefix(word, lower):
			distance = min(distance, limit) // anything that is spelled nearly the same comes first
		}
		if distance <= limit {
			near = append(near, candidate{k, distance})
		}
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	words := make([]string, 0, min(most, len(near)))
	for _, c := range near[:min(most, len(near))] {
		words = append(words, c.word)
	}
	return words
}

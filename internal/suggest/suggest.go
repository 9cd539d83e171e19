// Package suggest finds what somebody may have meant who mistyped a word.
//
// It is pure and safe for concurrent use.
package suggest

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// Nearest returns the known word that is most like word, upper and lower case being the same, and whether any is like it at all: at most two letters, or a third of them,
// are other, or one is the beginning of the other. Of several it is the first.
func Nearest(word string, known []string) (string, bool) {
	word = strings.ToLower(word)
	if word == "" {
		return "", false
	}
	best, least := "", max(2, len(word)/3)+1
	for _, k := range known {
		lower := strings.ToLower(k)
		distance := levenshtein.ComputeDistance(word, lower)
		if distance >= len(word) { // nothing is left of it
			distance = least
		}
		if len(word) > 2 && strings.HasPrefix(lower, word) {
			distance = min(distance, 1)
		}
		if distance < least {
			best, least = k, distance
		}
	}
	return best, best != ""
}

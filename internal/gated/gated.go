// Package gated tells whether a repository looks as if its readers had to accept terms, from the texts in it.
//
// It is a best effort, and errs on the side of asking: a repository that looks gated is left out of a push unless the user says otherwise. Two things are looked at.
// The front matter of README.md: the Hub itself shows a form of terms where it has keys that begin with "extra_gated_". And licence texts that use the words of
// agreements outside of the open licences in them, which a library recognises by their whole text: the Apache licence speaks of an "agreement" too.
//
// Nothing here does any I/O. A [Checker] may be used by several goroutines at once.
package gated

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/google/licensecheck"
)

// MaxBytes is how much of a file is looked at.
const MaxBytes = 1 << 20

// Names says whether a file at the top of a repository is one that [Checker.Look] wants to see. Upper and lower case are the same.
func Names(path string) bool {
	switch strings.ToLower(path) {
	case "readme.md", "license", "license.md", "license.txt", "use_policy.md":
		return true
	}
	return false
}

// Finding is why a repository looks gated.
type Finding struct {
	File   string // which file says it
	Signal string // what it says: a key of the front matter, or a phrase
}

// String is the reason as a sentence without its full stop.
func (f Finding) String() string {
	if isReadme(f.File) {
		return fmt.Sprintf("%s asks readers to accept terms: %s", f.File, f.Signal)
	}
	return fmt.Sprintf("%s is no known open licence and says %q", f.File, f.Signal)
}

func isReadme(name string) bool { return strings.EqualFold(name, "readme.md") }

// Checker looks at files. The zero value is ready.
type Checker struct {
	mu       sync.Mutex
	scanners map[string]*licensecheck.Scanner // by the identifiers of a family; made when first needed, because that takes up to a tenth of a second
	known    map[[sha256.Size]byte]string     // what [Checker.search] found in a text: most repositories have one of a few licences
}

// Look returns the first sign that the repository with these files is gated. The keys are names that [Names] says yes to; of each file no more than [MaxBytes] are
// looked at.
func (c *Checker) Look(files map[string][]byte) (Finding, bool) {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		data := files[name][:min(len(files[name]), MaxBytes)]
		look := c.terms
		if isReadme(name) {
			look = frontMatter
		}
		if signal, found := look(data); found {
			return Finding{name, signal}, true
		}
	}
	return Finding{}, false
}

// agreement is the weakest of the phrases, and so the last.
const agreement = "agreement"

// phrases are the words of licences that somebody has to agree to.
func phrases() []string {
	return []string{"meta llama", "acceptable use", "community license", "you must accept", "responsible ai", "use based restrictions", "gated", agreement}
}

// heading is how many words beside an open licence may speak of an agreement: "Software License Agreement (BSD License)" is the heading of many.
const heading = 40

// terms returns a phrase by which a licence text is no open licence.
func (c *Checker) terms(text []byte) (string, bool) {
	sum := sha256.Sum256(text)
	c.mu.Lock()
	phrase, known := c.known[sum]
	c.mu.Unlock()
	if !known {
		phrase = c.search(text)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.known == nil {
			c.known = map[[sha256.Size]byte]string{}
		}
		c.known[sum] = phrase
	}
	return phrase, phrase != ""
}

// search returns the first of the phrases that a licence text has outside of the open licences in it, or nothing. So an open licence may have a heading, or stand
// beside another one, but not be followed by conditions.
func (c *Checker) search(text []byte) string {
	all := words(text)
	phrase := phraseIn(all)
	for _, f := range families() {
		if phrase == "" {
			return ""
		}
		if !strings.Contains(all, " "+f.hint) {
			continue
		}
		scanner := c.scanner(f)
		if scanner == nil {
			continue
		}
		if matches := scanner.Scan(text).Match; len(matches) > 0 {
			text = without(text, matches)
			rest := words(text)
			phrase = phraseIn(rest)
			if phrase == agreement && strings.Count(rest, " ") <= heading {
				return ""
			}
		}
	}
	return phrase
}

// words is a text in lower case, with exactly one space before and after each word, so that a phrase is found wherever its lines break.
func words(text []byte) string {
	return " " + strings.Join(strings.FieldsFunc(strings.ToLower(string(text)), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}), " ") + " "
}

func phraseIn(all string) string {
	for _, phrase := range phrases() {
		if strings.Contains(all, " "+phrase+" ") {
			return phrase
		}
	}
	return ""
}

// without replaces what matched by a word that no phrase has: what stood before and after must not become a phrase together.
func without(text []byte, matches []licensecheck.Match) []byte {
	var rest []byte
	from := 0
	for _, m := range matches {
		rest = append(append(rest, text[from:m.Start]...), " x "...)
		from = m.End
	}
	return append(rest, text[from:]...)
}

// family is open licences that are told by a phrase in them, so that only these are compiled to compare a text with: all that the library knows take seconds.
type family struct {
	hint string   // in lower case, without punctuation
	ids  []string // SPDX identifiers; one with a hyphen at its end stands for all that begin so
}

func (f family) has(id string) bool {
	return slices.ContainsFunc(f.ids, func(want string) bool {
		return id == want || strings.HasSuffix(want, "-") && strings.HasPrefix(id, want)
	})
}

// families begin with the most frequent. The BSD licences are several, because it is all of them together that take long.
func families() []family {
	const bsd = "redistribution and use"
	return []family{
		{"apache license", []string{"Apache-"}},
		{"permission is hereby granted", []string{"MIT", "MIT-", "MITNFA", "X11"}},
		{bsd, []string{"BSD-3-Clause", "BSD-3-Clause-LBNL"}},
		{bsd, []string{"BSD-2-Clause"}},
		{bsd, []string{"BSD-4-Clause", "BSD-4-Clause-UC"}},
		{bsd, []string{"BSD-1-Clause", "BSD-Source-Code"}},
		{bsd, []string{"BSD-2-Clause-Patent", "BSD-3-Clause-Clear"}},
		{"general public license", []string{"GPL-", "LGPL-", "AGPL-"}},
		{"creative commons", []string{"CC-", "CC0-"}},
		{"mozilla public license", []string{"MPL-"}},
		{"eclipse public license", []string{"EPL-"}},
		{"permission to use copy modify", []string{"ISC", "0BSD", "PostgreSQL"}},
		{"community data license", []string{"CDLA-"}},
		{"database license", []string{"ODC-", "ODbL-"}},
		{"open data commons", []string{"ODC-", "ODbL-", "PDDL-"}},
		{"open use of data agreement", []string{"O-UDA-"}},
		{"open font license", []string{"OFL-"}},
		{"european union public licence", []string{"EUPL-"}},
		{"educational community license", []string{"ECL-"}},
		{"common development and distribution license", []string{"CDDL-"}},
		{"python software foundation", []string{"PSF-", "Python-"}},
		{"cecill", []string{"CECILL-"}},
		{"artistic license", []string{"Artistic-"}},
		{"boost software license", []string{"BSL-"}},
	}
}

// scanner returns nil if the library knows no licence of the family.
func (c *Checker) scanner(f family) *licensecheck.Scanner {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := strings.Join(f.ids, " ")
	if s, ok := c.scanners[key]; ok {
		return s
	}
	var licenses []licensecheck.License
	for _, l := range licensecheck.BuiltinLicenses() {
		if l.LRE != "" && f.has(l.ID) {
			licenses = append(licenses, l)
		}
	}
	scanner, err := licensecheck.NewScanner(licenses)
	if err != nil {
		scanner = nil // not recognised is not open
	}
	if c.scanners == nil {
		c.scanners = map[string]*licensecheck.Scanner{}
	}
	c.scanners[key] = scanner
	return scanner
}

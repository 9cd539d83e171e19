package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Globs are shell patterns in which "*" also matches "/", as fnmatch has it and as the Hub's clients and the Python tool understand their filters.
type Globs []*regexp.Regexp

// ParseGlobs compiles patterns of "*", "?", "[abc]" and "[!abc]".
func ParseGlobs(patterns []string) (Globs, error) {
	globs := make(Globs, 0, len(patterns))
	for _, p := range patterns {
		re, err := regexp.Compile(`(?s)\A` + translate(p) + `\z`)
		if err != nil || p == "" {
			return nil, fmt.Errorf("pattern %q: not a glob", p)
		}
		globs = append(globs, re)
	}
	return globs, nil
}

func translate(pattern string) string {
	var out strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			out.WriteString(".*")
		case '?':
			out.WriteString(".")
		case '[':
			end := strings.IndexByte(pattern[i+1:], ']')
			if end <= 0 {
				out.WriteString(`\[`)
				continue
			}
			class := strings.ReplaceAll(pattern[i+1:i+1+end], `\`, `\\`)
			if rest, negated := strings.CutPrefix(class, "!"); negated {
				class = "^" + rest
			}
			out.WriteString("[" + class + "]")
			i += end + 1
		default:
			out.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	return out.String()
}

// Match says whether any of the patterns matches any of the names.
func (g Globs) Match(names ...string) bool {
	for _, re := range g {
		if slices.ContainsFunc(names, re.MatchString) {
			return true
		}
	}
	return false
}

// Filter is a pair of include and exclude patterns. The zero value lets everything through.
type Filter struct {
	Include, Exclude Globs
}

// Wants says whether something of these names is meant: included, or no includes are given, and not excluded.
func (f Filter) Wants(names ...string) bool {
	return (len(f.Include) == 0 || f.Include.Match(names...)) && !f.Exclude.Match(names...)
}

// Empty says that nothing is filtered.
func (f Filter) Empty() bool { return len(f.Include) == 0 && len(f.Exclude) == 0 }

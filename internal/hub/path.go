package hub

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Path is a file's path inside a repository: relative, slash-separated, safe to join to a folder on every platform.
type Path string

// ErrPath is wrapped by every refusal of a path.
var ErrPath = errors.New("not a safe file path")

// Limits of a path. An element of 255 bytes is what common file systems allow; the whole leaves room for the cache folder in front
// within the 4,096 bytes of PATH_MAX.
const (
	maxElement = 255
	maxPath    = 2048
)

// ParsePath refuses everything that could leave the folder it is joined to, or that means different files on different systems: absolute paths, "." and
// ".." and empty elements, backslashes, colons (drives and NTFS streams), control characters, text that is not UTF-8, and over-long names.
func ParsePath(s string) (Path, error) {
	if why := badPath(s); why != "" {
		return "", fmt.Errorf("%w: %q: %s", ErrPath, clip(s), why)
	}
	return Path(s), nil
}

// Depth is the number of folders above the file.
func (p Path) Depth() int { return strings.Count(string(p), "/") }

func badPath(s string) string {
	switch {
	case s == "":
		return "it is empty"
	case len(s) > maxPath:
		return fmt.Sprintf("it is longer than %d bytes", maxPath)
	case !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError): // the second is what a JSON decoder makes of the first
		return "it is not valid UTF-8"
	case strings.HasPrefix(s, "/"):
		return "it is absolute"
	case strings.Contains(s, `\`):
		return "it contains a backslash"
	case strings.Contains(s, ":"):
		return "it contains a colon"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "it contains a control character"
	}
	for element := range strings.SplitSeq(s, "/") {
		switch {
		case element == "":
			return "it has an empty element"
		case element == "." || element == "..":
			return fmt.Sprintf("it has the element %q", element)
		case len(element) > maxElement:
			return fmt.Sprintf("an element is longer than %d bytes", maxElement)
		}
	}
	return ""
}

func isLowerHex(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}

func isNameRune(r rune) bool {
	return r == '-' || r == '_' || r == '.' || unicode.IsLetter(r) || unicode.IsDigit(r)
}

package hub

import (
	"errors"
	"fmt"
	"strings"
)

// Commit is a full git commit: 40 lower-case hex digits.
type Commit string

// ErrCommit is wrapped by every refusal of a commit.
var ErrCommit = errors.New("not a commit")

// ParseCommit accepts exactly 40 lower-case hex digits.
func ParseCommit(s string) (Commit, error) {
	if len(s) != 40 || !isLowerHex(s) {
		return "", fmt.Errorf("%w: %q is not 40 lower-case hex digits", ErrCommit, clip(s))
	}
	return Commit(s), nil
}

// Short returns the first 12 digits, for people.
func (c Commit) Short() string { return string(c[:min(12, len(c))]) }

// IsCommitPrefix says whether s could abbreviate a commit: 4 to 40 lower-case hex digits.
func IsCommitPrefix(s string) bool { return len(s) >= 4 && len(s) <= 40 && isLowerHex(s) }

// Ref is the name of a branch, tag or pull request as clients ask for it: "main", "v1.0", "feat/x", "refs/pr/1".
type Ref string

// ErrRef is wrapped by every refusal of a ref name.
var ErrRef = errors.New("not a ref name")

// Main is the branch that clients ask for when no revision is given.
const Main Ref = "main"

// ParseRef accepts what can be a file below a cache's refs folder; see [ParsePath] for the rules.
func ParseRef(s string) (Ref, error) {
	if why := badPath(s); why != "" {
		return "", fmt.Errorf("%w: %q: %s", ErrRef, clip(s), why)
	}
	return Ref(s), nil
}

// clip shortens foreign text for an error message.
func clip(s string) string {
	const limit = 120
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

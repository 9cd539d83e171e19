package hub

import (
	"errors"
	"fmt"
)

// BlobID names a blob by a digest of its bytes: 64 hex digits of SHA-256 (LFS and Xet files) or 40 of git's blob SHA-1 (plain git files).
// It is the only form that enters a bucket. The name of a cache's blob file can be something else; see hfcache.
type BlobID string

// Algorithm says how a blob id is computed from the bytes.
type Algorithm uint8

// The two algorithms of the Hub's etags.
const (
	GitSHA1 Algorithm = iota + 1
	SHA256
)

// String returns the algorithm's usual name.
func (a Algorithm) String() string {
	switch a {
	case GitSHA1:
		return "git blob SHA-1"
	case SHA256:
		return "SHA-256"
	default:
		return "invalid"
	}
}

// ErrBlobID is wrapped by every refusal of a blob id.
var ErrBlobID = errors.New("not a blob id")

// ParseBlobID accepts 40 or 64 lower-case hex digits.
func ParseBlobID(s string) (BlobID, error) {
	if (len(s) != 40 && len(s) != 64) || !isLowerHex(s) {
		return "", fmt.Errorf("%w: %q is neither 40 nor 64 lower-case hex digits", ErrBlobID, clip(s))
	}
	return BlobID(s), nil
}

// Algorithm tells by the length which digest the id is.
func (id BlobID) Algorithm() Algorithm {
	if len(id) == 64 {
		return SHA256
	}
	return GitSHA1
}

// Short returns the first 12 digits, for people.
func (id BlobID) Short() string { return string(id[:min(12, len(id))]) }

// MismatchError reports bytes that are not what their name says.
type MismatchError struct {
	ID       BlobID // what was asked for
	Got      string // the digest of the bytes, empty if the length was wrong already
	WantSize int64  // bytes announced
	GotSize  int64  // bytes seen
}

// Error names the blob and both digests or both sizes.
func (e *MismatchError) Error() string {
	if e.GotSize != e.WantSize {
		return fmt.Sprintf("blob %s has %d bytes where %d were announced", e.ID, e.GotSize, e.WantSize)
	}
	return fmt.Sprintf("blob %s does not match its name: the %s of its bytes is %s", e.ID, e.ID.Algorithm(), e.Got)
}

// Matches says whether any of the digests in got (as [Digests] gives them) is id.
func (id BlobID) Matches(got Digests) bool {
	return id == got.SHA256 || id == got.GitSHA1
}

// Digests are both names that the same bytes can have.
type Digests struct {
	SHA256  BlobID
	GitSHA1 BlobID
}

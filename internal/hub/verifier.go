package hub

import (
	"crypto/sha1" //nolint:gosec // git names its blobs by SHA-1; the Hub gives no stronger digest for plain git files
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"strconv"
)

// Verifier checks bytes against a blob id while they stream through it. It is an [io.Writer]; one goroutine at a time may use it.
type Verifier struct {
	id   BlobID
	size int64
	seen int64
	hash hash.Hash
}

// NewVerifier returns a Verifier for a blob of size bytes. Git hashes the length ahead of the content, hence size must be known.
func NewVerifier(id BlobID, size int64) *Verifier {
	return &Verifier{id: id, size: size, hash: newHash(id.Algorithm(), size)}
}

// Write hashes p. It never fails.
func (v *Verifier) Write(p []byte) (int, error) {
	v.seen += int64(len(p))
	return v.hash.Write(p)
}

// Verify returns nil if all bytes were written and hash to the id, else a *[MismatchError].
func (v *Verifier) Verify() error {
	if v.seen != v.size {
		return &MismatchError{ID: v.id, WantSize: v.size, GotSize: v.seen}
	}
	if got := hex.EncodeToString(v.hash.Sum(nil)); got != string(v.id) {
		return &MismatchError{ID: v.id, Got: got, WantSize: v.size, GotSize: v.seen}
	}
	return nil
}

// DigestReader reads size bytes from r and returns both ids that they can have. Fewer or more bytes than size are a *[MismatchError] without an id.
func DigestReader(r io.Reader, size int64, buf []byte) (Digests, error) {
	sum256, sum1 := newHash(SHA256, size), newHash(GitSHA1, size)
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(sum256, sum1)}, onlyReader{r}, buf)
	if err != nil {
		return Digests{}, err
	}
	if n != size {
		return Digests{}, &MismatchError{WantSize: size, GotSize: n}
	}
	return Digests{
		SHA256:  BlobID(hex.EncodeToString(sum256.Sum(nil))),
		GitSHA1: BlobID(hex.EncodeToString(sum1.Sum(nil))),
	}, nil
}

// onlyReader and onlyWriter hide ReadFrom and WriteTo, so that a copy uses the caller's buffer instead of one of its own.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

func newHash(a Algorithm, size int64) hash.Hash {
	if a == SHA256 {
		return sha256.New()
	}
	h := sha1.New() //nolint:gosec // see the import
	_, _ = h.Write([]byte("blob " + strconv.FormatInt(size, 10) + "\x00"))
	return h
}

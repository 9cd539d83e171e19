package fakehub

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// File is one file as a commit holds it: its path, its bytes, and every name
// that the Hub gives to those bytes. Values are immutable and may be put into
// any number of commits and repositories.
type File struct {
	path    string
	size    int64
	data    io.ReaderAt
	sha256  string // Of the bytes.
	oid     string // Git blob id of what git stores: the bytes, or the pointer.
	pointer string // Set for LFS files only.
	xet     string // Set by WithXet only.
	deleted bool
}

// Git is a small file that lives in git itself. The Hub names its bytes by the
// git blob id, 40 hexadecimal digits.
func Git(path string, data []byte) File {
	sum := sha256.Sum256(data)
	return File{
		path: path, size: int64(len(data)), data: bytes.NewReader(data),
		sha256: hex.EncodeToString(sum[:]), oid: gitBlobID(data),
	}
}

// LFS is a large file, kept beside git. The Hub names its bytes by their
// SHA-256, 64 hexadecimal digits, and git holds only a pointer to them.
func LFS(path string, data []byte) File {
	sum := sha256.Sum256(data)
	return lfsFile(path, bytes.NewReader(data), int64(len(data)), hex.EncodeToString(sum[:]))
}

// LFSFrom is LFS for size bytes that need not fit into memory: data is read
// once now, for the digest, and again by every request. It must be safe for
// concurrent use, as [os.File] and [Noise] are.
func LFSFrom(path string, data io.ReaderAt, size int64) (File, error) {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(data, 0, size))
	if err != nil {
		return File{}, fmt.Errorf("hashing %s: %w", path, err)
	}
	if n != size {
		return File{}, fmt.Errorf("hashing %s: %d bytes where %d were announced", path, n, size)
	}
	return lfsFile(path, data, size, hex.EncodeToString(h.Sum(nil))), nil
}

// Delete stands among the files of a commit for one that it takes out.
func Delete(path string) File { return File{path: path, deleted: true} }

// WithXet returns f with a Xet hash, which listings then name. A real one is a
// BLAKE3 tree hash; this one is only made to look the same, by [XetHash].
func (f File) WithXet() File {
	f.xet = XetHash(f.sha256)
	return f
}

// Path is the file's path from the root of the repository.
func (f File) Path() string { return f.path }

// Size is the length of the file's bytes, never that of its pointer.
func (f File) Size() int64 { return f.size }

// ETag is the name under which clients store the bytes: the SHA-256 of an LFS
// file, else the git blob id.
func (f File) ETag() string {
	if f.isLFS() {
		return f.sha256
	}
	return f.oid
}

// SHA256 is the digest of the file's bytes, 64 hexadecimal digits.
func (f File) SHA256() string { return f.sha256 }

func (f File) isLFS() bool { return f.pointer != "" }

// Open returns a reader of the file's bytes. Readers are independent.
func (f File) Open() *io.SectionReader { return io.NewSectionReader(f.data, 0, f.size) }

// XetHash makes the Xet hash that this Hub claims for the bytes with the given
// SHA-256. It is deterministic, and no digest of the bytes themselves.
func XetHash(sha256Hex string) string {
	sum := sha256.Sum256([]byte("xet:" + sha256Hex))
	return hex.EncodeToString(sum[:])
}

// Noise is size pseudo-random bytes that take no memory: any part of them is
// computed when read. The same seed gives the same bytes.
func Noise(seed uint64, size int64) io.ReaderAt {
	return io.NewSectionReader(noise(seed), 0, size)
}

type noise uint64

// ReadAt fills p with the bytes from off on; it never fails.
func (n noise) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		at := uint64(off) + uint64(i)
		p[i] = byte(splitmix(uint64(n)+at/8) >> (8 * (at % 8)))
	}
	return len(p), nil
}

// splitmix is the finaliser of the SplitMix64 generator, which turns a counter
// into well-mixed words.
func splitmix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

func lfsFile(path string, data io.ReaderAt, size int64, sum string) File {
	pointer := fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", sum, size)
	return File{path: path, size: size, data: data, oid: gitBlobID([]byte(pointer)), sha256: sum, pointer: pointer}
}

func gitBlobID(data []byte) string {
	h := sha1.New()
	h.Write(fmt.Appendf(nil, "blob %d\x00", len(data)))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

package store

import (
	"context"
	"io"
	"iter"
	"time"
)

// Info describes one object.
type Info struct {
	Key      string
	Size     int64             // bytes
	ETag     string            // opaque, without quotes; changes when the object is replaced
	Modified time.Time         // by the store's clock
	Metadata map[string]string // user metadata with lower-case names; nil from List, and from stores that keep none
}

// Range asks for part of an object. The zero value asks for all of it.
type Range struct {
	Offset int64  // first byte
	Length int64  // bytes; 0 means to the end
	ETag   string // if set, fail with ErrExists when the object has been replaced since
}

// Reader is what pulling needs.
type Reader interface {
	// Get opens an object. The caller reads the body to its end or to its first error, and closes it. Info.Size is the size of the whole object,
	// whatever the range. A missing key is ErrNotFound; a range that starts at or beyond the end of the object is ErrBadRange.
	Get(ctx context.Context, key string, rng Range) (io.ReadCloser, Info, error)
	// Stat describes an object, with its metadata. A missing key is ErrNotFound.
	Stat(ctx context.Context, key string) (Info, error)
	// List yields the objects whose keys start with prefix (any text, not only whole elements), in byte order of their keys, in constant memory.
	// An error ends the sequence and is its last element.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
}

// PutOptions qualify a Put.
type PutOptions struct {
	SHA256      string            // lower-case hex digest of the body, if known: the store must refuse other bytes where it can
	Metadata    map[string]string // lower-case names
	ContentType string
	IfAbsent    bool   // fail with ErrExists if the key exists; ErrUnsupported where the store cannot tell atomically
	IfMatch     string // fail with ErrExists unless the object still has this ETag (also when it is gone); ErrUnsupported likewise
}

// Store is what pushing needs.
type Store interface {
	Reader
	// Put writes an object of body.Size() bytes. The body is read from its start, possibly more than once.
	Put(ctx context.Context, key string, body *io.SectionReader, o PutOptions) (Info, error)
	// Delete removes an object. Deleting what is not there is no error.
	Delete(ctx context.Context, key string) error
	// String names the store for people: its URL, never a secret.
	String() string
}

// Upload is an unfinished multipart upload.
type Upload struct {
	Key       string
	ID        string
	Initiated time.Time // by the store's clock
}

// Part is one stored part of an upload.
type Part struct {
	Number int // 1 to 10,000
	Size   int64
	ETag   string // opaque; on most stores the MD5 of the part, in hex
}

// Multipart is implemented by stores that take an object in parts, so that a killed push can carry on with the parts that the bucket has. All parts
// but the last are of one size, 5 MiB or more (R2 insists on the first, S3 on the second). Nothing of an upload is visible until Complete.
type Multipart interface {
	StartUpload(ctx context.Context, key string, o PutOptions) (Upload, error)
	// PutPart stores one part; storing the same number again replaces it. A vanished upload is ErrNotFound.
	PutPart(ctx context.Context, u Upload, number int, body *io.SectionReader) (Part, error)
	// Complete makes the object of the parts, which are in order of number.
	Complete(ctx context.Context, u Upload, parts []Part) (Info, error)
	// Abort throws the parts away. Aborting what is gone is no error.
	Abort(ctx context.Context, u Upload) error
	// Uploads yields the unfinished uploads whose keys start with prefix, or of a store with [WholeKeys] those of which prefix is the key.
	Uploads(ctx context.Context, prefix string) iter.Seq2[Upload, error]
	// Parts lists what an upload has, in order of number. A vanished upload is ErrNotFound.
	Parts(ctx context.Context, u Upload) ([]Part, error)
}

// WholeKeys is implemented by stores of which some tell nothing of unfinished uploads but to who asks for the whole key of one (MinIO).
type WholeKeys interface {
	// WholeKeys says whether this store is one of them. It knows after the first answer, and asks for none.
	WholeKeys() bool
}

// Unwrapper is implemented by stores that wrap another one, so that an optional interface can be looked for below.
type Unwrapper interface {
	Unwrap() Store
}

// Clocked is implemented by stores that know what time it is where they are: a machine with a wrong clock can be told apart from a new ref by it.
type Clocked interface {
	// Now is the store's clock, which is late by [ClockExact] at most. It may cost a request.
	Now(ctx context.Context) (time.Time, error)
}

// ClockExact is how exact a [Clocked] store is at least. It tells whole seconds, as the Date header does (RFC 9110, 6.6.1), and servers look at their clock once a second or, when they are
// busy, less often.
const ClockExact = 5 * time.Second

// As finds an optional interface in s or in the stores that it wraps, outermost first.
func As[T any](s Store) (T, bool) {
	for {
		if found, ok := s.(T); ok {
			return found, true
		}
		wrapper, ok := s.(Unwrapper)
		if !ok {
			var none T
			return none, false
		}
		s = wrapper.Unwrap()
	}
}

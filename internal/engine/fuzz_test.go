package engine

import (
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// FuzzParts cuts blobs of every size as a download and as an upload do: each byte is in exactly one part, and no part but the last is short.
func FuzzParts(f *testing.F) {
	f.Add(int64(20<<20), int64(0))
	f.Fuzz(func(t *testing.T, size, at int64) {
		const most = 64 << 40 // more than any store takes
		if size < 1 || size > most {
			return
		}
		at = (at%size + size) % size // a byte of the blob

		// A part is at i*downloadPart; partLength says how far it goes.
		parts := (size + downloadPart - 1) / downloadPart
		i := at / downloadPart
		start, length := i*downloadPart, partLength(size, int(i))
		if i >= parts || at < start || at >= start+length {
			t.Errorf("byte %d of %d is not in part %d of %d, which has %d bytes from %d", at, size, i, parts, length, start)
		}
		if last := i == parts-1; last != (start+length == size) || (!last && length != downloadPart) || length < 1 {
			t.Errorf("part %d of %d of %d bytes has %d from %d", i, parts, size, length, start)
		}

		u := upload{blob: plan.PushBlob{ID: hub.BlobID("x"), File: hfcache.File{Size: size}}, partSize: plan.UploadPart(size)}
		parts = (size + u.partSize - 1) / u.partSize
		const mostParts, least = 10_000, 5 << 20
		if parts > mostParts || u.partSize < least {
			t.Errorf("%d bytes are %d parts of %d", size, parts, u.partSize)
		}
		i = at / u.partSize
		section := u.section(int(i))
		_, start, length = section.Outer()
		if i >= parts || at < start || at >= start+length || (start+length == size) != (i == parts-1) || (start+length < size && length != u.partSize) {
			t.Errorf("byte %d of %d is not in part %d of %d, which has %d bytes from %d", at, size, i, parts, length, start)
		}

		// What is moved in one piece fits a buffer's pool, and a range never asks for nothing, which would mean everything.
		if rng := (store.Range{Offset: start, Length: length}); rng.Length == 0 {
			t.Errorf("part %d of %d bytes is a range of everything", i, size)
		}
	})
}

package storetest

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // The digest by which S3 names parts.
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// partSize is the least that S3 takes for all parts but the last.
const partSize = 5 << 20

// pieces cuts data into parts.
func pieces(data []byte) [][]byte {
	var parts [][]byte
	for len(data) > partSize {
		parts = append(parts, data[:partSize])
		data = data[partSize:]
	}
	return append(parts, data)
}

func start(t *testing.T, m store.Multipart, key string, o store.PutOptions) store.Upload {
	t.Helper()
	u, err := m.StartUpload(t.Context(), key, o)
	if err != nil {
		t.Fatal(err)
	}
	if u.Key != key || u.ID == "" || u.Initiated.IsZero() {
		t.Errorf("start: %+v", u)
	}
	return u
}

func putPart(t *testing.T, m store.Multipart, u store.Upload, number int, data []byte) store.Part {
	t.Helper()
	p, err := m.PutPart(t.Context(), u, number, section(data))
	if err != nil {
		t.Fatal(err)
	}
	if p.Number != number || p.Size != int64(len(data)) || p.ETag == "" {
		t.Errorf("put part %d of %d bytes: it says %+v", number, len(data), p)
	}
	return p
}

func complete(t *testing.T, m store.Multipart, u store.Upload, parts []store.Part) store.Info {
	t.Helper()
	info, err := m.Complete(t.Context(), u, parts)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, p := range parts {
		size += p.Size
	}
	if info.Key != u.Key || info.Size != size || info.ETag == "" {
		t.Errorf("complete of %d bytes: it says %+v", size, info)
	}
	return info
}

func testParts(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/parts"
	data := noise(10, 2*partSize+1234)
	u := start(t, m, key, store.PutOptions{ContentType: "application/octet-stream"})
	e.hasNot(t, key)
	var parts []store.Part
	for i, p := range pieces(data) {
		parts = append(parts, putPart(t, m, u, i+1, p))
		e.hasNot(t, key)
	}
	if keys := e.keys(t, ""); keys != nil {
		t.Errorf("an unfinished upload is listed: %q", keys)
	}
	info := complete(t, m, u, parts)
	e.has(t, key, string(data))
	if stat, err := e.Stat(t.Context(), key); err != nil || stat.ETag != info.ETag {
		t.Errorf("complete says ETag %q, stat %q (%v)", info.ETag, stat.ETag, err)
	}
	if got, _ := e.get(t, key, store.Range{Offset: partSize - 5, Length: 10}); got != string(data[partSize-5:partSize+5]) {
		t.Error("a range across two parts is wrong")
	}
	if keys := e.keys(t, ""); len(keys) != 1 {
		t.Errorf("list: %q", keys)
	}
	_, err := m.Parts(t.Context(), u)
	isError(t, "parts of a completed upload", err, store.ErrNotFound, key)
}

func testPartsAnyOrder(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/order"
	data := noise(11, 4*partSize+1)
	all := pieces(data)
	parts := make([]store.Part, len(all))
	u := start(t, m, key, store.PutOptions{})
	// The last and shortest comes first, before anyone can know the size of the others; then all at once.
	parts[len(all)-1] = putPart(t, m, u, len(all), all[len(all)-1])
	parts[2] = putPart(t, m, u, 3, all[2])
	var wg sync.WaitGroup
	for _, i := range []int{3, 1, 0} {
		wg.Go(func() {
			p, err := m.PutPart(t.Context(), u, i+1, section(all[i]))
			if err != nil {
				t.Error(err)
			}
			parts[i] = p
		})
	}
	wg.Wait()
	complete(t, m, u, parts)
	e.has(t, key, string(data))
}

func testOnePart(t *testing.T, e env, m store.Multipart) {
	for i, data := range []string{"one small part", string(noise(12, partSize+1))} {
		key := fmt.Sprintf("blobs/one%d", i)
		u := start(t, m, key, store.PutOptions{})
		complete(t, m, u, []store.Part{putPart(t, m, u, 1, []byte(data))})
		e.has(t, key, data)
	}
}

func testResumeParts(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/resume"
	data := noise(13, 3*partSize+77)
	all := pieces(data)
	u := start(t, m, key, store.PutOptions{})
	putPart(t, m, u, 1, all[0])
	putPart(t, m, u, 3, all[2])

	// Another process finds the upload, and knows nothing but what the store tells.
	var found store.Upload
	for up, err := range m.Uploads(t.Context(), key) {
		if err != nil {
			t.Fatal(err)
		}
		found = up
	}
	if found.Key != key || found.ID != u.ID {
		t.Fatalf("found %+v, want %+v", found, u)
	}
	have, err := m.Parts(t.Context(), found)
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Part{{Number: 1, Size: partSize}, {Number: 3, Size: partSize}}
	if diff := cmp.Diff(want, have, cmp.Comparer(func(a, b store.Part) bool {
		return a.Number == b.Number && a.Size == b.Size && (a.ETag != "") != (b.ETag != "")
	})); diff != "" {
		t.Fatalf("parts (-want +got):\n%s", diff)
	}
	parts := []store.Part{have[0], putPart(t, m, found, 2, all[1]), have[1], putPart(t, m, found, 4, all[3])}
	complete(t, m, found, parts)
	e.has(t, key, string(data))
}

func testReplacePart(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/replace"
	data := noise(14, 2*partSize+55)
	all := pieces(data)
	u := start(t, m, key, store.PutOptions{})
	putPart(t, m, u, 1, all[0])
	putPart(t, m, u, 2, noise(15, partSize))
	putPart(t, m, u, 3, noise(16, partSize)) // Longer than what replaces it.
	before, err := m.Parts(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	putPart(t, m, u, 2, all[1])
	putPart(t, m, u, 3, all[2])
	after, err := m.Parts(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != 3 || len(after) != 3 {
		t.Fatalf("%d parts before, %d after, want 3", len(before), len(after))
	}
	if before[0].ETag != after[0].ETag || before[1].ETag == after[1].ETag || after[2].Size != 55 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	complete(t, m, u, after)
	e.has(t, key, string(data))
}

func testReplaceByParts(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/over"
	e.put(t, key, "old", store.PutOptions{Metadata: map[string]string{"a": "old"}})
	u := start(t, m, key, store.PutOptions{Metadata: map[string]string{"a": "new"}})
	p := putPart(t, m, u, 1, []byte("new and longer"))
	e.has(t, key, "old")
	complete(t, m, u, []store.Part{p})
	e.has(t, key, "new and longer")
	stat, err := e.Stat(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if stat.Metadata["a"] != "new" && !e.o.NoMetadata {
		t.Errorf("metadata %v, want that of the upload", stat.Metadata)
	}
}

func testTwoUploads(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/two"
	a, b := start(t, m, key, store.PutOptions{}), start(t, m, key, store.PutOptions{})
	if a.ID == b.ID {
		t.Fatal("two uploads of one name")
	}
	pa := putPart(t, m, a, 1, []byte("of the first"))
	pb := putPart(t, m, b, 1, []byte("of the second"))
	complete(t, m, b, []store.Part{pb})
	e.has(t, key, "of the second")
	complete(t, m, a, []store.Part{pa})
	e.has(t, key, "of the first")
}

func testMissingPart(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/gap"
	u := start(t, m, key, store.PutOptions{})
	p := putPart(t, m, u, 1, noise(17, partSize))
	ghost := store.Part{Number: 2, Size: 3, ETag: strings.Repeat("0", 32)}
	_, err := m.Complete(t.Context(), u, []store.Part{p, ghost})
	isError(t, "complete", err, nil, key)
	e.hasNot(t, key)
	complete(t, m, u, []store.Part{p})
	e.has(t, key, string(noise(17, partSize)))
}

func testNoParts(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/nothing"
	u := start(t, m, key, store.PutOptions{})
	if parts, err := m.Parts(t.Context(), u); err != nil || len(parts) != 0 {
		t.Errorf("parts: %v, %v", parts, err)
	}
	_, err := m.Complete(t.Context(), u, nil)
	if e.o.EmptyUploads && err == nil {
		return
	}
	isError(t, "complete", err, nil, key)
	e.hasNot(t, key)
}

func testAbort(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/abort"
	u := start(t, m, key, store.PutOptions{})
	p := putPart(t, m, u, 1, []byte("x"))
	for range 2 {
		if err := m.Abort(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	e.hasNot(t, key)
	for up, err := range m.Uploads(t.Context(), "") {
		t.Errorf("upload left: %+v, %v", up, err)
	}
	_, err := m.Complete(t.Context(), u, []store.Part{p})
	isError(t, "complete", err, store.ErrNotFound, key)
	e.hasNot(t, key)
}

func testVanishedUpload(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/vanished"
	gone := start(t, m, key, store.PutOptions{})
	if err := m.Abort(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	_, err := m.PutPart(t.Context(), gone, 1, section("x"))
	isError(t, "put part", err, store.ErrNotFound, key)
	_, err = m.Parts(t.Context(), gone)
	isError(t, "parts", err, store.ErrNotFound, key)
	_, err = m.Complete(t.Context(), gone, []store.Part{{Number: 1, Size: 1, ETag: strings.Repeat("0", 32)}})
	isError(t, "complete", err, store.ErrNotFound, key)
	e.hasNot(t, key)
}

func testListUploads(t *testing.T, e env, m store.Multipart) {
	if e.o.WholeKeysOnly {
		return
	}
	ids := make(map[string]string)
	for _, key := range []string{"blobs/aa", "blobs/ab", "blobs/b", "other"} {
		ids[key] = start(t, m, key, store.PutOptions{}).ID
	}
	for prefix, want := range map[string][]string{
		"":         {"blobs/aa", "blobs/ab", "blobs/b", "other"},
		"blobs/":   {"blobs/aa", "blobs/ab", "blobs/b"},
		"blobs/a":  {"blobs/aa", "blobs/ab"},
		"blobs/ab": {"blobs/ab"},
		"x":        nil,
	} {
		var got []string
		for u, err := range m.Uploads(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			if u.ID != ids[u.Key] || u.Initiated.IsZero() {
				t.Errorf("%+v, want ID %s", u, ids[u.Key])
			}
			got = append(got, u.Key)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("uploads %q (-want +got):\n%s", prefix, diff)
		}
	}
	for _, err := range m.Uploads(t.Context(), "") {
		if err != nil {
			t.Error(err)
		}
		break // Enough.
	}
	if keys := e.keys(t, ""); keys != nil {
		t.Errorf("uploads are listed as objects: %q", keys)
	}
}

func testBadParts(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/bad"
	_, err := m.StartUpload(t.Context(), "a//b", store.PutOptions{})
	isError(t, "start", err, store.ErrBadConfig, "a//b")
	u := start(t, m, key, store.PutOptions{})
	for _, number := range []int{-1, 0, 10_001} {
		_, err = m.PutPart(t.Context(), u, number, section("x"))
		isError(t, fmt.Sprintf("part %d", number), err, store.ErrBadConfig, key)
	}
	broken := errors.New("broken")
	_, err = m.PutPart(t.Context(), u, 1, io.NewSectionReader(failing{broken}, 0, 1000))
	isError(t, "part that fails", err, broken, key)
	_, err = m.PutPart(t.Context(), u, 1, io.NewSectionReader(strings.NewReader("short"), 0, 1000))
	isError(t, "part shorter than said", err, io.ErrUnexpectedEOF, key)
	if parts, err := m.Parts(t.Context(), u); err != nil || len(parts) != 0 {
		t.Errorf("parts: %v, %v", parts, err)
	}
	e.hasNot(t, key)
}

func testCancelledParts(t *testing.T, e env, m store.Multipart) {
	const key = "blobs/cancelled"
	u := start(t, m, key, store.PutOptions{})
	p := putPart(t, m, u, 1, []byte("x"))
	ctx := cancelled(t)
	_, err := m.StartUpload(ctx, key, store.PutOptions{})
	isError(t, "start", err, context.Canceled, key)
	_, err = m.PutPart(ctx, u, 2, section("y"))
	isError(t, "put part", err, context.Canceled, key)
	_, err = m.Parts(ctx, u)
	isError(t, "parts", err, context.Canceled, key)
	_, err = m.Complete(ctx, u, []store.Part{p})
	isError(t, "complete", err, context.Canceled, key)
	isError(t, "abort", m.Abort(ctx, u), context.Canceled, key)
	for _, err := range m.Uploads(ctx, "blobs/") {
		isError(t, "uploads", err, context.Canceled, "blobs/")
	}

	// In the middle of a part, and of an object.
	const size = 32 << 20 // More than fits between here and a server.
	for _, put := range []func(ctx context.Context, body *io.SectionReader) error{
		func(ctx context.Context, body *io.SectionReader) error {
			_, err := m.PutPart(ctx, u, 2, body)
			return err
		},
		func(ctx context.Context, body *io.SectionReader) error {
			_, err := e.Put(ctx, key, body, store.PutOptions{})
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		body := cancelling{ReaderAt: bytes.NewReader(noise(18, size)), cancel: cancel}
		isError(t, "put", put(ctx, io.NewSectionReader(body, 0, size)), context.Canceled, key)
	}
	e.hasNot(t, key)
	parts, err := m.Parts(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	//nolint:gosec // S3 names parts by MD5.
	if whole := md5.Sum(noise(18, size)); e.o.CutParts && len(parts) == 2 && parts[1].ETag != hex.EncodeToString(whole[:]) {
		parts = parts[:1]
	}
	if len(parts) != 1 {
		t.Errorf("parts: %+v, want the first alone", parts)
	}
	complete(t, m, u, parts)
	e.has(t, key, "x")
}

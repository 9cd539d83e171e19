package storetest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

func testRoundTrip(t *testing.T, e env) {
	const key, data = "blobs/ab", "hello, world"
	put := e.put(t, key, data, store.PutOptions{SHA256: digest(data), ContentType: "text/plain"})
	e.has(t, key, data)
	stat, err := e.Stat(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if stat.ETag != put.ETag {
		t.Errorf("put says ETag %q, stat %q", put.ETag, stat.ETag)
	}
	if stat.Metadata != nil {
		t.Errorf("metadata that was never given: %v", stat.Metadata)
	}
	listed := e.list(t, "")
	if len(listed) != 1 || listed[0].Key != key || listed[0].Size != stat.Size || listed[0].ETag != stat.ETag || listed[0].Modified.IsZero() {
		t.Errorf("list: %+v, want what stat says: %+v", listed, stat)
	}
	if err = e.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	e.hasNot(t, key)
}

func testEmptyObject(t *testing.T, e env) {
	const key = "refs/empty"
	e.put(t, key, "", store.PutOptions{SHA256: digest("")})
	e.has(t, key, "")
	if listed := e.list(t, key); len(listed) != 1 || listed[0].Size != 0 {
		t.Errorf("list: %+v, want one object of no bytes", listed)
	}
	_, _, err := e.Get(t.Context(), key, store.Range{Length: 1})
	isError(t, "the first byte of nothing", err, store.ErrBadRange, key)
}

func testReplace(t *testing.T, e env) {
	const key = "refs/main"
	// Of one length and in one tick of any clock: the ETag has to differ all the same.
	etags := make(map[string]bool)
	const versions = 8
	for i := range versions {
		data := fmt.Sprintf("version %d", i)
		e.put(t, key, data, store.PutOptions{})
		e.has(t, key, data)
		stat, err := e.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		etags[stat.ETag] = true
	}
	if len(etags) != versions {
		t.Errorf("%d ETags for %d versions", len(etags), versions)
	}
	e.put(t, key, "longer than before", store.PutOptions{})
	e.has(t, key, "longer than before")
	e.put(t, key, "short", store.PutOptions{})
	e.has(t, key, "short")
}

func testRanges(t *testing.T, e env) {
	const key = "blobs/ranges"
	data := string(noise(1, 300<<10))
	size := int64(len(data))
	e.put(t, key, data, store.PutOptions{})
	for _, tc := range []struct {
		name string
		rng  store.Range
		want string
	}{
		{"whole", store.Range{}, data},
		{"first byte", store.Range{Length: 1}, data[:1]},
		{"start", store.Range{Length: 1000}, data[:1000]},
		{"middle", store.Range{Offset: 1000, Length: 100_000}, data[1000:101_000]},
		{"open end", store.Range{Offset: 5}, data[5:]},
		{"last byte", store.Range{Offset: size - 1}, data[size-1:]},
		{"tail", store.Range{Offset: size - 10, Length: 10}, data[size-10:]},
		{"beyond the end", store.Range{Offset: size - 10, Length: 1000}, data[size-10:]},
		{"all by length", store.Range{Length: size}, data},
		{"more than all", store.Range{Length: 2 * size}, data},
	} {
		got, info := e.get(t, key, tc.rng)
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, abridged(got), abridged(tc.want))
		}
		if info.Size != size {
			t.Errorf("%s: size %d, want that of the whole object, %d", tc.name, info.Size, size)
		}
	}
	for _, rng := range []store.Range{{Offset: size}, {Offset: size + 1, Length: 1}, {Offset: -1}, {Length: -1}} {
		_, _, err := e.Get(t.Context(), key, rng)
		isError(t, fmt.Sprintf("%+v of %d bytes", rng, size), err, store.ErrBadRange, key)
	}
}

func testPinnedRange(t *testing.T, e env) {
	const key = "blobs/pinned"
	e.put(t, key, "first version", store.PutOptions{})
	stat, err := e.Stat(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	rng := store.Range{Offset: 6, ETag: stat.ETag}
	if got, info := e.get(t, key, rng); got != "version" || info.ETag != stat.ETag {
		t.Errorf("%q of ETag %q, want %q of %q", got, info.ETag, "version", stat.ETag)
	}
	e.put(t, key, "other version", store.PutOptions{})
	_, _, err = e.Get(t.Context(), key, rng)
	isError(t, "range of a replaced object", err, store.ErrExists, key)
	_, _, err = e.Get(t.Context(), key, store.Range{ETag: stat.ETag})
	isError(t, "the whole of a replaced object", err, store.ErrExists, key)
}

func testMissing(t *testing.T, e env) {
	e.put(t, "blobs/there", "x", store.PutOptions{})
	for _, key := range []string{"blobs/missing", "missing", "blobs/there/below", "a/b/c/d"} {
		_, err := e.Stat(t.Context(), key)
		isError(t, "stat", err, store.ErrNotFound, key)
		_, _, err = e.Get(t.Context(), key, store.Range{})
		isError(t, "get", err, store.ErrNotFound, key)
		_, _, err = e.Get(t.Context(), key, store.Range{Offset: 1, Length: 1})
		isError(t, "get a range", err, store.ErrNotFound, key)
	}
}

func testEmptyStore(t *testing.T, e env) {
	for _, prefix := range []string{"", "blobs/", "x"} {
		if keys := e.keys(t, prefix); keys != nil {
			t.Errorf("list %q: %q", prefix, keys)
		}
	}
	e.hasNot(t, "blobs/a")
	if err := e.Delete(t.Context(), "blobs/a"); err != nil {
		t.Error(err)
	}
}

func testDelete(t *testing.T, e env) {
	e.put(t, "a/one", "1", store.PutOptions{})
	e.put(t, "a/two", "2", store.PutOptions{})
	for range 2 {
		if err := e.Delete(t.Context(), "a/one"); err != nil {
			t.Fatal(err)
		}
		e.hasNot(t, "a/one")
		e.has(t, "a/two", "2")
	}
	// Neither the folder of an object nor what would be below one is there to be deleted.
	for _, key := range []string{"a", "a/two/below"} {
		if err := e.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
	e.has(t, "a/two", "2")
	if err := e.Delete(t.Context(), "a/two"); err != nil {
		t.Fatal(err)
	}
	// With its last object a folder is gone, and its name is free.
	e.put(t, "a", "an object", store.PutOptions{})
	e.has(t, "a", "an object")
}

func testFolders(t *testing.T, e env) {
	e.put(t, "a/b/c", "x", store.PutOptions{})
	for _, key := range []string{"a", "a/b"} {
		e.hasNot(t, key)
	}
	_, err := e.Put(t.Context(), "a/b", section("y"), store.PutOptions{})
	_, err2 := e.Put(t.Context(), "a/b/c/d", section("z"), store.PutOptions{})
	if e.o.FlatFolders {
		isError(t, "an object where a folder is", err, store.ErrUnsupported, "a/b")
		isError(t, "a folder where an object is", err2, store.ErrUnsupported, "a/b/c/d")
		e.hasNot(t, "a/b")
	} else {
		if err = errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		e.has(t, "a/b", "y")
		e.has(t, "a/b/c/d", "z")
	}
	e.has(t, "a/b/c", "x")
}

func testOddKeys(t *testing.T, e env) {
	objects := map[string]string{
		"refs/org__name/main":                                      "plain",
		"refs/org__name/refs/pr/1":                                 "nested",
		"manifests/org__name@" + strings.Repeat("0", 40) + ".json": "at",
		"blobs/" + strings.Repeat("ab", 32):                        "long",
		"odd/a b":                                                  "space",
		"odd/a+b":                                                  "plus",
		"odd/a%20b":                                                "percent",
		"odd/a=b&c=d":                                              "equals",
		"odd/a@b":                                                  "at",
		"odd/a#b;c,d":                                              "marks",
		"odd/a'(b)!":                                               "quotes",
		"odd/~a-b_c.d":                                             "unreserved",
		"odd/$a^b{c}[d]":                                           "brackets",
		"odd/größe":                                                "latin",
		"odd/模型/重み":                                                "han",
		"odd/🤗":                                                    "emoji",
		"odd/..a":                                                  "dots before",
		"odd/a..":                                                  "dots after",
		"odd/...":                                                  "dots alone",
		"odd/.hidden":                                              "hidden",
	}
	for key, data := range objects {
		e.put(t, key, data, store.PutOptions{})
	}
	for key, data := range objects {
		e.has(t, key, data)
		if keys := e.keys(t, key); !slices.Equal(keys, []string{key}) {
			t.Errorf("list by the whole key %q: %q", key, keys)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(objects)), e.keys(t, "")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	for key := range objects {
		if err := e.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	if keys := e.keys(t, ""); keys != nil {
		t.Errorf("left after delete: %q", keys)
	}
}

func testBadKeys(t *testing.T, e env) {
	for _, key := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "../a", "a/../b", "a\x00b", "a\nb", "\x7f"} {
		_, _, err := e.Get(t.Context(), key, store.Range{})
		isError(t, fmt.Sprintf("get %q", key), err, store.ErrBadConfig, key)
		_, err = e.Stat(t.Context(), key)
		isError(t, fmt.Sprintf("stat %q", key), err, store.ErrBadConfig, key)
		_, err = e.Put(t.Context(), key, section("x"), store.PutOptions{})
		isError(t, fmt.Sprintf("put %q", key), err, store.ErrBadConfig, key)
		err = e.Delete(t.Context(), key)
		isError(t, fmt.Sprintf("delete %q", key), err, store.ErrBadConfig, key)
	}
	if keys := e.keys(t, ""); keys != nil {
		t.Errorf("list: %q", keys)
	}
}

func testMetadata(t *testing.T, e env) {
	const key = "refs/org__name/main"
	check := func(when string, want map[string]string) {
		t.Helper()
		stat, err := e.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		_, info := e.get(t, key, store.Range{})
		if e.o.NoMetadata {
			want = nil
		}
		if diff := cmp.Diff(want, stat.Metadata); diff != "" {
			t.Errorf("%s: stat (-want +got):\n%s", when, diff)
		}
		if diff := cmp.Diff(want, info.Metadata); diff != "" {
			t.Errorf("%s: get (-want +got):\n%s", when, diff)
		}
	}
	first := map[string]string{"resolved-at": "2026-11-23T07:00:00Z", "by": "a machine, somewhere"}
	info := e.put(t, key, "one", store.PutOptions{Metadata: first})
	if diff := cmp.Diff(first, info.Metadata); diff != "" && !e.o.NoMetadata {
		t.Errorf("put (-want +got):\n%s", diff)
	}
	check("new", first)
	for _, info := range e.list(t, "") {
		if info.Metadata != nil {
			t.Errorf("list: metadata %v", info.Metadata)
		}
	}
	second := map[string]string{"resolved-at": "2026-11-24T08:00:00Z"}
	e.put(t, key, "two", store.PutOptions{Metadata: second})
	check("replaced", second)
	e.put(t, key, "two", store.PutOptions{Metadata: first})
	check("replaced by the same bytes", first)
	e.put(t, key, "two", store.PutOptions{})
	check("replaced by the same bytes without any", nil)
	e.put(t, key, "two", store.PutOptions{Metadata: second})
	if err := e.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	e.put(t, key, "two", store.PutOptions{})
	check("deleted and new", nil)
}

func testWrongDigest(t *testing.T, e env) {
	const key = "blobs/wrong"
	_, err := e.Put(t.Context(), key, section("these bytes"), store.PutOptions{SHA256: digest("other bytes")})
	if e.o.AnyDigest && err == nil {
		return
	}
	isError(t, "put", err, store.ErrBadDigest, key)
	e.hasNot(t, key)
	e.put(t, key, "good", store.PutOptions{})
	_, err = e.Put(t.Context(), key, section("these bytes"), store.PutOptions{SHA256: digest("other bytes")})
	isError(t, "put over another", err, store.ErrBadDigest, key)
	e.has(t, key, "good")
}

func testShortBody(t *testing.T, e env) {
	const key = "blobs/short"
	// A file that has become shorter since it was measured.
	short := io.NewSectionReader(strings.NewReader("ten bytes."), 0, 1000)
	_, err := e.Put(t.Context(), key, short, store.PutOptions{})
	isError(t, "put", err, io.ErrUnexpectedEOF, key)
	for _, kind := range []error{store.ErrUnavailable, store.ErrNotFound, store.ErrDenied} {
		if errors.Is(err, kind) {
			t.Errorf("%v: kind %v, but the store is not to blame", err, kind)
		}
	}
	e.hasNot(t, key)
}

// failing is a file on a broken disk.
type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func testFailingBody(t *testing.T, e env) {
	const key = "blobs/failing"
	broken := errors.New("broken")
	_, err := e.Put(t.Context(), key, io.NewSectionReader(failing{broken}, 0, 1000), store.PutOptions{})
	isError(t, "put", err, broken, key)
	if errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v: unavailable, but the store is not to blame", err)
	}
	e.hasNot(t, key)
}

func testErrors(t *testing.T, e env) {
	_, err := e.Stat(t.Context(), "blobs/missing")
	var se *store.Error
	if !errors.As(err, &se) || se.Op != "stat" {
		t.Errorf("stat: %#v", err)
	}
	if text := err.Error(); strings.ToLower(text[:1]) != text[:1] || strings.Contains(text, "\n") || strings.HasSuffix(text, ".") {
		t.Errorf("%q is no error text", text)
	}
}

func testName(t *testing.T, e env) {
	if name := e.String(); !strings.Contains(name, "://") {
		t.Errorf("the store's name is %q, want a URL", name)
	}
}

// Package storetest is the contract of package store as a suite of tests. Every store runs it, and so does every fake that stands in for
// one: what a fake does otherwise than the real thing has a flag in [Options], and no other way to pass.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Options name what a store does not do. The zero value is the whole contract.
type Options struct {
	NoMetadata   bool // keeps no user metadata
	NoConditions bool // answers ErrUnsupported to IfAbsent and IfMatch
	NoMultipart  bool // does not implement Multipart

	// FlatFolders says that a key cannot be the folder of another ("a" and "a/b"), which is refused with ErrUnsupported: the store keeps
	// objects as files.
	FlatFolders bool
	// RacyFolders says that a put may fail while the folder it goes to is removed with its last object.
	RacyFolders bool
	// CutParts says that of a part whose transfer is cut the server keeps what came, under its digest, but lists the size that was announced.
	CutParts bool
	// WholeKeysOnly says that unfinished uploads are found by their whole key alone (MinIO).
	WholeKeysOnly bool

	// The rest is for fakes; no real store may.

	AnyDigest      bool // takes bytes of any digest
	RacyConditions bool // of several puts under one condition more than one may succeed
	EmptyUploads   bool // completes an upload of no parts
}

// Run runs the suite. open gives a fresh and empty store to each test.
func Run(t *testing.T, o Options, open func(t *testing.T) store.Store) {
	t.Helper()
	for _, tc := range []struct {
		name string
		run  func(t *testing.T, e env)
	}{
		{"put, get, stat, list, delete", testRoundTrip},
		{"empty object", testEmptyObject},
		{"replace", testReplace},
		{"ranges", testRanges},
		{"range of a replaced object", testPinnedRange},
		{"missing keys", testMissing},
		{"empty store", testEmptyStore},
		{"delete twice", testDelete},
		{"folders are no objects", testFolders},
		{"odd keys", testOddKeys},
		{"bad keys", testBadKeys},
		{"list by any prefix", testListPrefix},
		{"list in byte order", testListOrder},
		{"list many", testListMany},
		{"list until enough", testListBreak},
		{"metadata", testMetadata},
		{"wrong digest", testWrongDigest},
		{"body shorter than said", testShortBody},
		{"body that fails", testFailingBody},
		{"put if absent", testIfAbsent},
		{"put if absent, many at once", testIfAbsentRace},
		{"put if unchanged", testIfMatch},
		{"put if unchanged, many at once", testIfMatchRace},
		{"cancelled", testCancelled},
		{"cancelled while reading", testCancelledBody},
		{"concurrent puts of one key", testConcurrentPuts},
		{"concurrent puts and deletes", testConcurrentDeletes},
		{"reader closed early", testCloseEarly},
		{"reader beside a replacement", testReadBesideReplace},
		{"errors", testErrors},
		{"name", testName},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, env{Store: open(t), o: o}) })
	}
	if o.NoMultipart {
		return
	}
	for _, tc := range []struct {
		name string
		run  func(t *testing.T, e env, m store.Multipart)
	}{
		{"parts", testParts},
		{"parts in any order, at once", testPartsAnyOrder},
		{"one part", testOnePart},
		{"resume parts", testResumeParts},
		{"replace a part", testReplacePart},
		{"replace an object by parts", testReplaceByParts},
		{"parts of two uploads of one key", testTwoUploads},
		{"part that was never stored", testMissingPart},
		{"no parts", testNoParts},
		{"abort", testAbort},
		{"vanished upload", testVanishedUpload},
		{"list uploads", testListUploads},
		{"bad parts", testBadParts},
		{"cancelled parts", testCancelledParts},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := env{Store: open(t), o: o}
			m, ok := e.Store.(store.Multipart)
			if !ok {
				t.Fatalf("%T does not implement Multipart", e.Store)
			}
			tc.run(t, e, m)
		})
	}
}

// env is a store under test.
type env struct {
	store.Store
	o Options
}

// section is a body of these bytes.
func section[T string | []byte](data T) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader([]byte(data)), 0, int64(len(data)))
}

// noise is n bytes that no other seed gives.
func noise(seed byte, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // It cannot fail.
	return data
}

func digest[T string | []byte](data T) string {
	h := sha256.Sum256([]byte(data))
	return hex.EncodeToString(h[:])
}

// put stores an object and checks what Put says of it.
func (e env) put(t *testing.T, key, data string, o store.PutOptions) store.Info {
	t.Helper()
	info, err := e.Put(t.Context(), key, section(data), o)
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	if info.Key != key || info.Size != int64(len(data)) || info.ETag == "" {
		t.Errorf("put %s of %d bytes: it says %+v", key, len(data), info)
	}
	return info
}

// get reads a range of an object.
func (e env) get(t *testing.T, key string, rng store.Range) (string, store.Info) {
	t.Helper()
	rc, info, err := e.Get(t.Context(), key, rng)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	data, err := io.ReadAll(rc)
	if err != nil {
		t.Fatalf("get %s: read: %v", key, err)
	}
	if err = rc.Close(); err != nil {
		t.Errorf("get %s: close: %v", key, err)
	}
	return string(data), info
}

// has checks that an object is there, with these bytes, however one looks at it.
func (e env) has(t *testing.T, key, want string) {
	t.Helper()
	got, info := e.get(t, key, store.Range{})
	if got != want {
		t.Errorf("get %s: %s, want %s", key, abridged(got), abridged(want))
	}
	if info.Key != key || info.Size != int64(len(want)) || info.ETag == "" {
		t.Errorf("get %s: it says %+v of %d bytes", key, info, len(want))
	}
	stat, err := e.Stat(t.Context(), key)
	if err != nil {
		t.Fatalf("stat %s: %v", key, err)
	}
	if diff := cmp.Diff(info, stat); diff != "" {
		t.Errorf("%s: get and stat differ:\n%s", key, diff)
	}
	if stat.Modified.IsZero() {
		t.Errorf("stat %s: no time of modification", key)
	}
}

// hasNot checks that there is no object, however one looks for it.
func (e env) hasNot(t *testing.T, key string) {
	t.Helper()
	if _, err := e.Stat(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("stat %s: %v, want ErrNotFound", key, err)
	}
	rc, _, err := e.Get(t.Context(), key, store.Range{})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get %s: %v, want ErrNotFound", key, err)
	}
	if err == nil {
		_ = rc.Close()
	}
	for _, info := range e.list(t, key) {
		if info.Key == key {
			t.Errorf("list: %s is there", key)
		}
	}
}

// list returns all that a listing yields.
func (e env) list(t *testing.T, prefix string) []store.Info {
	t.Helper()
	var infos []store.Info
	for info, err := range e.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list %q: %v", prefix, err)
		}
		infos = append(infos, info)
	}
	return infos
}

func (e env) keys(t *testing.T, prefix string) []string {
	t.Helper()
	var keys []string
	for _, info := range e.list(t, prefix) {
		keys = append(keys, info.Key)
	}
	return keys
}

func abridged(s string) string {
	const most = 60
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q… (%d bytes, SHA-256 %s)", s[:most], len(s), digest(s))
}

// isError checks that an error is of a kind, says which key it is about, and is the contract's.
func isError(t *testing.T, what string, err, kind error, key string) {
	t.Helper()
	var se *store.Error
	switch {
	case err == nil:
		t.Errorf("%s: no error, want %v", what, kind)
	case !errors.As(err, &se):
		t.Errorf("%s: %T (%v) is no *store.Error", what, err, err)
	case kind != nil && !errors.Is(err, kind):
		t.Errorf("%s: %v (kind %v), want kind %v", what, err, se.Kind, kind)
	case se.Op == "" || se.Key != key || !strings.Contains(err.Error(), key):
		t.Errorf("%s: the error %q is about %q by %q, want key %q", what, err, se.Key, se.Op, key)
	}
}

// cancelled is a context that is done.
func cancelled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

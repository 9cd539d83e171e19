package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

func testListPrefix(t *testing.T, e env) {
	all := []string{
		"blobs/aa1", "blobs/aa2", "blobs/ab", "blobs/b", "manifests/org__a@1.json", "manifests/org__ab@1.json", "refs/org__a/main",
		"refs/org__a/refs/pr/1", "refs/org__ab/main", "top",
	}
	for _, key := range all {
		e.put(t, key, key, store.PutOptions{})
	}
	for _, prefix := range []string{
		"", "b", "blobs", "blobs/", "blobs/a", "blobs/aa", "blobs/aa1", "blobs/aa11", "blobs/x", "refs/org__a", "refs/org__a/", "refs/org__a/refs/",
		"manifests/org__a@", "manifests/org__a", "t", "top", "top/", "tops", "x/", "blobs//", "/", "/blobs", "../", "./", "blobs/../", "%", "blobs/aa%31",
	} {
		var want []string
		for _, key := range all {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		if diff := cmp.Diff(want, e.keys(t, prefix)); diff != "" {
			t.Errorf("list %q (-want +got):\n%s", prefix, diff)
		}
	}
}

func testListOrder(t *testing.T, e env) {
	// Where "/" sorts between other characters, and upper case before lower.
	keys := []string{"a-b", "a.b", "a/b", "a/b-", "a/c/d", "a/c.d", "a0", "aB", "ab", "B", "é", "z", "😀", "豈"}
	for _, key := range keys {
		e.put(t, key, "x", store.PutOptions{})
	}
	slices.Sort(keys)
	if diff := cmp.Diff(keys, e.keys(t, "")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func testListMany(t *testing.T, e env) {
	const n = 1101
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("blobs/%04d", i))
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, key := range want {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if _, err := e.Put(t.Context(), key, section("x"), store.PutOptions{}); err != nil {
				t.Errorf("put %s: %v", key, err)
			}
		})
	}
	wg.Wait()
	e.put(t, "other", "x", store.PutOptions{})
	if diff := cmp.Diff(want, e.keys(t, "blobs/")); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func testListBreak(t *testing.T, e env) {
	for _, key := range []string{"a/1", "a/2", "b/1", "c"} {
		e.put(t, key, "x", store.PutOptions{})
	}
	seq := e.List(t.Context(), "")
	for range 2 { // A sequence can be ranged over again.
		var got []string
		for info, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, info.Key); len(got) == 2 {
				break
			}
		}
		if diff := cmp.Diff([]string{"a/1", "a/2"}, got); diff != "" {
			t.Errorf("list (-want +got):\n%s", diff)
		}
	}
}

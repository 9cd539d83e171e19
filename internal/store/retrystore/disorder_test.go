package retrystore_test

import (
	"context"
	"iter"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/retrystore"
)

// jumbled is a store that lists keys as it likes, and breaks off after some of them, once.
type jumbled struct {
	store.Store
	keys  []string
	after int // 0: it does not break off
}

func (j *jumbled) List(context.Context, string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for i, key := range j.keys {
			if j.after > 0 && i == j.after {
				j.after = 0
				yield(store.Info{}, &store.Error{Op: "list", Kind: store.ErrUnavailable})
				return
			}
			if !yield(store.Info{Key: key}, nil) {
				return
			}
		}
	}
}

// A store that does not list in order (directory buckets of S3 do not, and some gateways) is no reason to take a key for one that is not there.
func TestDisorderedListingLosesNothing(t *testing.T) {
	for name, test := range map[string]struct {
		keys, want []string
		after      int
	}{
		"in order":               {[]string{"a", "b", "c"}, []string{"a", "b", "c"}, 0},
		"in order, broken":       {[]string{"a", "b", "c"}, []string{"a", "b", "c"}, 2},
		"a key twice":            {[]string{"a", "b", "b", "c"}, []string{"a", "b", "c"}, 0},
		"in reverse":             {[]string{"c", "b", "a"}, []string{"c", "b", "a"}, 0},
		"pages in wrong order":   {[]string{"c", "d", "a", "b"}, []string{"c", "d", "a", "b"}, 0},
		"the same, broken early": {[]string{"c", "d", "a", "b"}, []string{"c", "a", "b"}, 1},
		"the same, broken late":  {[]string{"c", "d", "a", "b"}, []string{"c", "d", "a", "b"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []string
				for info, err := range retrystore.New(&jumbled{keys: test.keys, after: test.after}, retrystore.Options{}).List(t.Context(), "") {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, info.Key)
				}
				for _, key := range test.want {
					if !slices.Contains(got, key) {
						t.Errorf("%s is missing in %v", key, got)
					}
				}
				if slices.IsSorted(test.keys) && !slices.Equal(got, test.want) {
					t.Errorf("got %v", got)
				}
			})
		})
	}
}

package engine_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// damage changes one byte of a blob in a bucket, and leaves its size.
func damage(t *testing.T, bucket string, f file) {
	t.Helper()
	name := filepath.Join(bucket, filepath.FromSlash(manifest.BlobKey(f.id())))
	data := bytes.Clone(f.data)
	data[len(data)/2] ^= 1
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func recheck(t *testing.T, e *engine.Engine, check plan.Check) (*plan.Push, *engine.Result) {
	t.Helper()
	inv, err := e.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	policy := plan.PushPolicy{Recheck: true, Check: check}
	p, err := e.PreparePush(t.Context(), inv, policy)
	if err != nil {
		t.Fatal(err)
	}
	result, err := e.Push(t.Context(), p, policy)
	if err != nil {
		t.Fatal(err)
	}
	return p, result
}

// vanishing is a store in which the first upload in parts is gone before it is completed.
type vanishing struct {
	store.Store
	store.Multipart
	gone atomic.Bool
}

func (v *vanishing) Complete(ctx context.Context, u store.Upload, parts []store.Part) (store.Info, error) {
	if !v.gone.Swap(true) {
		return store.Info{}, errors.Join(v.Abort(ctx, u), &store.Error{Op: "complete upload", Key: u.Key, Kind: store.ErrNotFound})
	}
	return v.Multipart.Complete(ctx, u, parts)
}

func TestRecheckReplacesDamage(t *testing.T) {
	for _, test := range []struct {
		name string
		wrap func(store.Store) store.Store
	}{
		{"a good store", func(s store.Store) store.Store { return s }},
		// What is there has the right size, and is nobody else's upload of the same blob.
		{"a store that loses the upload", func(s store.Store) store.Store {
			parts, ok := store.As[store.Multipart](s)
			if !ok {
				t.Fatal("the store takes no parts")
			}
			return &vanishing{Store: s, Multipart: parts}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			alice, bob, bucket := t.TempDir(), t.TempDir(), t.TempDir()
			a, b := site(t, alice, bucket), site(t, bob, bucket)
			write(t, a.Cache, model, first, "main", sample())
			push(t, a)
			for _, f := range sample() {
				if len(f.data) > 0 {
					damage(t, bucket, f)
				}
			}
			a.Catalog.Store = test.wrap(a.Catalog.Store)
			if p, result := recheck(t, a, plan.CheckChecksums); result.Blobs != 0 || len(p.Blobs) == 0 {
				t.Errorf("a folder tells no checksums, and of %d blobs %d were replaced", len(p.Blobs), result.Blobs)
			}
			if _, result := recheck(t, a, plan.CheckBytes); result.Failed() || result.Replaced == 0 || result.Replaced != result.Blobs {
				t.Errorf("%+v", result)
			}
			pull(t, b, model, "")
			wantFiles(t, bob, model, first, sample())
			if _, result := recheck(t, a, plan.CheckBytes); result.Blobs != 0 || result.ReadBack == 0 {
				t.Errorf("after all is good: %+v", result)
			}
		})
	}
}

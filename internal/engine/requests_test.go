package engine_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/countstore"
)

// unconditional is a store that checks no conditions, and knows it.
type unconditional struct{ store.Store }

func (u unconditional) Unwrap() store.Store { return u.Store }

func (u unconditional) Put(ctx context.Context, key string, body *io.SectionReader, o store.PutOptions) (store.Info, error) {
	if o.IfAbsent || o.IfMatch != "" {
		return store.Info{}, &store.Error{Op: "put", Key: key, Kind: store.ErrUnsupported}
	}
	return u.Store.Put(ctx, key, body, o)
}

// counted counts the requests of a site from now on.
func counted(e *engine.Engine) (made func() plan.Requests) {
	e.Catalog.Store = countstore.New(e.Catalog.Store)
	return func() plan.Requests { return plan.Requests(countstore.Of(e.Catalog.Store)) }
}

// pushCounted pushes everything and compares the requests that it took with those that were announced, which it returns.
func pushCounted(t *testing.T, e *engine.Engine, policy plan.PushPolicy, conditions bool) plan.Requests {
	t.Helper()
	inv, err := e.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.PreparePush(t.Context(), inv, policy)
	if err != nil {
		t.Fatal(err)
	}
	announced := p.Requests(!conditions)
	made := counted(e)
	result, err := e.Push(t.Context(), p, policy)
	if err != nil || result.Failed() {
		t.Fatalf("push: %v, %+v", err, result)
	}
	if diff := cmp.Diff(announced, made()); diff != "" {
		t.Errorf("requests (-announced +made):\n%s", diff)
	}
	return announced
}

func TestRequestsOfPushAndPull(t *testing.T) {
	alice, bob, bucket := t.TempDir(), t.TempDir(), t.TempDir()
	a, b := site(t, alice, bucket), site(t, bob, bucket)
	write(t, a.Cache, model, first, "main", sample())
	write(t, a.Cache, hub.Repo{Type: hub.Dataset, Name: "org/other"}, first, "v1", sample()[:1])
	// 4 small blobs, of which two repositories share one; 40 MiB in 3 parts, started and completed; 2 manifests and 2 refs.
	if got, want := pushCounted(t, a, plan.PushPolicy{}, true), (plan.Requests{Put: 4 + 3 + 2 + 2 + 2, List: 1}); got != want {
		t.Errorf("a first push: %v, want %v", got, want)
	}
	if got := pushCounted(t, a, plan.PushPolicy{}, true); got.Total() != 0 {
		t.Errorf("a push of nothing: %v", got)
	}
	if got := pushCounted(t, a, plan.PushPolicy{Recheck: true}, true); got.Total() != 0 {
		t.Errorf("a second look at everything: %v", got)
	}
	if got, want := pushCounted(t, a, plan.PushPolicy{Recheck: true, Check: plan.CheckBytes}, true), (plan.Requests{Get: 5}); got != want {
		t.Errorf("reading everything back: %v, want %v", got, want)
	}

	p, err := b.PreparePull(t.Context(), model, "", plan.PullPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	announced := p.Requests()
	made := counted(b)
	if _, err := b.Pull(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if want := (plan.Requests{Get: 4 + 5}); announced != want {
		t.Errorf("a pull: %v, want %v", announced, want)
	}
	if diff := cmp.Diff(announced, made()); diff != "" {
		t.Errorf("requests of a pull (-announced +made):\n%s", diff)
	}
}

func TestRequestsOfMovedRef(t *testing.T) {
	for _, conditions := range []bool{true, false} {
		for _, policy := range []plan.PushPolicy{{}, {ForceRefs: true}} {
			t.Run(fmt.Sprintf("conditions=%v force=%v", conditions, policy.ForceRefs), func(t *testing.T) {
				alice, bob, bucket := t.TempDir(), t.TempDir(), t.TempDir()
				a, b := site(t, alice, bucket), site(t, bob, bucket)
				write(t, a.Cache, model, first, "main", sample()[:1])
				push(t, a)
				write(t, b.Cache, model, second, "main", sample()[1:2])
				if !conditions {
					b.Catalog.Store = unconditional{b.Catalog.Store}
					b.Catalog.Settle = time.Millisecond
				}
				want := plan.Requests{Put: 3} // what the ref named was read when it was planned
				if !conditions {
					want.Head, want.Get = 2, 2
				}
				if got := pushCounted(t, b, policy, conditions); got != want {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		}
	}
}

// TestRequestsOfProof completes manifests of the Python tool, which do not vouch for their blobs.
func TestRequestsOfProof(t *testing.T) {
	for _, tc := range []struct {
		theirs int // files that only the tool's manifest names
		want   plan.Requests
	}{
		{0, plan.Requests{Put: 3}},
		{4, plan.Requests{Put: 3, Head: 4}},
		{5, plan.Requests{Put: 3, List: 1}},
	} {
		a := site(t, t.TempDir(), t.TempDir())
		write(t, a.Cache, model, first, "main", sample()[:1])
		theirs := &manifest.Manifest{Repo: model, Commit: first}
		for i := range tc.theirs {
			f := file{hub.Path(fmt.Sprintf("theirs/%d", i)), noise(byte(i), 100), true}
			theirs.Files = append(theirs.Files, manifest.File{Path: f.path, Blob: f.id(), Size: 100})
		}
		if tc.theirs == 0 {
			theirs.Files = []manifest.File{{Path: sample()[0].path, Blob: sample()[0].id(), Size: int64(len(sample()[0].data))}}
		}
		nothing := func(_ context.Context, m *manifest.Manifest) (*manifest.Manifest, error) { return m, nil }
		if _, _, err := a.Catalog.PutManifest(t.Context(), theirs, nil, nothing); err != nil {
			t.Fatal(err)
		}
		if got := pushCounted(t, a, plan.PushPolicy{}, true); got != tc.want {
			t.Errorf("%d files of theirs: %v, want %v", tc.theirs, got, tc.want)
		}
	}
}

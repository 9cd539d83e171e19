package remote_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// garbling is a store whose objects say what a list says, each text for one read, the last for all others.
type garbling struct {
	store.Store
	etag  string
	texts []string
	reads int
}

func (g *garbling) Get(_ context.Context, key string, _ store.Range) (io.ReadCloser, store.Info, error) {
	text := g.texts[min(g.reads, len(g.texts)-1)]
	g.reads++
	return io.NopCloser(strings.NewReader(text)), store.Info{Key: key, Size: int64(len(text)), ETag: g.etag}, nil
}

// A digit of a ref that changes on its way makes another commit of it, unless somebody compares the bytes with their ETag.
func TestRefDamagedOnItsWay(t *testing.T) {
	right, wrong, worse := strings.Repeat("a", 40), strings.Repeat("a", 39)+"b", strings.Repeat("a", 39)+"c"
	sum := md5.Sum([]byte(right))
	digest, other := hex.EncodeToString(sum[:]), strings.Repeat("0", 32)
	for name, test := range map[string]struct {
		etag  string
		texts []string
		want  string // empty for damage
		reads int
	}{
		"right":                     {digest, []string{right}, right, 1},
		"damaged once":              {digest, []string{wrong, right}, right, 2},
		"damaged in several ways":   {digest, []string{wrong, worse, right}, right, 3},
		"always something else":     {digest, []string{wrong, worse, wrong, worse}, "", 4},
		"an ETag that is no digest": {"abc", []string{right}, right, 1},
		"an ETag of parts":          {other + "-2", []string{right}, right, 1},
		"encrypted":                 {other, []string{right}, right, 2},
	} {
		t.Run(name, func(t *testing.T) {
			g := &garbling{etag: test.etag, texts: test.texts}
			c := &remote.Catalog{Store: g, Now: time.Now}
			ref, err := c.Ref(t.Context(), model, hub.Main)
			if test.want == "" && !errors.Is(err, manifest.ErrInvalid) || test.want != "" && (err != nil || string(ref.Commit) != test.want) {
				t.Errorf("%s, %v", ref.Commit, err)
			}
			if g.reads != test.reads {
				t.Errorf("it was read %d times, not %d", g.reads, test.reads)
			}
		})
	}
}

// Once it is known that ETags are no digests, nothing is read twice.
func TestETagsThatAreNoDigestsCostNothing(t *testing.T) {
	g := &garbling{etag: strings.Repeat("0", 32), texts: []string{strings.Repeat("a", 40)}}
	c := &remote.Catalog{Store: g, Now: time.Now}
	for range 10 {
		if _, err := c.Ref(t.Context(), model, hub.Main); err != nil {
			t.Fatal(err)
		}
	}
	if g.reads != 11 {
		t.Errorf("it was read %d times", g.reads)
	}
}

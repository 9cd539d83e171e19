package plan_test

import (
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

func TestContradiction(t *testing.T) {
	sha256 := func(digit string) hub.BlobID { return hub.BlobID(strings.Repeat(digit, 64)) }
	sha1 := func(digit string) string { return strings.Repeat(digit, 40) }
	listing := manifest.Tree{
		"plain": {Size: 3, BlobID: sha1("a")},
		"large": {Size: 9, BlobID: sha1("b"), LFSSHA256: sha256("b"), LFSSize: 9},
	}
	for _, tc := range []struct {
		name string
		file manifest.File
		tree manifest.Tree
		want bool
	}{
		{"as listed", manifest.File{Path: "plain", Blob: hub.BlobID(sha1("a")), Size: 3}, listing, false},
		{"as listed, in LFS", manifest.File{Path: "large", Blob: sha256("b"), Size: 9}, listing, false},
		{"a digest of another kind", manifest.File{Path: "plain", Blob: sha256("c"), Size: 3}, listing, false},
		{"other bytes", manifest.File{Path: "plain", Blob: hub.BlobID(sha1("c")), Size: 3}, listing, true},
		{"other bytes, in LFS", manifest.File{Path: "large", Blob: sha256("c"), Size: 9}, listing, true},
		{"another size", manifest.File{Path: "plain", Blob: sha256("c"), Size: 4}, listing, true},
		{"not in the listing", manifest.File{Path: "more", Blob: sha256("c"), Size: 4}, listing, true},
		{"no listing", manifest.File{Path: "more", Blob: sha256("c"), Size: 4}, nil, false},
	} {
		p := &plan.Pull{Manifest: &manifest.Manifest{Files: []manifest.File{tc.file}}, Files: []manifest.File{tc.file}, Local: &hfcache.Revision{Tree: tc.tree}}
		if got := p.Contradiction(); (got != nil) != tc.want || got != nil && got.Path != tc.file.Path {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	if got := (&plan.Pull{}).Contradiction(); got != nil {
		t.Errorf("nothing local: %v", got)
	}
}

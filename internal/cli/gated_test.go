package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

const (
	asksForTerms = "---\nextra_gated_prompt: x\n---\n"
	hasTerms     = "THE TINY COMMUNITY LICENSE AGREEMENT\n"
)

// openTexts makes a cache of models and opens it. The keys are name/commit digit/file.
func openTexts(t *testing.T, texts map[string]string) (*hfcache.Cache, *hfcache.Inventory) {
	t.Helper()
	root := t.TempDir()
	for key, text := range texts {
		name, rest, _ := strings.Cut(key, "/")
		digit, file, _ := strings.Cut(rest, "/")
		path := filepath.Join(root, "models--org--"+name, "snapshots", strings.Repeat(digit, 40), filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cache, err := hfcache.Open(root, hfcache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cache.Close(); err != nil {
			t.Error(err)
		}
	})
	inv, err := cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cache, inv
}

func testApp() *app {
	return &app{Process: Process{Env: func(string) (string, bool) { return "", false }}}
}

func TestGatedRepos(t *testing.T) {
	texts := map[string]string{
		"free/1/README.md": "# Free\n", "free/1/LICENSE": "Do what you like.\n", "free/1/weights/README.md": asksForTerms,
		"card/1/README.md":  asksForTerms,
		"old/1/LICENSE.txt": hasTerms, "old/2/README.md": "# Free now\n", "old/3/README.md": "# Free now\n",
		"new/1/readme.md": "# Free\n", "new/2/readme.md": "# Free\n", "new/3/readme.md": asksForTerms,
		"late/1/LICENSE": strings.Repeat("\n", 1<<20) + hasTerms,
	}
	for i := range 200 { // all of the work that there is at once
		texts[fmt.Sprintf("many%d/1/README.md", i)] = "# One of many\n"
	}
	cache, inv := openTexts(t, texts)
	got, err := testApp().gatedRepos(t.Context(), cache, inv)
	if err != nil {
		t.Fatal(err)
	}
	model := func(name string) hub.Repo { return hub.Repo{Type: hub.Model, Name: "org/" + name} }
	if diff := cmp.Diff(map[hub.Repo]string{
		model("card"): "README.md asks readers to accept terms: extra_gated_prompt",
		model("old"):  `LICENSE.txt is no known open licence and says "community license"`,
		model("new"):  "readme.md asks readers to accept terms: extra_gated_prompt",
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestGatedReposSharedBytes has one blob under two names: as a card its text tells nothing, as a policy it does.
func TestGatedReposSharedBytes(t *testing.T) {
	cache, inv := openTexts(t, map[string]string{"one/1/README.md": hasTerms})
	repo := inv.Repos[0]
	shared := repo.Revisions[0].Files[0]
	shared.Path = "USE_POLICY.md"
	repo.Revisions[0].Files = append(repo.Revisions[0].Files, shared)
	got, err := testApp().gatedRepos(t.Context(), cache, inv)
	if err != nil || !strings.HasPrefix(got[repo.ID], "USE_POLICY.md is") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestGatedReposUnreadable(t *testing.T) {
	cache, inv := openTexts(t, map[string]string{"gone/1/README.md": asksForTerms, "here/1/README.md": asksForTerms})
	if err := os.RemoveAll(filepath.Join(inv.Dir, "models--org--gone")); err != nil {
		t.Fatal(err)
	}
	got, err := testApp().gatedRepos(t.Context(), cache, inv)
	if err != nil || len(got) != 1 || got[hub.Repo{Type: hub.Model, Name: "org/here"}] == "" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestGatedReposStops(t *testing.T) {
	cache, inv := openTexts(t, map[string]string{"one/1/README.md": asksForTerms})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := testApp().gatedRepos(ctx, cache, inv); !errors.Is(err, context.Canceled) || len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
}

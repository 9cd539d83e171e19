package engine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

// What could not come back as it is is not held, whatever the manifests say.
func TestHeld(t *testing.T) {
	weights := file{"model.safetensors", noise(2, 300<<10), true}
	config := file{"config.json", []byte("{}"), false}
	firstKey, secondKey := manifest.Key{Repo: model, Commit: first}, manifest.Key{Repo: model, Commit: second}
	for name, test := range map[string]struct {
		pushed []file                                   // of the first revision
		change func(t *testing.T, cache, bucket string) // after the push
		want   string                                   // why it is not held; empty if it is
	}{
		"all of it":    {[]file{weights, config}, nil, ""},
		"never pushed": {nil, nil, "no manifest"},
		"a part":       {[]file{config}, nil, "its manifest does not list all that is here"},
		"without a blob": {[]file{weights, config}, func(t *testing.T, _, bucket string) {
			t.Helper()
			remove(t, filepath.Join(bucket, "blobs", string(weights.id())))
		}, "it lacks blob"},
		"a short blob": {[]file{weights, config}, func(t *testing.T, _, bucket string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(bucket, "blobs", string(weights.id())), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "it lacks blob"},
		"a file that some tool put there": {[]file{weights, config}, func(t *testing.T, cache, _ string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(cache, model.Folder(), "snapshots", string(first), "notes.txt"), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "its snapshot has something that the bucket does not know"},
	} {
		t.Run(name, func(t *testing.T) {
			cacheDir, bucket := t.TempDir(), t.TempDir()
			if test.pushed != nil {
				other := site(t, t.TempDir(), bucket)
				write(t, other.Cache, model, first, "main", test.pushed)
				push(t, other)
			}
			e := site(t, cacheDir, bucket)
			write(t, e.Cache, model, first, "main", []file{weights, config})
			write(t, e.Cache, model, second, "dev", []file{{"other.txt", []byte("other"), false}})
			if len(test.pushed) == 2 { // in the tree it is the same commit
				push(t, e)
			}
			if test.change != nil {
				test.change(t, cacheDir, bucket)
			}
			inv, err := e.Cache.Scan(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			held, err := e.Held(t.Context(), inv, []manifest.Key{firstKey})
			if err != nil {
				t.Fatal(err)
			}
			why, asked := held[firstKey]
			if _, other := held[secondKey]; !asked || other {
				t.Errorf("asked about %v", held)
			}
			if (test.want == "") != (why == nil) || why != nil && !strings.Contains(why.Error(), test.want) {
				t.Errorf("held: %v, want %q", why, test.want)
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// A prune takes what its plan says, and what is left is whole.
func TestPrune(t *testing.T) {
	cacheDir := t.TempDir()
	e := site(t, cacheDir, t.TempDir())
	shared := file{"config.json", []byte("{}"), false}
	old := file{"old.safetensors", noise(3, 300<<10), true}
	write(t, e.Cache, model, first, "main", []file{shared, old})
	write(t, e.Cache, model, second, "main", []file{shared, {"new.safetensors", noise(4, 200<<10), true}})
	orphan := strings.Repeat("0", 40)
	blobs := filepath.Join(cacheDir, model.Folder(), "blobs")
	for _, name := range []string{orphan, "left.incomplete"} {
		if err := os.WriteFile(filepath.Join(blobs, name), make([]byte, 10<<10), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	later := time.Now().Add(48 * time.Hour) // by then all of this is old
	inv, err := e.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	survey, err := e.Cache.Survey(t.Context(), inv)
	if err != nil {
		t.Fatal(err)
	}
	policy := plan.PrunePolicy{Now: later, Grace: time.Hour, TempAge: 24 * time.Hour}
	p := plan.NewPrune(inv, survey, policy)
	result, err := e.Prune(t.Context(), p, hfcache.RemoveOptions{Now: func() time.Time { return later }, Grace: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"left.incomplete", orphan, string(first[:1])}, done(result)); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	// The result counts the commit's listing and its refs, too, which take a block each.
	if more := result.Bytes - p.Freed(); more < 0 || more > 64<<10 || p.Freed() < 320<<10 || len(result.Skipped) > 0 {
		t.Errorf("freed %d of %d, skipped %v", result.Bytes, p.Freed(), result.Skipped)
	}
	wantFiles(t, cacheDir, model, second, []file{shared, {"new.safetensors", noise(4, 200<<10), true}})
	after, err := e.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	repo := after.Repo(model)
	if len(after.Problems) > 0 || len(repo.Revisions) != 1 || len(repo.Blobs) != 2 || len(repo.Temps) > 0 || repo.Refs[0].Commit != second {
		t.Errorf("left: %+v, problems %v", repo, after.Problems)
	}
	if survey, err = e.Cache.Survey(t.Context(), after); err != nil {
		t.Fatal(err)
	}
	if again := plan.NewPrune(after, survey, policy); len(again.Steps) > 0 {
		t.Errorf("a second run would do %+v", again.Steps)
	}
}

func done(result *engine.Pruned) []string {
	var names []string
	for _, s := range result.Done {
		if s.Kind == plan.PruneRevision {
			names = append(names, string(s.Commit[:1]))
			continue
		}
		names = append(names, filepath.Base(s.Place))
	}
	return names
}

package remote_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

func TestKnown(t *testing.T) {
	const own, shared = "datasets--org--name", "org__name"
	a := newAged(t)
	for digit, days := range map[string]int{"a": 3, "b": 1, "c": 2} {
		a.put(t, model, "", commit(digit), days)
	}
	a.put(t, dataset, shared, commit("d"), 1)
	a.put(t, dataset, own, commit("e"), 2)
	a.write(t, manifest.ManifestKey(shared, commit("f")), "junk", 0)
	for name, digit := range map[hub.Ref]string{"alpha": "a", "main": "c", "gone": "9", "theirs": "d", "broken": "f"} {
		put(t, a.Store, manifest.RefKey(shared, name), string(commit(digit)))
	}
	for _, test := range []struct {
		repo                    hub.Repo
		most                    int
		refs, dangling, commits []string
	}{
		{model, 9, []string{"main", "alpha"}, []string{"gone"}, []string{"b", "c", "a"}},
		{model, 1, []string{"main"}, nil, []string{"b"}},
		{dataset, 9, []string{"theirs"}, nil, []string{"d", "e"}},
		{hub.Repo{Type: hub.Model, Name: "org/none"}, 9, nil, nil, nil},
	} {
		known, err := a.Known(t.Context(), test.repo, test.most)
		if err != nil {
			t.Fatal(err)
		}
		var refs, dangling, commits []string
		for _, ref := range known.Refs {
			refs = append(refs, string(ref.Name))
		}
		for _, ref := range known.Dangling {
			dangling = append(dangling, string(ref.Name))
		}
		for _, c := range known.Commits {
			commits = append(commits, string(c[:1]))
		}
		if diff := cmp.Diff([][]string{test.refs, test.dangling, test.commits}, [][]string{refs, dangling, commits}); diff != "" {
			t.Errorf("%s, %d (-want +got):\n%s", test.repo, test.most, diff)
		}
		if known.Empty() != (test.refs == nil) {
			t.Errorf("%s is empty: %v", test.repo, known.Empty())
		}
	}
}

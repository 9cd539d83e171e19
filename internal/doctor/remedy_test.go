package doctor_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/doctor"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

func TestRemedy(t *testing.T) {
	commit := strings.Repeat("a", 40)
	unreadable := func(key string) error {
		return fmt.Errorf("reading it: %w", &remote.UnreadableError{ObjectKey: key, Err: manifest.ErrInvalid})
	}
	other := func(key, repo string) error {
		return &remote.WrongBodyError{ObjectKey: key, Got: manifest.Key{Repo: hub.Repo{Type: hub.Model, Name: repo}, Commit: hub.Commit(commit)}}
	}
	const there = "on a machine that has what is there: "
	for _, test := range []struct {
		name string
		errs []error
		want string
	}{
		{"nothing", nil, ""},
		{"something else", []error{errors.New("torn"), manifest.ErrInvalid}, ""},
		{"a manifest", []error{unreadable("manifests/org__name@" + commit + ".json")}, there + "hf-cache-sync push --recheck org/name"},
		{"a ref", []error{unreadable("refs/datasets--org--name/main")}, there + "hf-cache-sync push --force-refs datasets/org/name"},
		{
			"many",
			[]error{unreadable("refs/org__a/main"), unreadable("refs/org__a/v1"), unreadable("manifests/org__b@" + commit + ".json"), unreadable("manifests/org__a@" + commit + ".json")},
			there + "hf-cache-sync push --recheck org/b org/a, then hf-cache-sync push --force-refs org/a",
		},
		{"a manifest that went astray", []error{other("manifests/org__name@"+commit+".json", "org/other")}, there + "hf-cache-sync push --recheck org/name"},
		{
			"another repository's",
			[]error{other("manifests/org__a__b@"+commit+".json", "org__a/b")},
			"push org__a/b with hf-cache-sync, which gives it a key of its own, then remove manifests/org__a__b@" + commit + ".json from the bucket and push again",
		},
		{"nobody's", []error{unreadable("refs/nothing!/main")}, "remove refs/nothing!/main from the bucket: no version writes such an object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := doctor.Remedy(test.errs); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

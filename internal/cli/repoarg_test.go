package cli

import (
	"errors"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

func TestParseRepoArg(t *testing.T) {
	for _, test := range []struct {
		arg, typeFlag string
		want          hub.Repo
		revision      string
	}{
		{"gpt2", "", hub.Repo{Type: hub.Model, Name: "gpt2"}, ""},
		{"org/name", "", hub.Repo{Type: hub.Model, Name: "org/name"}, ""},
		{"org/name", "dataset", hub.Repo{Type: hub.Dataset, Name: "org/name"}, ""},
		{"models/org/name", "", hub.Repo{Type: hub.Model, Name: "org/name"}, ""},
		{"datasets/org/name", "", hub.Repo{Type: hub.Dataset, Name: "org/name"}, ""},
		{"datasets/org/name", "dataset", hub.Repo{Type: hub.Dataset, Name: "org/name"}, ""},
		{"datasets/squad", "", hub.Repo{Type: hub.Dataset, Name: "squad"}, ""},
		{"hf://spaces/org/name", "", hub.Repo{Type: hub.Space, Name: "org/name"}, ""},
		{"hf://datasets/org/name@v1.0", "", hub.Repo{Type: hub.Dataset, Name: "org/name"}, "v1.0"},
		{"org/name@refs/pr/1", "", hub.Repo{Type: hub.Model, Name: "org/name"}, "refs/pr/1"},
		{"kernels/org/name@feat/x", "", hub.Repo{Type: hub.Kernel, Name: "org/name"}, "feat/x"},
	} {
		got, revision, err := parseRepoArg(test.arg, test.typeFlag)
		if err != nil || got != test.want || revision != test.revision {
			t.Errorf("%q with %q is %v at %q, %v; want %v at %q", test.arg, test.typeFlag, got, revision, err, test.want, test.revision)
		}
	}
}

func TestParseRepoArgRefuses(t *testing.T) {
	for _, test := range []struct{ arg, typeFlag string }{
		{"", ""},
		{"a/b/c", ""},
		{"../etc", ""},
		{"org/na--me", ""},
		{"org/name@", ""},
		{"org/name", "movie"},
		{"datasets/org/name", "model"},
		{"https://huggingface.co/org/name", ""},
	} {
		got, _, err := parseRepoArg(test.arg, test.typeFlag)
		_, usage := errors.AsType[*usageError](err)
		if !usage && !errors.Is(err, hub.ErrRepo) {
			t.Errorf("%q with %q is %v, %v; want a refusal", test.arg, test.typeFlag, got, err)
		}
		if code := explain(err).code; err != nil && code != exitUsage {
			t.Errorf("%q exits with %d, want %d", test.arg, code, exitUsage)
		}
	}
}

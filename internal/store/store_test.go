package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

func TestCheckKey(t *testing.T) {
	for key, want := range map[string]string{
		"blobs/ab":                    "",
		"a":                           "",
		"refs/org__name/refs/pr/1":    "",
		"manifests/a__b@0.json":       "",
		"with space/größe/模型/%2F/..a": "",
		"a/.../b":                     "",
		"":                            "empty",
		"/":                           "empty element",
		"/a":                          "empty element",
		"a/":                          "empty element",
		"a//b":                        "empty element",
		".":                           "dot element",
		"a/./b":                       "dot element",
		"../a":                        "dot element",
		"a/..":                        "dot element",
		"a\x00":                       "control character",
		"a\nb":                        "control character",
		"a\x7fb":                      "control character",
	} {
		err := store.CheckKey("put", key)
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", key, err)
			}
			continue
		}
		var se *store.Error
		if !errors.As(err, &se) || !errors.Is(err, store.ErrBadConfig) || se.Op != "put" || se.Key != key || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", key, err, want)
		}
	}
}

func TestErrorText(t *testing.T) {
	cause := errors.New("the cause")
	for _, tc := range []struct {
		err  *store.Error
		want string
	}{
		{&store.Error{Op: "get", Key: "k", Kind: store.ErrNotFound}, "get k: not found"},
		{&store.Error{Op: "get", Key: "k", Kind: store.ErrNotFound, Err: cause}, "get k: the cause"},
		{&store.Error{Op: "get", Key: "k", Err: cause, Code: "SlowDown"}, "get k: the cause (SlowDown)"},
		{&store.Error{Op: "list", Err: cause}, "list: the cause"},
		{&store.Error{Op: "list"}, "list: unknown reason"},
	} {
		if got := tc.err.Error(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
	err := fmt.Errorf("more: %w", &store.Error{Op: "get", Kind: store.ErrNotFound, Err: cause})
	if !errors.Is(err, store.ErrNotFound) || !errors.Is(err, cause) || errors.Is(err, store.ErrDenied) {
		t.Errorf("%v does not unwrap to its kind and its cause", err)
	}
}

type plain struct{ store.Store }

type clever struct{ store.Store }

func (clever) Trick() {}

type wrapper struct{ store.Store }

func (w wrapper) Unwrap() store.Store { return w.Store }

func TestAs(t *testing.T) {
	type trickster interface{ Trick() }
	for _, tc := range []struct {
		name string
		s    store.Store
		want bool
	}{
		{"itself", clever{}, true},
		{"below a wrapper", wrapper{clever{}}, true},
		{"below two", wrapper{wrapper{clever{}}}, true},
		{"nowhere", wrapper{plain{}}, false},
		{"behind what is no wrapper", plain{clever{}}, false},
	} {
		if _, ok := store.As[trickster](tc.s); ok != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, ok, tc.want)
		}
	}
}

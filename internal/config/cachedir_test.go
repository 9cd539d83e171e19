package config_test

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

func TestCacheDir(t *testing.T) {
	all := vars{
		"HF_CACHE_SYNC_CACHE_DIR": "/own", "HF_HUB_CACHE": "/new", "HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/hf", "XDG_CACHE_HOME": "/xdg",
	}
	without := func(names ...string) vars {
		left := maps.Clone(all)
		for _, n := range names {
			delete(left, n)
		}
		return left
	}
	for _, c := range []struct {
		name, flag string
		env        vars
		home       string
		want       string
		origin     config.Origin
	}{
		{"flag", "/flag", all, "/home/u", "/flag", "--cache-dir"},
		{"own variable", "", all, "/home/u", "/own", "HF_CACHE_SYNC_CACHE_DIR"},
		{"HF_HUB_CACHE", "", without("HF_CACHE_SYNC_CACHE_DIR"), "/home/u", "/new", "HF_HUB_CACHE"},
		{"legacy name", "", without("HF_CACHE_SYNC_CACHE_DIR", "HF_HUB_CACHE"), "/home/u", "/old", "HUGGINGFACE_HUB_CACHE"},
		{"HF_HOME", "", without("HF_CACHE_SYNC_CACHE_DIR", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"), "/home/u", "/hf/hub", "HF_HOME"},
		{"XDG", "", vars{"XDG_CACHE_HOME": "/xdg"}, "/home/u", "/xdg/huggingface/hub", "XDG_CACHE_HOME"},
		{"default", "", nil, "/home/u", "/home/u/.cache/huggingface/hub", "default"},
		{"home is the root", "", nil, "/", "/.cache/huggingface/hub", "default"},

		{"own empty variable is unset", "", vars{"HF_CACHE_SYNC_CACHE_DIR": ""}, "/home/u", "/home/u/.cache/huggingface/hub", "default"},
		{"empty HF_HUB_CACHE", "", vars{"HF_HUB_CACHE": "", "HF_HOME": "/hf"}, "/home/u", ".", "HF_HUB_CACHE"},
		{"empty legacy name", "", vars{"HUGGINGFACE_HUB_CACHE": "", "HF_HOME": "/hf"}, "/home/u", ".", "HUGGINGFACE_HUB_CACHE"},
		{"empty HF_HOME", "", vars{"HF_HOME": "", "XDG_CACHE_HOME": "/xdg"}, "/home/u", "hub", "HF_HOME"},
		{"empty XDG", "", vars{"XDG_CACHE_HOME": ""}, "/home/u", "huggingface/hub", "XDG_CACHE_HOME"},

		{"tilde in the flag", "~/x", nil, "/home/u/", "/home/u/x", "--cache-dir"},
		{"tilde alone", "", vars{"HF_HUB_CACHE": "~"}, "/home/u", "/home/u", "HF_HUB_CACHE"},
		{"tilde inside is a name", "", vars{"HF_HUB_CACHE": "/a~/~"}, "/home/u", "/a~/~", "HF_HUB_CACHE"},
		{"tilde in HF_HOME", "", vars{"HF_HOME": "~/hf/"}, "/home/u", "/home/u/hf/hub", "HF_HOME"},
		{"tilde in XDG", "", vars{"XDG_CACHE_HOME": "~/c"}, "/home/u", "/home/u/c/huggingface/hub", "XDG_CACHE_HOME"},
		{"variables", "", vars{"HF_HUB_CACHE": "$D/${E}x/$D.y", "D": "/d", "E": "e"}, "/home/u", "/d/ex//d.y", "HF_HUB_CACHE"},
		{"unset variables stay", "", vars{"HF_HUB_CACHE": "/a/$NO/${NO}/$/5$"}, "/home/u", "/a/$NO/${NO}/$/5$", "HF_HUB_CACHE"},
		{"an empty variable goes", "", vars{"HF_HUB_CACHE": "/a$E/b", "E": ""}, "/home/u", "/a/b", "HF_HUB_CACHE"},
		{"a tilde from a variable is a name", "", vars{"HF_HUB_CACHE": "$D/b", "D": "~"}, "/home/u", "~/b", "HF_HUB_CACHE"},
		{"nothing is cleaned", "", vars{"HF_HUB_CACHE": "/a/link/../b"}, "/home/u", "/a/link/../b", "HF_HUB_CACHE"},
		{"no home is needed", "", vars{"HF_HOME": "/hf"}, "", "/hf/hub", "HF_HOME"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, origin, err := config.CacheDir(c.flag, c.env.lookup, c.home, nil)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.ToSlash(got) != c.want || origin != c.origin {
				t.Errorf("got %q from %s, want %q from %s", got, origin, c.want, c.origin)
			}
		})
	}
}

func TestCacheDirErrors(t *testing.T) {
	for _, c := range []struct {
		name, flag string
		env        vars
		home       string
		want       string
	}{
		{"no home", "", nil, "", "(from default): there is no home folder"},
		{"no home for a tilde", "", vars{"HF_HUB_CACHE": "~/x"}, "", "(from HF_HUB_CACHE): there is no home folder"},
		{"another user", "", vars{"HF_HOME": "~bob/hf"}, "/home/u", "(from HF_HOME): ~bob: the home folders of other users"},
		{"another user in the flag", "~bob", nil, "/home/u", "(from --cache-dir): ~bob"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, _, err := config.CacheDir(c.flag, c.env.lookup, c.home, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || dir != "" {
				t.Errorf("got %q, %v; want an error with %q", dir, err, c.want)
			}
		})
	}
}

package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

func TestResolveProxy(t *testing.T) {
	t.Parallel()
	const file = "storage:\n  proxy: http://file:4001\n"
	for _, c := range []struct {
		name, env, file, want, origin string
	}{
		{"none", "", "", "(none)", ""},
		{"empty variable", " ", "", "(none)", ""},
		{"file", "", file, "http://file:4001", "storage.proxy in c.yaml:2"},
		{"variable first", "socks5://127.0.0.1:1080/", file, "socks5://127.0.0.1:1080", "HF_CACHE_SYNC_PROXY"},
		{"https without a port", "https://proxy.example.com", "", "https://proxy.example.com", "HF_CACHE_SYNC_PROXY"},
		{"IPv6", "http://[::1]:4001", "", "http://[::1]:4001", "HF_CACHE_SYNC_PROXY"},
		{"with a password", "http://user:hunter2@host:1", "", "http://(user)@host:1", "HF_CACHE_SYNC_PROXY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, err := config.ParseFile("c.yaml", []byte(c.file))
			if err != nil {
				t.Fatal(err)
			}
			env := func(name string) (string, bool) { return c.env, name == "HF_CACHE_SYNC_PROXY" }
			proxy, err := config.ResolveProxy(env, f)
			if err != nil || proxy.String() != c.want || string(proxy.Origin) != c.origin {
				t.Errorf("got %v from %q, error %v, want %s from %q", proxy, proxy.Origin, err, c.want, c.origin)
			}
			if text := fmt.Sprintf("%v %+v %#v %s", proxy, proxy, proxy, proxy); strings.Contains(text, "hunter2") {
				t.Errorf("the password shows: %s", text)
			}
		})
	}
}

func TestProxyMistakes(t *testing.T) {
	t.Parallel()
	const form = "a proxy is written http://host:port, https://host:port or socks5://host:port"
	for _, c := range []struct{ value, want string }{
		{"hunter2.example.com:4001", form},
		{"ftp://user:hunter2@host:1", form},
		{"http://user:hunter2@", form},
		{"http://user:hunter2@host:port", form},
		{"http://host:4001/hunter2", form},
		{"http://host:4001?hunter2", form},
		{"http://user:hunter2@host:0", "the port of the proxy is not valid"},
		{"http://user:hunter2@host:65536", "the port of the proxy is not valid"},
	} {
		t.Run(c.value, func(t *testing.T) {
			t.Parallel()
			_, err := config.ResolveProxy(func(name string) (string, bool) { return c.value, name == "HF_CACHE_SYNC_PROXY" }, nil)
			if want := "HF_CACHE_SYNC_PROXY: " + c.want; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			_, err = config.ParseFile("c.yaml", []byte("storage:\n  proxy: "+c.value+"\n"))
			if want := "c.yaml:2: storage.proxy: " + c.want; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestProxyPasswordIsASecret(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"storage:\n  proxy: http://host:1\n":              false,
		"storage:\n  proxy: http://user:hunter2@host:1\n": true,
	} {
		f, err := config.ParseFile("c.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if f.HoldsSecret() != want {
			t.Errorf("%q holds a secret: %v", text, !want)
		}
	}
}

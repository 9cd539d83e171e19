package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
)

// Hub is where the Hub is, and who asks it.
type Hub struct {
	Endpoint       string // without a slash at the end
	EndpointOrigin Origin
	Token          string // empty for none
	TokenOrigin    Origin
	Offline        bool // nobody is to be asked
	OfflineOrigin  Origin
}

// String leaves out the token.
func (h Hub) String() string { return h.Endpoint }

// GoString is String, for %#v.
func (h Hub) GoString() string { return h.String() }

// publicHub is where the Hub is unless something else is said (huggingface_hub constants.py).
const publicHub = "https://huggingface.co"

// ResolveHub finds the Hub as huggingface_hub does (constants.py, utils/_auth.py): HF_ENDPOINT; HF_TOKEN, HUGGING_FACE_HUB_TOKEN, then the file that HF_TOKEN_PATH names, which is
// token in HF_HOME otherwise; HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE. No token is sent if HF_HUB_DISABLE_IMPLICIT_TOKEN says so. read reads a small file.
func ResolveHub(env Lookup, home string, read func(path string) ([]byte, error)) (Hub, error) {
	h := Hub{Endpoint: publicHub, EndpointOrigin: Default}
	if value, ok := env("HF_ENDPOINT"); ok && value != "" {
		h.Endpoint, h.EndpointOrigin = strings.TrimRight(value, "/"), "HF_ENDPOINT"
	}
	u, err := url.Parse(h.Endpoint)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return Hub{}, fmt.Errorf("%s: it is no address of a Hub, such as %s", h.EndpointOrigin, publicHub)
	case u.User != nil:
		return Hub{}, fmt.Errorf("%s: it holds a user or a password; tokens belong in HF_TOKEN", h.EndpointOrigin)
	case u.RawQuery != "" || u.Fragment != "":
		return Hub{}, fmt.Errorf("%s: it has more than a scheme, a host and a path", h.EndpointOrigin)
	}
	h.Offline, h.OfflineOrigin = offline(env)
	if value, ok := env("HF_HUB_DISABLE_IMPLICIT_TOKEN"); ok && Truthy(value) {
		return h, nil
	}
	h.Token, h.TokenOrigin, err = token(env, home, read)
	return h, err
}

// offline goes by the first of the two variables that is not empty.
func offline(env Lookup) (bool, Origin) {
	for _, name := range []string{"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} {
		if value, ok := env(name); ok && value != "" {
			return Truthy(value), Origin(name)
		}
	}
	return false, Default
}

func token(env Lookup, home string, read func(path string) ([]byte, error)) (string, Origin, error) {
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} {
		if value, ok := env(name); ok && cleanToken(value) != "" {
			return checkToken(cleanToken(value), Origin(name))
		}
	}
	path, ok := env("HF_TOKEN_PATH")
	if !ok {
		cache, err := hubCache(func(name string) (string, bool) {
			if name == "HF_HUB_CACHE" || name == "HUGGINGFACE_HUB_CACHE" {
				return "", false // the token does not move with the cache
			}
			return env(name)
		}, home)
		if err != nil {
			return "", "", nil //nolint:nilerr // no home folder, no token
		}
		path = strings.TrimSuffix(cache.value, "hub") + "token"
	}
	path, err := expand(path, env, home)
	if err != nil || path == "" {
		return "", "", nil //nolint:nilerr // no token
	}
	text, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("the Hub's token: %w", err)
	}
	return checkToken(cleanToken(string(text)), Origin(path))
}

// cleanToken takes off line ends and spaces, as the client does.
func cleanToken(s string) string {
	return strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(s))
}

// checkToken refuses what cannot stand in a header. The error does not show it.
func checkToken(token string, origin Origin) (string, Origin, error) {
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", "", fmt.Errorf("%s: it holds a character that no token has", origin)
		}
	}
	return token, origin, nil
}

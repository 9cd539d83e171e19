package config

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Proxy is what the bucket is reached through. It may hold a password; however it is printed, that does not show.
type Proxy struct {
	URL    *url.URL // nil: none but what HTTPS_PROXY, HTTP_PROXY and NO_PROXY say
	Origin Origin
}

// String is the URL without user and password.
func (p Proxy) String() string {
	if p.URL == nil {
		return "(none)"
	}
	shown := &url.URL{Scheme: p.URL.Scheme, Host: p.URL.Host}
	if p.URL.User != nil {
		return strings.Replace(shown.String(), "://", "://(user)@", 1)
	}
	return shown.String()
}

// GoString is String, for %#v.
func (p Proxy) GoString() string { return p.String() }

// ResolveProxy returns the proxy that HF_CACHE_SYNC_PROXY, else the file's storage.proxy, names. An error never holds what was given: there may be a password in it.
func ResolveProxy(env Lookup, file *File) (Proxy, error) {
	s, ok := first(fromEnv(env, "HF_CACHE_SYNC_PROXY"), file.get("storage.proxy"))
	if !ok {
		return Proxy{}, nil
	}
	u, err := parseProxy(s.value)
	if err != nil {
		return Proxy{}, fmt.Errorf("%s: %w", s.origin, err)
	}
	return Proxy{u, s.origin}, nil
}

var errProxy = errors.New("a proxy is written http://host:port, https://host:port or socks5://host:port")

// parseProxy reads the URL of a proxy. Its errors quote nothing.
func parseProxy(value string) (*url.URL, error) {
	u, err := url.Parse(value)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errProxy
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return nil, errProxy
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return nil, errors.New("the port of the proxy is not valid")
	}
	u.Path = ""
	return u, nil
}

package config

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// CacheDir returns the folder of the Hub cache. flag is the value of --cache-dir, or empty if it was not given; home is the user's home folder; file may be nil.
//
// After the flag, HF_CACHE_SYNC_CACHE_DIR and the file's cache.hf_cache_dir, which also wins in the Python tool 0.1.0, it goes by the variables that huggingface_hub goes by, in its order and with its meaning
// (constants.py), so that both always work on the same folder. That includes what looks odd: HF_HUB_CACHE set to the empty string is the working folder, and
// HF_HOME set to the empty string makes it ./hub. The result may therefore be relative, but is never empty.
//
// It fails if the folder needs a home folder and there is none, or needs that of another user ("~name").
func CacheDir(flag string, env Lookup, home string, file *File) (dir string, origin Origin, err error) {
	s, ok := first(setting{flag, "--cache-dir"}, fromEnv(env, "HF_CACHE_SYNC_CACHE_DIR"), file.get("cache.hf_cache_dir"))
	if !ok {
		if s, err = hubCache(env, home); err != nil {
			return "", "", err
		}
	}
	dir, err = expand(s.value, env, home)
	if err != nil {
		return "", "", fmt.Errorf("cannot tell the cache folder (from %s): %w", s.origin, err)
	}
	if dir == "" {
		dir = "."
	}
	return dir, s.origin, nil
}

// hubCache is constants.py from HF_HUB_CACHE down. What it returns is yet to be expanded, even if it holds parts that were expanded: so does the client.
func hubCache(env Lookup, home string) (setting, error) {
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"} {
		if value, ok := env(name); ok {
			return setting{value, Origin(name)}, nil
		}
	}
	base := setting{join(join("~", ".cache"), "huggingface"), Default}
	if value, ok := env("XDG_CACHE_HOME"); ok {
		base = setting{join(value, "huggingface"), "XDG_CACHE_HOME"}
	}
	if value, ok := env("HF_HOME"); ok {
		base = setting{value, "HF_HOME"}
	}
	dir, err := expand(base.value, env, home)
	if err != nil {
		return setting{}, fmt.Errorf("cannot tell the cache folder (from %s): %w", base.origin, err)
	}
	return setting{join(dir, "hub"), base.origin}, nil
}

// join is Python's os.path.join with a relative name: nothing is cleaned, because a/link/../b is not a/b.
func join(dir, name string) string {
	if dir == "" || os.IsPathSeparator(dir[len(dir)-1]) {
		return dir + name
	}
	return dir + string(os.PathSeparator) + name
}

// expand is Python's os.path.expandvars(os.path.expanduser(path)).
func expand(path string, env Lookup, home string) (string, error) {
	if strings.HasPrefix(path, "~") {
		end := 1
		for end < len(path) && !os.IsPathSeparator(path[end]) {
			end++
		}
		if user := path[1:end]; user != "" {
			return "", fmt.Errorf("~%s: the home folders of other users are not looked up, write the path in full", user)
		}
		if home == "" {
			return "", errors.New("there is no home folder, name the cache with --cache-dir")
		}
		for home != "" && os.IsPathSeparator(home[len(home)-1]) {
			home = home[:len(home)-1]
		}
		if path = home + path[end:]; path == "" {
			path = string(os.PathSeparator)
		}
	}
	// A variable that is not set stays as it is written, as in Python.
	return regexp.MustCompile(`\$(?:[A-Za-z0-9_]+|\{[^}]*\})`).ReplaceAllStringFunc(path, func(ref string) string {
		if value, ok := env(strings.Trim(ref[1:], "{}")); ok {
			return value
		}
		return ref
	}), nil
}

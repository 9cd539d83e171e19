package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hf-cache-sync/hf-cache-sync/internal/suggest"
)

// FileName is the name of the configuration file, in the working folder or in the home folder.
const FileName = ".hf-cache-sync.yaml"

// MaxFileSize is more bytes than any configuration has.
const MaxFileSize = 1 << 20

// File is a configuration file that was read. Its values are checked. The zero value is that of no file: it says nothing about anything.
//
// The file may hold a secret key. However a File is printed, only its path shows.
type File struct {
	// Path is where it was read, as the user would write it; empty if there is no file.
	Path string

	settings map[string]entry // by key, such as "storage.bucket"
	lists    map[string][]string
}

// entry is the text of one setting and where it stands.
type entry struct {
	text string
	line int
}

// FileError is a mistake in a configuration file.
type FileError struct {
	Path string
	Line int // 0 if the mistake is in no one line
	Err  error
}

// Error begins with the file and the line, as compilers do.
func (e *FileError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.Path, e.Line, e.Err)
}

// Unwrap gives what is wrong.
func (e *FileError) Unwrap() error { return e.Err }

// String is the path of the file.
func (f *File) String() string { return "config(" + f.Path + ")" }

// GoString is String, for %#v.
func (f *File) GoString() string { return f.String() }

// FilePaths returns where to look for the configuration file, in this order: the first that exists counts. flag is the value of --config; if it or
// HF_CACHE_SYNC_CONFIG is given, that file is meant and must exist.
func FilePaths(flag string, env Lookup, home string) (paths []string, origin Origin) {
	if s, ok := first(setting{flag, "--config"}, fromEnv(env, "HF_CACHE_SYNC_CONFIG")); ok {
		return []string{s.value}, s.origin
	}
	paths = []string{FileName}
	if home != "" {
		paths = append(paths, filepath.Join(home, FileName))
	}
	return paths, Default
}

// kind says what the text of a setting must be.
type kind uint8

const (
	text kind = iota
	truth
	size   // gigabytes
	choice // one of some words
	globs  // a list
	proxy  // the URL of one; it may hold a password
)

// known returns all keys, and what each holds. Those of the Python tool 0.1.0 keep their meaning: both tools can share one file.
func known() map[string]kind {
	return map[string]kind{
		"storage.url": text, "storage.endpoint": text, "storage.bucket": text, "storage.region": text,
		"storage.access_key": text, "storage.secret_key": text, "storage.checksum": choice, "storage.conditional_writes": choice, "storage.proxy": proxy,
		"cache.max_local_gb": size, "cache.sync_xet": truth, "cache.hf_cache_dir": text, "cache.keep": globs, "cache.fallback": choice, "cache.backfill": truth,
		"team.prefix": text, "team.allow_gated": truth,
		"push.include": globs, "push.exclude": globs,
	}
}

// choices are the words that a setting may be; the first is the default.
func choices(key string) []string {
	switch key {
	case "storage.checksum":
		return []string{"off", "sha256"}
	case "cache.fallback":
		return []string{"none", "hf-hub"}
	}
	return []string{"auto", "on", "off"}
}

// ParseFile reads a configuration. path is for messages. An error is a *[FileError] with the line; it never holds the value of a setting that could be a secret.
func ParseFile(path string, data []byte) (*File, error) {
	if len(data) > MaxFileSize {
		return nil, &FileError{path, 0, fmt.Errorf("it has %d bytes, which no configuration has", len(data))}
	}
	p := &parser{file: &File{Path: path, settings: map[string]entry{}, lists: map[string][]string{}}, keys: known()}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return p.file, nil // empty, or comments only
	} else if err != nil {
		return nil, syntaxError(path, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, &FileError{path, 0, errors.New("it holds more than one document")}
	}
	if err := p.sections(doc.Content[0]); err != nil {
		return nil, err
	}
	return p.file, nil
}

// syntaxError keeps of the parser's message what can hold nothing of the file's content: the line, and the complaint if it quotes nothing.
func syntaxError(path string, err error) error {
	m := regexp.MustCompile(`^yaml: (?:line (\d+): )?([^'"` + "`" + `]*)`).FindStringSubmatch(err.Error())
	if m == nil {
		return &FileError{path, 0, errors.New("it is not YAML")}
	}
	line, _ := strconv.Atoi(m[1]) // no number is line 0
	return &FileError{path, line, fmt.Errorf("it is not YAML: %s", strings.TrimSpace(m[2]))}
}

type parser struct {
	file *File
	keys map[string]kind
}

func (p *parser) fail(n *yaml.Node, format string, args ...any) error {
	return &FileError{p.file.Path, n.Line, fmt.Errorf(format, args...)}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// pairs calls f for each key and value of a mapping. An empty value is an empty mapping.
func (p *parser) pairs(n *yaml.Node, what string, f func(key, value *yaml.Node) error) error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return p.fail(n, "%s must be a list of \"key: value\" lines", what)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			return p.fail(key, "%s is there twice", nameable(key))
		}
		seen[key.Value] = true
		if value.Kind == yaml.AliasNode {
			return p.fail(value, "an alias is not supported here: write the value")
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	return nil
}

// nameable is a key for a message. What does not look like one may be a secret that slipped.
func nameable(key *yaml.Node) string {
	if key.Kind == yaml.ScalarNode && regexp.MustCompile(`^[A-Za-z_.-]{1,40}$`).MatchString(key.Value) {
		return strconv.Quote(key.Value)
	}
	return "a key"
}

func (p *parser) sections(root *yaml.Node) error {
	sections := map[string]bool{}
	var names []string
	for key := range p.keys {
		name, _, _ := strings.Cut(key, ".")
		if !sections[name] {
			names = append(names, name)
		}
		sections[name] = true
	}
	return p.pairs(root, "the configuration", func(key, value *yaml.Node) error {
		if !sections[key.Value] {
			return p.unknown(key, "", names)
		}
		return p.pairs(value, nameable(key), func(inner, value *yaml.Node) error {
			return p.setting(key.Value, inner, value)
		})
	})
}

// unknown is the error for a key that means nothing, with the one that may have been meant.
func (p *parser) unknown(key *yaml.Node, section string, names []string) error {
	if near, ok := suggest.Nearest(key.Value, names); ok {
		return p.fail(key, "unknown key %s, did you mean %q?", nameable(key), near)
	}
	for full := range p.keys { // right, but in the wrong place
		home, name, _ := strings.Cut(full, ".")
		if name == key.Value && home != section {
			return p.fail(key, "unknown key %s, it belongs below %q", nameable(key), home)
		}
	}
	return p.fail(key, "unknown key %s", nameable(key))
}

func (p *parser) setting(section string, key, value *yaml.Node) error {
	full := section + "." + key.Value
	want, ok := p.keys[full]
	if !ok {
		var names []string
		for k := range p.keys {
			if name, in := strings.CutPrefix(k, section+"."); in {
				names = append(names, name)
			}
		}
		return p.unknown(key, section, names)
	}
	if isNull(value) {
		return nil
	}
	if want == globs {
		return p.list(full, value)
	}
	if value.Kind != yaml.ScalarNode {
		return p.fail(value, "%s must be a single value", full)
	}
	text := strings.TrimSpace(value.Value)
	if text == "" {
		return nil
	}
	if err := check(full, want, text); err != nil {
		return &FileError{p.file.Path, value.Line, err}
	}
	p.file.settings[full] = entry{text, value.Line}
	return nil
}

func (p *parser) list(full string, value *yaml.Node) error {
	items := []*yaml.Node{value} // a single glob needs no list
	if value.Kind == yaml.SequenceNode {
		items = value.Content
	}
	for _, item := range items {
		if item.Kind != yaml.ScalarNode {
			return p.fail(item, "%s must be a list of globs, such as 'org/*'", full)
		}
		if item.Value != "" {
			p.file.lists[full] = append(p.file.lists[full], item.Value)
		}
	}
	return nil
}

// check says what is wrong with the text of a setting.
func check(key string, want kind, value string) error {
	switch want {
	case truth:
		if _, ok := parseTruth(value); !ok {
			return fmt.Errorf("%s must be true or false", key)
		}
	case size:
		gb, err := strconv.ParseFloat(strings.ReplaceAll(value, "_", ""), 64)
		if err != nil || math.IsNaN(gb) || gb < 0 || gb > maxGB {
			return fmt.Errorf("%s must be a number of gigabytes, such as 50 or 0.5", key)
		}
	case choice:
		words := choices(key)
		for _, word := range words {
			if strings.EqualFold(value, word) {
				return nil
			}
		}
		if _, ok := parseTruth(value); ok && key == "storage.conditional_writes" { // YAML's own on and off
			return nil
		}
		return fmt.Errorf("%s must be one of %s", key, strings.Join(words, ", "))
	case proxy:
		if _, err := parseProxy(value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	case text, globs:
		if strings.ContainsAny(value, "\x00\r\n") {
			return fmt.Errorf("%s must be one line", key)
		}
	}
	return nil
}

// parseTruth reads a boolean as YAML 1.1 does, and so the Python tool.
func parseTruth(value string) (is, ok bool) {
	switch strings.ToLower(value) {
	case "true", "yes", "on", "y", "1":
		return true, true
	case "false", "no", "off", "n", "0":
		return false, true
	}
	return false, false
}

// get returns a setting with the place where it stands. Like all methods, it may be called on nil.
func (f *File) get(key string) setting {
	if f == nil {
		return setting{}
	}
	e, ok := f.settings[key]
	if !ok {
		return setting{}
	}
	return setting{e.text, Origin(fmt.Sprintf("%s in %s:%d", key, f.Path, e.line))}
}

const (
	defaultGB = 50 // as in the Python tool
	maxGB     = 1e9
	gigabyte  = 1e9
)

// MaxLocal is the disk budget of the cache, in bytes (cache.max_local_gb).
func (f *File) MaxLocal() (size int64, origin Origin) {
	s := f.get("cache.max_local_gb")
	if s.value == "" {
		return defaultGB * gigabyte, Default
	}
	gb, err := strconv.ParseFloat(strings.ReplaceAll(s.value, "_", ""), 64)
	if err != nil {
		return defaultGB * gigabyte, Default // cannot be: it was checked
	}
	return int64(gb * gigabyte), s.origin
}

// Keep are the globs of repositories that prune leaves alone (cache.keep).
func (f *File) Keep() []string { return f.list("cache.keep") }

// Fallback is where a pull takes what the bucket lacks: "hf-hub", or "none" (cache.fallback).
func (f *File) Fallback() string {
	if word := f.word("cache.fallback"); word != "off" {
		return word
	}
	return "none"
}

// Backfill says whether what a pull took from the Hub is pushed to the bucket (cache.backfill).
func (f *File) Backfill() bool {
	is, _ := parseTruth(f.get("cache.backfill").value)
	return is
}

// AllowGated says whether repositories that look gated are pushed (team.allow_gated).
func (f *File) AllowGated() (bool, Origin) {
	s := f.get("team.allow_gated")
	if s.value == "" {
		return false, Default
	}
	is, _ := parseTruth(s.value)
	return is, s.origin
}

// PushInclude are the globs of repositories that a bare push takes; none means all (push.include).
func (f *File) PushInclude() []string { return f.list("push.include") }

// PushExclude are the globs of repositories that a bare push leaves out (push.exclude).
func (f *File) PushExclude() []string { return f.list("push.exclude") }

func (f *File) list(key string) []string {
	if f == nil {
		return nil
	}
	return f.lists[key]
}

// Checksum says whether objects that are put whole carry their SHA-256 as a checksum that the store keeps ("sha256"), or not ("off", the default: some stores
// refuse the header).
func (f *File) Checksum() string { return f.word("storage.checksum") }

// ConditionalWrites is "auto" (asked for until the store says that it has none), "on" (a store that refuses them is an error) or "off" (never asked for).
func (f *File) ConditionalWrites() string { return f.word("storage.conditional_writes") }

func (f *File) word(key string) string {
	s := f.get(key)
	if s.value == "" {
		return choices(key)[0]
	}
	if is, ok := parseTruth(s.value); ok {
		return map[bool]string{true: "on", false: "off"}[is]
	}
	return strings.ToLower(s.value)
}

// HoldsSecret says whether a secret key, or the password of a proxy, stands in the file, so that nobody else should be able to read it.
func (f *File) HoldsSecret() bool {
	if u, err := parseProxy(f.get("storage.proxy").value); err == nil && u.User != nil {
		return true
	}
	return f.get("storage.secret_key").value != ""
}

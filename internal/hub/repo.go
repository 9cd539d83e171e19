package hub

import (
	"errors"
	"fmt"
	"strings"
)

// RepoType is the kind of a Hub repository.
type RepoType uint8

// The types that the Hub cache knows. Kernel repositories appear in caches of huggingface_hub 1.10 and newer.
const (
	Model RepoType = iota + 1
	Dataset
	Space
	Kernel
)

// RepoTypes lists every type, models first.
func RepoTypes() []RepoType { return []RepoType{Model, Dataset, Space, Kernel} }

// ParseRepoType reads the singular ("model") or plural ("models") name of a type.
func ParseRepoType(s string) (RepoType, error) {
	for _, t := range RepoTypes() {
		if s == t.String() || s == t.Plural() {
			return t, nil
		}
	}
	return 0, fmt.Errorf("unknown repository type %q: it is model, dataset, space or kernel", s)
}

// String returns the singular name, as in a manifest's repo_type.
func (t RepoType) String() string {
	switch t {
	case Model:
		return "model"
	case Dataset:
		return "dataset"
	case Space:
		return "space"
	case Kernel:
		return "kernel"
	default:
		return "invalid"
	}
}

// Plural returns the name used in cache folders and Hub URLs.
func (t RepoType) Plural() string { return t.String() + "s" }

// Repo names one repository on the Hub, spelled as the caller spelled it: the cache keeps "gpt2" and "openai-community/gpt2" apart, and so does this
// type. It is comparable.
type Repo struct {
	Type RepoType
	Name string // "name" or "organisation/name".
}

// maxNamePart is the Hub's limit for a repository name (huggingface_hub utils/_validators.py).
const maxNamePart = 96

// ErrRepo is wrapped by every refusal of a repository id.
var ErrRepo = errors.New("not a repository id")

// ParseRepo checks an id by the Hub's own rules (huggingface_hub utils/_validators.py): at most one "/", parts made of letters, digits, "-", "_" and ".",
// no "--" and no "..", no part that starts or ends with "-" or ".", and not ending in ".git". Letters beyond ASCII are accepted because
// caches written before huggingface_hub 2.4 can hold them.
func ParseRepo(t RepoType, name string) (Repo, error) {
	refuse := func(why string) (Repo, error) { return Repo{}, fmt.Errorf("%w: %q: %s", ErrRepo, name, why) }
	if t < Model || t > Kernel {
		return refuse("its type is unknown")
	}
	parts := strings.Split(name, "/")
	if len(parts) > 2 {
		return refuse("it has more than one slash")
	}
	for _, part := range parts {
		switch {
		case part == "":
			return refuse("a part of it is empty")
		case len(part) > maxNamePart:
			return refuse(fmt.Sprintf("a part of it is longer than %d bytes", maxNamePart))
		case strings.ContainsFunc(part, func(r rune) bool { return !isNameRune(r) }):
			return refuse("only letters, digits, '-', '_' and '.' are allowed")
		case strings.ContainsAny(part[:1], "-.") || strings.ContainsAny(part[len(part)-1:], "-."):
			return refuse("a part starts or ends with '-' or '.'")
		}
	}
	switch {
	case strings.Contains(name, "--"):
		return refuse("it contains '--'")
	case strings.Contains(name, ".."):
		return refuse("it contains '..'")
	case strings.HasSuffix(name, ".git"):
		return refuse("it ends in '.git'")
	}
	return Repo{Type: t, Name: name}, nil
}

// ParseFolder reads a cache folder name such as "models--org--name". The name is unambiguous because an id cannot hold "--".
func ParseFolder(dir string) (Repo, error) {
	prefix, rest, found := strings.Cut(dir, "--")
	if !found {
		return Repo{}, fmt.Errorf("%w: folder %q has no '--'", ErrRepo, dir)
	}
	for _, t := range RepoTypes() {
		if prefix == t.Plural() {
			return ParseRepo(t, strings.ReplaceAll(rest, "--", "/"))
		}
	}
	return Repo{}, fmt.Errorf("%w: folder %q does not start with models--, datasets--, spaces-- or kernels--", ErrRepo, dir)
}

// Folder returns the name of the repository's folder in a cache.
func (r Repo) Folder() string {
	return r.Type.Plural() + "--" + strings.ReplaceAll(r.Name, "/", "--")
}

// String returns the id as users type it: a model's bare, any other with its type in front ("datasets/org/name").
func (r Repo) String() string {
	if r.Type == Model {
		return r.Name
	}
	return r.Type.Plural() + "/" + r.Name
}

// Compare orders repositories by type, then by name.
func (r Repo) Compare(other Repo) int {
	if r.Type != other.Type {
		return int(r.Type) - int(other.Type)
	}
	return strings.Compare(r.Name, other.Name)
}

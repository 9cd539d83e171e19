package doctor

import (
	"errors"
	"slices"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

// Remedy names the commands that put right what is wrong with manifests and refs of a bucket, given the errors of reading them. It is empty if no error is about any.
func Remedy(errs []error) string {
	var manifests, refs, others []string
	add := func(names *[]string, name string) {
		if !slices.Contains(*names, name) {
			*names = append(*names, name)
		}
	}
	for _, err := range errs {
		shared, isOther := errors.AsType[*remote.WrongBodyError](err)
		key, _, replaceable := remote.Replaceable(err)
		repo, isRef := remote.Owner(key)
		switch {
		case replaceable && repo == "": // a key that no repository of ours has
			add(&others, key)
		case replaceable && isRef:
			add(&refs, repo)
		case replaceable:
			add(&manifests, repo)
		case isOther:
			return "push " + shared.Got.Repo.String() + " with hf-cache-sync, which gives it a key of its own, then remove " + shared.ObjectKey + " from the bucket and push again"
		}
	}
	var commands []string
	if len(manifests) > 0 {
		commands = append(commands, "hf-cache-sync push --recheck "+strings.Join(manifests, " "))
	}
	if len(refs) > 0 {
		commands = append(commands, "hf-cache-sync push --force-refs "+strings.Join(refs, " "))
	}
	if len(commands) > 0 {
		return "on a machine that has what is there: " + strings.Join(commands, ", then ")
	}
	if len(others) > 0 {
		return "remove " + strings.Join(others, " ") + " from the bucket: no version writes such an object"
	}
	return ""
}

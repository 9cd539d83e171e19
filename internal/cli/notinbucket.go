package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hubclient"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/suggest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// suggestPatience is how long an error message waits for the bucket to say what it has instead.
const suggestPatience = 3 * time.Second

// mostNamed is how many things of a kind a message names.
const mostNamed = 4

// wanted is what a command was asked for.
type wanted struct {
	command  string // "pull", or "verify --remote"
	repo     hub.Repo
	revision string // empty for main, or for commands that take none
}

// notInBucket makes of an error about something that the bucket does not have one that says what it has, with a command that works. If the bucket does not tell in time, it is the
// error that it was.
func notInBucket(ctx context.Context, err error, w wanted, catalog *remote.Catalog) error {
	noRepo, noRevision := errors.Is(err, hubclient.ErrRepoNotFound), errors.Is(err, hubclient.ErrRevisionNotFound)
	if isType[*engine.EmptyError](err) || !errors.Is(err, remote.ErrNotFound) || explain(err).code != exitNotFound || errors.Is(err, hubclient.ErrDisabled) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, suggestPatience)
	defer cancel()
	known, knownErr := catalog.Known(ctx, w.repo, mostNamed)
	if knownErr != nil {
		return err
	}
	var message, hint string
	if known.Empty() {
		message, hint = w.noRepo(ctx, catalog)
	} else {
		message, hint = w.noRevision(known)
	}
	switch {
	case noRepo:
		message += "; " + hubclient.ErrRepoNotFound.Error()
		if known.Empty() && hint == listBucket {
			hint = "check the name; a private repository needs a token: HF_TOKEN, or hf auth login"
		}
	case noRevision:
		message += "; " + hubclient.ErrRevisionNotFound.Error()
		if known.Empty() {
			hint = fmt.Sprintf("hf-cache-sync %s %s --fallback hf-hub", w.command, w.repo)
		}
	}
	return &someFailedError{exitNotFound, message, hint}
}

const listBucket = "hf-cache-sync list --remote"

// noRepo is about a repository of which the bucket has nothing.
func (w wanted) noRepo(ctx context.Context, catalog *remote.Catalog) (message, hint string) {
	byName := map[string]remote.RevisionObject{}
	var same, names []string
	for _, o := range catalog.RepositoryKeys(ctx) {
		repo, err := manifest.ParseRepoKey(o.RepoKey)
		if err != nil {
			continue
		}
		name := repo.String()
		names = append(names, name)
		byName[name] = o
		if strings.EqualFold(repo.Name, w.repo.Name) {
			same = append(same, name) // of another type, or under a shared key
		}
	}
	near := same
	if len(near) == 0 {
		near = suggest.NearestOf(w.repo.String(), names, mostNamed)
	}
	message, hint = w.repo.String()+": not in the bucket", listBucket
	switch {
	case len(near) > 0:
		var found []hub.Repo
		for _, name := range near[:min(mostNamed, len(near))] {
			// A key of the Python tool does not say which repository it is of.
			if entry, err := catalog.ReadRevision(ctx, byName[name]); err == nil && entry.Repo != w.repo && !slices.Contains(found, entry.Repo) {
				found = append(found, entry.Repo)
			}
		}
		if len(found) == 0 {
			break
		}
		near = near[:0]
		for _, repo := range found {
			near = append(near, repo.String())
		}
		message += "; the nearest there: " + strings.Join(near, ", ")
		other := wanted{command: w.command, repo: found[0]}
		if known, err := catalog.Known(ctx, other.repo, 1); err == nil {
			hint = other.typed(known)
		}
	case len(names) == 0:
		message += ", which is empty"
	case len(names) <= mostNamed:
		message += ", which has " + strings.Join(names, ", ")
	default:
		message += ", which has " + ui.Plural(len(names), "other repository")
	}
	return message, hint
}

// noRevision is about a repository that the bucket has, and a revision that it has not.
func (w wanted) noRevision(known *remote.Known) (message, hint string) {
	var refs, commits []string
	for _, ref := range known.Refs {
		refs = append(refs, string(ref.Name))
	}
	for _, commit := range known.Commits {
		commits = append(commits, commit.Short())
	}
	has := some("ref", refs)
	switch {
	case len(commits) == 0:
		has += ", and no commit that can be read"
	case len(refs) == 0:
		has = some("commit", commits) + " of it, but no ref to one"
	default:
		has += " and " + some("commit", commits) + " of it"
	}
	asked := w.revision
	if asked == "" {
		asked = string(hub.Main)
	}
	what := "revision " + asked
	if _, err := hub.ParseCommit(asked); err == nil {
		what = "commit " + hub.Commit(asked).Short()
	} else if asked == string(hub.Main) {
		what = "ref main"
	}
	for _, ref := range known.Dangling {
		if string(ref.Name) == asked {
			what = fmt.Sprintf("ref %s names commit %s", asked, ref.Commit.Short())
		}
	}
	return fmt.Sprintf("%s: %s: not in the bucket, which has %s", w.repo, what, has), w.typed(known)
}

// some is "ref main", "refs main, v1.0" or "no ref".
func some(noun string, names []string) string {
	switch len(names) {
	case 0:
		return "no " + noun
	case 1:
		return noun + " " + names[0]
	default:
		return noun + "s " + strings.Join(names, ", ")
	}
}

// typed is a command that works for a repository: with the ref that is most like what was asked for, else with its first ref, which is main if there is one, else with its newest commit.
func (w wanted) typed(known *remote.Known) string {
	command := fmt.Sprintf("hf-cache-sync %s %s", w.command, w.repo)
	if w.command != "pull" {
		return command
	}
	names := make([]string, len(known.Refs))
	for i, ref := range known.Refs {
		names[i] = string(ref.Name)
	}
	near, _ := suggest.Nearest(w.revision, names)
	switch {
	case near != "" && near != string(hub.Main):
		return command + " -r " + near
	case len(names) > 0 && names[0] == string(hub.Main):
		return command
	case len(names) > 0:
		return command + " -r " + names[0]
	case len(known.Commits) > 0:
		return command + " -r " + string(known.Commits[0])
	}
	return listBucket
}

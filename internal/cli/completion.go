package cli

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
)

// completionPatience is how long a shell waits for the bucket before it offers nothing.
const completionPatience = 2 * time.Second

// completer is the type of cobra's completion functions.
type completer = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)

// completions gives the commands and their flags what the shell offers after Tab.
func (a *app) completions(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "push", "prune", "verify", "diff":
			cmd.ValidArgsFunction = a.offer(func(context.Context, []string) []string { return a.localRepos() })
		case "pull":
			cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
				if len(args) > 0 {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				return a.offer(a.bucketRepos)(cmd, args, word)
			}
		case "list", "status", "init", "doctor", "pull-all", "watch", "demo", "version":
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		for flag, values := range map[string]completer{
			"repo-type": a.offer(func(context.Context, []string) []string { return []string{"model", "dataset", "space", "kernel"} }),
			"provider":  a.offer(providerNames),
			"revision":  a.offer(a.bucketRefs),
			"sort":      a.offer(func(context.Context, []string) []string { return []string{"accessed", "modified", "name", "size"} }),
			"dir": func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return nil, cobra.ShellCompDirectiveFilterDirs
			},
		} {
			if cmd.Flags().Lookup(flag) != nil {
				_ = cmd.RegisterFlagCompletionFunc(flag, values) // fails only for a flag that does not exist
			}
		}
	}
}

// offer makes a completion of a list of words. Whatever goes wrong while it is made, the shell is offered nothing and hears nothing.
func (a *app) offer(list func(ctx context.Context, args []string) []string) completer {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(commandContext(cmd), completionPatience)
		defer cancel()
		var fitting []string
		for _, w := range list(ctx, args) {
			if strings.HasPrefix(w, word) && !slices.Contains(args, w) {
				fitting = append(fitting, w)
			}
		}
		return fitting, cobra.ShellCompDirectiveNoFileComp
	}
}

// commandContext is the command's, which the first version of a completion request may lack.
func commandContext(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

func providerNames(context.Context, []string) []string {
	var names []string
	for _, p := range config.Providers() {
		names = append(names, p.Name)
	}
	return names
}

// localRepos are the repositories in the cache, by the names of their folders alone.
func (a *app) localRepos() []string {
	dir, _, err := config.CacheDir(a.cacheDir, a.Env, a.Home, a.file)
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var repos []string
	for _, e := range entries {
		if repo, err := hub.ParseFolder(e.Name()); err == nil {
			repos = append(repos, repo.String())
		}
	}
	return repos
}

// bucketRepos are the repositories in the bucket, by the keys of its manifests alone.
func (a *app) bucketRepos(ctx context.Context, _ []string) []string {
	catalog, err := a.quietCatalog()
	if err != nil {
		return nil
	}
	return repoNames(ctx, catalog)
}

// repoNames lists the repositories of a bucket, as far as ctx lets it come.
func repoNames(ctx context.Context, catalog *remote.Catalog) []string {
	var repos []string
	for object, err := range catalog.Revisions(ctx, "") {
		if err != nil {
			break
		}
		if repo, err := manifest.ParseRepoKey(object.RepoKey); err == nil {
			repos = append(repos, repo.String())
		}
	}
	slices.Sort(repos)
	return slices.Compact(repos)
}

// bucketRefs are the refs that the bucket has of the repository on the command line.
func (a *app) bucketRefs(ctx context.Context, args []string) []string {
	if len(args) == 0 {
		return nil
	}
	repo, _, err := parseRepoArg(args[0], "")
	if err != nil {
		return nil
	}
	catalog, err := a.quietCatalog()
	if err != nil {
		return nil
	}
	refs, _, err := catalog.Refs(ctx, repo)
	if err != nil {
		return nil
	}
	var names []string
	for _, ref := range refs {
		names = append(names, string(ref.Name))
	}
	return names
}

// quietCatalog is the bucket for somebody who must not be told anything.
func (a *app) quietCatalog() (*remote.Catalog, error) {
	a.quiet = true
	return a.catalog(nil, nil)
}

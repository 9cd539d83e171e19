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

// completionGrace is how long after that it has to say what it found.
const completionGrace = completionPatience / 4

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
		case "list", "status", "init", "doctor", "pull-all", "watch", "demo", "version", "man":
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		for flag, values := range map[string]completer{
			"repo-type": a.offer(func(context.Context, []string) []string { return []string{"model", "dataset", "space", "kernel"} }),
			"provider":  a.offer(providerNames),
			"revision":  a.offer(a.bucketRefs),
			"sort":      a.offer(func(context.Context, []string) []string { return []string{"accessed", "modified", "name", "size"} }),
			"dir":       offerFolders,
			"folder":    offerFolders,
		} {
			if cmd.Flags().Lookup(flag) != nil {
				_ = cmd.RegisterFlagCompletionFunc(flag, values) // fails only for a flag that does not exist
			}
		}
	}
	_ = root.RegisterFlagCompletionFunc("cache-dir", offerFolders) // likewise
	_ = root.RegisterFlagCompletionFunc("config", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
	})
	_ = root.RegisterFlagCompletionFunc("remote", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"file:///", "s3://"}, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	})
	strictCompletion(root)
}

// strictCompletion makes cobra's own command for the scripts refuse what it does not know, as every other command does: by itself it shows its help to
// whoever misspells a shell, and ends well.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		cmd.Args = noSuchCommand
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		cmd.Long = strings.TrimSpace(cmd.Long) + "\n\nEXIT STATUS\n  0 printed; 2 no such shell."
		cmd.Example = "  hf-cache-sync completion bash >~/.local/share/bash-completion/completions/hf-cache-sync"
		wrapArgs(cmd)
	}
}

func offerFolders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// offer makes a completion of a list of words. Whatever goes wrong while it is made, the shell is offered nothing and hears nothing.
func (a *app) offer(list func(ctx context.Context, args []string) []string) completer {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		a.settle()
		var fitting []string
		for _, w := range patiently(commandContext(cmd), func(ctx context.Context) []string { return list(ctx, args) }) {
			if strings.HasPrefix(w, word) && !slices.Contains(args, w) {
				fitting = append(fitting, w)
			}
		}
		return fitting, cobra.ShellCompDirectiveNoFileComp
	}
}

// settle does again what was done before the flags of the command line to complete were known, and keeps everything from talking.
func (a *app) settle() {
	a.folder.unnoticed = true
	a.quiet, a.verbose, a.jsonEvents, a.events = true, false, false, nil
	if file, _, err := a.findConfig(); err == nil && file != nil {
		a.file = file
	} else {
		a.file = &config.File{}
	}
}

// patiently returns what list has found when its context ends, or shortly after: a folder on a server that is gone answers to no context.
func patiently(ctx context.Context, list func(ctx context.Context) []string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionPatience)
	defer cancel()
	found := make(chan []string, 1)
	go func() { found <- list(ctx) }() // it may stay behind: the process ends soon
	select {
	case words := <-found:
		return words
	case <-ctx.Done():
	}
	select {
	case words := <-found: // as far as it came
		return words
	case <-time.After(completionGrace):
		return nil
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
	catalog, err := a.catalog(nil, nil)
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

// bucketRefs are the refs that the bucket has of the repository on the command line, or where it has none the newest commits.
func (a *app) bucketRefs(ctx context.Context, args []string) []string {
	if len(args) == 0 {
		return nil
	}
	repo, _, err := parseRepoArg(args[0], "")
	if err != nil {
		return nil
	}
	catalog, err := a.catalog(nil, nil)
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
	if len(names) > 0 {
		return names
	}
	known, err := catalog.Known(ctx, repo, mostNamed)
	if err != nil {
		return nil
	}
	for _, commit := range known.Commits {
		names = append(names, string(commit))
	}
	return names
}

package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/suggest"
)

// flagError makes a usage error of what cobra says about a flag, with the flag that may have been meant.
func flagError(cmd *cobra.Command, err error) error {
	hint := "try: " + cmd.CommandPath() + " --help"
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && unknown.GetSpecifiedShortnames() == "" {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near, ok := suggest.Nearest(unknown.GetSpecifiedName(), names); ok {
			hint = fmt.Sprintf("did you mean --%s? %s", near, hint)
		}
	}
	return &usageError{err, hint}
}

// noSuchCommand is the Args of the root command: what is left there is no command.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "try: " + cmd.CommandPath() + " --help"
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	if near, ok := suggest.Nearest(args[0], names); ok {
		hint = fmt.Sprintf("did you mean %s %s? %s", cmd.CommandPath(), near, hint)
	}
	return &usageError{fmt.Errorf("unknown command %q", args[0]), hint}
}

// notInCache is the error for a repository that the cache does not have, with one that it has.
func notInCache(verb string, repo hub.Repo, inv *hfcache.Inventory, known []string) error {
	hint := "hf-cache-sync list shows what is"
	if near, ok := suggest.Nearest(repo.String(), known); ok && near != repo.String() {
		hint = fmt.Sprintf("did you mean %s? %s", near, hint)
	}
	return &someFailedError{exitNotFound, fmt.Sprintf("%s %s: it is not in the cache at %s", verb, repo, inv.Dir), hint}
}

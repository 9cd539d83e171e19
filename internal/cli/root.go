package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// app is one run of the program: its process and the flags that every command has.
type app struct {
	Process

	config     string
	remote     string
	cacheDir   string
	json       bool
	verbose    bool
	quiet      bool
	noProgress bool
	jsonEvents bool
	bwlimit    byteRate
	patience   networkPatience
	folder     folderUse

	file        *config.File // what the configuration file says; never nil once a command runs
	fileErr     error        // why it could not be read, for commands that go on without
	fileWarning string       // that others can read the secret in it

	events   *ui.JSONEvents               // what standard error gets instead of text; nil without --json-events
	prepared atomic.Bool                  // the flags and events are as they stay
	screen   atomic.Pointer[ui.Progress]  // what may be drawing on standard error
	echo     atomic.Pointer[func() error] // shows again what is typed, while that is hidden

	termsNoted map[hub.Repo]bool // after a pull
}

func (a *app) root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hf-cache-sync",
		Short: "Share a Hugging Face cache between machines through a bucket",
		Long: `hf-cache-sync turns the Hugging Face Hub cache into a two-tier cache: the local disk plus one shared
bucket on any S3-compatible store, or a plain folder. One machine downloads a model and pushes it; all
others pull it, verified byte by byte, and load it offline as if they had downloaded it.

Every flag can also be set as HF_CACHE_SYNC_<FLAG>, for example HF_CACHE_SYNC_REMOTE.`,
		Example: `  hf-cache-sync demo
  hf-cache-sync --remote file:///mnt/nas/hf push --create
  hf-cache-sync --remote s3://team-hf-cache pull org/name`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.prepare,
		Args:              noSuchCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetArgs(a.Args)
	cmd.SetIn(a.Stdin)
	cmd.SetOut(a.Stdout)
	cmd.SetErr(a.Stderr)
	cmd.SetFlagErrorFunc(flagError)
	flags := cmd.PersistentFlags()
	flags.StringVar(&a.config, "config", "", "the configuration file (default: ./.hf-cache-sync.yaml, then ~/.hf-cache-sync.yaml)")
	flags.StringVar(&a.remote, "remote", "", "the bucket: s3://bucket[/prefix] or file:///path")
	flags.StringVar(&a.cacheDir, "cache-dir", "", "the Hub cache (default: HF_HUB_CACHE, HF_HOME/hub or ~/.cache/huggingface/hub)")
	flags.BoolVar(&a.json, "json", false, "print the result as one JSON object")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "say in detail what is done")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print errors only")
	flags.BoolVar(&a.noProgress, "no-progress", false, "no progress on standard error")
	flags.BoolVar(&a.jsonEvents, "json-events", false, "what happens as JSON objects on standard error, one a line")
	a.patience.flags(flags)
	flags.Var(&a.bwlimit, "bwlimit", "move at most so many bytes a second, up and down together: 50MB, 20MiB (0: no limit)")
	cmd.Version = version()
	cmd.SetVersionTemplate("hf-cache-sync {{.Version}}\n")
	cmd.AddCommand(a.pushCommand(), a.pullCommand(), a.pullAllCommand(), a.listCommand(), a.statusCommand(), a.diffCommand(), a.verifyCommand(), a.pruneCommand(), a.watchCommand(), a.doctorCommand(), a.initCommand(), a.demoCommand(), a.versionCommand(),
		a.manCommand())
	wrapArgs(cmd)
	a.completions(cmd)
	return cmd
}

// wrapArgs makes a wrong number of arguments a usage error, which cobra does not tell from others.
func wrapArgs(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		check := sub.Args
		if check == nil {
			continue
		}
		sub.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &usageError{err, "try: " + cmd.CommandPath() + " --help"}
			}
			return nil
		}
	}
}

// prepare takes flags that were not given from the environment, and reads the configuration file.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	var errs error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		switch f.Name {
		case "help", "version":
			return
		case "config", "remote", "cache-dir":
			return // config reads them itself, and so knows where they came from
		}
		if f.Changed {
			return
		}
		value, ok := config.Flag(a.Env, f.Name)
		if !ok {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			name := "HF_CACHE_SYNC_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
			errs = errors.Join(errs, usagef("%s=%q: %w", name, value, err))
		}
	})
	if a.jsonEvents {
		a.events = ui.NewJSONEvents(a.Stderr, a.Now)
	}
	a.prepared.Store(true)
	if errs == nil {
		errs = a.patience.check()
	}
	if errs != nil {
		return errs
	}
	return a.readConfig(cmd)
}

// print writes a line of the result.
func (a *app) print(format string, args ...any) error {
	_, err := fmt.Fprintf(a.Stdout, format+"\n", args...)
	return err
}

// note writes a line for people beside the result.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		a.say("note", fmt.Sprintf(format, args...))
	}
}

// warn writes a line that even --quiet does not silence.
func (a *app) warn(format string, args ...any) {
	a.say("warning", fmt.Sprintf(format, args...))
}

// say writes a line to standard error, above whatever is drawn there, or as an object of the given kind.
func (a *app) say(kind, text string) {
	switch screen := a.screen.Load(); {
	case a.events != nil:
		a.events.Say(kind, text)
	case screen != nil:
		screen.Say(text)
	default:
		_, _ = fmt.Fprintln(a.Stderr, ui.Clean(text)) // there is nowhere else to say it
	}
}

func (a *app) logger() *slog.Logger {
	if !a.verbose {
		return slog.New(slog.DiscardHandler)
	}
	if a.events != nil {
		return slog.New(slog.NewJSONHandler(a.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	_, noColor := a.Env("NO_COLOR")
	return slog.New(tint.NewTextHandler(a.Stderr, &tint.Options{Level: slog.LevelDebug, NoColor: noColor || !ui.IsTerminal(a.Stderr)}))
}

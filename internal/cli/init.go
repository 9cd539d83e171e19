package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

type initOptions struct {
	*app
	provider                                 string
	bucket, region, endpoint, prefix, folder string
	global                                   bool
	yes                                      bool

	kind   config.Provider
	answer *bufio.Reader
}

func (a *app) initCommand() *cobra.Command {
	o := &initOptions{app: a}
	cmd := &cobra.Command{
		Use:         "init",
		Short:       "Write a configuration file",
		Annotations: map[string]string{annotationConfig: configNone},
		Long: `Init writes .hf-cache-sync.yaml into the working folder, with --global into the home folder, or the file that --config
or HF_CACHE_SYNC_CONFIG names, from a commented template, readable by its owner only. An existing file is never
overwritten.

On a terminal it asks for what the flags do not say; with --yes, and without a terminal, it asks nothing and
leaves what it does not know for you to fill in. In a git work tree it offers to add the file to .gitignore.

EXIT STATUS
  0 written; 2 the file is there already, or a flag makes no sense; 9 the folder cannot be written to.`,
		Example: `  hf-cache-sync init
  hf-cache-sync init --provider b2 --bucket team-hf-cache --region us-west-004 --yes
  hf-cache-sync init --provider file --folder /mnt/nas/hf`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	var names []string
	for _, p := range config.Providers() {
		names = append(names, p.Name)
	}
	flags := cmd.Flags()
	flags.StringVar(&o.provider, "provider", names[0], "where the bucket is: "+strings.Join(names, ", "))
	flags.StringVar(&o.bucket, "bucket", "", "the bucket's name")
	flags.StringVar(&o.region, "region", "", "the bucket's region")
	flags.StringVar(&o.endpoint, "endpoint", "", "the URL of the server, if the provider and the region do not tell it")
	flags.StringVar(&o.prefix, "prefix", "", "what all keys in the bucket begin with")
	flags.StringVar(&o.folder, "folder", "", "with --provider file: the folder")
	flags.BoolVar(&o.global, "global", false, "write ~/.hf-cache-sync.yaml")
	flags.BoolVarP(&o.yes, "yes", "y", false, "ask nothing, and add the file to .gitignore")
	return cmd
}

func (o *initOptions) check() error {
	providers := config.Providers()
	i := slices.IndexFunc(providers, func(p config.Provider) bool { return p.Name == o.provider })
	if i < 0 {
		return usagef("--provider: %q is none of b2, aws, r2, minio, hf, file", o.provider)
	}
	o.kind = providers[i]
	switch {
	case o.remote != "":
		return usagef("init takes no --remote: give --bucket and --prefix, or --provider file and --folder")
	case o.global && o.config != "":
		return usagef("--global and --config name two files: give one of them")
	case o.kind.Name == "file" && o.bucket+o.region+o.endpoint != "":
		return usagef("--provider file takes --folder, and no bucket, region or endpoint")
	case o.kind.Name != "file" && o.folder != "":
		return usagef("--folder is for --provider file")
	}
	o.answer = bufio.NewReader(o.Stdin)
	return nil
}

// path is where the file goes, and where it is as the user would write it. Every other command must find it there.
func (o *initOptions) path() (path, shown string) {
	if o.global {
		path = filepath.Join(o.Home, config.FileName)
		return path, path
	}
	paths, _ := config.FilePaths(o.config, o.Env, o.Home)
	return o.below(paths[0]), paths[0]
}

// below is a path as seen from the working folder.
func (o *initOptions) below(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(o.Dir, path)
}

func (o *initOptions) run(ctx context.Context) error {
	path, shown := o.path()
	exists := &usageError{fmt.Errorf("init: %s exists, and is not overwritten", shown), "edit it, or move it away; hf-cache-sync doctor checks it"}
	if _, err := os.Lstat(path); err == nil {
		return exists // before the user has answered anything
	}
	values, err := o.values(ctx)
	if err != nil {
		return err
	}
	text, err := config.Template(values)
	if err != nil {
		return &usageError{err: fmt.Errorf("init: %w", err)}
	}
	// What was given may make no sense together: say so now, and not at the first push.
	file, err := config.ParseFile(shown, text)
	if err != nil {
		return &usageError{err: fmt.Errorf("init: %w", err)}
	}
	none := func(string) (string, bool) { return "", false }
	if _, err := config.ResolveRemote("", none, file); err != nil && !errors.Is(err, config.ErrNoRemote) {
		return &usageError{err: fmt.Errorf("init: %w", err)}
	}
	if err := writeNew(path, text); errors.Is(err, fs.ErrExist) {
		return exists
	} else if errors.Is(err, fs.ErrNotExist) {
		return &usageError{fmt.Errorf("init: %w", err), "make the folder first"}
	} else if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if err := o.ignore(ctx, path); err != nil {
		return err
	}
	return o.report(shown)
}

// writeNew writes a file that must not be there yet, for its owner only.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// values are what the flags and the user say.
func (o *initOptions) values(ctx context.Context) (config.Values, error) {
	v := config.Values{Provider: o.kind, Bucket: o.bucket, Region: o.region, Endpoint: o.endpoint, Prefix: o.prefix}
	if o.kind.Name == "file" {
		return v, o.folderValues(ctx, &v)
	}
	if o.asks() {
		_, _ = fmt.Fprintf(o.Stderr, "A bucket on %s. Other stores: --provider.\n", o.kind.Title) // nobody to tell if it fails
	}
	var err error
	if v.Bucket == "" {
		if v.Bucket, err = o.ask(ctx, "Bucket", ""); err != nil {
			return v, err
		}
	}
	if v.Region == "" {
		if v.Region, err = o.ask(ctx, "Region", o.kind.RegionOf(v.Endpoint)); err != nil {
			return v, err
		}
	}
	if v.Endpoint == "" {
		if v.Endpoint, err = o.askEndpoint(ctx, v.Region); err != nil {
			return v, err
		}
	}
	return v, o.askKeys(ctx, &v)
}

// askEndpoint is the URL of the server in a region, as far as the provider and the user tell it.
func (o *initOptions) askEndpoint(ctx context.Context, region string) (string, error) {
	var blank string
	var err error
	switch o.kind.Blank() {
	case "ACCOUNT":
		blank, err = o.ask(ctx, "Account ID", "")
	case "NAMESPACE":
		blank, err = o.ask(ctx, "User or organization on the Hub", "")
	}
	endpoint := o.kind.Fill(region, blank)
	if err != nil || o.kind.Name != "minio" {
		return endpoint, err
	}
	return o.ask(ctx, "Endpoint", endpoint)
}

// askKeys fills in the pair of keys, or leaves it to the environment. Half a pair would be of no use to anybody.
func (o *initOptions) askKeys(ctx context.Context, v *config.Values) error {
	id, err := o.ask(ctx, "Key ID (empty: from the environment)", "")
	if err != nil || id == "" {
		return err
	}
	secret, err := o.askSecret(ctx, "Secret key")
	if err != nil {
		return err
	}
	if secret == "" {
		o.note("No secret key was given, so the key ID is left out too: both come from the environment.")
		return nil
	}
	v.AccessKey, v.SecretKey = id, secret
	return nil
}

// folderValues fills in a folder as the bucket.
func (o *initOptions) folderValues(ctx context.Context, v *config.Values) error {
	folder := o.folder
	if folder == "" {
		var err error
		if folder, err = o.ask(ctx, "Folder", ""); err != nil {
			return err
		}
	}
	if folder == "" {
		return &usageError{errors.New("init --provider file: no folder is given"), "try: hf-cache-sync init --provider file --folder /mnt/nas/hf"}
	}
	folder, err := filepath.Abs(o.below(folder))
	if err != nil {
		return err
	}
	v.URL = config.Remote{Kind: config.Folder, Path: folder}.String()
	return nil
}

// ignore keeps a file in a git work tree out of commits.
func (o *initOptions) ignore(ctx context.Context, path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	root, found := workTree(filepath.Dir(abs))
	if !found || ignored(filepath.Dir(abs), root, filepath.Base(abs)) {
		return nil
	}
	list := filepath.Join(filepath.Dir(abs), ".gitignore")
	add := o.yes
	if o.asks() {
		answer, err := o.ask(ctx, "This is a git work tree. Add the file to .gitignore, so that keys are never committed? [Y/n]", "")
		// The file is written by now; whoever does not answer is told what is left to do.
		add = err == nil && (answer == "" || strings.HasPrefix(strings.ToLower(answer), "y"))
	}
	if !add {
		o.note("hint: this is a git work tree: add %s to .gitignore", filepath.Base(abs))
		return nil
	}
	return appendLine(list, filepath.Base(abs))
}

// appendLine adds a line to a file, which is made if it is missing.
func appendLine(path, line string) error {
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(before) > 0 && before[len(before)-1] != '\n' {
		line = "\n" + line
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666) //nolint:gosec // as git would make it
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// workTree finds the git work tree that a folder is in.
func workTree(dir string) (root string, found bool) {
	for {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return dir, true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}

// ignored says whether a .gitignore from dir up to root names the file. Globs that would match it are not looked for: a line too many does no harm.
func ignored(dir, root, name string) bool {
	for {
		text, err := os.ReadFile(filepath.Join(dir, ".gitignore"))
		if err == nil && slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
			return strings.TrimPrefix(strings.TrimSpace(line), "/") == name
		}) {
			return true
		}
		if dir == root || dir == filepath.Dir(dir) {
			return false
		}
		dir = filepath.Dir(dir)
	}
}

func (o *initOptions) report(shown string) error {
	if o.json {
		return o.printJSON(struct {
			Path     string `json:"path"`
			Provider string `json:"provider"`
		}{shown, o.kind.Name})
	}
	if err := o.print("wrote %s", shown); err != nil {
		return err
	}
	o.note("Next: look through it, then check it with: hf-cache-sync doctor")
	return nil
}

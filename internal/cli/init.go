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
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/suggest"
)

type initOptions struct {
	*app
	provider                                 string
	bucket, region, endpoint, prefix, folder string
	global                                   bool
	yes                                      bool

	kind    config.Provider
	answer  *bufio.Reader
	missing string // the bucket's folder, if it does not exist
	makes   bool   // it is to be made
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
leaves what it does not know for you to fill in. A bucket's folder that does not exist is made if you agree. In a
git work tree it offers to add the file to .gitignore. Whoever breaks off at a question leaves nothing behind.

EXIT STATUS
  0 written; 2 the file is there already, or a flag or an answer makes no sense; 9 the folder cannot be written to.`,
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
		return o.noSuchProvider()
	}
	o.kind = providers[i]
	elsewhere, named := config.Flag(o.Env, "config")
	switch {
	case o.cacheDir != "":
		return &usageError{errors.New("init takes no --cache-dir: it writes a file, and looks at no cache"), "write cache.hf_cache_dir into the file afterwards"}
	case o.remote != "":
		return usagef("init takes no --remote: give --bucket and --prefix, or --provider file and --folder")
	case o.global && o.config != "":
		return usagef("--global and --config name two files: give one of them")
	case o.global && named: // no command would read what is written
		return usagef("--global and HF_CACHE_SYNC_CONFIG=%s name two files: leave one of them out", elsewhere)
	case o.kind.Name == "file" && o.bucket+o.region+o.endpoint != "":
		return usagef("--provider file takes --folder, and no bucket, region or endpoint")
	case o.kind.Name != "file" && o.folder != "":
		return usagef("--folder is for --provider file")
	}
	o.answer = bufio.NewReader(o.Stdin)
	return nil
}

func (o *initOptions) noSuchProvider() error {
	var names []string
	for _, p := range config.Providers() {
		names = append(names, p.Name)
	}
	hint := ""
	if near, ok := suggest.Nearest(o.provider, names); ok {
		hint = "did you mean --provider " + near + "?"
	}
	return &usageError{fmt.Errorf("--provider: %q is none of %s", o.provider, strings.Join(names, ", ")), hint}
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
	if err := vacant(path, shown); err != nil {
		return err // before the user has answered anything
	}
	values, err := o.values(ctx, shown)
	if err != nil {
		return err
	}
	text, err := sensible(shown, values)
	if err != nil {
		return err
	}
	// First the file that keeps the other one from being committed: a key that lies where git sees it must not be the end of a run that failed.
	if err := o.ignore(ctx, path); err != nil {
		return err
	}
	if err := writeNew(path, text); errors.Is(err, fs.ErrExist) {
		return existsError(shown)
	} else if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if err := o.makeFolder(shown); err != nil {
		return err
	}
	return o.report(shown)
}

func existsError(shown string) error {
	return &usageError{fmt.Errorf("init: %s exists, and is not overwritten", shown), "edit it, or move it away; hf-cache-sync doctor checks it"}
}

// vacant says why a file cannot be made at path, as far as looking tells.
func vacant(path, shown string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.IsDir(), shown != "" && os.IsPathSeparator(shown[len(shown)-1]):
		return &usageError{fmt.Errorf("init: %s is the name of a folder", shown), "name the file: " + filepath.Join(shown, config.FileName)}
	case err == nil:
		return existsError(shown)
	}
	info, err = os.Stat(filepath.Dir(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &usageError{fmt.Errorf("init: %s: there is no such folder as %s", shown, filepath.Dir(shown)), "make the folder first"}
	case errors.Is(err, syscall.ENOTDIR), err == nil && !info.IsDir():
		return &usageError{fmt.Errorf("init: %s: %s is not a folder", shown, filepath.Dir(shown)), "name another file with --config"}
	case err != nil:
		return fmt.Errorf("init: %w", err)
	}
	return nil
}

// sensible is the file with the values, if they make sense together: whoever mistypes one hears of it now, and not at the first push.
func sensible(shown string, v config.Values) ([]byte, error) {
	if strings.Contains(v.Bucket, "://") {
		return nil, &usageError{errors.New("init: the bucket is a name, not a URL"), "what follows the name in s3://name/prefix is the --prefix"}
	}
	if strings.ContainsAny(v.Region, " \t/:@.") { // else it would be the endpoint, which it is a part of, that made no sense
		return nil, usagef("init: %q is not the name of a region", v.Region)
	}
	text, err := config.Template(v)
	if err != nil {
		return nil, &usageError{err: fmt.Errorf("init: %w", err)}
	}
	whole := text
	if v.Bucket == "" && v.URL == "" { // Without a name nothing else would be looked at.
		v.Bucket = "a-name"
		if whole, err = config.Template(v); err != nil {
			return nil, &usageError{err: fmt.Errorf("init: %w", err)}
		}
	}
	file, err := config.ParseFile(shown, whole)
	if err != nil {
		return nil, &usageError{err: fmt.Errorf("init: %w", err)}
	}
	none := func(string) (string, bool) { return "", false }
	if _, err := config.ResolveRemote("", none, file); err != nil {
		return nil, &usageError{err: fmt.Errorf("init: %w", err)}
	}
	// A server of one region knows no bucket of another. AWS has a name without a region, which serves all.
	if told := (config.Provider{}).RegionOf(v.Endpoint); v.Region != "" && v.Region != told && strings.Contains(v.Endpoint, "."+told+".") {
		return nil, &usageError{fmt.Errorf("init: the endpoint %s is in the region %s, not in %s", v.Endpoint, told, v.Region), "give one of the two: the other follows from it"}
	}
	return text, nil
}

// writeNew writes a file that must not be there yet, for its owner only: whole or not at all, also where the power is cut.
func writeNew(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // for its owner only, too
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = renameNew(f.Name(), path)
	}
	if removeErr := os.Remove(f.Name()); !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}

// renameNew gives a file a name that must be free.
func renameNew(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err // the caller removes the other name
	}
	if _, statErr := os.Lstat(to); !errors.Is(statErr, fs.ErrNotExist) {
		return errors.Join(fs.ErrExist, statErr)
	}
	return os.Rename(from, to) // a file system without hard links
}

// values are what the flags and the user say.
func (o *initOptions) values(ctx context.Context, shown string) (config.Values, error) {
	v := config.Values{Provider: o.kind, Bucket: o.bucket, Region: o.region, Endpoint: o.endpoint, Prefix: o.prefix}
	if o.kind.Name == "file" {
		if err := o.folderValues(ctx, &v); err != nil {
			return v, err
		}
		return v, o.askFolder(ctx, v.URL)
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
	if _, err := sensible(shown, v); err != nil {
		return v, err // before the user has typed keys
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
	if strings.Contains(folder, ":/") && !filepath.IsAbs(folder) { // the form that --remote takes
		remote, err := config.ParseRemote(folder)
		if err != nil {
			return &usageError{err: fmt.Errorf("init: the folder: %w", err)}
		}
		if remote.Kind != config.Folder {
			return &usageError{errors.New("init --provider file: that is no folder"), "for a bucket give another --provider"}
		}
		v.URL = remote.String()
		return nil
	}
	if rest, ok := strings.CutPrefix(folder, "~"); ok && (rest == "" || os.IsPathSeparator(rest[0])) { // no shell has seen an answer
		folder = o.Home + rest
	}
	folder, err := filepath.Abs(o.below(folder))
	if err != nil {
		return err
	}
	v.URL = config.Remote{Kind: config.Folder, Path: folder}.String()
	return nil
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
	if here := filepath.Join(o.Dir, config.FileName); o.global && exists(here) {
		o.note("note: in this folder, %s comes before it", config.FileName)
	}
	o.note("Next: look through it, then check it with: hf-cache-sync doctor")
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

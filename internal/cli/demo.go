package cli

import (
	"context"
	"crypto/sha1" //nolint:gosec // git names its blobs by SHA-1
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

type demoOptions struct {
	*app
	keep bool
}

func (a *app) demoCommand() *cobra.Command {
	o := &demoOptions{app: a}
	cmd := &cobra.Command{
		Use:         "demo",
		Annotations: map[string]string{annotationConfig: configNone},
		Short:       "Show the whole loop on temporary folders",
		Long: `Demo makes a small cache in a temporary folder, pushes it to a bucket that is a plain folder, pulls it into a second
cache as another machine would, and compares every file by digest. It prints each command that it runs, needs
no network and no credentials, touches nothing else and cleans up after itself.

EXIT STATUS
  0 all files arrived as they were; 9 there is no room for temporary files.`,
		Example: `  hf-cache-sync demo
  hf-cache-sync demo --keep`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&o.keep, "keep", false, "keep the temporary folders to look around in")
	return cmd
}

func (o *demoOptions) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "hf-cache-sync-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if !o.keep {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	d := &demo{demoOptions: o, dir: dir, alice: filepath.Join(dir, "alice"), bob: filepath.Join(dir, "bob"), bucket: filepath.Join(dir, "bucket")}
	for _, step := range []func(context.Context) error{d.download, d.push, d.pushAgain, d.look, d.pull, d.compare} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if o.keep {
		return o.print("The folders are in %s.", dir)
	}
	return nil
}

// demo is one run: two machines and a bucket, all below one temporary folder.
type demo struct {
	*demoOptions
	dir, alice, bob, bucket string
}

// sample is a file of the demo's repositories.
type sample struct {
	path string
	data []byte
	lfs  bool
}

// noise is bytes that look like weights: the same every time, and not compressible.
func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return data
}

func (d *demo) download(context.Context) error {
	if err := d.print("Alice's machine has downloaded a model and a dataset from the Hugging Face Hub."); err != nil {
		return err
	}
	if err := os.Mkdir(d.bucket, 0o700); err != nil {
		return err
	}
	cache, err := hfcache.Create(d.alice, hfcache.Options{})
	if err != nil {
		return err
	}
	shared := noise(1, 6<<20)
	model := hub.Repo{Type: hub.Model, Name: "acme/tiny-llm"}
	data := hub.Repo{Type: hub.Dataset, Name: "acme/tiny-llm"} // the same id as the model, as happens on the Hub
	tokenizer := sample{"tokenizer.json", []byte(`{"version": "1.0", "truncation": null}`), false}
	for _, c := range []struct {
		repo  hub.Repo
		label string
		ref   hub.Ref
		files []sample
	}{
		{model, "model v1", "v1.0", []sample{
			{"config.json", []byte(`{"hidden_size": 256}`), false},
			tokenizer,
			{"model.safetensors", shared, true},
		}},
		{model, "model main", hub.Main, []sample{
			{"config.json", []byte(`{"hidden_size": 256, "rope": true}`), false},
			tokenizer,
			{"model.safetensors", shared, true},
			{"adapters/math/adapter.safetensors", noise(2, 1<<20), true},
		}},
		{data, "dataset main", hub.Main, []sample{
			{"README.md", []byte("# tiny\n"), false},
			{"data/train-00000.parquet", noise(3, 2<<20), true},
			{"data/empty.txt", nil, false},
		}},
	} {
		sum := sha1.Sum([]byte(c.label)) //nolint:gosec // stands for a git commit
		if err := d.write(cache, c.repo, hub.Commit(hex.EncodeToString(sum[:])), c.ref, c.files); err != nil {
			return errors.Join(err, cache.Close())
		}
	}
	return cache.Close()
}

// write puts one commit into a cache, as a client that downloads it would.
func (d *demo) write(cache *hfcache.Cache, repo hub.Repo, commit hub.Commit, ref hub.Ref, files []sample) (err error) {
	dir, err := cache.RepoDir(repo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if err := dir.MakeSnapshot(commit); err != nil {
		return err
	}
	tree := manifest.Tree{}
	for _, f := range files {
		size := int64(len(f.data))
		gitSum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", size, f.data)) //nolint:gosec // git's own digest
		id := hub.BlobID(hex.EncodeToString(gitSum[:]))
		entry := manifest.TreeEntry{Size: size, BlobID: string(id)}
		if f.lfs {
			sum := sha256.Sum256(f.data)
			id = hub.BlobID(hex.EncodeToString(sum[:]))
			entry.LFSSHA256, entry.LFSSize = id, size
		}
		tree[hub.Path(f.path)] = entry
		if err := d.writeBlob(dir, id, f.data); err != nil {
			return err
		}
		if _, err := dir.Link(commit, hub.Path(f.path), id, size); err != nil {
			return err
		}
	}
	if err := dir.WriteTree(commit, tree); err != nil {
		return err
	}
	return dir.WriteRef(ref, commit, d.Now())
}

func (d *demo) writeBlob(dir *hfcache.RepoDir, id hub.BlobID, data []byte) error {
	if dir.HasBlob(id, int64(len(data))) {
		return nil
	}
	staged, err := dir.Stage(id, int64(len(data)))
	if err != nil {
		return err
	}
	if _, err := staged.WriteAt(data, 0); err != nil {
		return errors.Join(err, staged.Discard())
	}
	if err := staged.Sync(); err != nil {
		return errors.Join(err, staged.Discard())
	}
	return staged.Publish()
}

// url is the bucket's.
func (d *demo) url() string { return config.Remote{Kind: config.Folder, Path: d.bucket}.String() }

// command prints a command as a user would type it and runs it in this process.
func (d *demo) command(ctx context.Context, who, cache string, args ...string) error {
	url := d.url()
	if err := d.print("\n%s$ hf-cache-sync %s", who, strings.Join(args, " ")); err != nil {
		return err
	}
	sub := &app{Process: d.Process}
	sub.Env = func(name string) (string, bool) {
		switch name {
		case "HF_CACHE_SYNC_REMOTE":
			return url, true
		case "HF_CACHE_SYNC_CACHE_DIR":
			return cache, true
		}
		return "", false
	}
	sub.Dir, sub.Home = d.dir, d.dir // without the user's configuration file
	sub.Interactive = false
	sub.Args = append([]string{"--no-progress"}, args...)
	return sub.root().ExecuteContext(ctx) //nolint:contextcheck // the commands take it from cobra
}

func (d *demo) push(ctx context.Context) error {
	if err := d.print("The team's bucket is a folder here; it could be file:///mnt/nas/hf or s3://team-hf-cache."); err != nil {
		return err
	}
	return d.command(ctx, "alice", d.alice, "push")
}

func (d *demo) pushAgain(ctx context.Context) error {
	if err := d.print("\nA second push finds nothing to do, and asks only about what is here:"); err != nil {
		return err
	}
	return d.command(ctx, "alice", d.alice, "push")
}

func (d *demo) look(ctx context.Context) error {
	if err := d.print("\nBob's machine has an empty cache. What does the bucket have for him?"); err != nil {
		return err
	}
	return d.command(ctx, "bob", d.bob, "list", "--remote="+d.url())
}

func (d *demo) pull(ctx context.Context) error {
	for _, args := range [][]string{
		{"pull", "acme/tiny-llm"}, {"pull", "acme/tiny-llm", "-r", "v1.0"}, {"pull", "datasets/acme/tiny-llm"},
	} {
		if err := d.command(ctx, "bob", d.bob, args...); err != nil {
			return err
		}
	}
	return nil
}

// compare reads both caches through their snapshots, as clients do, and compares all digests.
func (d *demo) compare(context.Context) error {
	alice, err := digests(d.alice)
	if err != nil {
		return err
	}
	bob, err := digests(d.bob)
	if err != nil {
		return err
	}
	if err := d.print("\nEvery file of both caches, by SHA-256:"); err != nil {
		return err
	}
	if len(alice) == 0 || len(alice) != len(bob) {
		return fmt.Errorf("demo: one cache has %d files, the other %d", len(alice), len(bob))
	}
	var rows [][]string
	for i, f := range alice {
		if f != bob[i] {
			return fmt.Errorf("demo: %s differs from %s", f.path, bob[i].path)
		}
		folder, rest, _ := strings.Cut(f.path, "/snapshots/")
		commit, path, _ := strings.Cut(rest, "/")
		rows = append(rows, []string{f.sum[:16], folder, commit[:12], path, "same"})
	}
	if err := ui.Table(d.Stdout, []string{"SHA256", "FOLDER", "COMMIT", "FILE", "ALICE AND BOB"}, rows, nil); err != nil {
		return err
	}
	return d.print("\n%s, all the same. Bob can now load them with HF_HUB_OFFLINE=1.", ui.Plural(len(rows), "file"))
}

type fileDigest struct{ path, sum string }

// digests hashes every file of every snapshot below a cache, in order of the paths.
func digests(cache string) ([]fileDigest, error) {
	var found []fileDigest
	err := filepath.WalkDir(cache, func(path string, e fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(cache, path)
		if err != nil || relErr != nil {
			return errors.Join(err, relErr)
		}
		rel = filepath.ToSlash(rel)
		if e.IsDir() || !strings.Contains(rel, "/snapshots/") {
			return nil
		}
		data, err := os.ReadFile(path) //nolint:gosec // a path of the demo's own folder
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		found = append(found, fileDigest{rel, hex.EncodeToString(sum[:])})
		return nil
	})
	return found, err
}

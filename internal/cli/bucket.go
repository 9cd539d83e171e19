package cli

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/doctor"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// hasBucket says whether something names a bucket, so that advice may send people there. It is not asked for anything.
func (a *app) hasBucket() bool {
	_, err := config.ResolveRemote(a.remote, a.Env, a.file)
	return !errors.Is(err, config.ErrNoRemote)
}

// readingCatalog opens the bucket for a command that looks at all of it. What was read before and has not changed is found on this machine.
func (a *app) readingCatalog() (*remote.Catalog, error) {
	catalog, err := a.catalog(nil, nil)
	if err != nil {
		return nil, err
	}
	return catalog, a.remember(catalog)
}

// remember makes a catalogue look on this machine for what was read before.
func (a *app) remember(catalog *remote.Catalog) error {
	where, err := config.ResolveRemote(a.remote, a.Env, a.file)
	if err != nil {
		return &usageError{err: err}
	}
	if dir := a.manifestCacheDir(); dir != "" {
		catalog.Cache = remote.NewCache(dir, where.Endpoint+" "+where.String())
	}
	return nil
}

// manifestCacheDir is the folder for what was read of buckets, by the rules of the XDG base directories. It is empty if there is no home.
func (a *app) manifestCacheDir() string {
	base, ok := a.Env("XDG_CACHE_HOME")
	if !ok || !filepath.IsAbs(base) { // the specification ignores relative ones
		base = filepath.Join(a.Home, ".cache")
	}
	if !filepath.IsAbs(base) {
		return ""
	}
	return filepath.Join(base, "hf-cache-sync", "manifests")
}

// readBucket reads the manifests and refs of the repositories that are wanted.
func (a *app) readBucket(ctx context.Context, catalog *remote.Catalog, wants func(hub.Repo) bool) (*remote.Contents, error) {
	collectAt(gcPercentBucket, a.Env)
	contents, err := catalog.Contents(ctx, wants)
	_ = catalog.Cache.Close() // only read from, as far as the result goes
	if err != nil {
		return nil, err
	}
	a.logger().DebugContext(ctx, "read the bucket", slog.Int("fetched", contents.Fetched), slog.Int("cached", contents.Cached))
	return contents, nil
}

// sayBroken names on standard error what cannot be used of a bucket, and returns the error that a command then ends with.
func (a *app) sayBroken(contents *remote.Contents) error {
	for _, err := range contents.Dangling {
		a.note("note: %v", err)
	}
	for _, err := range contents.Broken {
		a.warn("failed: %v", err)
	}
	if len(contents.Broken) > 0 {
		return &someFailedError{exitSome, ui.Plural(len(contents.Broken), "object") + " in the bucket cannot be read, as said above", doctor.Remedy(contents.Broken)}
	}
	return nil
}

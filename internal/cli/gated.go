package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/gated"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// gatedRepos says why repositories of an inventory look gated. The others are not in the map.
func (a *app) gatedRepos(ctx context.Context, cache *hfcache.Cache, inv *hfcache.Inventory) (map[hub.Repo]string, error) {
	findings, err := a.findGated(ctx, cache, inv)
	reasons := make(map[hub.Repo]string, len(findings))
	for repo, finding := range findings {
		reasons[repo] = finding.String()
	}
	return reasons, err
}

// findGated looks into the texts of an inventory. A repository of which a single revision looks gated is gated as a whole.
func (a *app) findGated(ctx context.Context, cache *hfcache.Cache, inv *hfcache.Inventory) (map[hub.Repo]gated.Finding, error) {
	var (
		texts = gatedTexts{cache: cache, log: a.logger()}
		mu    sync.Mutex // guards found
		found = map[hub.Repo]gated.Finding{}
		work  errgroup.Group
	)
	work.SetLimit(2 * runtime.GOMAXPROCS(0)) // one reads while another compares
	for _, repo := range inv.Repos {
		work.Go(func() error {
			finding, is, err := texts.look(ctx, repo)
			if is {
				mu.Lock()
				defer mu.Unlock()
				found[repo.ID] = finding
			}
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	return found, nil
}

// gatedTexts looks at the files that tell whether a repository is gated.
type gatedTexts struct {
	cache   *hfcache.Cache
	log     *slog.Logger
	checker gated.Checker
}

// look returns the first finding of a repository. Each text is looked at once, because most revisions share theirs.
func (g *gatedTexts) look(ctx context.Context, repo *hfcache.Repo) (gated.Finding, bool, error) {
	type text struct{ name, bytes string }
	seen := map[text]bool{}
	for _, rev := range repo.Revisions {
		if err := ctx.Err(); err != nil {
			return gated.Finding{}, false, err
		}
		texts := map[string][]byte{}
		for _, f := range rev.Files {
			one := text{string(f.Path), f.Bytes}
			if !gated.Names(one.name) || seen[one] {
				continue
			}
			seen[one] = true
			data, err := g.read(f.Bytes)
			if err != nil { // it tells nothing here, and is not for here to report: a push fails on the file by itself
				g.log.DebugContext(ctx, "looking for terms", slog.String("repo", repo.ID.String()), slog.String("path", one.name), slog.Any("error", err))
				continue
			}
			texts[one.name] = data
		}
		if finding, is := g.checker.Look(texts); is {
			return finding, true, nil
		}
	}
	return gated.Finding{}, false, nil
}

// read returns the beginning of a file of the cache.
func (g *gatedTexts) read(rel string) (data []byte, err error) {
	f, err := g.cache.OpenBytes(rel)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, gated.MaxBytes))
}

// choose narrows an inventory to what is to be pushed. Whether a repository is gated is decided before, by all of its revisions: naming one of them is no way around.
func (o *pushOptions) choose(ctx context.Context, cache *hfcache.Cache, inv *hfcache.Inventory) error {
	var reasons map[hub.Repo]string
	if !o.gatedAllowed() {
		var err error
		if reasons, err = o.gatedRepos(ctx, cache, inv); err != nil {
			return err
		}
	}
	if err := o.narrow(inv); err != nil {
		return err
	}
	o.dropGated(inv, reasons)
	return nil
}

// dropGated takes gated repositories out of an inventory, with all that there is to say about them but that.
func (o *pushOptions) dropGated(inv *hfcache.Inventory, reasons map[hub.Repo]string) {
	inv.Repos = slices.DeleteFunc(inv.Repos, func(r *hfcache.Repo) bool {
		why, is := reasons[r.ID]
		if is {
			o.gated = append(o.gated, engine.Failure{Key: manifest.Key{Repo: r.ID}, Err: &gatedError{why}, Harmless: true})
		}
		return is
	})
	inv.Problems = slices.DeleteFunc(inv.Problems, func(p hfcache.Problem) bool {
		_, is := reasons[p.Repo]
		return is
	})
}

// gatedAllowed is the flag or its variable if one was given, else what the configuration says.
func (o *pushOptions) gatedAllowed() bool {
	if o.allowGatedGiven {
		return o.allowGated
	}
	allowed, _ := o.file.AllowGated()
	return allowed
}

// gatedError says that a repository was left out because it looks gated.
type gatedError struct{ why string }

// Error says why, and what to type if it is wrong.
func (e *gatedError) Error() string {
	return fmt.Sprintf("looks gated (%s); push it with --allow-gated if you have the right to share it", e.why)
}

// noteTerms says after a pull that what is in the cache has terms: who may read the bucket is for its owner to decide, and whoever reads it should know. It says so once
// for a repository, of whose revisions several may be pulled.
func (a *app) noteTerms(ctx context.Context, cache *hfcache.Cache, m *manifest.Manifest) {
	repo := m.Repo
	if a.quiet || a.termsNoted[repo] {
		return
	}
	inv, err := cache.Scan(ctx, func(r hub.Repo) bool { return r == repo })
	if err != nil {
		return // it is a note, and no reason to fail
	}
	findings, err := a.findGated(ctx, cache, inv)
	if err != nil {
		return
	}
	if finding, is := findings[repo]; is {
		a.note("note: %s: terms apply (%s: %s)", repo, finding.File, finding.Signal)
		if a.termsNoted == nil {
			a.termsNoted = map[hub.Repo]bool{}
		}
		a.termsNoted[repo] = true
	}
}

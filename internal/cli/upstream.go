package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hubclient"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// Values of --fallback, the first being the default.
const (
	fallbackNone = "none"
	fallbackHub  = "hf-hub" // as in the Python tool 0.1.0
)

// fallbackChoice is the flag or its variable, else what the configuration says.
func (a *app) fallbackChoice(flag string) (string, error) {
	switch flag {
	case "":
		return a.file.Fallback(), nil
	case fallbackNone, fallbackHub:
		return flag, nil
	}
	return "", usagef("--fallback is %q; it must be %s or %s", flag, fallbackHub, fallbackNone)
}

const (
	leaseTime = 30 * time.Second
	leasePoll = 2 * time.Second
)

// openHub makes a client of the Hub, as the environment describes it.
func (a *app) openHub(sink event.Sink) (*upstream, error) {
	settings, err := config.ResolveHub(a.Env, a.Home, os.ReadFile)
	if err != nil {
		return nil, &usageError{err: err}
	}
	log := a.logger()
	client := &hubclient.Client{
		Endpoint: settings.Endpoint, Token: settings.Token, Offline: settings.Offline, Agent: "hf-cache-sync/" + version(),
		Tries: a.patience.tries, FirstWait: a.patience.retryWait, StallTime: a.patience.stallTime,
		Waiting: func(d time.Duration, why error) {
			log.Debug("waiting for the Hub", slog.Duration("wait", d), slog.Any("error", why))
			if sink != nil && (errors.Is(why, hubclient.ErrRateLimited) || d >= time.Second) {
				sink.Event(event.Event{Kind: event.Waiting, Text: fmt.Sprintf("the Hub, %s: %v", ui.Duration(d), why)})
			}
		},
	}
	return &upstream{client: client, gated: map[hub.Repo]bool{}}, nil
}

// upstream is the Hub as the engine wants it.
type upstream struct {
	client *hubclient.Client

	mu    sync.Mutex // guards gated
	gated map[hub.Repo]bool
}

// isGated says whether the Hub said so of a repository that it was asked for.
func (u *upstream) isGated(repo hub.Repo) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.gated[repo]
}

var _ engine.Upstream = (*upstream)(nil)

// Revision asks for a commit and its listing.
func (u *upstream) Revision(ctx context.Context, repo hub.Repo, revision string) (*engine.UpstreamRevision, error) {
	info, err := u.client.Info(ctx, repo, revision)
	if err != nil {
		return nil, fromHub(err)
	}
	u.mu.Lock()
	u.gated[repo] = info.Gated
	u.mu.Unlock()
	tree, err := u.client.Tree(ctx, repo, info.Commit)
	if err != nil {
		return nil, fromHub(err)
	}
	r := &engine.UpstreamRevision{Commit: info.Commit, Tree: tree}
	if revision == "" {
		revision = string(hub.Main)
	}
	if revision != string(info.Commit) {
		if name, err := hub.ParseRef(revision); err == nil {
			r.Ref = name
		}
	}
	return r, nil
}

// Open streams a part of a file.
func (u *upstream) Open(ctx context.Context, repo hub.Repo, commit hub.Commit, path hub.Path, rng store.Range) (io.ReadCloser, int64, error) {
	body, size, err := u.client.Open(ctx, repo, commit, path, rng.Offset, rng.Length)
	return body, size, fromHub(err)
}

// fromHub adds to an error of the Hub what the engine has to know of it: that all else would meet the same.
func fromHub(err error) error {
	for _, kind := range []error{hubclient.ErrUnavailable, hubclient.ErrRateLimited, hubclient.ErrBadToken, hubclient.ErrGated, hubclient.ErrOffline, hubclient.ErrDisabled} {
		if errors.Is(err, kind) {
			return &engine.UpstreamDownError{Err: err}
		}
	}
	return err
}

// hubOptions are the flags about the Hub.
type hubOptions struct {
	fallback      string
	refresh       bool
	backfillWords string // the value of --backfill; empty if it was not given
	noLease       bool
	leaseTime     time.Duration

	pushBack bool
	client   *upstream // nil without a fallback
}

func (o *hubOptions) fallbackFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.fallback, "fallback", "", "where to take what the bucket lacks: hf-hub or none (default: cache.fallback in the configuration, else none)")
}

func (o *hubOptions) flags(cmd *cobra.Command) {
	o.fallbackFlag(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&o.refresh, "refresh", false, "ask the Hub which commit a branch names now; implies --fallback hf-hub")
	flags.StringVar(&o.backfillWords, "backfill", "", "push to the bucket what came from the Hub (default: cache.backfill in the configuration); implies --fallback hf-hub")
	flags.Lookup("backfill").NoOptDefVal = "true"
	flags.BoolVar(&o.noLease, "no-lease", false, "with --backfill: do not wait for a machine that fetches the same revision from the Hub at this moment")
	flags.DurationVar(&o.leaseTime, "lease-time", leaseTime, "how long others wait for this machine if it dies while it fetches for all")
	_ = flags.MarkHidden("lease-time") // it exists
}

// check settles what is wanted, by the flags and the configuration.
func (o *hubOptions) check(a *app) (err error) {
	o.pushBack = a.file.Backfill()
	if o.backfillWords != "" {
		if o.pushBack, err = strconv.ParseBool(o.backfillWords); err != nil {
			return usagef("--backfill is %q; it must be true or false", o.backfillWords)
		}
	}
	if o.leaseTime != 0 && (o.leaseTime < time.Second || o.leaseTime > time.Hour) {
		return usagef("--lease-time is %s; it must be between a second and an hour", o.leaseTime)
	}
	implied := o.refresh || o.backfillWords != "" && o.pushBack
	if o.fallback == "" && implied {
		o.fallback = fallbackHub
	}
	if o.fallback, err = a.fallbackChoice(o.fallback); err != nil {
		return err
	}
	if o.fallback == fallbackNone && implied {
		return usagef("--refresh and --backfill need the Hub, which --fallback none keeps out")
	}
	return nil
}

// attach gives the engine the Hub, if it is wanted.
func (o *hubOptions) attach(a *app, s *session) (err error) {
	if o.fallback != fallbackHub {
		return nil
	}
	if o.client, err = a.openHub(s.Events); err != nil {
		return err
	}
	s.Upstream = o.client
	if !o.pushBack || o.noLease {
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	// Those who would wait for a machine that gives nothing on would wait in vain.
	gated := &pushOptions{app: a}
	s.Herd = &engine.Herd{
		Who: remote.Lease{Holder: rand.Text(), Host: host, PID: os.Getpid(), Lasts: o.leaseTime}, Poll: leasePoll,
		Share: func(repo hub.Repo) bool { return !o.client.isGated(repo) || gated.gatedAllowed() },
	}
	return nil
}

// backfill pushes a revision that came from the Hub at least in part. A key that may not write, and a bucket that is away, are worth a note and no more: the pull went well.
func (o *hubOptions) backfill(ctx context.Context, a *app, s *session, p *plan.Pull, pulled *engine.Result) (*engine.Result, error) {
	none := &engine.Result{}
	moved := o.refresh && p.AskedHub // the bucket may have all of it, and its ref elsewhere
	if !o.pushBack || o.client == nil || pulled.UpstreamBlobs == 0 && len(p.Upstream) == 0 && !moved || pulled.Failed() {
		return none, nil
	}
	key := p.Manifest.Key()
	inv, err := s.Cache.Scan(ctx, func(r hub.Repo) bool { return r == key.Repo })
	if err != nil {
		return none, err
	}
	push := &pushOptions{app: a, selected: map[hub.Repo]hub.Commit{key.Repo: key.Commit}}
	if err := push.choose(ctx, s.Cache, inv); err != nil {
		return none, err
	}
	if len(push.gated) > 0 || o.client.isGated(key.Repo) && !push.gatedAllowed() {
		a.note("note: %s is gated, so it is not pushed to the bucket; team.allow_gated: true says that all who read it have accepted the terms", key.Repo)
		return none, nil
	}
	policy := plan.PushPolicy{}
	if p.AskedHub {
		policy.FromHub = map[remote.RefKey]hub.Commit{{Repo: key.Repo, Name: p.Asked}: key.Commit}
	}
	todo, err := s.PreparePush(ctx, inv, policy)
	if err == nil {
		var result *engine.Result
		if result, err = s.Push(ctx, todo, policy); err == nil {
			kept := slices.Concat(todo.Kept, result.Kept)
			a.sayFailures(append(result.Failures, keptFailures(kept)...))
			a.sayKept(kept)
			for _, ref := range todo.Refs {
				if ref.Force && result.Refs > 0 {
					a.note("note: %s of %s in the bucket names %s now, as on the Hub; it named %s", ref.Key.Name, ref.Key.Repo, ref.Commit.Short(), ref.Existing.Commit.Short())
				}
			}
			return result, nil
		}
	}
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	a.note("note: the bucket did not get it: %v", err)
	return none, nil
}

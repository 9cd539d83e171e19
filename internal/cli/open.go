package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/countstore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/limitstore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/retrystore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// openCache opens the cache folder. With create, a missing one is made; without, it is an empty cache as far as the user is concerned, and an error.
func (a *app) openCache(create bool) (*hfcache.Cache, error) {
	dir, origin, err := config.CacheDir(a.cacheDir, a.Env, a.Home, a.file)
	if err != nil {
		return nil, &usageError{err: err}
	}
	open := hfcache.Open
	if create {
		open = hfcache.Create
	}
	var options hfcache.Options
	if v, ok := a.Env("HF_HUB_DISABLE_SYMLINKS"); ok {
		options.NoSymlinks = config.Truthy(v)
	}
	cache, err := open(dir, options)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &noCacheError{dir, origin}
	}
	return cache, err
}

// noCacheError says that the cache folder does not exist.
type noCacheError struct {
	dir    string
	origin config.Origin
}

// Error names the folder, and who named it.
func (e *noCacheError) Error() string {
	return fmt.Sprintf("there is no cache at %s (from %s)", e.dir, e.origin)
}

// catalog opens the bucket. progress may be nil; throttle is called when the store asks to slow down.
func (a *app) catalog(progress event.Sink, throttle func()) (*remote.Catalog, error) {
	where, err := config.ResolveRemote(a.remote, a.Env, a.file)
	if err != nil {
		if errors.Is(err, config.ErrNoRemote) {
			return nil, err
		}
		return nil, &usageError{err: err}
	}
	raw, err := a.openStore(where)
	if err != nil {
		return nil, err
	}
	logger := a.logger()
	counted := countstore.New(limitstore.New(raw, int64(a.bwlimit)))
	retries := a.patience.retries()
	retries.OnRetry = func(r retrystore.Retry) {
		logger.Debug("retrying", slog.String("op", r.Op), slog.String("key", r.Key), slog.Duration("wait", r.Wait), slog.Any("error", r.Err))
		if failure, ok := errors.AsType[*store.Error](r.Err); ok && overloaded(failure.Code) && throttle != nil {
			throttle()
		}
		if progress != nil && r.Attempt > 1 {
			progress.Event(event.Event{
				Kind: event.Retrying, Item: r.Key, Err: r.Err,
				Text: "trying again in " + r.Wait.Round(time.Second/10).String(),
			})
		}
	}
	return &remote.Catalog{Store: retrystore.New(counted, retries), Now: a.Now}, nil
}

// overloaded says whether a store's code asks for fewer requests.
func overloaded(code string) bool {
	switch code {
	case "SlowDown", "503", "429", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded":
		return true
	}
	return false
}

func (a *app) openStore(where config.Remote) (store.Store, error) {
	if where.Kind != config.Folder {
		_, warnings := config.ResolveCredentials(a.Env, a.file)
		for _, w := range warnings {
			a.note("warning: %s", w)
		}
	}
	return a.openQuietly(where)
}

// openQuietly is openStore without a word about credentials that were passed over.
func (a *app) openQuietly(where config.Remote) (store.Store, error) {
	if where.Kind == config.Folder {
		return a.openFolder(where)
	}
	credentials, _ := config.ResolveCredentials(a.Env, a.file)
	proxy, err := config.ResolveProxy(a.Env, a.file)
	if err != nil {
		return nil, &usageError{err: err}
	}
	return s3store.Open(s3store.Options{
		Endpoint: where.Endpoint, Bucket: where.Bucket, Prefix: where.Prefix, Region: where.Region,
		Credentials: s3store.Credentials{
			AccessKey: credentials.AccessKey, SecretKey: credentials.SecretKey, SessionToken: credentials.SessionToken, Chain: credentials.Chain,
		},
		Proxy:          proxy.URL,
		Agent:          agent(where) + "/" + version(),
		StallTimeout:   a.patience.stallTime,
		AnswerTimeout:  2 * a.patience.stallTime,
		NoConditions:   a.file.ConditionalWrites() == "off",
		MustConditions: a.file.ConditionalWrites() == "on",
		KeepChecksum:   a.file.Checksum() == "sha256",
	})
}

// agent is how the program names itself to a store: Backblaze counts its integrations by a name of its own.
func agent(where config.Remote) string {
	if isB2(where) {
		return "b2ai-hfcache"
	}
	return "hf-cache-sync"
}

func isB2(where config.Remote) bool { return strings.Contains(where.Endpoint, "backblazeb2.com") }

// unconditional says whether the store is known to check no conditions on writes: Backblaze B2 answers 501 to them (API compatibility page, "conditional writes").
func (a *app) unconditional() bool {
	where, err := config.ResolveRemote(a.remote, a.Env, a.file)
	return err == nil && where.Kind != config.Folder && (isB2(where) || a.file.ConditionalWrites() == "off")
}

// session is what a command that moves data needs.
type session struct {
	*engine.Engine
	progress *ui.Progress
	app      *app
}

// requests are those that were made of the bucket so far.
func (s *session) requests() plan.Requests { return plan.Requests(countstore.Of(s.Catalog.Store)) }

// phase tells whoever watches what is being done before anything is moved; nothing, that it is done.
func (s *session) phase(text string) { s.Events.Event(event.Event{Kind: event.Phase, Text: text}) }

// cacheUse says what a command wants of the cache folder.
type cacheUse uint8

const (
	useExisting cacheUse = iota // a missing one is an error
	useIfThere                  // a missing one is an empty one, and stays missing until makeCache
)

// open opens cache and bucket and connects them to the terminal.
func (a *app) open(verb string, use cacheUse, options engine.Options) (*session, error) {
	if err := a.checkApart(); err != nil {
		return nil, err
	}
	cache, err := a.openCache(false)
	if err != nil && (use != useIfThere || !isType[*noCacheError](err)) {
		return nil, err
	}
	progress := ui.NewProgress(a.Stderr, a.progressMode(), a.Now)
	progress.Verb(verb)
	a.screen.Store(progress)
	sink := event.Sink(progress)
	if a.events != nil {
		sink = a.events
	}
	where, err := config.ResolveRemote(a.remote, a.Env, a.file)
	options.WatchSent = err == nil && where.Kind != config.Folder || a.bwlimit > 0
	options.Ranges = a.bwlimit.rangesFor()
	s := &session{progress: progress, app: a}
	s.Engine = &engine.Engine{Cache: cache, Events: a.watched(sink), Options: options}
	s.Catalog, err = a.catalog(sink, s.Throttle)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// makeCache makes the cache's folder, if it was missing so far. What would not be written makes none.
func (s *session) makeCache() (err error) {
	if s.Cache == nil {
		s.Cache, err = s.app.openCache(true)
	}
	return err
}

func (s *session) close() error {
	s.progress.Close()
	if s.Catalog != nil {
		s.app.noteFolder()
	}
	if s.Cache == nil {
		return nil
	}
	return s.Cache.Close()
}

func (a *app) progressMode() ui.Mode {
	kind, _ := a.Env("TERM")
	switch {
	case a.quiet || a.noProgress:
		return ui.Silent
	case ui.IsTerminal(a.Stderr) && !a.verbose && kind != "dumb":
		return ui.Bars
	default:
		return ui.Lines
	}
}

// watched adds the detailed log to a sink, if it is wanted.
func (a *app) watched(sink event.Sink) event.Sink {
	if !a.verbose {
		return sink
	}
	return loggedSink{sink, a.logger()}
}

type loggedSink struct {
	event.Sink
	log *slog.Logger
}

// Event logs what is worth a line and passes everything on.
func (s loggedSink) Event(e event.Event) {
	if e.Kind != event.ItemProgress {
		s.log.LogAttrs(context.Background(), slog.LevelDebug, "event", slog.String("kind", e.Kind.String()),
			slog.String("item", e.Item), slog.String("path", e.Path), slog.String("repo", e.Repo), slog.Int64("bytes", e.Bytes), slog.Any("error", e.Err))
	}
	s.Sink.Event(e)
}

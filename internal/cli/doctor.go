package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/doctor"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/retrystore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// What doctor spends on a bucket: somebody waits for the answer, and "it does not answer" is one.
const (
	doctorPatience = 15 * time.Second
	doctorTries    = 2
)

type doctorOptions struct {
	*app
	write bool
}

func (a *app) doctorCommand() *cobra.Command {
	o := &doctorOptions{app: a}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the configuration, the cache folder and the bucket",
		Long: `Doctor makes every check that it can and says for each what it found (✓), what should be known (!), what does
not work (✗) and what was skipped because of that (-), with what to do about it. It goes on after a failure,
runs with a broken configuration file, and takes no longer than some 15 seconds.

To find out whether the bucket can be written to, it writes one small object below _hf_cache_sync_doctor/ and
deletes it again. A key that may only read is enough for pulling; with --write it is a failure. The Hub is
asked only if pulls fall back to it (cache.fallback).

EXIT STATUS
  0 nothing failed; 1 a check failed; see docs/exit-codes.md.`,
		Example: `  hf-cache-sync doctor
  hf-cache-sync doctor --write --remote s3://team-hf-cache
  hf-cache-sync doctor --json`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{annotationConfig: configOptional},
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&o.write, "write", false, "the bucket is to be written to: a key that may only read is a failure")
	return cmd
}

func (o *doctorOptions) run(ctx context.Context) error {
	facts := doctor.Facts{Settings: o.settings(), Cache: o.cacheFacts(ctx), Now: o.Now(), Write: o.write}
	facts.Cache.Bucket = o.hasBucket()
	var asked sync.WaitGroup
	if facts.Settings.RemoteErr == nil && facts.Settings.Overlap == nil {
		asked.Go(func() { facts.Bucket = o.bucketFacts(ctx, facts.Settings.Remote) })
	}
	if o.usesHub() {
		asked.Go(func() { facts.Hub = o.hubFacts(ctx) })
	}
	asked.Wait()
	if err := ctx.Err(); err != nil {
		return err // what was found has to do with being stopped
	}
	report := doctor.Judge(facts)
	if err := o.show(report); err != nil {
		return err
	}
	if n := report.Count(doctor.Fail); n > 0 {
		return &someFailedError{exitUnexpected, "doctor: " + ui.Plural(n, "check") + " failed", ""}
	}
	return nil
}

func (o *doctorOptions) settings() doctor.Settings {
	s := doctor.Settings{File: o.file.Path, FileErr: o.fileErr, FileWarning: o.fileWarning}
	s.Remote, s.RemoteErr = config.ResolveRemote(o.remote, o.Env, o.file)
	credentials, warnings := config.ResolveCredentials(o.Env, o.file)
	s.Credentials, s.HalfPairs = credentials.Origin, warnings
	s.Overlap = o.checkApart()
	s.Proxy, s.ProxyErr = config.ResolveProxy(o.Env, o.file)
	return s
}

func (o *doctorOptions) cacheFacts(ctx context.Context) doctor.Cache {
	var facts doctor.Cache
	facts.Dir, facts.Origin, facts.Err = config.CacheDir(o.cacheDir, o.Env, o.Home, o.file)
	if facts.Err != nil {
		return facts
	}
	cache, err := o.openCache(false)
	if isType[*noCacheError](err) {
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	if facts.Err = err; err != nil {
		return facts
	}
	defer cache.Close() //nolint:errcheck // only looked at
	facts.Dir = cache.Dir()
	facts.Traces, facts.TracesErr = cache.Traces() // before the next leaves any
	facts.Abilities, facts.AbilitiesErr = cache.Probe()
	facts.Free, facts.FreeErr = cache.FreeSpace()
	facts.Inventory, facts.ScanErr = cache.Scan(ctx, nil)
	return facts
}

func (o *doctorOptions) bucketFacts(ctx context.Context, where config.Remote) *doctor.Bucket {
	raw, err := o.openQuietly(where)
	if err != nil {
		return &doctor.Bucket{ListErr: err}
	}
	exam := doctor.Exam{
		Catalog: &remote.Catalog{Now: o.Now, Store: retrystore.New(raw, retrystore.Options{
			MaxTries: doctorTries, MaxWait: 2 * time.Second, First: 300 * time.Millisecond, Longest: time.Second,
		})},
		Probe: rand.Text(), Now: o.Now,
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	return exam.Examine(ctx)
}

// usesHub says whether a pull without flags takes from the Hub what the bucket lacks.
func (o *doctorOptions) usesHub() bool {
	flag, _ := config.Flag(o.Env, "fallback")
	choice, err := o.fallbackChoice(flag)
	return err == nil && choice == fallbackHub
}

func (o *doctorOptions) hubFacts(ctx context.Context) *doctor.Hub {
	settings, err := config.ResolveHub(o.Env, o.Home, os.ReadFile)
	if err != nil {
		return &doctor.Hub{Err: err}
	}
	facts := &doctor.Hub{Endpoint: settings.Endpoint, Origin: settings.EndpointOrigin, TokenOrigin: settings.TokenOrigin}
	u, err := o.openHub(nil)
	if err == nil {
		u.client.Tries = doctorTries
		ctx, cancel := context.WithTimeout(ctx, doctorPatience)
		defer cancel()
		facts.Account, err = u.client.Account(ctx)
	}
	if err != nil {
		facts.Err, facts.Hint = err, explain(err).hint
	}
	return facts
}

// doctorCheck is a row of doctor --json.
type doctorCheck struct {
	Name   string `json:"name"`
	Status string `json:"status"` // "ok", "skipped", "warn" or "fail"
	Detail string `json:"detail"`
	Hint   string `json:"hint"`
}

func (o *doctorOptions) show(report doctor.Report) error {
	if o.json {
		checks := []doctorCheck{}
		for _, row := range report {
			checks = append(checks, doctorCheck{row.Name, row.Status.String(), row.Detail, row.Hint})
		}
		return o.printJSON(struct {
			OK     bool          `json:"ok"`
			Checks []doctorCheck `json:"checks"`
		}{report.OK(), checks})
	}
	width := 0
	for _, row := range report {
		width = max(width, len(row.Name))
	}
	for rest := report; len(rest) > 0; {
		if names := rest.Skipped(); len(names) > 0 {
			if err := o.print("%s %-*s  %s", rest[0].Status.Mark(), width, "skipped", strings.Join(names, ", ")); err != nil {
				return err
			}
			rest = rest[len(names):]
			continue
		}
		row := rest[0]
		rest = rest[1:]
		// Nothing is cut off here, as a table would do in a narrow window: the end of a line may be what matters.
		if err := o.print("%s %-*s  %s", row.Status.Mark(), width, row.Name, ui.Clean(row.Detail)); err != nil {
			return err
		}
		if row.Hint == "" {
			continue
		}
		if err := o.print("  %-*s  hint: %s", width, "", ui.Clean(row.Hint)); err != nil {
			return err
		}
	}
	switch warnings := report.Count(doctor.Warn); {
	case !report.OK():
		return nil // the error says it
	case warnings > 0:
		return o.print("nothing failed, %s", ui.Plural(warnings, "warning"))
	}
	return o.print("all is well")
}

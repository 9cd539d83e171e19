package cli

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// reload reads the configuration file again, and has all be tried again that waits. A wrong file changes nothing.
func (w *watchRun) reload() {
	w.reloaded, w.holdOff, w.pruneAt = false, time.Time{}, time.Time{}
	w.retry.Reset()
	w.queue.hurry()
	w.notify.Reloading()
	defer w.notify.Ready()
	before, rules, filter := w.settings(), w.pruneRules, w.filter
	oldKeys, _ := config.ResolveCredentials(w.Env, w.file)
	file, _, err := w.findConfig()
	if err != nil {
		w.log.Error("the configuration was not read again; the old one stays", slog.Any("error", err))
		return
	}
	if file == nil {
		file = &config.File{}
	}
	old := w.file
	w.file = file
	e, err := w.openEngine()
	if err == nil {
		err = w.rules()
	}
	if err != nil {
		w.file, w.pruneRules, w.filter = old, rules, filter
		w.log.Error("the new configuration cannot be used; the old one stays", slog.Any("error", err))
		return
	}
	w.engine, w.dirty = e, true
	clear(w.said)
	differs := changed(before, w.settings())
	if keys, _ := config.ResolveCredentials(w.Env, w.file); keys != oldKeys {
		differs = append(differs, "credentials")
	}
	w.log.Info("the configuration was read again", slog.Any("changed", differs))
	w.queue.add(w.folders()...) // the bucket, or what is pushed to it, may be another
}

// setting is a value for people to compare.
type setting struct{ name, value string }

// settings are the values that a new configuration can change, but for the keys.
func (w *watchRun) settings() []setting {
	where, _ := config.ResolveRemote(w.remote, w.Env, w.file) // a remote that makes no sense is said elsewhere
	dir, _, _ := config.CacheDir(w.cacheDir, w.Env, w.Home, w.file)
	gated, _ := w.file.AllowGated()
	list := func(globs []string) string { return strings.Join(globs, " ") }
	return []setting{
		{"bucket", where.String()},
		{"endpoint", where.Endpoint},
		{"region", where.Region},
		{"checksum", w.file.Checksum()},
		{"conditional_writes", w.file.ConditionalWrites()},
		{"cache (from the next start on)", dir},
		{"max_local_gb", fmt.Sprint(float64(w.pruneRules.budget) / 1e9)},
		{"keep", list(w.file.Keep())},
		{"push.include", list(w.file.PushInclude())},
		{"push.exclude", list(w.file.PushExclude())},
		{"allow_gated", fmt.Sprint(gated)},
	}
}

// changed says which values are others than before.
func changed(before, after []setting) []string {
	names := []string{}
	for i, s := range after {
		if s.value != before[i].value {
			names = append(names, fmt.Sprintf("%s: %q, was %q", s.name, s.value, before[i].value))
		}
	}
	return names
}

// folders are the names of the repositories in the cache folder.
func (w *watchRun) folders() []string {
	entries, err := os.ReadDir(w.cache.Dir())
	if err != nil {
		return nil // the watcher complains
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && isRepoFolder(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// repoOf names a repository's folder for people.
func repoOf(folder string) string {
	repo, err := hub.ParseFolder(folder)
	if err != nil {
		return folder
	}
	return repo.String()
}

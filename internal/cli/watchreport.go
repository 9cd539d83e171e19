package cli

import (
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// watchTotals is what a watcher has done since its start.
type watchTotals struct {
	repos      map[string]bool // folders of those that were looked at
	blobs      int
	bytes      int64
	manifests  int
	refs       int
	freed      int64
	failures   []engine.Failure // each once
	unfinished []manifest.Key   // each once
}

// watchSummary is the object of watch --json. docs/json.md describes it.
type watchSummary struct {
	Once           bool            `json:"once"`
	Repos          int             `json:"repos"`
	UploadedBlobs  int             `json:"uploaded_blobs"`
	UploadedBytes  int64           `json:"uploaded_bytes"`
	Manifests      int             `json:"manifests"`
	Refs           int             `json:"refs"`
	Freed          int64           `json:"freed"`
	ElapsedSeconds float64         `json:"elapsed_seconds"`
	Unfinished     []watchRevision `json:"unfinished"`
	Skipped        []jsonItem      `json:"skipped"`
	Failed         []jsonItem      `json:"failed"`
}

// watchRevision is a revision that waits.
type watchRevision struct {
	Repo     string `json:"repo"`
	Revision string `json:"revision"`
}

// report prints what was done, and with --once decides the exit code.
func (w *watchRun) report(elapsed time.Duration) error {
	t := &w.totals
	delete(t.repos, "")
	switch {
	case w.json:
		if err := w.printJSON(t.summary(w.once, elapsed)); err != nil {
			return err
		}
	case !w.once:
		return nil
	default:
		if err := w.print("%s", t.line(elapsed)); err != nil {
			return err
		}
	}
	if code := failureCode(t.failures); w.once && code != exitDone {
		return &someFailedError{code, "some files were not pushed; they are named above", pushAdvice(t.failures)}
	}
	return nil
}

// line sums up for people.
func (t *watchTotals) line(elapsed time.Duration) string {
	text := "nothing to push: " + ui.Plural(len(t.repos), "repository") + " looked at"
	if t.blobs+t.manifests+t.refs > 0 {
		text = "pushed " + blobs(t.blobs, t.bytes) + " " + pace(elapsed, t.bytes) + ", " + ui.Plural(t.manifests, "manifest") + ", " + ui.Plural(t.refs, "ref")
	}
	if t.freed > 0 {
		text += "; freed " + ui.Size(t.freed)
	}
	if n := len(t.unfinished); n > 0 {
		text += "; left " + ui.Plural(n, "revision") + " that somebody is downloading"
	}
	return text + tally{failures: t.failures}.String()
}

func (t *watchTotals) summary(once bool, elapsed time.Duration) watchSummary {
	s := watchSummary{
		Once: once, Repos: len(t.repos), UploadedBlobs: t.blobs, UploadedBytes: t.bytes, Manifests: t.manifests, Refs: t.refs, Freed: t.freed,
		ElapsedSeconds: seconds(elapsed), Unfinished: []watchRevision{}, Skipped: failureItems(t.failures, true), Failed: failureItems(t.failures, false),
	}
	for _, key := range t.unfinished {
		s.Unfinished = append(s.Unfinished, watchRevision{key.Repo.String(), string(key.Commit)})
	}
	return s
}

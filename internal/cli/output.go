package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// printJSON writes the one object of --json.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// jsonItem is something that was left out or failed, in --json.
type jsonItem struct {
	Repo     string `json:"repo,omitempty"`
	Revision string `json:"revision,omitempty"`
	Ref      string `json:"ref,omitempty"`
	Path     string `json:"path,omitempty"`
	Why      string `json:"why"`
}

func failureItems(failures []engine.Failure, harmless bool) []jsonItem {
	items := []jsonItem{}
	for _, f := range failures {
		if f.Harmless == harmless {
			items = append(items, jsonItem{f.Key.Repo.String(), string(f.Key.Commit), string(f.Ref), string(f.Path), f.Err.Error()})
		}
	}
	return items
}

// failureCode is the exit code for failures of single items: wrong content is worth telling apart from everything else.
func failureCode(failures []engine.Failure) int {
	code := exitDone
	for _, f := range failures {
		if f.Harmless {
			continue
		}
		if explain(f.Err).code == exitDamaged {
			return exitDamaged
		}
		code = exitSome
	}
	return code
}

// sayFailures names on standard error what did not work.
func (a *app) sayFailures(failures []engine.Failure) {
	for _, f := range failures {
		if f.Harmless {
			a.note("skipped: %s", f)
		} else {
			a.warn("failed: %s", f)
		}
	}
}

// sayProblems names what a scan did not understand, and says whether content is left out because of it.
func (a *app) sayProblems(problems []hfcache.Problem) (lost int) {
	for _, p := range problems {
		if p.Lost {
			lost++
			a.warn("left out: %s", p)
		} else {
			a.note("note: %s", p)
		}
	}
	return lost
}

func problemItems(problems []hfcache.Problem, lost bool) []jsonItem {
	items := []jsonItem{}
	for _, p := range problems {
		if p.Lost == lost {
			item := jsonItem{Path: p.Path, Why: p.Why}
			if p.Repo != (hub.Repo{}) {
				item.Repo = p.Repo.String()
			}
			items = append(items, item)
		}
	}
	return items
}

func brokenRefItems(refs []hfcache.BrokenRef) []jsonItem {
	items := []jsonItem{}
	for _, r := range refs {
		items = append(items, jsonItem{Repo: r.Repo.String(), Revision: string(r.Commit), Ref: r.Name, Path: r.Place(), Why: r.Why})
	}
	return items
}

// jsonRequests are requests to the bucket by the classes that services charge by, in --json.
type jsonRequests struct {
	Total  int `json:"total"`
	Put    int `json:"put"`
	Get    int `json:"get"`
	Head   int `json:"head"`
	List   int `json:"list"`
	Delete int `json:"delete"`
}

func requestsJSON(r plan.Requests) jsonRequests {
	return jsonRequests{r.Total(), r.Put, r.Get, r.Head, r.List, r.Delete}
}

// seconds is a length of time in --json, to the millisecond.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// stopwatch measures a run.
type stopwatch struct {
	now   func() time.Time
	start time.Time
}

func newStopwatch(now func() time.Time) *stopwatch { return &stopwatch{now, now()} }

func (w *stopwatch) elapsed() time.Duration { return w.now().Sub(w.start) }

// without leaves out the time that f takes, such as that of a person to answer.
func (w *stopwatch) without(f func() error) error {
	asked := w.now()
	err := f()
	w.start = w.start.Add(w.now().Sub(asked))
	return err
}

// pace is "in 41s, 83.1M/s".
func pace(elapsed time.Duration, moved int64) string {
	elapsed = max(elapsed, time.Second/10) // less is not shown, and nothing takes no time
	text := "in " + ui.Duration(elapsed)
	if moved > 0 {
		text += ", " + ui.Size(int64(float64(moved)/elapsed.Seconds())) + "/s"
	}
	return text
}

// tally is what the last line of a run says of all that was not moved.
type tally struct {
	failures []engine.Failure
	excluded int // repositories that the configuration file keeps out
	filtered int // files that --include and --exclude keep out
	kept     int // refs that stay where they are
	lost     int // things in the cache that could not be understood
}

// String is "; skipped 3 (1 gated, 2 changed while read); 1 failed", or nothing.
func (t tally) String() string {
	const (
		gated, changed, absent = "gated", "changed while read", "not here yet"
		refs, config, filter   = "kept", "excluded by the configuration file", "filtered out"
	)
	skipped := map[string]int{refs: t.kept, config: t.excluded, filter: t.filtered}
	failed := t.lost
	for _, f := range t.failures {
		switch {
		case !f.Harmless:
			failed++
		case isType[*gatedError](f.Err):
			skipped[gated]++
		case errors.Is(f.Err, engine.ErrChanged):
			skipped[changed]++
		case f.Ref != "":
			skipped[refs]++
		default:
			skipped[absent]++
		}
	}
	var reasons []string
	all := 0
	for _, why := range []string{gated, changed, absent, refs, config, filter} {
		if n := skipped[why]; n > 0 {
			all += n
			what := fmt.Sprint(n)
			if why == refs {
				what = ui.Plural(n, "ref")
			}
			reasons = append(reasons, what+" "+why)
		}
	}
	text := ""
	if all > 0 {
		text = fmt.Sprintf("; skipped %d (%s)", all, strings.Join(reasons, ", "))
	}
	if failed > 0 {
		text += fmt.Sprintf("; %d failed", failed)
	}
	return text
}

// blobs is "3 blobs (1.2G)".
func blobs(n int, bytes int64) string { return ui.Plural(n, "blob") + " (" + ui.Size(bytes) + ")" }

package cli

import (
	"encoding/json"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
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

// blobs is "3 blobs (1.2G)".
func blobs(n int, bytes int64) string { return ui.Plural(n, "blob") + " (" + ui.Size(bytes) + ")" }

package cli

import (
	"fmt"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// pruneRun is what there is to say about a prune.
type pruneRun struct {
	plan    *plan.Prune
	result  *engine.Pruned
	elapsed time.Duration
	// noBucket says that no bucket is configured.
	noBucket bool
}

// over is by how much the cache is larger than its budget, now or of a dry run afterwards; 0 if it is not.
func (o *pruneOptions) over(run *pruneRun) int64 {
	p := run.plan
	if p.Budget < 0 {
		return 0
	}
	return max(0, run.after(o.dryRun)-p.Budget)
}

// after is what the cache takes afterwards, counted as before. What is freed can be a little more: refs and file listings that go along do not count before.
func (r *pruneRun) after(dryRun bool) int64 {
	if dryRun {
		return r.plan.After()
	}
	var counted int64
	for _, step := range r.result.Done {
		counted += step.Bytes
	}
	return max(0, r.plan.Before-min(counted, r.result.Bytes))
}

// mostHolders is how many of what holds the space are named; --json has them all.
const mostHolders = 10

func (o *pruneOptions) report(run *pruneRun) error {
	if o.json {
		return o.printJSON(o.summary(run))
	}
	steps := run.result.Done
	if o.dryRun {
		steps = run.plan.Steps
	}
	for _, s := range steps {
		if err := o.print("%s %s", o.verb(s), ui.Clean(o.stepLine(s))); err != nil {
			return err
		}
	}
	// Below the budget nobody asks why something stays.
	over := o.over(run) > 0
	for _, k := range run.plan.Kept {
		if k.Busy && over {
			o.note("left alone: %s (%s): %s", pruneName(k.Kind, k.Repo, k.Commit, k.Place), ui.Size(k.Bytes), k.Reason)
		}
	}
	for _, s := range run.result.Skipped {
		if over || run.plan.Budget < 0 {
			o.note("left alone: %s: %s", s.Place, s.Why)
		}
	}
	if over && run.noBucket && o.evictActive && !o.unsafe {
		o.note("note: no bucket is configured, so only detached revisions are evicted that were not used within a day; --unsafe evicts all the same")
	}
	if err := o.print("%s", o.pruneDone(run)); err != nil {
		return err
	}
	return o.sayHolders(run)
}

// pruneDone is the last line.
func (o *pruneOptions) pruneDone(run *pruneRun) string {
	p := run.plan
	space := "the cache takes " + ui.Size(run.after(o.dryRun))
	if p.Budget >= 0 {
		space += fmt.Sprintf(" of %s (%s)", ui.Size(p.Budget), from(o.origin))
	}
	switch {
	case o.dryRun && len(p.Steps) > 0:
		return fmt.Sprintf("would free %s of %s: then %s", ui.Size(p.Freed()), ui.Size(p.Before), space)
	case len(run.result.Done) == 0:
		return "nothing to prune: " + space
	}
	return fmt.Sprintf("freed %s in %s: %s", ui.Size(run.result.Bytes), ui.Duration(max(run.elapsed, time.Second/10)), space)
}

// sayHolders names what holds the space if the budget cannot be met.
func (o *pruneOptions) sayHolders(run *pruneRun) error {
	over, kept := o.over(run), run.plan.Kept
	if over == 0 {
		return nil
	}
	if err := o.print("that is %s more than the budget; what holds it:", ui.Size(over)); err != nil {
		return err
	}
	for i, k := range kept {
		if i == mostHolders {
			return o.print("  and %d others; --json names them all", len(kept)-i)
		}
		if err := o.print("  %s (%s): %s", ui.Clean(pruneName(k.Kind, k.Repo, k.Commit, k.Place)), ui.Size(k.Bytes), ui.Clean(k.Reason)); err != nil {
			return err
		}
	}
	return nil
}

// verb is what is done to the target of a step: revisions are evicted, garbage is removed.
func (o *pruneOptions) verb(s plan.PruneStep) string {
	switch evicts := s.Kind == plan.PruneRevision; {
	case evicts && o.dryRun:
		return "would evict"
	case evicts:
		return "evicted"
	case o.dryRun:
		return "would remove"
	}
	return "removed"
}

// stepLine is one step for people.
func (o *pruneOptions) stepLine(s plan.PruneStep) string {
	line := fmt.Sprintf("%s (%s): %s", pruneName(s.Kind, s.Repo, s.Commit, s.Place), ui.Size(s.Bytes), s.Reason)
	if s.Kind == plan.PruneRevision {
		line += "; last used " + ui.Ago(s.Used, o.Now())
	}
	return line
}

func pruneName(kind plan.PruneKind, repo hub.Repo, commit hub.Commit, place string) string {
	if kind == plan.PruneRevision {
		return manifest.Key{Repo: repo, Commit: commit}.String()
	}
	return place
}

// pruneSummary is the object of --json.
type pruneSummary struct {
	DryRun  bool          `json:"dry_run"`
	Before  int64         `json:"before"`
	After   int64         `json:"after"`
	Freed   int64         `json:"freed"`
	Budget  *int64        `json:"budget"` // null if only age counts
	Origin  config.Origin `json:"budget_origin"`
	Met     bool          `json:"met"`
	Removed []pruneItem   `json:"removed"`
	Kept    []pruneItem   `json:"kept"`
	Skipped []jsonItem    `json:"skipped"`
	Elapsed float64       `json:"elapsed_seconds"`
}

// pruneItem is something that went, or stays.
type pruneItem struct {
	Kind     string     `json:"kind"`
	Repo     string     `json:"repo,omitempty"`
	RepoType string     `json:"repo_type,omitempty"`
	Revision hub.Commit `json:"revision,omitempty"`
	Standing string     `json:"standing,omitempty"`
	Refs     []hub.Ref  `json:"refs,omitempty"`
	Path     string     `json:"path,omitempty"`
	Size     int64      `json:"size"`
	Used     *time.Time `json:"last_used"`
	Why      string     `json:"why"`
	Busy     bool       `json:"busy,omitempty"`
}

func (o *pruneOptions) summary(run *pruneRun) *pruneSummary {
	p, done := run.plan, run.result.Done
	s := &pruneSummary{
		DryRun: o.dryRun, Before: p.Before, Freed: run.result.Bytes, Origin: o.origin,
		Removed: []pruneItem{}, Kept: []pruneItem{}, Skipped: skippedItems(run.result.Skipped), Elapsed: seconds(run.elapsed),
	}
	if o.dryRun {
		s.Freed, done = p.Freed(), p.Steps
	}
	s.After = run.after(o.dryRun)
	s.Met = p.Budget < 0 || s.After <= p.Budget
	if p.Budget >= 0 {
		s.Budget = &p.Budget
	}
	for _, d := range done {
		item := newPruneItem(d.Kind, d.Repo, d.Used)
		item.Revision, item.Refs, item.Path, item.Size, item.Why = d.Commit, d.Refs, d.Place, d.Bytes, d.Reason
		item.Standing = standingWord(d.Standing)
		s.Removed = append(s.Removed, item)
	}
	for _, k := range p.Kept {
		item := newPruneItem(k.Kind, k.Repo, k.Used)
		item.Revision, item.Path, item.Size, item.Why, item.Busy = k.Commit, k.Place, k.Bytes, k.Reason, k.Busy
		item.Standing = standingWord(k.Standing)
		s.Kept = append(s.Kept, item)
	}
	return s
}

// standingWord is the standing of a revision; empty for everything else.
func standingWord(s plan.Standing) string {
	if s == 0 {
		return ""
	}
	return s.String()
}

func newPruneItem(kind plan.PruneKind, repo hub.Repo, used time.Time) pruneItem {
	item := pruneItem{Kind: kind.String()}
	if repo != (hub.Repo{}) {
		item.Repo, item.RepoType = repo.Name, repo.Type.String()
	}
	if !used.IsZero() {
		utc := used.UTC().Truncate(time.Second)
		item.Used = &utc
	}
	return item
}

func skippedItems(skipped []hfcache.Skipped) []jsonItem {
	items := []jsonItem{}
	for _, s := range skipped {
		items = append(items, jsonItem{Path: s.Place, Why: s.Why})
	}
	return items
}

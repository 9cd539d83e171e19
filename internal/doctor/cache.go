package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
)

// Cache is what was found of the cache folder.
type Cache struct {
	Dir    string
	Origin config.Origin
	Err    error // why it cannot be told or opened; wraps fs.ErrNotExist if it is not there

	Abilities    hfcache.Abilities
	AbilitiesErr error // why nothing can be written there
	Free         int64 // bytes
	FreeErr      error

	Traces    hfcache.Traces
	TracesErr error
	Inventory *hfcache.Inventory // nil if ScanErr is not
	ScanErr   error
	Bucket    bool // one is configured, so that it can be asked for what is broken
}

// littleSpace is less than most models have, in bytes.
const littleSpace = 2e9

// staleAfter is the age from which on no client is still writing an unfinished download.
const staleAfter = 24 * time.Hour

func (c *Cache) rows(now time.Time) Report {
	var brokenRefs []hfcache.BrokenRef
	if c.Inventory != nil {
		brokenRefs = c.Inventory.BrokenRefs(now)
	}
	row := Row{Name: "cache", Detail: c.Dir + from(c.Origin)}
	switch {
	case c.Err != nil && errors.Is(c.Err, fs.ErrNotExist):
		row.Status, row.Detail = Warn, row.Detail+" does not exist yet"
		row.Hint = "the first pull or download makes it; if there should be one, name it with --cache-dir or HF_HUB_CACHE"
	case c.Err != nil:
		row.Status, row.Detail, row.Hint = Fail, c.Err.Error(), "name the cache with --cache-dir or HF_HUB_CACHE"
	default:
		return Report{row, c.fileSystemRow(), c.spaceRow(), c.writtenByRow(), c.unfinishedRow(now), c.filesRow(), c.refsRow(brokenRefs), c.problemsRow(brokenRefs)}
	}
	return Report{row, skipped("file system"), skipped("free space"), skipped("cache written by"), skipped("incomplete downloads"), skipped("cache files"), skipped("cache refs"), skipped("cache problems")}
}

func (c *Cache) fileSystemRow() Row {
	const name = "file system"
	if c.AbilitiesErr != nil {
		return Row{name, Warn, c.AbilitiesErr.Error(), "make the folder writable for this user; until then nothing can be pulled into it, and pushing works"}
	}
	row := Row{Name: name}
	var has, lacks []string
	note := func(ok bool, what string) {
		if ok {
			has = append(has, what)
		} else {
			lacks = append(lacks, what)
		}
	}
	a := c.Abilities
	note(a.Symlinks, "symbolic links")
	note(a.Locks, "locks")
	if len(lacks) > 0 {
		row.Status = Warn
	}
	note(a.Clones, "reflinks")
	if len(lacks) > 0 {
		has = append(has, "no "+strings.Join(lacks, ", no "))
	}
	if a.AccessTimes != "" {
		has = append(has, "access times "+a.AccessTimes)
	}
	row.Detail = strings.Join(has, ", ")
	if a.OneCase {
		row.Detail += ", upper and lower case are one"
	}
	switch {
	case !a.Symlinks && !a.Locks:
		row.Hint = "snapshots will hold hard links or copies, and programs that download at once do not keep out of each other's way: a local disk does better"
	case !a.Symlinks:
		row.Hint = "snapshots will hold hard links or copies, which may need more space; on Windows the developer mode allows symbolic links"
	case !a.Locks:
		row.Hint = "programs that download at once do not keep out of each other's way and may do work twice; a local disk does better"
	}
	return row
}

func (c *Cache) spaceRow() Row {
	const name = "free space"
	switch {
	case c.FreeErr != nil && errors.Is(c.FreeErr, errors.ErrUnsupported):
		return Row{Name: name, Detail: "cannot be told on this system"}
	case c.FreeErr != nil:
		return Row{Name: name, Status: Warn, Detail: c.FreeErr.Error()}
	case c.Free < littleSpace:
		return Row{name, Warn, size(c.Free), "most models are larger; hf-cache-sync prune --dry-run shows what could go"}
	}
	return Row{Name: name, Detail: size(c.Free)}
}

// size is a number of bytes as the hf command writes it.
func size(n int64) string {
	const step = 1000
	f, unit := float64(n), ""
	for _, u := range []string{"K", "M", "G", "T", "P", "E"} {
		if f < step-0.05 { // or it would be 1000.0
			break
		}
		f, unit = f/step, u
	}
	if unit == "" {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f%s", f, unit)
}

func (c *Cache) writtenByRow() Row {
	const name = "cache written by"
	t := c.Traces
	switch {
	case c.TracesErr != nil:
		return Row{Name: name, Status: Warn, Detail: c.TracesErr.Error()}
	case t.SharedStore:
		return Row{
			name, OK, "huggingface_hub 1.32 or newer (it has a shared blob store)",
			"older clients that delete from this cache damage its shared blobs: give them a cache of their own",
		}
	case t.Trees:
		return Row{Name: name, Detail: "huggingface_hub 1.22 or newer, or a pull (it has file listings)"}
	case t.Tag:
		return Row{Name: name, Detail: "huggingface_hub 1.9 or newer (it has a CACHEDIR.TAG)"}
	case t.Locks:
		return Row{Name: name, Detail: "huggingface_hub 0.19 or newer, or a pull (it has .locks)"}
	}
	return Row{Name: name, Detail: "cannot be told"}
}

func (c *Cache) unfinishedRow(now time.Time) Row {
	const name = "incomplete downloads"
	if c.Inventory == nil {
		return skipped(name)
	}
	var count, stale int
	var bytes int64
	for _, repo := range c.Inventory.Repos {
		for _, t := range repo.Temps {
			count++
			bytes += t.Size
			if now.Sub(t.ModTime) > staleAfter {
				stale++
			}
		}
	}
	switch {
	case count == 0:
		return Row{Name: name, Detail: "none"}
	case stale == 0:
		return Row{Name: name, Detail: fmt.Sprintf("%s (%s), all of them from today", number(count, "file", "files"), size(bytes))}
	}
	return Row{
		name, Warn, fmt.Sprintf("%s (%s), %d of them older than a day", number(count, "file", "files"), size(bytes), stale),
		"hf-cache-sync prune removes those that nobody is writing any more",
	}
}

func (c *Cache) problemsRow(refs []hfcache.BrokenRef) Row {
	const name = "cache problems"
	if c.ScanErr != nil {
		return Row{Name: name, Status: Fail, Detail: c.ScanErr.Error()}
	}
	if c.Inventory == nil {
		return skipped(name)
	}
	said := map[string]bool{} // in a row of its own
	for _, f := range c.Inventory.BrokenFiles() {
		said[f.Place()] = true
	}
	for _, r := range refs {
		said[r.Place()] = true
	}
	var problems []hfcache.Problem
	for _, p := range c.Inventory.Problems {
		if !said[p.Path] {
			problems = append(problems, p)
		}
	}
	if len(problems) == 0 {
		return Row{Name: name, Detail: "none in " + number(len(c.Inventory.Repos), "repository", "repositories")}
	}
	lost, first := 0, problems[0]
	for _, p := range problems {
		if p.Lost {
			if lost == 0 {
				first = p
			}
			lost++
		}
	}
	row := Row{Name: name, Status: Warn, Detail: number(len(problems), "problem", "problems"), Hint: "hf-cache-sync list names all of them"}
	if lost > 0 {
		row.Detail += fmt.Sprintf(", of which %d cannot be pushed", lost)
	}
	row.Detail += "; first " + first.String()
	return row
}

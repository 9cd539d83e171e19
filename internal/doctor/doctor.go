// Package doctor finds out what is wrong with a set-up and says it in rows, one a check, each with what to do about it.
//
// It has two halves. Facts are gathered: by [Examine] from the bucket, by the command from the configuration and the cache folder. Then they are judged: [Judge] is a pure
// function from facts to a [Report], so that every verdict can be tested without the trouble that it is about.
//
// A check that fails never keeps another from being made, unless the other cannot be made without it; then its row says that it was skipped. Names of rows are stable: scripts
// go by them. No row holds a secret: facts hold none, and errors of the stores promise to.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Status is the outcome of a check.
type Status uint8

// The outcomes, from the best to the worst.
const (
	OK      Status = iota
	Skipped        // it could not be made, because of what another row says
	Warn           // it works, or works for pulling, and something should be known
	Fail           // it does not work
)

// String is the word for scripts.
func (s Status) String() string { return [...]string{"ok", "skipped", "warn", "fail"}[s] }

// Mark is the sign for people.
func (s Status) Mark() string { return [...]string{"✓", "-", "!", "✗"}[s] }

// Row is one check.
type Row struct {
	Name   string
	Status Status
	Detail string // what was found
	Hint   string // what to do about it; may be empty
}

// Report is the rows in the order in which they are best read: what comes later depends on what comes before.
type Report []Row

// Count is how many rows have a status.
func (r Report) Count(s Status) int {
	n := 0
	for _, row := range r {
		if row.Status == s {
			n++
		}
	}
	return n
}

// OK says that no check failed.
func (r Report) OK() bool { return r.Count(Fail) == 0 }

// Skipped names the rows at the beginning that say nothing but that they were skipped, so that they can be shown as one.
func (r Report) Skipped() (names []string) {
	for _, row := range r {
		if row != skipped(row.Name) {
			break
		}
		names = append(names, row.Name)
	}
	return names
}

// Facts is all that a report is made of.
type Facts struct {
	Settings Settings
	Cache    Cache
	Bucket   *Bucket   // nil if nothing says where it is
	Hub      *Hub      // nil if nothing is pulled from it
	Now      time.Time // for ages
	// Write says that the bucket is meant to be written to: being allowed to read only is then a failure.
	Write bool
}

// Judge makes the report.
func Judge(f Facts) Report {
	report := f.Settings.rows(f.Bucket)
	report = append(report, f.Cache.rows(f.Now)...)
	report = append(report, bucketRows(f)...)
	if f.Hub != nil {
		report = append(report, f.Hub.row())
	}
	return report
}

// skipped is a row for a check that was not made.
func skipped(name string) Row { return Row{Name: name, Status: Skipped, Detail: "skipped"} }

// reason is an error without what the row says already: the store's operation and key.
func reason(err error) string {
	failure, ok := errors.AsType[*store.Error](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case !ok || failure.Err == nil:
		return err.Error()
	case failure.Code != "":
		return fmt.Sprintf("%v (%s)", failure.Err, failure.Code)
	}
	return failure.Err.Error()
}

// number writes "1 ref" or "2 refs".
func number(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

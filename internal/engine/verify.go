package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

// VerifyResult is what reading a cache has shown.
type VerifyResult struct {
	Blobs   int   // files whose bytes were read and compared, each file of the disk once
	Bytes   int64 // of them
	Damaged []Damage
	Failed  []VerifyFailure // could not be read, or changed meanwhile
}

// Damage is one name in the cache that leads to wrong bytes, and what was done about it.
type Damage struct {
	Repo  hub.Repo
	Entry string // below the repository's folder: "blobs/<name>" or "snapshots/<commit>/<path>"
	Size  int64
	Why   string
	Files []hfcache.SnapshotFile // of the repository's snapshots, which clients read through it

	Quarantine *hfcache.Quarantined // nil if nothing was moved
	Err        error                // why not, or why it was not repaired
	Repaired   bool                 // the bytes are back, and right, or nothing needs them

	suspect hfcache.Suspect
	wanted  []hfcache.SnapshotFile // to be repaired
	lost    int                    // names that no revision can be asked for
}

// VerifyFailure is a file about which nothing can be said.
type VerifyFailure struct {
	Bytes    string // as in [hfcache.File]
	Err      error
	Harmless bool // it changed while it was read: a client is at work on it
}

// PrepareVerify finds out what has to be read to check an inventory. Problems that are wrong sizes are taken out of it: they are for the result.
func (e *Engine) PrepareVerify(inv *hfcache.Inventory) *plan.Verify {
	var misfits []plan.Misfit
	known := map[string]bool{}
	for _, repo := range inv.Repos {
		for _, rev := range repo.Revisions {
			for _, f := range e.Cache.Misfits(repo, rev) {
				misfits = append(misfits, plan.Misfit{Repo: repo.ID, Commit: rev.Commit, File: f})
				known[e.Cache.SnapshotPath(repo, rev, f)] = true
			}
		}
	}
	inv.Problems = slices.DeleteFunc(inv.Problems, func(p hfcache.Problem) bool { return known[p.Path] })
	return plan.NewVerify(inv, misfits, e.Cache.SameFile)
}

// Verify reads all files of a plan and says which are damaged. It changes nothing. The error is for what ends it early; the result is valid up to there even then.
func (e *Engine) Verify(ctx context.Context, p *plan.Verify) (*VerifyResult, error) {
	run := &verifyRun{Engine: e, result: &VerifyResult{}}
	e.emit(event.Event{Kind: event.TransferStarted, Items: len(p.Files), Bytes: p.Bytes()})
	defer e.emit(event.Event{Kind: event.TransferDone})
	work, workCtx := errgroup.WithContext(ctx)
	work.SetLimit(hashers(e.Options.Workers))
	for _, f := range p.Files {
		if workCtx.Err() != nil {
			break
		}
		work.Go(func() error { return run.file(workCtx, f) })
	}
	err := work.Wait()
	if err == nil {
		err = ctx.Err()
	}
	slices.SortFunc(run.result.Damaged, func(a, b Damage) int {
		if c := a.Repo.Compare(b.Repo); c != 0 {
			return c
		}
		return strings.Compare(a.Entry, b.Entry)
	})
	slices.SortFunc(run.result.Failed, func(a, b VerifyFailure) int { return strings.Compare(a.Bytes, b.Bytes) })
	return run.result, err
}

// hashers is how many files are hashed at once. Two even on one processor, so that one can wait for the disk.
func hashers(wanted int) int {
	if wanted > 0 {
		return wanted
	}
	return max(2, runtime.GOMAXPROCS(0))
}

// verifyRun is one call of Verify.
type verifyRun struct {
	*Engine

	mu     sync.Mutex // guards what follows
	result *VerifyResult
}

// file hashes one file and judges all that leads to it. It returns only what ends the run.
func (r *verifyRun) file(ctx context.Context, f plan.VerifyFile) error {
	repo, path := f.Uses[0].Repo.String(), f.Uses[0].Entry
	if listed := f.Uses[0].Listed; len(listed) > 0 {
		path = string(listed[0].Path)
	}
	r.emit(event.Event{Kind: event.ItemStarted, Item: f.Bytes, Path: path, Repo: repo, Bytes: f.Size})
	got, err := r.hash(ctx, f)
	r.emit(event.Event{Kind: event.ItemDone, Item: f.Bytes, Path: path, Repo: repo, Err: err})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.result.Failed = append(r.result.Failed, VerifyFailure{f.Bytes, err, errors.Is(err, hfcache.ErrChanged)})
		return nil
	}
	r.result.Blobs++
	r.result.Bytes += f.Size
	for _, use := range f.Uses {
		verdict := use.Judge(got)
		if verdict.Bad {
			r.result.Damaged = append(r.result.Damaged, damage(use, f, verdict))
		}
		for _, l := range verdict.Astray {
			r.result.Damaged = append(r.result.Damaged, astray(use, f, l))
		}
	}
	return nil
}

func damage(use plan.VerifyUse, f plan.VerifyFile, v plan.Verdict) Damage {
	d := Damage{Repo: use.Repo, Entry: use.Entry, Size: f.Size, Why: v.Why}
	for _, l := range use.Listed {
		d.Files = append(d.Files, hfcache.SnapshotFile{Commit: l.Commit, Path: l.Path})
	}
	slices.SortFunc(d.Files, hfcache.CompareSnapshotFiles)
	d.suspect = hfcache.Suspect{
		Entry: use.Entry, Bytes: use.Bytes, Size: f.Size, ModTime: f.ModTime, Want: v.Want, Why: v.Why,
	}
	return d
}

// astray is a link of a snapshot to a blob that is good and belongs to another path.
func astray(use plan.VerifyUse, f plan.VerifyFile, l plan.VerifyListing) Damage {
	why := fmt.Sprintf("it leads to %s, which is not %s as the commit's listing says", use.Entry, l.ID)
	file := hfcache.SnapshotFile{Commit: l.Commit, Path: l.Path}
	entry := "snapshots/" + string(l.Commit) + "/" + string(l.Path)
	return Damage{
		Repo: use.Repo, Entry: entry, Size: f.Size, Why: why, Files: []hfcache.SnapshotFile{file},
		suspect: hfcache.Suspect{Entry: entry, Bytes: use.Bytes, Size: f.Size, ModTime: f.ModTime, Astray: true, Want: l.ID, Why: why},
	}
}

// hash computes the digests that the file's names are made of. The error wraps [hfcache.ErrChanged] if it is not the file that was scanned, or does not stay so.
func (r *verifyRun) hash(ctx context.Context, f plan.VerifyFile) (hub.Digests, error) {
	src, err := r.Cache.OpenBytes(f.Bytes)
	if errors.Is(err, fs.ErrNotExist) {
		return hub.Digests{}, hfcache.ErrChanged
	}
	if err != nil {
		return hub.Digests{}, err
	}
	defer src.Close() //nolint:errcheck // only read from
	unchanged := func() error {
		info, err := src.Stat()
		if err == nil && (info.Size() != f.Size || !info.ModTime().Equal(f.ModTime)) {
			err = hfcache.ErrChanged
		}
		return err
	}
	if err := unchanged(); err != nil {
		return hub.Digests{}, err
	}
	sums := newDigester(f)
	if err := r.read(ctx, src, f, sums); err != nil {
		return hub.Digests{}, err
	}
	if err := unchanged(); err != nil {
		return hub.Digests{}, err
	}
	return sums.digests(), nil
}

func (r *verifyRun) read(ctx context.Context, src *os.File, f plan.VerifyFile, to io.Writer) error {
	buf := r.shared().buffer()
	defer r.shared().giveBack(buf)
	for left := f.Size; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := src.Read(*buf)
		_, _ = to.Write((*buf)[:n]) // a hash takes everything
		left -= int64(n)
		if n > 0 {
			r.emit(event.Event{Kind: event.ItemProgress, Item: f.Bytes, Bytes: int64(n)})
		}
		switch {
		case errors.Is(err, io.EOF) && left == 0:
			return nil
		case errors.Is(err, io.EOF) || left < 0:
			return hfcache.ErrChanged
		case err != nil:
			return err
		}
	}
}

// digester computes one or both digests, as needed.
type digester struct {
	git, sha *hub.Verifier
}

// anything is an id of no bytes: a verifier of it tells the digest of what it was given by failing.
func anything(digits int) hub.BlobID { return hub.BlobID(strings.Repeat("0", digits)) }

func newDigester(f plan.VerifyFile) digester {
	var d digester
	git, sha := f.Algorithms()
	if git {
		d.git = hub.NewVerifier(anything(40), f.Size)
	}
	if sha {
		d.sha = hub.NewVerifier(anything(64), f.Size)
	}
	return d
}

// Write hashes p. It never fails.
func (d digester) Write(p []byte) (int, error) {
	for _, v := range []*hub.Verifier{d.git, d.sha} {
		if v != nil {
			_, _ = v.Write(p)
		}
	}
	return len(p), nil
}

func (d digester) digests() hub.Digests {
	sum := func(v *hub.Verifier) hub.BlobID {
		if v == nil {
			return ""
		}
		mismatch, _ := errors.AsType[*hub.MismatchError](v.Verify())
		return hub.BlobID(mismatch.Got)
	}
	return hub.Digests{GitSHA1: sum(d.git), SHA256: sum(d.sha)}
}

// Quarantine puts away what a check has found, repository by repository. What could not be put away says so in its Err; the error is for what ends it early.
func (e *Engine) Quarantine(ctx context.Context, found []Damage, now func() time.Time) error {
	for len(found) > 0 {
		n := 1
		for n < len(found) && found[n].Repo == found[0].Repo {
			n++
		}
		if err := e.quarantine(ctx, found[:n], now); err != nil {
			return err
		}
		found = found[n:]
	}
	return nil
}

func (e *Engine) quarantine(ctx context.Context, found []Damage, now func() time.Time) (err error) {
	q, err := e.Cache.Quarantine(found[0].Repo, now)
	if err != nil {
		for i := range found {
			found[i].Err = err
		}
		if fatal(ctx, err) {
			return err
		}
		return nil
	}
	defer func() {
		if closeErr := q.Close(); err == nil {
			err = closeErr
		}
	}()
	for i := range found {
		d := &found[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		done, err := q.Put(ctx, d.suspect)
		if err != nil {
			d.Err = err
			if fatal(ctx, err) {
				return err
			}
			continue
		}
		d.Quarantine = &done
		d.Files = nil
		for _, name := range done.Removed {
			if f, ok := name.Snapshot(); ok {
				d.Files = append(d.Files, f)
			} else {
				d.lost++
			}
		}
		d.wanted = d.Files
	}
	return nil
}

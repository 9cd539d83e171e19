package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/doctor"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// bucket verifies the bucket. Manifests are read from it and not from what this machine remembers of them.
func (o *verifyOptions) bucket(ctx context.Context) (err error) {
	s, err := o.open("verifying", useIfThere, engine.Options{Workers: o.workers})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.close(); err == nil {
			err = closeErr
		}
	}()
	if o.repair && !o.dryRun && s.Cache == nil {
		_, err := o.openCache(false) // says which folder it should be
		return err
	}
	watch := newStopwatch(o.Now)
	s.phase("reading the bucket's manifests")
	contents, err := s.Catalog.Contents(ctx, o.wants)
	if err != nil {
		return err
	}
	r, err := o.bucketPlan(ctx, s, contents)
	if err != nil {
		return err
	}
	if o.dryRun {
		s.progress.Close()
		return o.sayBucketPlan(r, s.requests())
	}
	if r.result, err = s.VerifyRemote(ctx, r.plan); err != nil {
		s.progress.Close()
		o.sayBucketDamage(r)
		if r.result.Blobs > 0 {
			o.note("%s verified before it stopped", blobs(r.result.Blobs, r.result.Bytes))
		}
		return err
	}
	r.ElapsedSeconds, r.pace = seconds(watch.elapsed()), pace(watch.elapsed(), r.result.Bytes)
	if o.repair {
		err = o.repairBucket(ctx, s, r)
	}
	s.progress.Close()
	if err != nil {
		o.sayBucketDamage(r)
		return err
	}
	r.Requests = requestsJSON(s.requests())
	return o.reportBucket(r)
}

// bucketPlan makes sure that all repositories that the arguments name are there.
func (o *verifyOptions) bucketPlan(ctx context.Context, s *session, contents *remote.Contents) (*verifiedBucket, error) {
	manifests := make([]*manifest.Manifest, len(contents.Revisions))
	found := map[hub.Repo]bool{}
	for i, rev := range contents.Revisions {
		manifests[i] = rev.Manifest
		found[rev.Repo] = true
	}
	for _, repo := range o.selected {
		if !found[repo] && o.wants(repo) && len(contents.Broken) == 0 {
			return nil, notInBucket(ctx, fmt.Errorf("verify %s: %w", repo, remote.ErrNotFound), wanted{command: "verify --remote", repo: repo}, s.Catalog)
		}
	}
	return &verifiedBucket{DryRun: o.dryRun, Bucket: s.Catalog.Store.String(), contents: contents, plan: plan.NewBucketVerify(manifests), result: &engine.BucketResult{}}, nil
}

// repairBucket uploads what the whole cache has, whichever repository has it there.
func (o *verifyOptions) repairBucket(ctx context.Context, s *session, r *verifiedBucket) error {
	if len(r.result.Damaged) == 0 {
		return nil
	}
	s.phase("scanning the cache")
	inv, err := s.Cache.Scan(ctx, nil)
	if err != nil {
		return err
	}
	s.progress.Verb("repairing")
	result, err := s.RepairRemote(ctx, r.result.Damaged, inv)
	r.UploadedBlobs, r.UploadedBytes = result.Blobs, result.Bytes
	return err
}

// verifiedBucket is the object of verify --remote --json. docs/json.md describes it.
type verifiedBucket struct {
	DryRun          bool                `json:"dry_run"`
	Bucket          string              `json:"bucket"`
	Manifests       int                 `json:"manifests"`
	PlannedBlobs    int                 `json:"planned_blobs"`
	PlannedBytes    int64               `json:"planned_bytes"`
	PlannedRequests jsonRequests        `json:"planned_requests"` // with those made so far
	VerifiedBlobs   int                 `json:"verified_blobs"`
	VerifiedBytes   int64               `json:"verified_bytes"`
	ElapsedSeconds  float64             `json:"elapsed_seconds"`
	DamagedBlobs    int                 `json:"damaged_blobs"`
	RepairedBlobs   int                 `json:"repaired_blobs"`
	UploadedBlobs   int                 `json:"uploaded_blobs"` // by --repair
	UploadedBytes   int64               `json:"uploaded_bytes"`
	Requests        jsonRequests        `json:"requests"`
	Damaged         []bucketDamagedJSON `json:"damaged"`
	Failed          []jsonItem          `json:"failed"`
	Notes           []jsonItem          `json:"notes"`

	contents *remote.Contents
	plan     *plan.BucketVerify
	result   *engine.BucketResult
	pace     string
}

type bucketDamagedJSON struct {
	Key      string     `json:"key"`
	Fault    string     `json:"fault"` // "damaged", "wrong size", "missing" or "unreadable"
	Size     int64      `json:"size"`  // as manifests announce it
	Why      string     `json:"why"`
	Files    []jsonFile `json:"files"`
	Repaired bool       `json:"repaired"`
	Error    string     `json:"error,omitempty"` // why it was not repaired
}

func (r *verifiedBucket) fill() *verifiedBucket {
	r.Manifests, r.PlannedBlobs, r.PlannedBytes = r.plan.Manifests, len(r.plan.Blobs), r.plan.Bytes()
	r.VerifiedBlobs, r.VerifiedBytes = r.result.Blobs, r.result.Bytes
	r.DamagedBlobs, r.RepairedBlobs = len(r.result.Damaged), len(r.result.Damaged)-r.unrepaired()-r.unread()
	r.Damaged, r.Failed, r.Notes = []bucketDamagedJSON{}, []jsonItem{}, []jsonItem{}
	for _, d := range r.result.Damaged {
		item := bucketDamagedJSON{Key: d.ObjectKey, Fault: d.Fault.String(), Size: d.Size(), Why: d.Err.Error(), Files: []jsonFile{}, Repaired: d.Repaired}
		for _, u := range d.Users {
			item.Files = append(item.Files, jsonFile{u.Key.Repo.String(), string(u.Key.Commit), string(u.Path)})
		}
		if d.RepairErr != nil {
			item.Error = d.RepairErr.Error()
		}
		r.Damaged = append(r.Damaged, item)
	}
	for _, err := range r.contents.Broken {
		r.Failed = append(r.Failed, jsonItem{Why: err.Error()})
	}
	for _, err := range r.contents.Dangling {
		r.Notes = append(r.Notes, jsonItem{Ref: string(err.Ref.Name), Why: err.Error()})
	}
	return r
}

// unrepaired counts the blobs that are not what they should be.
func (r *verifiedBucket) unrepaired() (n int) {
	for _, d := range r.result.Damaged {
		if !d.Repaired && d.Fault != engine.BlobUnread {
			n++
		}
	}
	return n
}

func (r *verifiedBucket) unread() (n int) {
	for _, d := range r.result.Damaged {
		if d.Fault == engine.BlobUnread {
			n++
		}
	}
	return n
}

// sayBucketPlan says what verifying the bucket would cost.
func (o *verifyOptions) sayBucketPlan(r *verifiedBucket, made plan.Requests) error {
	planned := made.Plus(r.plan.Requests())
	r.PlannedRequests, r.Requests = requestsJSON(planned), requestsJSON(made)
	broken := o.sayBroken(r.contents)
	if o.json {
		return errors.Join(o.printJSON(r.fill()), broken)
	}
	err := o.print("would read %s of %s in %s; all of it is download traffic, which the service may charge for",
		blobs(len(r.plan.Blobs), r.plan.Bytes()), ui.Plural(r.plan.Manifests, "manifest"), planned)
	return errors.Join(err, broken)
}

func (o *verifyOptions) sayBucketDamage(r *verifiedBucket) {
	const shown = 3
	for _, d := range r.result.Damaged {
		var users []string
		for i, u := range d.Users {
			if i == shown {
				users = append(users, fmt.Sprintf("and %d more", len(d.Users)-shown))
				break
			}
			users = append(users, fmt.Sprintf("%s: %s", u.Key, u.Path))
		}
		text := fmt.Sprintf("%s: %s: %v; used by %s", d.Fault, d.ObjectKey, d.Err, strings.Join(users, ", "))
		switch {
		case d.Repaired:
			text += "; repaired"
		case d.RepairErr != nil:
			text += "; cannot be repaired: " + d.RepairErr.Error()
		}
		o.warn("%s", text)
	}
}

// reportBucket prints what was found and done, and decides the exit code.
func (o *verifyOptions) reportBucket(r *verifiedBucket) error {
	broken := o.sayBroken(r.contents)
	o.sayBucketDamage(r)
	bad, unread := r.unrepaired(), r.unread()
	if o.json {
		if err := o.printJSON(r.fill()); err != nil {
			return err
		}
	} else if err := o.sayBucketVerified(r, bad, unread); err != nil {
		return err
	}
	invalid := 0
	for _, err := range r.contents.Broken {
		if explain(err).code == exitDamaged {
			invalid++
		}
	}
	switch {
	case bad > 0:
		hint := "hf-cache-sync verify --remote --repair, on a machine whose copies are good, uploads them again"
		return &someFailedError{exitDamaged, "verify: " + ui.Plural(bad, "blob") + " in the bucket damaged or missing, as said above", hint}
	case invalid > 0:
		return &someFailedError{
			exitDamaged, "verify: " + ui.Plural(invalid, "object") + " in the bucket damaged, as said above",
			doctor.Remedy(r.contents.Broken),
		}
	case unread > 0:
		return &someFailedError{exitSome, "verify: " + ui.Plural(unread, "blob") + " in the bucket could not be read, as said above", ""}
	default:
		return broken
	}
}

func (o *verifyOptions) sayBucketVerified(r *verifiedBucket, bad, unread int) error {
	parts := []string{fmt.Sprintf("verified %s of %s %s", blobs(r.result.Blobs, r.result.Bytes), ui.Plural(r.plan.Manifests, "manifest"), r.pace)}
	counts := map[engine.BucketFault]int{}
	for _, d := range r.result.Damaged {
		counts[d.Fault]++
	}
	for _, fault := range []engine.BucketFault{engine.BlobDamaged, engine.BlobWrongSize, engine.BlobMissing, engine.BlobUnread} {
		if counts[fault] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[fault], fault))
		}
	}
	if repaired := len(r.result.Damaged) - bad - unread; repaired > 0 {
		parts = append(parts, fmt.Sprintf("%d repaired", repaired))
	}
	return o.print("%s", strings.Join(parts, "; "))
}

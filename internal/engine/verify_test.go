package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/event"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/faultstore"
)

// flip damages a file as a bad disk does: its size and its times stay.
func flip(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := errors.Join(os.WriteFile(path, data, 0o600), os.Chtimes(path, time.Time{}, info.ModTime())); err != nil {
		t.Fatal(err)
	}
}

func blobFile(cacheDir string, f file) string {
	return filepath.Join(cacheDir, model.Folder(), "blobs", string(f.id()))
}

func verify(t *testing.T, e *engine.Engine) *engine.VerifyResult {
	t.Helper()
	inv, err := e.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	result, err := e.Verify(t.Context(), e.PrepareVerify(inv))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestVerifyFindsDamage(t *testing.T) {
	cacheDir := filepath.Join(t.TempDir(), "hub")
	e := site(t, cacheDir, filepath.Join(t.TempDir(), "bucket"))
	files := sample()
	write(t, e.Cache, model, first, "main", files)
	write(t, e.Cache, model, second, "v1", files[:3])
	good := verify(t, e)
	if good.Blobs != len(files) || len(good.Damaged) != 0 || len(good.Failed) != 0 {
		t.Fatalf("a good cache gives %+v", good)
	}
	flip(t, blobFile(cacheDir, files[2])) // in the middle of 40 MB
	flip(t, blobFile(cacheDir, files[0]))
	if err := os.Truncate(blobFile(cacheDir, files[3]), 1000); err != nil {
		t.Fatal(err)
	}
	inv, err := e.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := e.PrepareVerify(inv)
	if len(inv.Problems) != 0 {
		t.Errorf("the wrong size is a problem as well: %v", inv.Problems)
	}
	result, err := e.Verify(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, d := range result.Damaged {
		got[d.Entry] = len(d.Files)
	}
	want := map[string]int{"blobs/" + string(files[0].id()): 2, "blobs/" + string(files[2].id()): 2, "blobs/" + string(files[3].id()): 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("damaged, and used by so many files (-want +got):\n%s", diff)
	}
	if result.Blobs != len(files) || result.Bytes != p.Bytes() {
		t.Errorf("read %d, %d bytes of %d", result.Blobs, result.Bytes, p.Bytes())
	}
}

func TestVerifyRepairs(t *testing.T) {
	cacheDir, bucketDir := filepath.Join(t.TempDir(), "hub"), filepath.Join(t.TempDir(), "bucket")
	e := site(t, cacheDir, bucketDir)
	files := sample()
	write(t, e.Cache, model, first, "main", files)
	write(t, e.Cache, model, second, "v1", files[:3])
	push(t, e)
	other := site(t, filepath.Join(t.TempDir(), "hub"), bucketDir) // has a file of the commit that this machine did not want
	write(t, other.Cache, model, first, "main", append(slices.Clip(files), file{"unwanted", []byte("unwanted"), true}))
	push(t, other)
	flip(t, blobFile(cacheDir, files[2]))
	flip(t, blobFile(cacheDir, files[0]))

	result := verify(t, e)
	if err := e.Quarantine(t.Context(), result.Damaged, time.Now); err != nil {
		t.Fatal(err)
	}
	for _, d := range result.Damaged {
		if d.Err != nil || d.Quarantine == nil || !d.Quarantine.Moved || len(d.Files) != 2 || d.Repaired {
			t.Errorf("quarantined: %+v", d)
		}
	}
	wantFiles(t, cacheDir, model, second, files[1:2])
	inv, err := e.Cache.Scan(t.Context(), nil)
	if err != nil || len(inv.Problems) > 0 {
		t.Fatalf("the cache has problems: %v, %v", inv.Problems, err)
	}
	repaired, err := e.Repair(t.Context(), result.Damaged, nil)
	if err != nil || len(repaired.Failures) > 0 {
		t.Fatalf("%v, %v", repaired.Failures, err)
	}
	if repaired.Blobs != 2 || repaired.Linked != 4 || repaired.Refs != 0 {
		t.Errorf("repaired %+v", repaired)
	}
	for _, d := range result.Damaged {
		if !d.Repaired || d.Err != nil {
			t.Errorf("repaired: %+v", d)
		}
	}
	wantFiles(t, cacheDir, model, first, files)
	wantFiles(t, cacheDir, model, second, files[:3])
	if _, err := os.Lstat(filepath.Join(cacheDir, model.Folder(), "snapshots", string(first), "unwanted")); err == nil {
		t.Error("the repair brought a file that was not there before")
	}
	if again := verify(t, e); len(again.Damaged) > 0 || again.Blobs != len(files) {
		t.Errorf("after the repair: %+v", again)
	}
}

// TestVerifyRepairSaysWhatIsLacking repairs from a bucket that knows only a part of what is damaged.
func TestVerifyRepairSaysWhatIsLacking(t *testing.T) {
	cacheDir, bucketDir := filepath.Join(t.TempDir(), "hub"), filepath.Join(t.TempDir(), "bucket")
	files := sample()[:2]
	files = append(files, file{"b", []byte("bb"), true}, file{"c", []byte("cc"), true})
	other := site(t, filepath.Join(t.TempDir(), "hub"), bucketDir)
	write(t, other.Cache, model, first, "main", files[:3])
	push(t, other)
	e := site(t, cacheDir, bucketDir)
	write(t, e.Cache, model, first, "main", files)
	for _, i := range []int{0, 2, 3} {
		flip(t, blobFile(cacheDir, files[i]))
	}
	orphan := file{"", []byte("nobody links here"), true}
	if err := os.WriteFile(blobFile(cacheDir, orphan), []byte("nobody LINKS here"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(bucketDir, "blobs", string(files[2].id()))); err != nil {
		t.Fatal(err)
	}
	result := verify(t, e)
	if err := e.Quarantine(t.Context(), result.Damaged, time.Now); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Repair(t.Context(), result.Damaged, nil); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range result.Damaged {
		text := "repaired"
		if !d.Repaired {
			text = d.Err.Error()
		}
		got[strings.TrimPrefix(d.Entry, "blobs/")] = text
	}
	want := map[string]string{
		string(files[0].id()): "repaired",
		string(orphan.id()):   "repaired",
		string(files[2].id()): "b cannot be repaired: the manifest names a blob that is not in the bucket: not found",
		string(files[3].id()): "c cannot be repaired: the bucket has no such file of this commit: not in the bucket",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// sinkFunc is an [event.Sink].
type sinkFunc func(event.Event)

// Event calls the function.
func (f sinkFunc) Event(e event.Event) { f(e) }

func TestVerifyCancelled(t *testing.T) {
	e := site(t, filepath.Join(t.TempDir(), "hub"), filepath.Join(t.TempDir(), "bucket"))
	write(t, e.Cache, model, first, "main", sample())
	inv, err := e.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	e.Events = sinkFunc(func(ev event.Event) {
		if ev.Kind == event.ItemProgress {
			cancel()
		}
	})
	e.Options.Workers = 1 // the large file is first
	result, err := e.Verify(ctx, e.PrepareVerify(inv))
	if !errors.Is(err, context.Canceled) || result.Blobs != 0 || len(result.Failed) != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

// TestVerifyLeavesAloneWhatChanges has a client write to one file while it is read, replace another and remove a third.
func TestVerifyLeavesAloneWhatChanges(t *testing.T) {
	cacheDir := filepath.Join(t.TempDir(), "hub")
	e := site(t, cacheDir, filepath.Join(t.TempDir(), "bucket"))
	files := sample()
	write(t, e.Cache, model, first, "main", files)
	inv, err := e.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := e.PrepareVerify(inv)
	flip(t, blobFile(cacheDir, files[2]))
	touch := func(f file) {
		if err := os.Chtimes(blobFile(cacheDir, f), time.Time{}, time.Now().Add(time.Hour)); err != nil {
			t.Error(err)
		}
	}
	touch(files[0])
	if err := os.Remove(blobFile(cacheDir, files[3])); err != nil {
		t.Fatal(err)
	}
	done := false
	e.Options.Workers = 1
	e.Events = sinkFunc(func(ev event.Event) {
		if ev.Kind == event.ItemProgress && !done {
			done = true
			touch(files[2])
		}
	})
	result, err := e.Verify(t.Context(), p)
	if err != nil || len(result.Damaged) != 0 || len(result.Failed) != 3 || result.Blobs != 2 {
		t.Fatalf("%+v, %v", result, err)
	}
	for _, f := range result.Failed {
		if !f.Harmless || !errors.Is(f.Err, hfcache.ErrChanged) {
			t.Errorf("%+v", f)
		}
	}
}

func bucketPlan(t *testing.T, e *engine.Engine) *plan.BucketVerify {
	t.Helper()
	contents, err := e.Catalog.Contents(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	manifests := make([]*manifest.Manifest, len(contents.Revisions))
	for i, r := range contents.Revisions {
		manifests[i] = r.Manifest
	}
	return plan.NewBucketVerify(manifests)
}

func TestVerifyRemote(t *testing.T) {
	cacheDir, bucketDir := filepath.Join(t.TempDir(), "hub"), filepath.Join(t.TempDir(), "bucket")
	e := site(t, cacheDir, bucketDir)
	files := sample()
	write(t, e.Cache, model, first, "main", files)
	write(t, e.Cache, model, second, "v1", files)
	push(t, e)
	at := func(i int) string { return filepath.Join(bucketDir, "blobs", string(files[i].id())) }
	flip(t, at(2))
	if err := errors.Join(os.Remove(at(0)), os.Truncate(at(3), 7)); err != nil {
		t.Fatal(err)
	}
	script := &faultstore.Script{}
	odd := errors.New("the disk says no")
	script.Add(faultstore.Fault{Op: "get", Key: manifest.BlobKey(files[4].id()), Err: odd})
	e.Catalog.Store = faultstore.New(e.Catalog.Store, script)
	p := bucketPlan(t, e)
	result, err := e.VerifyRemote(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	got := map[hub.BlobID]engine.BucketFault{}
	for _, d := range result.Damaged {
		if got[d.ID] = d.Fault; len(d.Users) != 2 {
			t.Errorf("%s is used by %+v", d.ObjectKey, d.Users)
		}
	}
	want := map[hub.BlobID]engine.BucketFault{
		files[0].id(): engine.BlobMissing, files[2].id(): engine.BlobDamaged, files[3].id(): engine.BlobWrongSize, files[4].id(): engine.BlobUnread,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if gets := len(script.Calls("get")); result.Blobs != 1 || gets != len(files)+5 { // two refs, two manifests, the damaged blob once more
		t.Errorf("%d good blobs, %d requests", result.Blobs, gets)
	}

	inv, err := e.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	repaired, err := e.RepairRemote(t.Context(), result.Damaged, inv)
	if err != nil || repaired.Blobs != 3 {
		t.Fatalf("%+v, %v", repaired, err)
	}
	for _, d := range result.Damaged {
		if d.Repaired == (d.Fault == engine.BlobUnread) || d.RepairErr != nil {
			t.Errorf("%s: repaired %t, %v", d.ObjectKey, d.Repaired, d.RepairErr)
		}
	}
	if again, err := e.VerifyRemote(t.Context(), p); err != nil || len(again.Damaged) > 0 || again.Blobs != len(files) {
		t.Errorf("after the repair: %+v, %v", again, err)
	}
}

// TestRepairRemoteTakesTheCopyThatIsGood has two copies, of which the first is as bad as the bucket's.
func TestRepairRemoteTakesTheCopyThatIsGood(t *testing.T) {
	cacheDir, bucketDir := filepath.Join(t.TempDir(), "hub"), filepath.Join(t.TempDir(), "bucket")
	e := site(t, cacheDir, bucketDir)
	files := []file{{"a", noise(7, 1000), true}}
	write(t, e.Cache, model, first, "main", files)
	write(t, e.Cache, hub.Repo{Type: hub.Model, Name: "org/z"}, first, "main", files)
	push(t, e)
	object := filepath.Join(bucketDir, "blobs", string(files[0].id()))
	flip(t, object)
	flip(t, blobFile(cacheDir, files[0]))
	result, err := e.VerifyRemote(t.Context(), bucketPlan(t, e))
	if err != nil || len(result.Damaged) != 1 {
		t.Fatalf("%+v, %v", result, err)
	}
	inv, err := e.Cache.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.RepairRemote(t.Context(), result.Damaged, inv); err != nil || !result.Damaged[0].Repaired {
		t.Fatalf("%+v, %v", result.Damaged, err)
	}
	if data, err := os.ReadFile(object); err != nil || string(data) != string(files[0].data) {
		t.Errorf("the object holds %d other bytes, %v", len(data), err)
	}
}

func TestVerifyRemoteStopsWhenNothingCanBeRead(t *testing.T) {
	e := site(t, filepath.Join(t.TempDir(), "hub"), filepath.Join(t.TempDir(), "bucket"))
	write(t, e.Cache, model, first, "main", sample())
	push(t, e)
	p := bucketPlan(t, e)
	script := &faultstore.Script{}
	script.Add(faultstore.Fault{Op: "get", Key: "blobs/*", Times: -1, Err: store.ErrDenied})
	e.Catalog.Store = faultstore.New(e.Catalog.Store, script)
	if result, err := e.VerifyRemote(t.Context(), p); !errors.Is(err, store.ErrDenied) || len(result.Damaged) != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

// What is damaged on its way is no damage of the bucket's.
func TestVerifyRemoteReadsDamageTwice(t *testing.T) {
	e := site(t, filepath.Join(t.TempDir(), "hub"), filepath.Join(t.TempDir(), "bucket"))
	files := sample()
	write(t, e.Cache, model, first, "main", files)
	push(t, e)
	p := bucketPlan(t, e)
	script := &faultstore.Script{}
	script.Add(faultstore.Fault{Op: "get", Key: manifest.BlobKey(files[2].id()), Flip: true})
	e.Catalog.Store = faultstore.New(e.Catalog.Store, script)
	result, err := e.VerifyRemote(t.Context(), p)
	if err != nil || len(result.Damaged) != 0 || result.Blobs != len(p.Blobs) || len(script.Calls("get")) != len(p.Blobs)+1 {
		t.Errorf("%+v, %v, %d requests for %d blobs", result, err, len(script.Calls("get")), len(p.Blobs))
	}
}

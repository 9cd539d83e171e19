package stores

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/storetest"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// models are what the round trip moves: small files and one that goes in three
// parts, then a second commit that takes the ref over and shares all but one
// file.
func models() (first, second testenv.Revision) {
	first = testenv.Sample()
	first.Files = append(first.Files, testenv.Content{Path: "large.bin", Data: testenv.Noise(2, 40<<20), LFS: true})
	second = first
	second.Commit = testenv.Commit("second")
	second.Files = append([]testenv.Content{{Path: "config.json", Data: []byte(`{"hidden_size": 512}` + "\n")}}, first.Files[1:]...)
	return first, second
}

// roundTrip pushes from one machine, pulls on another, moves the ref on, and
// prunes and pulls again, with the real binary; then it audits both caches, and
// the bucket as it is read from s. It returns how many commands were run.
func roundTrip(t *testing.T, remote testenv.Remote, s store.Store) (commands int) {
	t.Helper()
	first, second := models()
	here, there := t.TempDir(), t.TempDir()
	run := func(home string, args ...string) testenv.Result {
		t.Helper()
		commands++
		return remote.Sync(t, home, args...)
	}
	first.WriteCache(t, filepath.Join(here, "hub"))
	run(here, "push", "--yes")
	if got := run(here, "push", "--yes", "--dry-run"); !strings.HasPrefix(got.Stdout, "would upload 0 blobs (0), 0 manifests, 0 refs ") {
		t.Errorf("a second push would send something: %s", got)
	}
	run(there, "pull", first.Repo)
	first.Compare(t, filepath.Join(there, "hub"))

	second.WriteCache(t, filepath.Join(here, "hub"))
	run(here, "push", "--yes", "--force-refs")
	run(there, "pull", first.Repo)
	second.Compare(t, filepath.Join(there, "hub"))
	age(t, there)
	run(there, "prune", "--max-size", "0", "--evict-active", "--yes")
	if blobs, err := filepath.Glob(filepath.Join(there, "hub", second.Folder(), "blobs", "*")); err != nil || len(blobs) != 0 {
		t.Errorf("after prune: %q, %v", blobs, err)
	}
	run(there, "pull", first.Repo)
	second.Compare(t, filepath.Join(there, "hub"))
	run(there, "verify", "--remote")
	testenv.AuditCache(t, filepath.Join(there, "hub"))

	copied := download(t, s)
	if diff := cmp.Diff(testenv.ObjectKeys(first, second), testenv.Keys(t, copied)); diff != "" {
		t.Errorf("the bucket (-want +got):\n%s", diff)
	}
	new(testenv.Auditor).Bucket(t, copied)
	for u, err := range s.(store.Multipart).Uploads(t.Context(), "") {
		t.Errorf("an upload is left: %+v, %v", u, err)
	}
	return commands
}

// age makes everything below dir as old as prune wants it.
func age(t *testing.T, dir string) {
	t.Helper()
	old := time.Now().Add(-48 * time.Hour)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(path, old, old)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// download copies all objects of s into a folder.
func download(t *testing.T, s store.Store) string {
	t.Helper()
	dir := t.TempDir()
	for info, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		rc, _, err := s.Get(t.Context(), info.Key, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		if err = rc.Close(); err != nil {
			t.Error(err)
		}
		testenv.WriteFile(t, filepath.Join(dir, filepath.FromSlash(info.Key)), data)
	}
	return dir
}

// below is the options of a bucket as a remote below a prefix, and what is there.
func below(t *testing.T, o s3store.Options, env []string) (testenv.Remote, store.Store) {
	t.Helper()
	o.Prefix = "team/prefix"
	return testenv.Remote{Name: o.Bucket, URL: "s3://" + o.Bucket + "/" + o.Prefix, Env: env}, open(t, o)
}

// recordTrip tells of a round trip.
func recordTrip(t *testing.T, name string, commands int, figures string) {
	t.Helper()
	row := proof.Row{Class: proof.Stores, Tried: "commands of a round trip with audits on " + name, Times: commands, Figures: figures}
	row.Record(t)
}

func TestRoundTripQuirks(t *testing.T) {
	t.Parallel()
	for name, service := range services() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := startQuirks(t, server.Endpoint, service.profile)
			remote, direct := below(t, realBucket(t), append(server.Env(), "B2_ENDPOINT="+q.URL))
			commands := roundTrip(t, remote, direct)
			n, kinds := q.answers()
			recordTrip(t, name+", played by a proxy before versitygw", commands, told(n, kinds))
		})
	}
}

// TestMinIO runs the contract and a round trip on a server that keeps objects as
// no other here does.
func TestMinIO(t *testing.T) {
	t.Parallel()
	minio, err := testenv.StartMinIO(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(minio.Stop)
	bucket := func(t *testing.T) s3store.Options {
		t.Helper()
		o := realBucket(t)
		o.Endpoint, o.Bucket = minio.Endpoint, minio.Bucket(t)
		return o
	}
	cases := 0
	t.Run("contract", func(t *testing.T) { cases = conform(t, storetest.Options{WholeKeysOnly: true}, open, bucket) })
	record(t, "MinIO", cases, "")
	commands := 0
	t.Run("round trip", func(t *testing.T) {
		remote, direct := below(t, bucket(t), minio.Env())
		commands = roundTrip(t, remote, direct)
	})
	recordTrip(t, "MinIO", commands, "")
	t.Run("resumed upload", func(t *testing.T) { resumesUploads(t, bucket(t), minio.Env()) })
}

// resumesUploads leaves a part of a large blob in the bucket, as a push that was
// killed does, and has the next push go on with it.
func resumesUploads(t *testing.T, o s3store.Options, env []string) {
	t.Helper()
	first, _ := models()
	large := first.Files[len(first.Files)-1]
	part := large.Data[:plan.UploadPart(int64(len(large.Data)))]
	remote, direct := below(t, o, env)
	parts, ok := direct.(store.Multipart)
	if !ok {
		t.Fatal("it takes no parts")
	}
	u, err := parts.StartUpload(t.Context(), "blobs/"+large.ID(), store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = parts.PutPart(t.Context(), u, 1, io.NewSectionReader(bytes.NewReader(part), 0, int64(len(part)))); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	first.WriteCache(t, filepath.Join(home, "hub"))
	var summary struct {
		Resumed int `json:"resumed_bytes"`
	}
	result := remote.Sync(t, home, "push", "--yes", "--json")
	if err = json.Unmarshal([]byte(result.Stdout), &summary); err != nil || summary.Resumed != len(part) {
		t.Errorf("it went on from %d bytes of %d, %v: %s", summary.Resumed, len(part), err, result)
	}
}

package oracle_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

const hubToken = "hf_averysecrettokenofatest"

// withHub lets a remote's commands ask a Hub whose large files are on another
// origin, with a token.
func withHub(t *testing.T, w *world, r testenv.Remote) testenv.Remote {
	t.Helper()
	if w.hub.CDN == "" {
		cdn := httptest.NewServer(w.hub.CDNHandler())
		t.Cleanup(cdn.Close)
		w.hub.CDN = cdn.URL
	}
	r.Env = append([]string{"HF_ENDPOINT=" + w.url, "HF_TOKEN=" + hubToken}, r.Env...)
	return r
}

// leftBehind is what a cache holds that clients read: names, links, bytes and,
// for blobs and refs, modes. Locks are not content.
func leftBehind(t *testing.T, home string) map[string]string {
	t.Helper()
	out := contents(t, hubDir(home))
	for name := range out {
		parts := strings.Split(name, string(filepath.Separator))
		if parts[0] == ".locks" || parts[0] == "CACHEDIR.TAG" {
			delete(out, name)
			continue
		}
		if parts[1] == "blobs" || parts[1] == "refs" {
			info, err := os.Lstat(filepath.Join(hubDir(home), name))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode()&fs.ModeSymlink == 0 {
				out[name] = info.Mode().String() + " " + out[name]
			}
		}
	}
	return out
}

// TestOracleFallback pulls from a Hub through an empty bucket, and has the real
// client download the same: nothing tells the two caches apart. What was
// backfilled on the way makes a third machine's cache the same without the Hub.
func TestOracleFallback(t *testing.T) {
	t.Parallel()
	client := testenv.Python(t, "2.4.0")
	w := newWorld(t)
	remote := withHub(t, w, testenv.FileRemote(t))
	theirs, ours, third := t.TempDir(), t.TempDir(), t.TempDir()
	var steps []testenv.Step
	fetches := append(append([]fetch{}, w.whole...), w.odd...)
	for _, f := range append([]fetch{w.partial}, fetches...) {
		steps = append(steps, f.step("download"))
	}
	for i, o := range client.With("HF_TOKEN="+hubToken).Run(t, theirs, w.url, steps...) {
		if o.Error != "" {
			t.Fatalf("%v: %s", steps[i], o)
		}
	}
	w.hub.Reset()
	for _, f := range append([]fetch{w.partial}, fetches...) {
		args := []string{"pull", f.repo, "-r", f.revision, "--repo-type", string(f.kind), "--fallback", "hf-hub", "--backfill", "-v"}
		for _, glob := range f.allow {
			args = append(args, "--include", glob)
		}
		result := remote.Sync(t, ours, args...)
		if strings.Contains(result.Stdout+result.Stderr, hubToken) {
			t.Errorf("it prints the token: %s", result)
		}
	}
	origins := 0
	for _, r := range w.hub.Requests() {
		if r.Authorized != (r.Route != fakehub.RouteCDN) {
			t.Errorf("%s: with a token: %t", r, r.Authorized)
		}
		if r.Route == fakehub.RouteCDN {
			origins++
		}
	}
	if origins == 0 {
		t.Error("nothing came from the other origin")
	}
	want := leftBehind(t, theirs)
	proof.Row{
		Class: proof.Clients, Times: len(want), Tried: "file, link or ref that huggingface_hub 2.4.0 wrote, compared with what a pull from the Hub wrote",
	}.Record(t)
	if diff := cmp.Diff(want, leftBehind(t, ours)); diff != "" {
		t.Errorf("caches (-downloaded +pulled):\n%s", diff)
	}
	w.hub.Reset()
	remote.Env = remote.Env[2:]
	for _, f := range append([]fetch{w.partial}, fetches...) {
		remote.Sync(t, third, "pull", f.repo, "-r", f.revision, "--repo-type", string(f.kind))
	}
	got := leftBehind(t, third)
	for name := range got { // A pull writes every ref of the bucket that names the commit.
		if strings.Contains(name, "/refs/") && want[name] != "" {
			continue
		}
		if got[name] != want[name] {
			t.Errorf("%s is %q, want %q", name, got[name], want[name])
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if n := len(w.hub.Requests()); n > 0 {
		t.Errorf("the Hub was asked %d times", n)
	}
	s := &source{name: "fallback", writer: client, home: ours, plain: theirs, fetches: fetches, partial: w.partial}
	for _, reader := range readers(t) {
		checkOnline(t, s, ours, reader)
	}
}

// TestOracleFallbackHeals takes from the Hub what a bucket lacks or has
// damaged, and gives it back.
func TestOracleFallbackHeals(t *testing.T) {
	t.Parallel()
	client := testenv.Python(t, "2.4.0")
	w := newWorld(t)
	remote := withHub(t, w, testenv.FileRemote(t))
	source := t.TempDir()
	if o := client.Run(t, source, w.url, w.partial.step("download"))[0]; o.Error != "" {
		t.Fatal(o)
	}
	remote.Sync(t, source, "push", "--yes")
	w.hub.Reset()
	home := t.TempDir()
	result := remote.Sync(t, home, "pull", w.partial.repo, "--fallback", "hf-hub", "--backfill")
	if !strings.Contains(result.Stdout, "offline: ready") || !strings.Contains(result.Stdout, "from the Hub") || !strings.Contains(result.Stdout, "pushed to the bucket") {
		t.Errorf("it says: %s", result)
	}
	for _, r := range w.hub.Downloads() {
		if !strings.HasSuffix(r.Path, "/model.safetensors") && r.Route != fakehub.RouteCDN {
			t.Errorf("downloaded again: %s", r)
		}
	}
	var audit testenv.Auditor
	audit.Bucket(t, strings.TrimPrefix(remote.URL, "file://"))
	remote.Sync(t, t.TempDir(), "pull", w.partial.repo, "--require-complete")
}

// TestOracleFallbackErrors tells apart what the Hub answers.
func TestOracleFallbackErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	remote := withHub(t, w, testenv.FileRemote(t))
	var answer http.Handler
	w.hub.Intercept = func(*http.Request) http.Handler { return answer }
	for name, test := range map[string]struct {
		status        int
		code, message string
		exit          int
		says          string
	}{
		"missing":   {404, "RepoNotFound", "", 5, "no such repository on the Hub"},
		"revision":  {404, "RevisionNotFound", "", 5, "no such revision on the Hub"},
		"gated":     {403, "GatedRepo", "", 4, "hint: accept the terms"},
		"bad token": {401, "", "Invalid credentials in Authorization header", 4, "hint: check HF_TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			answer = fakehub.ErrorHandler(test.status, test.code, test.message)
			result := remote.TrySync(t, t.TempDir(), "pull", modelID, "--fallback", "hf-hub")
			if result.Code != test.exit || !strings.Contains(result.Stderr, test.says) || strings.Contains(result.Stderr, hubToken) {
				t.Errorf("want exit code %d and %q: %s", test.exit, test.says, result)
			}
		})
	}
	answer = nil
	offline := remote
	offline.Env = append([]string{"HF_HUB_OFFLINE=1"}, remote.Env...)
	if result := offline.TrySync(t, t.TempDir(), "pull", modelID, "--fallback", "hf-hub"); result.Code != 7 || !strings.Contains(result.Stderr, "HF_HUB_OFFLINE") {
		t.Errorf("offline: %s", result)
	}
}

// TestOraclePushComplete pushes what was downloaded in part: with --complete
// the rest is fetched first, so that the bucket has a whole model.
func TestOraclePushComplete(t *testing.T) {
	t.Parallel()
	client := testenv.Python(t, "2.4.0")
	w := newWorld(t)
	remote := withHub(t, w, testenv.FileRemote(t))
	home := t.TempDir()
	if o := client.Run(t, home, w.url, w.partial.step("download"))[0]; o.Error != "" {
		t.Fatal(o)
	}
	result := remote.Sync(t, home, "push", "--yes", "--complete", "--dry-run")
	if !strings.Contains(result.Stderr, "lacks 1 file, 1 blob (50.0K) to fetch from the Hub") {
		t.Errorf("a dry run: %s", result)
	}
	remote.Sync(t, home, "push", "--yes", "--complete")
	whole := w.partial
	whole.allow = nil
	var got struct {
		Files map[string]string `json:"files"`
	}
	client.Run(t, home, "", whole.step("offline"))[0].Decode(t, &got)
	if diff := cmp.Diff(whole.commit.Digests(), got.Files); diff != "" {
		t.Errorf("files (-hub +cache):\n%s", diff)
	}
	remote.Env = remote.Env[2:]
	remote.Sync(t, t.TempDir(), "pull", w.partial.repo, "--require-complete")
}

// TestOracleRefresh follows a branch that has moved on the Hub, which the
// bucket does not know, and fetches what has changed and no more.
func TestOracleRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	repo := w.hub.Repo(fakehub.Model, "acme/moving")
	remote := withHub(t, w, testenv.FileRemote(t))
	home := t.TempDir()
	first := repo.Commit("main", fakehub.Git("version", []byte("1")), noise(t, "weights", 9, 50_000))
	remote.Sync(t, home, "pull", repo.ID(), "--backfill")
	second := repo.Commit("main", fakehub.Git("version", []byte("2")))
	pulled := func(args ...string) string {
		t.Helper()
		remote.Sync(t, home, append([]string{"pull", repo.ID()}, args...)...)
		ref, err := os.ReadFile(filepath.Join(hubDir(home), "models--acme--moving", "refs", "main"))
		if err != nil {
			t.Fatal(err)
		}
		return string(ref)
	}
	if got := pulled("--fallback", "hf-hub"); got != first.ID() {
		t.Errorf("without a refresh: %s", got)
	}
	w.hub.Reset()
	if got := pulled("--refresh", "--backfill"); got != second.ID() {
		t.Errorf("with a refresh: %s", got)
	}
	if got := w.hub.Downloads(); len(got) != 1 || !strings.HasSuffix(got[0].Path, "/version") {
		t.Errorf("downloaded: %v", got)
	}
	other := t.TempDir()
	remote.Env = remote.Env[2:]
	remote.Sync(t, other, "pull", repo.ID(), "--require-complete")
	if _, err := os.Stat(filepath.Join(hubDir(other), "models--acme--moving", "snapshots", second.ID(), "weights")); err != nil {
		t.Error(err)
	}
}

// TestOracleBackfillReadOnly pulls through a bucket that lets nobody write:
// that the bucket does not get it is worth a note, and the pull went well.
func TestOracleBackfillReadOnly(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	testenv.Mkdir(t, filepath.Join(root, "bucket"))
	service, err := testenv.StartS3(t.Context(), root, "--readonly")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Stop)
	w := newWorld(t)
	remote := withHub(t, w, testenv.Remote{Name: "read-only", URL: "s3://bucket", Env: service.Env()})
	home := t.TempDir()
	result := remote.Sync(t, home, "pull", modelID, "--fallback", "hf-hub", "--backfill")
	if !strings.Contains(result.Stderr, "note: the bucket did not get it: ") || !strings.Contains(result.Stdout, "offline: ready") {
		t.Errorf("it says: %s", result)
	}
	testenv.AuditCache(t, hubDir(home))
}

package oracle_test

import (
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestOracleMovingBranch has two machines download and exchange a branch that
// moves in between. Whoever asked the Hub last is right, and nothing that a
// machine has already is fetched again.
func TestOracleMovingBranch(t *testing.T) {
	t.Parallel()
	client := testenv.Python(t, "2.4.0")
	w := newWorld(t)
	repo := w.hub.Repo(fakehub.Model, "acme/moving")
	main := fetch{kind: fakehub.Model, repo: repo.ID(), revision: "main"}
	remote := testenv.FileRemote(t)
	one, two := t.TempDir(), t.TempDir()
	download := func(home string) {
		t.Helper()
		if o := client.Run(t, home, w.url, main.step("download"))[0]; o.Error != "" {
			t.Fatal(o)
		}
	}
	expect := func(home string, want *fakehub.Commit) {
		t.Helper()
		testenv.AuditCache(t, hubDir(home))
		var got struct {
			Commit string `json:"commit"`
		}
		client.Run(t, home, "", main.step("offline"))[0].Decode(t, &got)
		if got.Commit != want.ID() {
			t.Errorf("main is %s, want %s", got.Commit, want.ID())
		}
	}
	first := repo.Commit("main", fakehub.Git("version", []byte("1")), noise(t, "weights", 9, 50_000))
	download(one)
	second := repo.Commit("main", fakehub.Git("version", []byte("2")))
	download(two)
	remote.Sync(t, two, "push", "--yes")
	remote.Sync(t, one, "push", "--yes") // It knows the older state.
	remote.Sync(t, one, "pull", repo.ID())
	expect(one, second)
	remote.Sync(t, two, "pull", repo.ID())
	expect(two, second)

	third := repo.Commit("main", fakehub.Git("version", []byte("3")))
	download(one)
	remote.Sync(t, one, "pull", repo.ID()) // The bucket knows the older state.
	expect(one, third)
	remote.Sync(t, one, "push", "--yes")
	remote.Sync(t, two, "pull", repo.ID())
	expect(two, third)

	// The first commit is still there to be had, on both.
	for _, home := range []string{one, two} {
		remote.Sync(t, home, "pull", repo.ID(), "-r", first.ID())
		old := main
		old.revision = first.ID()
		if o := client.Run(t, home, "", old.step("offline"))[0]; o.Error != "" {
			t.Error(o)
		}
	}
}

// TestOracleCompletesPart has a client, online again, ask for all of what was
// pulled in part: it fetches what is missing and not a byte more.
func TestOracleCompletesPart(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0.36.2", "1.29.0", "2.4.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			client := testenv.Python(t, version)
			w := newWorld(t)
			remote := testenv.FileRemote(t)
			source, home := t.TempDir(), t.TempDir()
			if o := client.Run(t, source, w.url, w.partial.step("download"))[0]; o.Error != "" {
				t.Fatal(o)
			}
			remote.Sync(t, source, "push", "--yes")
			remote.Sync(t, home, "pull", w.partial.repo)
			w.hub.Reset()
			whole := w.partial
			whole.allow = nil
			if o := client.Run(t, home, w.url, whole.step("download"))[0]; o.Error != "" {
				t.Fatal(o)
			}
			got := w.hub.Downloads()
			if len(got) != 1 || !strings.HasSuffix(got[0].Path, "/model.safetensors") {
				t.Errorf("downloaded: %v", got)
			}
			testenv.AuditCache(t, hubDir(home))
		})
	}
}

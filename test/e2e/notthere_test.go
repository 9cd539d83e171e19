package e2e_test

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestNeitherHasIt pulls with --fallback hf-hub what neither the bucket nor the
// Hub has: the message says both, and the hint is a command that works.
func TestNeitherHasIt(t *testing.T) {
	t.Parallel()
	hub := fakehub.New()
	hub.Repo(fakehub.Model, "org/fresh").Commit("main", fakehub.Git("config.json", []byte("{}")))
	hub.Repo(fakehub.Model, "org/name").Commit("main", fakehub.Git("config.json", []byte("{}")))
	web := httptest.NewServer(hub)
	t.Cleanup(web.Close)
	remote, r := testenv.FileRemote(t), testenv.Sample()
	remote.Env = append(remote.Env, "HF_ENDPOINT="+web.URL)
	source := t.TempDir()
	r.WriteCache(t, filepath.Join(source, "hub"))
	remote.Sync(t, source, "push", "--yes")
	for _, c := range []struct {
		args       []string
		says, hint string
	}{
		{[]string{"org/nam"}, "org/nam: not in the bucket; the nearest there: org/name; no such repository on the Hub, or no right to see it", "hf-cache-sync pull org/name"},
		{[]string{"nobody/nothing"}, "nobody/nothing: not in the bucket, which has org/name; no such repository on the Hub, or no right to see it", "check the name; a private repository needs a token: HF_TOKEN, or hf auth login"},
		{[]string{"org/name", "-r", "nope"}, "org/name: revision nope: not in the bucket, which has ref", "hf-cache-sync pull org/name"},
		{[]string{"org/name", "-r", "nope"}, "; no such revision on the Hub", "hf-cache-sync pull org/name"},
		{[]string{"org/fresh", "-r", "nope"}, "; no such revision on the Hub", "hf-cache-sync pull org/fresh --fallback hf-hub"},
	} {
		result := remote.TrySync(t, t.TempDir(), append([]string{"pull", "--fallback", "hf-hub"}, c.args...)...)
		if result.Code != 5 || !strings.Contains(result.Stderr, c.says) || !strings.HasSuffix(result.Stderr, "\nhint: "+c.hint+"\n") {
			t.Errorf("pull %q: %s", c.args, result)
		}
		if command, ok := strings.CutPrefix(c.hint, "hf-cache-sync "); ok {
			remote.Sync(t, t.TempDir(), strings.Fields(command)...)
		}
	}
}

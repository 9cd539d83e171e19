package cli

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestCompletionOfNobody asks for what is in a bucket whose server takes connections and never says a word. The shell must get its prompt back.
func TestCompletionOfNobody(t *testing.T) {
	t.Parallel()
	var listen net.ListenConfig
	silent, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() }) // after the subtests, which it never answers
	env := map[string]string{
		"HF_CACHE_SYNC_REMOTE": "s3://bucket", "B2_ENDPOINT": "http://" + silent.Addr().String(), "B2_REGION": "here",
		"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key",
	}
	for _, args := range [][]string{{"pull", ""}, {"pull", "org/name", "--revision", ""}} {
		t.Run(args[len(args)-2], func(t *testing.T) {
			t.Parallel()
			var stdout, stderr strings.Builder
			code := Main(Process{
				Args: append([]string{"__complete"}, args...), Home: t.TempDir(), Dir: t.TempDir(), Now: time.Now,
				Env:   func(name string) (string, bool) { value, ok := env[name]; return value, ok },
				Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
			})
			if code != 0 || stdout.String() != ":4\n" || strings.Contains(stderr.String(), "hf-cache-sync:") {
				t.Errorf("it ended with %d and offered %q: %s", code, &stdout, &stderr)
			}
		})
	}
}

// TestCompletionOfNothing completes where the bucket is a folder that cannot be listed: a file lies there.
func TestCompletionOfNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "bucket")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	code := Main(Process{
		Args: []string{"__complete", "pull", "--remote", "file://" + filepath.ToSlash(path), ""}, Home: dir, Dir: dir, Now: time.Now,
		Env:   func(string) (string, bool) { return "", false },
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
	})
	if code != 0 || stdout.String() != ":4\n" || strings.Contains(stderr.String(), "hf-cache-sync:") {
		t.Errorf("it ended with %d and offered %q: %s", code, &stdout, &stderr)
	}
}

// TestPatiently waits for what says what it found when it is told to stop, and no longer for what hears nothing, as a read of a folder that is gone.
func TestPatiently(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := patiently(t.Context(), func(ctx context.Context) []string {
			<-ctx.Done()
			return []string{"as far as it came"}
		})
		if diff := cmp.Diff([]string{"as far as it came"}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		end := make(chan struct{})
		if got := patiently(t.Context(), func(context.Context) []string { <-end; return []string{"too late"} }); got != nil {
			t.Errorf("got %q", got)
		}
		close(end)
	})
}

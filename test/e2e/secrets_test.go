package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestNoSecretIsPrinted runs every command in its most talkative form, where all
// is well and where something is wrong, with the keys in the environment and in
// the file, and looks for them in all that it says and writes.
func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	good := map[string]string{}
	for _, variable := range server.Env() {
		name, value, _ := strings.Cut(variable, "=")
		good[name] = value
	}
	const wrong = "Wr0ngSecret/that+nobody=has"
	commands := [][]string{
		{"push", "--yes", "--allow-gated"},
		{"push", "--dry-run"},
		{"push", "--json", "--json-events", "--recheck"},
		{"pull", "org/name"},
		{"pull", "org/none"},
		{"pull-all"},
		{"list", "--remote"},
		{"list"},
		{"status"},
		{"status", "--json"},
		{"diff"},
		{"diff", "--json"},
		{"doctor"},
		{"doctor", "--json", "--write"},
		{"verify"},
		{"verify", "--remote"},
		{"init"},
		{"version"},
		{"man"},
		{"completion", "bash"},
		{"__complete", "pull", ""},
		{"push", "--no-such-flag"},
		{"nothing"},
	}
	for _, situation := range []struct {
		name, bucket, endpoint, secret string
		only                           []string // commands, where each waits long for nobody
	}{
		{"all is well", server.Bucket(t), good["B2_ENDPOINT"], good["AWS_SECRET_ACCESS_KEY"], nil},
		{"the secret is wrong", server.Bucket(t), good["B2_ENDPOINT"], wrong, nil},
		{"there is no such bucket", "no-such-bucket", good["B2_ENDPOINT"], good["AWS_SECRET_ACCESS_KEY"], nil},
		{"nobody answers", "bucket", "http://127.0.0.1:9", wrong, []string{"push", "doctor", "status"}},
	} {
		for _, place := range []string{"environment", "file"} {
			t.Run(situation.name+", keys in the "+place, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				revision("org/name").WriteCache(t, filepath.Join(dir, "hub"))
				p := testenv.Binary(t, "HF_CACHE_SYNC_REMOTE=s3://"+situation.bucket, "HF_CACHE_SYNC_CACHE_DIR=hub", "HF_CACHE_SYNC_VERBOSE=true",
					"B2_ENDPOINT="+situation.endpoint, "B2_REGION=us-east-1", "AWS_REGION=us-east-1")
				p.Dir = dir
				if place == "environment" {
					p = p.With("AWS_ACCESS_KEY_ID="+good["AWS_ACCESS_KEY_ID"], "AWS_SECRET_ACCESS_KEY="+situation.secret)
				} else {
					file := fmt.Sprintf("storage:\n  access_key: %q\n  secret_key: %q\n", good["AWS_ACCESS_KEY_ID"], situation.secret)
					if err := os.WriteFile(filepath.Join(dir, "keys.yaml"), []byte(file), 0o644); err != nil {
						t.Fatal(err)
					}
					p = p.With("HF_CACHE_SYNC_CONFIG=keys.yaml")
				}
				said := 0
				for _, args := range commands {
					if situation.only != nil && !strings.Contains(" "+strings.Join(situation.only, " ")+" ", " "+args[0]+" ") {
						continue
					}
					if args[0] == "init" {
						args = []string{"init", "--config", "new.yaml"}
					}
					result := p.Run(t, nil, args...)
					said += len(result.Stdout) + len(result.Stderr)
					if strings.Contains(result.Stdout+result.Stderr, situation.secret) {
						t.Errorf("%q printed the secret: %s", args, result)
					}
					if strings.Contains(result.Stderr, "goroutine ") {
						t.Errorf("%q crashed: %s", args, result)
					}
				}
				if said == 0 {
					t.Error("nothing was said at all")
				}
			})
		}
	}
}

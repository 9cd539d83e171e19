package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestGuides runs all blocks of a page that are marked `sh`, as one script, on a
// machine whose cache has org/model and whose configuration file names a bucket on
// the S3 server. Blocks without a mark are for programs that are not here.
func TestGuides(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"migration.md", "from-aws-s3-sync.md", "from-rclone.md"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			blocks := regexp.MustCompile("(?s)\n```sh\n(.*?)\n```\n").FindAllStringSubmatch(read(t, "../../docs/"+page), -1)
			var script strings.Builder
			for _, block := range blocks {
				script.WriteString(block[1] + "\n")
			}
			if strings.Count(script.String(), "hf-cache-sync") < 5 {
				t.Fatalf("few commands: %s", script.String())
			}
			bucket, home := server.Bucket(t), t.TempDir()
			model := testenv.Sample()
			model.Repo = "org/model"
			model.WriteCache(t, filepath.Join(home, ".cache", "huggingface", "hub"))
			testenv.WriteFile(t, filepath.Join(home, ".hf-cache-sync.yaml"), []byte(
				"storage:\n  endpoint: "+server.Endpoint+"\n  bucket: "+bucket+"\n  region: us-east-1\nteam:\n  prefix: ml\n"))
			testenv.Symlink(t, filepath.Dir(testenv.Tool(t, "venv/py-hf-cache-sync/bin/hf-cache-sync")), filepath.Join(home, "old", "bin"))
			p := testenv.Program{Args: []string{"bash", "-eu", "-x"}, Dir: home, Env: []string{
				"PATH=" + binDir(t, nil) + ":" + os.Getenv("PATH"), "HOME=" + home,
			}}.With(server.Env()[3:]...)
			text := strings.ReplaceAll(script.String(), "team-hf-cache", bucket)
			if got := p.Run(t, strings.NewReader(text)); got.Code != 0 {
				t.Errorf("%s", got)
			}
			// What the pages promise of it: a cache that was emptied is whole again.
			model.Compare(t, filepath.Join(home, ".cache", "huggingface", "hub"))
		})
	}
}

package oracle_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestOracleHerd lets eight machines pull the same missing model through one
// bucket at once: the Hub serves each byte about once. Then again, with the
// machine killed that fetches for all.
func TestOracleHerd(t *testing.T) {
	const machines, files, size = 8, 25, 8 << 20 // 200 MB
	for name, kill := range map[string]bool{"all live": false, "the holder dies": true} {
		t.Run(name, func(t *testing.T) {
			lease := "1m" // So that no machine is taken for dead that is only slow.
			if kill {
				lease = "5s"
			}
			w := newWorld(t)
			repo := w.hub.Repo(fakehub.Model, "acme/herd")
			content := []fakehub.File{fakehub.Git("config.json", []byte("{}"))}
			for i := range files {
				content = append(content, noise(t, filepath.Join("parts", string(rune('a'+i))), uint64(500+i), size))
			}
			commit := repo.Commit("main", content...)
			remote := withHub(t, w, server.Remote(t))
			w.hub.Reset()

			var all sync.WaitGroup
			homes := make([]string, machines)
			runs := make([]*exec.Cmd, machines)
			outputs := make([]bytes.Buffer, machines)
			for i := range machines {
				homes[i] = t.TempDir()
				program := testenv.Binary(t, remote.Env...)
				args := append(append([]string{}, program.Args[1:]...), "pull", repo.ID(), "--backfill", "--lease-time", lease,
					"--remote", remote.URL, "--cache-dir", hubDir(homes[i]))
				cmd := exec.CommandContext(t.Context(), program.Args[0], args...)
				cmd.Dir, cmd.Env = t.TempDir(), append([]string{"HOME=" + t.TempDir()}, program.Env...)
				cmd.Stdout, cmd.Stderr = &outputs[i], &outputs[i]
				runs[i] = cmd
			}
			start := func(i int) {
				if err := runs[i].Start(); err != nil {
					t.Error(err)
					return
				}
				all.Go(func() { _ = runs[i].Wait() }) // Its exit code is looked at below.
			}
			start(0)
			served := func() (sum int64) {
				for _, r := range w.hub.Downloads() {
					sum += r.BodyBytes
				}
				return sum
			}
			if kill {
				// It is alone, so it has the lease; half of the model is to be had when it dies.
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for blobs := 0; blobs < files/2; <-tick.C {
					found, err := filepath.Glob(filepath.Join(server.Path(strings.TrimPrefix(remote.URL, "s3://")), "blobs", "*"))
					if err != nil {
						t.Fatal(err)
					}
					blobs = len(found)
				}
				_ = runs[0].Process.Kill() // It may be done.
			}
			for i := 1; i < machines; i++ {
				start(i)
			}
			all.Wait()
			for i, run := range runs {
				if code := run.ProcessState.ExitCode(); code != 0 && (i > 0 || !kill) {
					t.Errorf("machine %d: exit code %d: %s", i, code, &outputs[i])
				}
			}
			total := served()
			proof.Row{
				Class: proof.Races, Times: machines, Tried: "machine that pulls a missing model of 200 MiB at the same time as others, " + name,
				Figures: fmt.Sprintf("the Hub served the model %.2f times", float64(total)/(files*size)),
			}.Record(t)
			most := int64(files * size * 11 / 10)
			if kill {
				most = files * size * 3 / 2 // What it had and had not given on.
			}
			if total > most {
				t.Errorf("the Hub has served %d bytes for a model of %d", total, files*size)
			}
			reader := testenv.Python(t, "2.4.0")
			f := fetch{fakehub.Model, repo.ID(), "main", nil, commit}
			for i := 1; i < machines; i++ {
				var got struct {
					Files map[string]string `json:"files"`
				}
				reader.Run(t, homes[i], "", f.step("offline"))[0].Decode(t, &got)
				if len(got.Files) != files+1 || got.Files["parts/a"] != commit.Digests()["parts/a"] {
					t.Errorf("machine %d has %d files", i, len(got.Files))
				}
			}
			remote.Sync(t, t.TempDir(), "pull", repo.ID(), "--require-complete")
		})
	}
}

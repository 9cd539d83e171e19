package oracle_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// prune runs prune and returns what it says that the disk got back.
func prune(t *testing.T, home string, args ...string) (freed int64, result testenv.Result) {
	t.Helper()
	p := testenv.Binary(t).With("HF_CACHE_SYNC_CACHE_DIR=" + hubDir(home))
	p.Dir = t.TempDir()
	result = p.Run(t, nil, slices.Concat([]string{"prune", "--json"}, args)...)
	var summary struct {
		Freed int64 `json:"freed"`
	}
	if err := json.Unmarshal([]byte(result.Stdout), &summary); err != nil || result.Code != 0 {
		t.Fatalf("%v: %s", err, result)
	}
	return summary.Freed, result
}

// blocks is what the files below dir take on the disk: each once, whatever
// names it has. Folders and links are not counted.
func blocks(t *testing.T, dir string) int64 {
	t.Helper()
	seen := map[uint64]bool{}
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("no inode")
		}
		if !seen[stat.Ino] {
			seen[stat.Ino] = true
			sum += stat.Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// free is how much room the file system has.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	return int64(stat.Bfree) * stat.Bsize
}

// ownDisk is a folder with a file system of its own, so that what it has free
// depends on the test alone. Without the right to mount one it is any folder,
// and own is false.
func ownDisk(t *testing.T) (dir string, own bool) {
	t.Helper()
	dir = t.TempDir()
	if os.Geteuid() != 0 {
		return dir, false
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, true
}

// age makes everything below dir look as if it had been left alone for a week.
func age(t *testing.T, dir string) {
	t.Helper()
	then := syscall.NsecToTimespec(time.Now().Add(-7 * 24 * time.Hour).UnixNano())
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return syscall.UtimesNano(path, []syscall.Timespec{then, then})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOraclePruneSharedStore prunes one of two repositories that share a blob:
// the other still loads, and the figure is what the disk shows. Then the other
// goes, and the blob with it, as when the client itself removes them.
func TestOraclePruneSharedStore(t *testing.T) {
	t.Parallel()
	client := testenv.Python(t, "2.4.0")
	w := newWorld(t)
	weights := fakehub.Noise(77, 8<<20)
	file, err := fakehub.LFSFrom("weights.bin", weights, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	var fetches []fetch
	for _, name := range []string{"acme/one", "acme/two"} {
		repo := w.hub.Repo(fakehub.Model, name)
		fetches = append(fetches, fetch{fakehub.Model, name, "main", nil, repo.Commit("main",
			file.WithXet(), fakehub.Git("config.json", []byte(name)))})
	}
	home, own := ownDisk(t)
	for _, f := range fetches {
		if o := client.Run(t, home, w.url, f.step("download"))[0]; o.Error != "" {
			t.Fatal(o)
		}
	}
	var moved []string
	if client.Run(t, home, "", testenv.Step{"do": "share"})[0].Decode(t, &moved); len(moved) != 2 {
		t.Fatalf("in the shared store: %v", moved)
	}
	age(t, hubDir(home))
	measured := func(args ...string) {
		t.Helper()
		used, room := blocks(t, hubDir(home)), free(t, home)
		freed, result := prune(t, home, append(args, "--max-size", "0", "--evict-active", "--unsafe", "--yes")...)
		if got := used - blocks(t, hubDir(home)); got != freed {
			t.Errorf("it says that it freed %d, and the files take %d less: %s", freed, got, result)
		}
		if got := free(t, home) - room; own && got != freed {
			t.Errorf("it says that it freed %d, and df shows %d: %s", freed, got, result)
		}
	}
	measured("--keep", "acme/two")
	payloads, err := filepath.Glob(filepath.Join(hubDir(home), "blobs", "??", strings.Repeat("?", 64)))
	if err != nil || len(payloads) != 1 {
		t.Errorf("payloads: %v, %v", payloads, err)
	}
	outcomes := client.Run(t, home, "", fetches[1].step("offline"), fetches[0].step("offline"), testenv.Step{"do": "scan"})
	var got struct {
		Files map[string]string `json:"files"`
	}
	outcomes[0].Decode(t, &got)
	if want := fetches[1].commit.Digests()["weights.bin"]; got.Files["weights.bin"] != want {
		t.Errorf("the other repository's weights are %s, want %s", got.Files["weights.bin"], want)
	}
	if outcomes[1].Error == "" {
		t.Errorf("what was pruned still loads: %s", outcomes[1])
	}
	if scan := canonical(t, outcomes[2]); !strings.Contains(scan, `"warnings": []`) {
		t.Errorf("a scan complains: %s", scan)
	}
	measured()
	if left := blocks(t, filepath.Join(hubDir(home), "blobs")); left > 4<<10 { // the store's marker
		t.Errorf("the shared store still takes %d bytes", left)
	}
}

// TestOraclePruneBesideDownloads lets a real client download for a minute,
// again and again, a branch that moves, while prune takes what the client
// left behind and watch pushes what it got. No download fails, and every
// snapshot that is left loads.
func TestOraclePruneBesideDownloads(t *testing.T) {
	t.Parallel()
	const length = time.Minute
	client := testenv.Python(t, "2.4.0")
	w := newWorld(t)
	home, remote := t.TempDir(), testenv.FileRemote(t)
	testenv.Mkdir(t, hubDir(home))
	watcher := startWatch(t, remote, home)
	deadline := time.Now().Add(length)

	pruned := make(chan int64)
	go func() {
		var sum int64
		for time.Now().Before(deadline) {
			// Two seconds are long for a file of this size, and short beside a minute.
			testenv.AgeDetached(t, hubDir(home), 2*time.Second)
			freed, _ := prune(t, home, "--max-size", "0", "--grace", "2s")
			sum += freed
		}
		pruned <- sum
	}()
	heads := map[string]fetch{}
	downloads := 0
	for time.Now().Before(deadline) {
		var steps []testenv.Step
		for i := range 3 {
			name := fmt.Sprintf("acme/moving-%d", i)
			repo := w.hub.Repo(fakehub.Model, name)
			// Every commit has weights of its own beside those that never change.
			commit := repo.Commit("main", noise(t, "weights.bin", uint64(1000+downloads), 3<<20).WithXet(), noise(t, "same.bin", 5, 1<<20),
				fakehub.Git("config.json", fmt.Appendf(nil, "%d", downloads)))
			heads[name] = fetch{fakehub.Model, name, "main", nil, commit}
			steps = append(steps, heads[name].step("download"))
			downloads++
		}
		for _, o := range client.Run(t, home, w.url, steps...) {
			if o.Error != "" {
				t.Errorf("a download failed: %s", o)
			}
		}
	}
	freed := <-pruned
	proof.Row{
		Class: proof.Races, Times: downloads, Tried: "download by huggingface_hub 2.4.0 beside prune and watch, of branches that move",
		Figures: fmt.Sprintf("%d MB pruned meanwhile", freed/1e6),
	}.Record(t)
	if freed == 0 {
		t.Error("nothing was ever pruned")
	}
	if code := watcher.stop(t); code != 0 {
		t.Errorf("watch ended with exit code %d", code)
	}
	for _, f := range heads {
		var got struct {
			Commit string            `json:"commit"`
			Files  map[string]string `json:"files"`
		}
		client.Run(t, home, "", f.step("offline"))[0].Decode(t, &got)
		if got.Commit != f.commit.ID() || got.Files["weights.bin"] != f.commit.Digests()["weights.bin"] {
			t.Errorf("%s is %s, want %s", f.name(), got.Commit, f.commit.ID())
		}
	}
	everySnapshotLoads(t, client, home)
	testenv.AuditCache(t, hubDir(home))
	if scan := canonical(t, client.Run(t, home, "", testenv.Step{"do": "scan"})[0]); !strings.Contains(scan, `"warnings": []`) {
		t.Errorf("a scan complains: %s", scan)
	}
	var audit testenv.Auditor
	audit.Bucket(t, strings.TrimPrefix(remote.URL, "file://"))
}

// everySnapshotLoads loads each commit that has a folder.
func everySnapshotLoads(t *testing.T, client testenv.Client, home string) {
	t.Helper()
	snapshots, err := filepath.Glob(filepath.Join(hubDir(home), "models--*", "snapshots", "*"))
	if err != nil || len(snapshots) == 0 {
		t.Fatalf("snapshots: %v, %v", snapshots, err)
	}
	var steps []testenv.Step
	for _, dir := range snapshots {
		folder := filepath.Base(filepath.Dir(filepath.Dir(dir)))
		repo := strings.ReplaceAll(strings.TrimPrefix(folder, "models--"), "--", "/")
		steps = append(steps, testenv.Step{"do": "offline", "repo": repo, "revision": filepath.Base(dir)})
	}
	for i, o := range client.Run(t, home, "", steps...) {
		if o.Error != "" {
			t.Errorf("%v does not load: %s", steps[i], o)
		}
	}
}

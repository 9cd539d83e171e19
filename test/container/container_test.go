//go:build linux

// Package container_test runs the program as the image of packaging/docker has it:
// alone in a root that cannot be written to, as a user that is not root, with the
// variables of the Dockerfile. The root is made here, since there is no registry to
// take the stages of the build from; the build itself is not run.
package container_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// image is what the last stage of the Dockerfile says of the container.
type image struct {
	env        []string
	user       string
	entrypoint string
}

func readImage(t *testing.T) (i image) {
	t.Helper()
	data, err := os.ReadFile("../../packaging/docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, stage, ok := strings.Cut(string(data), "\nFROM scratch\n")
	if !ok {
		t.Fatal("the last stage is not on an empty base")
	}
	for line := range strings.Lines(stage) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "ENV":
			i.env = append(i.env, rest)
		case "USER":
			i.user = rest
		case "ENTRYPOINT":
			i.entrypoint = strings.Trim(rest, `[]"`)
		}
	}
	if i.user != "65532:65532" || !regexp.MustCompile(`^/[a-z/-]+$`).MatchString(i.entrypoint) || len(i.env) == 0 {
		t.Fatalf("the last stage says %+v", i)
	}
	return i
}

// inside mounts the root so that nobody can write to it, with /cache, /tmp and
// /bucket in it, and becomes the program.
const inside = `
set -eu
root=$1 user=$2 entrypoint=$3
shift 3
mount --bind "$root" "$root"
for dir in cache tmp bucket; do mount --bind "$root.$dir" "$root/$dir"; done
mount -o remount,bind,ro "$root"
! touch "$root/x" 2>/dev/null || { echo "the root can be written to" >&2; exit 99; }
if [ "$user" = me ]; then exec chroot "$root" "$entrypoint" "$@"; fi
exec chroot --userspec="$user" "$root" "$entrypoint" "$@"
`

func TestImage(t *testing.T) {
	t.Parallel()
	i := readImage(t)
	root := filepath.Join(t.TempDir(), "root")
	program, err := os.ReadFile(testenv.Binary(t).Args[0])
	if err != nil {
		t.Fatal(err)
	}
	testenv.WriteFile(t, root+i.entrypoint, program)
	if err := os.Chmod(root+i.entrypoint, 0o755); err != nil {
		t.Fatal(err)
	}
	const user = 65532
	for _, dir := range []string{"cache", "tmp", "bucket"} {
		testenv.Mkdir(t, filepath.Join(root, dir))
		testenv.Mkdir(t, root+"."+dir)
		if os.Getuid() == 0 {
			if err := os.Chown(root+"."+dir, user, user); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A user that is not root may do this in a namespace of its own, as itself.
	args, as := []string{"unshare", "--mount"}, i.user
	if os.Getuid() != 0 {
		args, as = append(args, "--map-root-user"), "me"
	}
	container := testenv.Program{
		Args: append(args, "sh", "-c", inside, "sh", root, as, i.entrypoint),
		Env:  append(i.env, "HF_CACHE_SYNC_REMOTE=file:///bucket"),
	}

	if got := container.Run(t, nil, "demo"); got.Code != 0 {
		t.Fatalf("demo: %s", got)
	}
	model := testenv.Sample()
	model.WriteBucket(t, root+".bucket")
	if got := container.Run(t, nil, "pull", model.Repo, "--require-complete"); got.Code != 0 {
		t.Fatalf("pull: %s", got)
	}
	model.Compare(t, root+".cache/hub")
	for _, command := range [][]string{
		{"list"}, {"list", "--remote"}, {"doctor"}, {"verify"}, {"watch", "--once", "--exclude=*"}, {"prune", "--max-size=1GB", "--yes"}, {"status"},
	} {
		if got := container.Run(t, nil, command...); got.Code != 0 {
			t.Errorf("%q: %s", command, got)
		}
	}
	// What it remembers of the cache lies beside it, where the next container finds it.
	if _, err := os.Stat(root + ".cache/state/hf-cache-sync"); err != nil {
		t.Error(err)
	}
}

// TestStorageInitializer calls the script as KServe does, and finds the model's files in the folder itself, wherever that is mounted.
func TestStorageInitializer(t *testing.T) {
	t.Parallel()
	model := testenv.Sample()
	model.Files = append(model.Files, testenv.Content{Path: ".gitattributes", Data: []byte("* text\n")})
	bucket := t.TempDir()
	model.WriteBucket(t, bucket)
	bin := t.TempDir()
	testenv.Symlink(t, testenv.Binary(t).Args[0], filepath.Join(bin, "hf-cache-sync"))
	script := testenv.Program{
		Args: []string{"sh", "../../packaging/docker/storage-initializer.sh"},
		Env:  []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HF_CACHE_SYNC_REMOTE=file://" + bucket},
	}
	for _, address := range []string{"hf://org/name", "hf://org/name:main", "hf://org/name@" + model.Commit, "hf://org/name:" + model.Commit} {
		folder := filepath.Join(t.TempDir(), "models")
		for range 2 { // a container that is started again finds what it did
			if got := script.Run(t, nil, address, folder); got.Code != 0 {
				t.Fatalf("%s: %s", address, got)
			}
		}
		moved := folder + "-elsewhere"
		if err := os.Rename(folder, moved); err != nil {
			t.Fatal(err)
		}
		for _, f := range model.Files {
			if got, err := os.ReadFile(filepath.Join(moved, f.Path)); err != nil || string(got) != string(f.Data) {
				t.Errorf("%s: %s: %d bytes, %v", address, f.Path, len(got), err)
			}
		}
	}
	for want, args := range map[int][]string{2: {"s3://org/name", t.TempDir()}, 5: {"hf://org/other", t.TempDir()}} {
		if got := script.Run(t, nil, args...); got.Code != want {
			t.Errorf("%q: %s, want %d", args, got, want)
		}
	}
}

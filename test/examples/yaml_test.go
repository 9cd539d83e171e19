package examples_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/hf-cache-sync/hf-cache-sync/test/release"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// decode reads one YAML document; a key that is there twice is an error.
func decode[T any](t *testing.T, path string) T {
	t.Helper()
	var v, more T
	decoder := yaml.NewDecoder(strings.NewReader(read(t, path)))
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		t.Fatalf("%s: more than one document, or: %v", path, err)
	}
	return v
}

// TestPinned sees to it that the project's own workflows name foreign actions by
// their commits, with the version beside it, and ask for no more than they need.
func TestPinned(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../../.github/workflows/*.yml")
	if err != nil || len(paths) < 2 {
		t.Fatalf("workflows: %q, %v", paths, err)
	}
	type workflow struct {
		Permissions map[string]string
		Jobs        map[string]struct {
			Permissions map[string]string
			Timeout     int `yaml:"timeout-minutes"`
			Steps       []struct{ Uses string }
		}
	}
	for _, path := range paths {
		w := decode[workflow](t, path)
		if w.Permissions == nil || w.Permissions["contents"] == "write" {
			t.Errorf("%s: permissions of all jobs: %v", path, w.Permissions)
		}
		for name, job := range w.Jobs {
			if job.Timeout == 0 {
				t.Errorf("%s: job %s may run for ever", path, name)
			}
			for _, step := range job.Steps {
				_, commit, _ := strings.Cut(step.Uses, "@")
				if step.Uses != "" && step.Uses != "./" && (len(commit) != 40 || !strings.Contains(read(t, path), commit+" # v")) {
					t.Errorf("%s: job %s: %s is not named by a commit and a version", path, name, step.Uses)
				}
			}
		}
	}
}

// shellIsGood has a shell read text without running it.
func shellIsGood(t *testing.T, where, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-n")
	cmd.Stdin = strings.NewReader(text)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s in %q", where, err, output, text)
	}
}

// TestGitLab reads the GitLab example; the service itself is not here to check it.
func TestGitLab(t *testing.T) {
	t.Parallel()
	type job struct {
		Extends, Stage string
		Before         []string `yaml:"before_script"`
		Script         []string
	}
	file := decode[map[string]yaml.Node](t, "../../examples/gitlab-ci.yml")
	jobs := 0
	for name, node := range file {
		if name == "stages" || name == "variables" {
			continue
		}
		var j job
		if err := node.Decode(&j); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, ok := file[j.Extends]; j.Extends != "" && !ok {
			t.Errorf("%s extends %s, which is not there", name, j.Extends)
		}
		for _, line := range append(j.Before, j.Script...) {
			shellIsGood(t, name, line)
		}
		jobs++
	}
	if jobs != 3 {
		t.Errorf("%d jobs", jobs)
	}
}

// TestAnsible reads the playbook; that Ansible takes it was tried by hand.
func TestAnsible(t *testing.T) {
	t.Parallel()
	type play struct {
		Name, Hosts string
		Become      bool
		Vars        map[string]any
		Tasks       []map[string]any
	}
	plays := decode[[]play](t, "../../examples/ansible/playbook.yml")
	if len(plays) != 1 || len(plays[0].Tasks) != 4 {
		t.Fatalf("plays: %+v", plays)
	}
	for _, task := range plays[0].Tasks {
		if task["name"] == nil {
			t.Errorf("a task without a name: %v", task)
		}
	}
}

// TestCloudInit runs the commands of the cloud-init example that install the
// program, with releases of the test, and the service's own command.
func TestCloudInit(t *testing.T) {
	t.Parallel()
	type config struct {
		Files []struct{ Path, Permissions, Content string } `yaml:"write_files"`
		Run   []yaml.Node                                   `yaml:"runcmd"`
	}
	path := "../../examples/cloud-init/user-data.yaml"
	if !strings.HasPrefix(read(t, path), "#cloud-config\n") {
		t.Error("cloud-init would not know it")
	}
	c := decode[config](t, path)
	files := map[string]string{}
	for _, f := range c.Files {
		files[f.Path] = f.Content
	}
	var script string
	if err := c.Run[0].Decode(&script); err != nil {
		t.Fatal(err)
	}
	releases := release.Start(t, runtime.GOOS+"_"+runtime.GOARCH)
	bin := t.TempDir()
	env := []string{"HF_CACHE_SYNC_DOWNLOAD_URL=" + releases.URL, "BIN=" + bin}
	install := testenv.Program{Args: []string{"sh"}, Env: env}
	if got := install.Run(t, strings.NewReader(script)); got.Code != 0 {
		t.Fatalf("installing: %s", got)
	}
	bucket, hub := t.TempDir(), t.TempDir()
	model := testenv.Sample()
	model.Repo, model.Refs = "org/model", []string{"v1.0"}
	model.WriteBucket(t, bucket)
	_, command, _ := strings.Cut(files["/etc/systemd/system/hf-models.service"], "\nExecStart=/usr/local/bin/hf-cache-sync ")
	command, _, _ = strings.Cut(command, "\n")
	got := testenv.Program{Args: append([]string{filepath.Join(bin, "hf-cache-sync")}, strings.Fields(command)...), Env: []string{
		"HF_CACHE_SYNC_REMOTE=file://" + bucket, "HF_HUB_CACHE=" + hub,
	}}.Run(t, nil)
	if got.Code != 0 {
		t.Fatalf("the service: %s", got)
	}
	model.Compare(t, hub)

	releases = release.Start(t, runtime.GOOS+"_"+runtime.GOARCH)
	releases.Damage = true
	empty := t.TempDir()
	refused := install.With("HF_CACHE_SYNC_DOWNLOAD_URL="+releases.URL, "BIN="+empty).Run(t, strings.NewReader(script))
	entries, err := os.ReadDir(empty)
	if err != nil || refused.Code == 0 || len(entries) != 0 || !bytes.Contains([]byte(refused.Stdout), []byte("FAILED")) {
		t.Errorf("a damaged release: %v, %v, %s", entries, err, refused)
	}
}

package action_test

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/release"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// weights is what makes up nearly all bytes of the model.
const weights = 300_000

// newHub serves a Hub with a model and a dataset that has a tag. It returns the
// bytes of all files.
func newHub(t *testing.T) (hub *fakehub.Server, url string, size int) {
	t.Helper()
	hub = fakehub.New()
	config, card := []byte(`{"hidden_size": 8}`), []byte("# A dataset\n")
	hub.Repo(fakehub.Model, "org/model").Commit("main",
		fakehub.Git("config.json", config), fakehub.LFS("model.safetensors", testenv.Noise(7, weights)))
	data := hub.Repo(fakehub.Dataset, "org/data")
	data.Tag("v1.0", data.Commit("main", fakehub.Git("README.md", card)))
	s := httptest.NewServer(hub)
	t.Cleanup(s.Close)
	return hub, s.URL, len(config) + weights + len(card)
}

// keys are the variables that let a job use the S3 server, without its address.
func keys() []string {
	var env []string
	for _, variable := range server.Env() {
		if strings.Contains(variable, "KEY") {
			env = append(env, variable)
		}
	}
	return env
}

// inputs of a job that uses a bucket on the S3 server, with changes.
func inputs(bucket string, changes map[string]string) map[string]string {
	in := map[string]string{
		"repos": "org/model\n  datasets/org/data@v1.0\r\n\n", "remote": "s3://" + bucket + "/ci",
		"endpoint": server.Endpoint, "region": "us-east-1",
	}
	maps.Copy(in, changes)
	return in
}

func expect(t *testing.T, got job, outputs map[string]string) {
	t.Helper()
	if diff := cmp.Diff(outputs, got.outputs); got.code != 0 || diff != "" {
		t.Fatalf("outputs (-want +got):\n%s\n%s", diff, got)
	}
}

// TestPullAndPush runs two jobs, one after the other: what the first takes from
// the Hub and what it makes itself, the second has from the bucket.
func TestPullAndPush(t *testing.T) {
	t.Parallel()
	releases := release.Start(t, platform())
	hub, hubURL, size := newHub(t)
	bucket := server.Bucket(t)

	first := newRunner(t, releases, append(keys(), "HF_ENDPOINT="+hubURL)...)
	got := first.uses(t, ".", inputs(bucket, map[string]string{"push": "true"}))
	expect(t, got, map[string]string{"cache-hit": "false", "bytes": fmt.Sprint(size), "hub-cache": first.hub()})
	for _, want := range []string{
		"| repository | commit | files | downloaded | of it from the Hub | offline |\n|---|---|---:|---:|---:|---|\n| `org/model` | `",
		"` | 2 | 300.0 kB | 300.0 kB | ready |\n| `datasets/org/data@v1.0` | `",
	} {
		if !strings.Contains(got.summary, want) {
			t.Errorf("the summary lacks %q:\n%s", want, got.summary)
		}
	}
	// A later step of the job downloads something.
	made := testenv.Sample()
	made.WriteCache(t, first.hub())
	got = first.uses(t, "action/push", map[string]string{"repos": "org/name\norg/absent"})
	expect(t, got, map[string]string{"bytes": fmt.Sprint(total(made))})
	if !strings.Contains(got.summary, "| 1 | 1 | 0 | 300.0 kB | exit code 0 |") {
		t.Errorf("the summary of the push:\n%s", got.summary)
	}
	// All that was to be pulled is in the bucket already.
	expect(t, first.uses(t, "action/push", nil), map[string]string{"bytes": "0"})

	hub.Reset()
	second := newRunner(t, releases, append(keys(), "HF_ENDPOINT="+hubURL)...)
	got = second.uses(t, ".", inputs(bucket, map[string]string{"repos": "org/model\ndatasets/org/data@v1.0\norg/name@main"}))
	expect(t, got, map[string]string{"cache-hit": "true", "bytes": fmt.Sprint(size + total(made)), "hub-cache": second.hub()})
	if downloads := hub.Downloads(); len(downloads) != 0 {
		t.Errorf("the Hub was asked for files: %v", downloads)
	}
	made.Compare(t, second.hub())
	testenv.AuditCache(t, second.hub())
	// Not allowed to push, it does not, and says so.
	testenv.Revision{Repo: "org/own", Commit: testenv.Commit("own"), Refs: []string{"main"}, Files: made.Files}.WriteCache(t, second.hub())
	before := testenv.Keys(t, server.Path(bucket))
	got = second.uses(t, "action/push", map[string]string{"repos": "org/own"})
	expect(t, got, map[string]string{"bytes": "0"})
	if diff := cmp.Diff(before, testenv.Keys(t, server.Path(bucket))); diff != "" || !strings.Contains(got.output, "::notice title=hf-cache-sync::nothing is pushed") {
		t.Errorf("a job that must not push (-before +after):\n%s\n%s", diff, got)
	}

	// The variables that it leaves make the program itself work in later steps.
	result := testenv.Binary(t, append(keys(), "HF_HUB_OFFLINE=1", "HOME="+second.home)...).With(variables(second.env)...).Run(t, nil, "diff", "--exit-code", "org/model")
	if result.Code != 0 {
		t.Errorf("diff in a later step: %s", result)
	}
}

func total(r testenv.Revision) int {
	size := 0
	for _, f := range r.Files {
		size += len(f.Data)
	}
	return size
}

func variables(env map[string]string) []string {
	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

// TestInclude pulls some files of a repository only.
func TestInclude(t *testing.T) {
	t.Parallel()
	_, hubURL, size := newHub(t)
	m := newRunner(t, release.Start(t, platform()), append(keys(), "HF_ENDPOINT="+hubURL)...)
	got := m.uses(t, ".", inputs(server.Bucket(t), map[string]string{"include": "*.json\n$(touch pwned)\n--help\n", "repos": "org/model"}))
	expect(t, got, map[string]string{"cache-hit": "false", "bytes": fmt.Sprint(size - weights - len("# A dataset\n")), "hub-cache": m.hub()})
	unharmed(t, m)
}

// unharmed fails if shell text in an input was run.
func unharmed(t *testing.T, m *runner) {
	t.Helper()
	err := filepath.WalkDir(filepath.Dir(m.home), func(path string, _ os.DirEntry, err error) error {
		if filepath.Base(path) == "pwned" {
			t.Errorf("an input was run: %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestForks runs jobs that have no keys, or come from another repository: they
// work, and nothing is written to the bucket.
func TestForks(t *testing.T) {
	t.Parallel()
	releases := release.Start(t, platform())
	_, hubURL, size := newHub(t)
	bucket := server.Bucket(t)
	// A secret that is not there is an empty variable.
	empty := []string{"HF_ENDPOINT=" + hubURL, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "B2_APPLICATION_KEY_ID=", "B2_APPLICATION_KEY="}
	all := fmt.Sprint(size)
	tests := map[string]struct {
		env    []string
		head   string
		inputs map[string]string
		hit    string
		bytes  string
		says   string
	}{
		"without keys":                    {empty, "stranger/app", map[string]string{"push": "true"}, "false", all, "there are no credentials"},
		"without keys or the Hub":         {empty, "stranger/app", map[string]string{"fallback": "none"}, "false", "0", "not pulled: no credentials"},
		"without keys, not on the Hub":    {empty, "stranger/app", map[string]string{"repos": "org/absent"}, "false", "0", "org/absent was not pulled"},
		"half a pair of keys":             {append(empty[:1:1], "AWS_ACCESS_KEY_ID=test"), "", nil, "false", all, "there are no credentials"},
		"with keys":                       {append(keys(), empty[0]), "stranger/app", map[string]string{"push": "true"}, "false", all, "from stranger/app: nothing is pushed"},
		"a branch of the repository":      {append(keys(), empty[0]), "team/app", nil, "false", all, "Nothing is pushed."},
		"a miss that is no failure":       {append(keys(), empty[0]), "team/app", map[string]string{"fallback": "none"}, "false", "0", "not in the bucket"},
		"a bucket without keys: a folder": {empty, "", map[string]string{"remote": "file://" + t.TempDir(), "push": "true"}, "false", all, "if action/push follows"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newRunner(t, releases, test.env...)
			m.event["event.pull_request.head.repo.full_name"] = test.head
			got := m.uses(t, ".", inputs(bucket, test.inputs))
			expect(t, got, map[string]string{"cache-hit": test.hit, "bytes": test.bytes, "hub-cache": m.hub()})
			if !strings.Contains(got.output+got.summary, test.says) {
				t.Errorf("it does not say %q: %s", test.says, got)
			}
			if pushed := m.uses(t, "action/push", nil); pushed.code != 0 {
				t.Errorf("the push afterwards: %s", pushed)
			}
			if objects := testenv.Keys(t, server.Path(bucket)); len(objects) != 0 {
				t.Errorf("the bucket was written to: %v", objects)
			}
		})
	}
}

// TestMistakes gives the action inputs that are wrong, or meant to do harm.
func TestMistakes(t *testing.T) {
	t.Parallel()
	releases := release.Start(t, platform())
	_, hubURL, _ := newHub(t)
	tests := map[string]struct {
		inputs map[string]string
		code   int
		says   string
	}{
		"no repository":          {map[string]string{"repos": " \n"}, 2, "input repos: name at least one"},
		"a flag as a repository": {map[string]string{"repos": "--cache-dir=/etc"}, 2, "input repos: not a repository"},
		"shell text":             {map[string]string{"repos": "org/model\n$(touch pwned)"}, 2, "input repos: not a repository"},
		"shell text with quotes": {map[string]string{"repos": "\"; touch pwned; \""}, 2, "input repos: not a repository"},
		"a command to the runner": {
			map[string]string{"repos": "org/model%0A::add-path::/evil\n::set-env name=PATH::/evil"}, 2, "input repos: not a repository",
		},
		"a variable more":             {map[string]string{"remote": "s3://bucket\nLD_PRELOAD=/evil.so"}, 2, "input remote: it has more than one line"},
		"an endpoint more":            {map[string]string{"endpoint": "http://localhost\nx"}, 2, "input endpoint: it has more"},
		"a bucket of no kind":         {map[string]string{"remote": "ftp://bucket"}, 2, "exit code 2"},
		"an unknown fallback":         {map[string]string{"fallback": "mirror"}, 2, "input fallback: hf-hub or none"},
		"push that is no bool":        {map[string]string{"push": "yes"}, 2, "input push: true or false"},
		"credentials":                 {map[string]string{"credentials": "all"}, 2, "input credentials: env or machine"},
		"no bucket":                   {map[string]string{"remote": ""}, 2, "input remote: name the bucket"},
		"not on the Hub either":       {map[string]string{"repos": "org/absent"}, 5, "pull org/absent: exit code 5"},
		"a version that is a path":    {map[string]string{"version": "../../../evil"}, 2, "not the number of a release"},
		"a version with a line":       {map[string]string{"version": "1.2.3\nx"}, 2, "input version: it has more"},
		"a version that is not there": {map[string]string{"version": "v9.9.9"}, 7, "releases/download/v9.9.9/checksums.txt: cannot be fetched"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newRunner(t, releases, append(keys(), "HF_ENDPOINT="+hubURL)...)
			got := m.uses(t, ".", inputs(server.Bucket(t), test.inputs))
			if got.code != test.code || !strings.Contains(got.output, test.says) {
				t.Errorf("want exit code %d and %q: %s", test.code, test.says, got)
			}
			unharmed(t, m)
			for line := range strings.Lines(got.output) {
				if strings.HasPrefix(line, "::") && !strings.HasPrefix(line, "::error title=hf-cache-sync::") && !strings.HasPrefix(line, "::group::pull ") && line != "::endgroup::\n" {
					t.Errorf("a command to the runner: %q", line)
				}
			}
		})
	}
	t.Run("push without pull", func(t *testing.T) {
		t.Parallel()
		got := newRunner(t, releases, keys()...).uses(t, "action/push", nil)
		if got.code != 2 || !strings.Contains(got.output, "before hf-cache-sync/hf-cache-sync/action/push") {
			t.Errorf("%s", got)
		}
	})
}

// TestDamagedRelease refuses a release that is not what its checksums say.
func TestDamagedRelease(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(*release.Server)
		code  int
		says  string
	}{
		"damaged":  {func(s *release.Server) { s.Damage = true }, 6, "not used"},
		"unlisted": {func(s *release.Server) { s.Omit = true }, 5, "does not say what hf-cache-sync_1.2.3_" + platform()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			releases := release.Start(t, platform())
			test.spoil(releases)
			m := newRunner(t, releases, keys()...)
			got := m.uses(t, ".", inputs(server.Bucket(t), nil))
			if got.code != test.code || !strings.Contains(got.output, "::error title=hf-cache-sync::") || !strings.Contains(got.output, test.says) {
				t.Errorf("want exit code %d and %q: %s", test.code, test.says, got)
			}
			if len(m.path) != 0 || len(got.summary) != 0 {
				t.Errorf("it went on: PATH %q, %s", m.path, got)
			}
			left, err := filepath.Glob(filepath.Join(m.temp, "hf-cache-sync", "hf-cache-sync", "bin", "*"))
			if err != nil || len(left) != 0 {
				t.Errorf("it left %q, %v", left, err)
			}
		})
	}
}

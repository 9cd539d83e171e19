// Package e2e_test runs the scripts of testdata/script: command lines as people
// type them, with what they print, how they end, and the files and objects that
// they leave. The names of the scripts begin with what they are about.
//
// Beside the commands of testscript, which `go doc
// github.com/rogpeppe/go-internal/testscript` explains, a script has:
//
//	exits CODE hf-cache-sync ARG...   run it; it must end with this exit code
//	mkcache DIR [REPO[@REF]...]       put small repositories into a cache
//	samefiles DIR DIR                 both caches have the same refs and files
//	objects DIR COUNT                 the folder of a bucket has so many objects
//	unchanged -save DIR, unchanged DIR
//	                                  nothing was written below DIR in between
//	flip FILE                         change the last byte of a file
//	s3put FILE FOLDER NAMES           put the file under each key FOLDER/NAME of
//	                                  the bucket, the names being those in the file
//	                                  NAMES; the folder "." is none
//	hint TEXT                         the last command gave a hint that has the text
//	gone [CODE]                       run that command again: it ends with the code,
//	                                  and does not give the hint
//	helped                            stands instead of gone, after a command that is
//	                                  what the hint says, or the same with what it says
//	untried REASON                    stands instead of gone, where the script
//	                                  cannot do what the hint says
//	faults FAULT..., hub ANSWER...    the S3 server, or a Hub of the script's own,
//	                                  behaves so from now on; see hintservers_test.go
//	small DIR, readonly DIR           make the folder a full disk, or one that
//	                                  nobody can write to
//
// mkcache sets the variable COMMIT to the commit of the last repository that it
// made, and SHORT to its first 12 digits. A repository with "gated" in its name
// asks its readers to accept terms. Each script has a bucket on the S3
// server at S3ADDRESS: S3URL names it and S3DIR holds its objects. The variables
// that give access to it are set, and HOME is a folder of the script's own. REPO is the
// project's own folder.
package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// server is the S3 server of all tests in this package; TestMain sets it.
var server *testenv.S3

func TestMain(m *testing.M) {
	os.Exit(testenv.MainWithS3(m, func(s *testenv.S3) { server = s }))
}

func TestScripts(t *testing.T) {
	// The scripts find the binary in a folder of its own.
	bin := t.TempDir()
	name := "hf-cache-sync"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	testenv.Symlink(t, testenv.Binary(t).Args[0], filepath.Join(bin, name))
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			bucket := server.Bucket(t)
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Values[servicesKey{}] = &services{}
			env.Setenv("REPO", repository)
			env.Setenv("S3URL", "s3://"+bucket+"/team")
			env.Setenv("S3ADDRESS", strings.TrimPrefix(server.Endpoint, "http://"))
			env.Setenv("S3DIR", filepath.Join(server.Path(bucket), "team"))
			for _, variable := range server.Env() {
				key, value, _ := strings.Cut(variable, "=")
				env.Setenv(key, value)
			}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "mkcache": mkcache(t), "samefiles": samefiles(t), "objects": objects(t),
			"unchanged": unchanged(t), "flip": flip, "s3put": s3put, "hint": hint, "gone": gone, "helped": helped, "untried": untried,
			"faults": faults(t), "hub": fakeHub(t), "small": small, "readonly": readonly,
		},
	})
}

// usage ends the script unless a command was called rightly.
func usage(ts *testscript.TestScript, ok bool, how string) {
	if !ok {
		ts.Fatalf("usage: %s", how)
	}
}

// exits runs a command and compares its exit code. What it prints must hold no
// secret, must not be that of a crash, and must have the shape of an error if
// and only if it is one.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) > 1, "exits CODE COMMAND ARG...")
	ts.Check(os.WriteFile(state(ts, "command"), []byte(strings.Join(args[1:], "\x00")), 0o600))
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("running %s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	if got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
	for _, name := range []string{"AWS_SECRET_ACCESS_KEY", "B2_APPLICATION_KEY", "AWS_SESSION_TOKEN"} {
		if secret := ts.Getenv(name); secret != "" && strings.Contains(stdout+stderr, secret) {
			ts.Fatalf("it printed the value of %s", name)
		}
	}
	if strings.Contains(stderr, "goroutine ") || strings.Contains(stdout, "hf-cache-sync: ") {
		ts.Fatalf("it crashed, or printed an error to standard output")
	}
	if isError := strings.Contains(stderr, "hf-cache-sync: "); isError != (want != 0) {
		ts.Fatalf("an error line belongs to an error, and only to one")
	}
}

// mkcache makes repositories that look real, all with other content, but for one
// file that all of them share.
func mkcache(t *testing.T) func(*testscript.TestScript, bool, []string) {
	t.Helper()
	return func(ts *testscript.TestScript, neg bool, args []string) {
		usage(ts, !neg && len(args) > 0, "mkcache DIR [REPO[@REF]...]")
		repos := args[1:]
		if len(repos) == 0 {
			repos = []string{"org/name"}
		}
		for _, arg := range repos {
			r := revision(arg)
			r.WriteCache(t, ts.MkAbs(args[0]))
			ts.Setenv("COMMIT", r.Commit)
			ts.Setenv("SHORT", r.Commit[:12])
		}
	}
}

// revision reads "org/name@ref" or "datasets/org/name@ref".
func revision(arg string) testenv.Revision {
	name, ref, found := strings.Cut(arg, "@")
	if !found {
		ref = "main"
	}
	r := testenv.Revision{Repo: name, Refs: []string{ref}, Commit: testenv.Commit(name + "@" + ref)}
	for _, kind := range []string{"dataset", "space", "kernel"} {
		if rest, ok := strings.CutPrefix(name, kind+"s/"); ok {
			r.Type, r.Repo = kind, rest
		}
	}
	seed := uint64(0)
	for _, c := range arg {
		seed = seed*31 + uint64(c)
	}
	r.Files = []testenv.Content{
		{Path: "config.json", Data: fmt.Appendf(nil, "{\"name\": %q}\n", arg)},
		{Path: "model.safetensors", Data: testenv.Noise(seed, 200_000), LFS: true},
		{Path: "shared/vocab.txt", Data: []byte("a\nb\n")},
	}
	if strings.Contains(name, "gated") {
		r.Files = append(r.Files, testenv.Content{Path: "README.md", Data: []byte("---\nextra_gated_prompt: Do you agree?\n---\n# Model\n")})
	}
	return r
}

// samefiles compares two caches as their readers see them.
func samefiles(t *testing.T) func(*testscript.TestScript, bool, []string) {
	t.Helper()
	return func(ts *testscript.TestScript, neg bool, args []string) {
		usage(ts, !neg && len(args) == 2, "samefiles DIR DIR")
		a, b := visible(ts, ts.MkAbs(args[0])), visible(ts, ts.MkAbs(args[1]))
		if len(a) == 0 {
			ts.Fatalf("there are no files in %s", args[0])
		}
		if diff := cmp.Diff(a, b); diff != "" {
			ts.Fatalf("%s and %s differ:\n%s", args[0], args[1], diff)
		}
		testenv.AuditCache(t, ts.MkAbs(args[1]))
	}
}

// visible is the content of every ref and of every file of a snapshot.
func visible(ts *testscript.TestScript, root string) map[string]string {
	files := map[string]string{}
	ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err //nolint:wrapcheck // Both paths are the walk's.
		}
		if parts := strings.Split(rel, string(filepath.Separator)); len(parts) < 3 || parts[1] != "refs" && parts[1] != "snapshots" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("comparing caches: %w", err)
		}
		files[rel] = testenv.SHA256(data)
		return nil
	}))
	return files
}

// objects audits a bucket and counts its objects.
func objects(t *testing.T) func(*testscript.TestScript, bool, []string) {
	t.Helper()
	return func(ts *testscript.TestScript, neg bool, args []string) {
		usage(ts, !neg && len(args) == 2, "objects DIR COUNT")
		dir := ts.MkAbs(args[0])
		if keys := testenv.Keys(t, dir); strconv.Itoa(len(keys)) != args[1] {
			ts.Fatalf("there are %d objects: %q", len(keys), keys)
		}
		(&testenv.Auditor{}).Bucket(t, dir)
	}
}

// unchanged remembers what is below a folder in a file of the script, and
// compares it.
func unchanged(t *testing.T) func(*testscript.TestScript, bool, []string) {
	t.Helper()
	return func(ts *testscript.TestScript, neg bool, args []string) {
		usage(ts, !neg && (len(args) == 1 || len(args) == 2 && args[0] == "-save"), "unchanged [-save] DIR")
		dir := args[len(args)-1]
		file := filepath.Join(ts.Getenv("WORK"), ".unchanged-"+testenv.Commit(dir))
		now := string(testenv.JSON(t, testenv.Tree(t, ts.MkAbs(dir))))
		if len(args) == 2 {
			ts.Check(os.WriteFile(file, []byte(now), 0o600))
			return
		}
		if diff := cmp.Diff(ts.ReadFile(file), now); diff != "" {
			ts.Fatalf("%s was changed:\n%s", dir, diff)
		}
	}
}

// flip damages a file, as a bad disk would: its size stays.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "flip FILE")
	data := []byte(ts.ReadFile(args[0]))
	data[len(data)-1] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// s3put puts an object as any other program might. Unlike a change of the file
// that the server has, it changes the checksum that the server tells.
func s3put(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 3, "s3put FILE FOLDER NAMES")
	u, err := url.Parse(ts.Getenv("S3URL"))
	ts.Check(err)
	s, err := s3store.Open(s3store.Options{
		Endpoint: ts.Getenv("B2_ENDPOINT"), Region: ts.Getenv("AWS_REGION"), Bucket: u.Host, Prefix: u.Path,
		Credentials: s3store.Credentials{AccessKey: ts.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: ts.Getenv("AWS_SECRET_ACCESS_KEY")},
	})
	ts.Check(err)
	data := ts.ReadFile(args[0])
	for name := range strings.FieldsSeq(ts.ReadFile(args[2])) {
		body := io.NewSectionReader(strings.NewReader(data), 0, int64(len(data)))
		_, err := s.Put(context.Background(), path.Join(args[1], name), body, store.PutOptions{})
		ts.Check(err)
	}
}

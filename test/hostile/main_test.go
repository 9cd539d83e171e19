// Package hostile_test gives the binary buckets and caches that somebody has
// made to do harm, or that something has damaged. Each case says how the command
// must end, what it must name, and what of its work it must have done all the
// same. After each one, nothing outside of the folder that the command writes to
// may have changed, and nothing in it may have a final name and wrong content.
package hostile_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// server is the S3 server of all tests in this package; TestMain sets it.
var server *testenv.S3

func TestMain(m *testing.M) {
	if figure := os.Getenv(measuring); figure != "" {
		os.Exit(measure(figure, os.Args[1:]))
	}
	os.Exit(testenv.MainWithS3(m, func(s *testenv.S3) { server = s }))
}

// secret is what must never get from outside of a cache into a bucket.
const secret = "the content of a file that is none of the cache's\n"

// sandbox is a folder with a cache, a bucket, and things that are neither's
// business:
//
//	home/hub       the cache
//	home/token     as clients keep it beside the cache
//	bucket         unless the bucket is on the server
//	outside/...    files and folders for hostile links to lead to
type sandbox struct {
	dir     string
	cache   string
	bucket  string // Where the objects are files.
	outside string
	remote  testenv.Remote
	audit   *testenv.Auditor
}

func newSandbox(t *testing.T) *sandbox {
	t.Helper()
	dir := t.TempDir()
	s := &sandbox{
		dir: dir, cache: filepath.Join(dir, "home", "hub"), bucket: filepath.Join(dir, "bucket"),
		outside: filepath.Join(dir, "outside"), audit: &testenv.Auditor{},
	}
	s.remote = testenv.Remote{Name: "file", URL: "file://" + filepath.ToSlash(s.bucket)}
	testenv.Mkdir(t, s.bucket)
	testenv.WriteFile(t, filepath.Join(dir, "home", "token"), []byte(secret))
	testenv.WriteFile(t, filepath.Join(s.outside, "secret"), []byte(secret))
	testenv.Mkdir(t, filepath.Join(s.outside, "folder"))
	t.Cleanup(func() {
		lost := 0
		if t.Failed() {
			lost = 1
		}
		test, _, _ := strings.Cut(t.Name(), "/")
		proof.Row{Class: proof.Hostile, Times: 1, Lost: lost, Tried: tried(test)}.Record(t)
	})
	return s
}

// tried says what the tests of a name try.
func tried(test string) string {
	said := map[string]string{
		"TestBlob": "blob that is not what its name says", "TestLinkedFolders": "folder of the cache that is a link", "TestLinkedObjects": "object that is a link out of the bucket",
		"TestWrongSizes": "size that is wrong, negative or absurd", "TestLocalBlobIsWrong": "blob of the cache that is damaged", "TestManifestPath": "path in a manifest that leads elsewhere",
		"TestManifestBody": "manifest whose fields make no sense", "TestManifestOfDataset": "manifest of another repository", "TestManifestBytes": "manifest that is no JSON of ours",
		"TestManifestHuge": "manifest without end", "TestManifestHarmless": "odd manifest that is right all the same", "TestPull": "cache made to mislead a pull",
		"TestPullSharedStore": "damaged payload of the shared blob store", "TestPushJunk": "cache full of junk, pushed", "TestPush": "cache made to mislead a push",
		"TestPushLargeDamaged": "large damaged blob, pushed", "TestPushNames": "name that other systems cannot have, or take for another", "TestPushSharedStore": "shared blob store made to mislead a push",
		"TestPushRoot": "cache folder that is not what it seems", "TestPushIntoHostileBucket": "folder bucket with links out of it, pushed to", "TestRef": "ref that holds something else",
		"TestRefFolder": "ref that is a folder", "TestBadRefBeside": "bad ref beside good ones", "TestRevisionArgument": "revision argument that is none",
		"TestS3Keys": "key that no honest store has", "TestS3RefIsFolder": "ref that is a prefix of others", "TestS3Bodies": "S3 answer that is not what was asked for",
		"TestS3Redirect": "redirect to another host", "TestWriterForgesACommit": "commit forged by a writer of the bucket", "TestWriterCannotChangeWhatIsThere": "forged manifest over what a puller has",
		"TestWriterMeetsAnHonestPush": "forged manifest merged with an honest one", "TestSwappedFolders": "command beside somebody who swaps folders for links",
		"TestEndlessListing": "listing of millions of keys", "TestBombs": "answer that is compressed, nested or endless", "TestDeepTrees": "folder tree too deep, in a place of a cache", "TestListingBombs": "page of a listing without end", "TestWide": "more files, entries or refs than anybody has",
		"TestCase": "two paths that are one name where case is ignored", "TestHub": "Hub that answers with nonsense, or without end",
	}
	if text, ok := said[test]; ok {
		return text
	}
	return "case of " + test
}

// onServer moves the bucket to the S3 server.
func (s *sandbox) onServer(t *testing.T) {
	t.Helper()
	name := server.Bucket(t)
	s.remote = testenv.Remote{Name: "s3", URL: "s3://" + name + "/team/prefix", Env: server.Env()}
	s.bucket = filepath.Join(server.Path(name), "team", "prefix")
	testenv.Mkdir(t, s.bucket)
}

// secretOutside is the path of the file outside with the secret.
func (s *sandbox) secretOutside() string { return filepath.Join(s.outside, "secret") }

// elsewhere is another machine: the same bucket, and a cache that is empty.
func (s *sandbox) elsewhere() *sandbox {
	other := *s
	other.cache = filepath.Join(s.dir, "elsewhere", "hub")
	return &other
}

// pull runs a command that may change the cache and nothing else.
func (s *sandbox) pull(t *testing.T, args ...string) testenv.Result {
	t.Helper()
	return s.run(t, s.cache, args...)
}

// push runs a command that may change the bucket and nothing else.
func (s *sandbox) push(t *testing.T, args ...string) testenv.Result {
	t.Helper()
	result := s.run(t, s.bucket, args...)
	s.audit.Bucket(t, s.bucket)
	for _, key := range testenv.Keys(t, s.bucket) {
		data, err := os.ReadFile(filepath.Join(s.bucket, filepath.FromSlash(key)))
		if err != nil || bytes.Contains(data, []byte(strings.TrimSpace(secret))) || bytes.Contains(data, []byte("root:")) {
			t.Errorf("%s in the bucket: %.200q, %v", key, data, err)
		}
	}
	return result
}

// run runs a command that may change what is below target, and nothing else.
func (s *sandbox) run(t *testing.T, target string, args ...string) testenv.Result {
	t.Helper()
	target, err := filepath.Rel(s.dir, target)
	if err != nil {
		t.Fatal(err)
	}
	rest := func() map[string]string {
		tree := testenv.Tree(t, s.dir)
		for path := range tree {
			// The folder's own time changes when something is made in it.
			if path == target || strings.HasPrefix(path, target+string(filepath.Separator)) || path == filepath.Dir(target) {
				delete(tree, path)
			}
		}
		return tree
	}
	before := rest()
	result := s.remote.TrySync(t, filepath.Dir(s.cache), args...)
	if diff := cmp.Diff(before, rest()); diff != "" {
		t.Errorf("something else was changed (-before +after):\n%s", diff)
	}
	for _, text := range []string{"panic:", "goroutine ", "fatal error:"} {
		if strings.Contains(result.Stderr, text) {
			t.Errorf("it crashed: %s", result)
		}
	}
	return result
}

// outcome is how a command must end.
type outcome struct {
	code   int
	stderr []string // All of them must be in it.
}

func (o outcome) check(t *testing.T, got testenv.Result) {
	t.Helper()
	var wrong []string
	if got.Code != o.code {
		wrong = append(wrong, fmt.Sprintf("want exit code %d", o.code))
	}
	for _, text := range o.stderr {
		if !strings.Contains(got.Stderr, text) {
			wrong = append(wrong, fmt.Sprintf("standard error does not say %q", text))
		}
	}
	if (o.code == 0) == strings.Contains(got.Stderr, "hf-cache-sync: ") {
		wrong = append(wrong, "an error line belongs to an error, and only to one")
	}
	if len(wrong) > 0 {
		t.Errorf("%s: %s", strings.Join(wrong, "; "), got)
	}
}

// checkSnapshot fails unless the snapshot of r in the cache has exactly these
// files, and the ref main is there if and only if all files are.
func (s *sandbox) checkSnapshot(t *testing.T, r testenv.Revision, paths []string) {
	t.Helper()
	r.CompareFiles(t, s.cache, paths...)
	_, err := os.Stat(filepath.Join(s.cache, r.Folder(), "refs", "main"))
	if whole := len(paths) == len(r.Files); whole != (err == nil) {
		t.Errorf("%d of %d files, and the ref: %v", len(paths), len(r.Files), err)
	}
}

// allBut are the paths of a revision's files but the given ones.
func allBut(r testenv.Revision, without ...string) []string {
	var paths []string
	for _, f := range r.Files {
		if !slices.Contains(without, f.Path) {
			paths = append(paths, f.Path)
		}
	}
	return paths
}

// isLink says whether path is a symbolic link.
func isLink(t *testing.T, path string) bool {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()&fs.ModeSymlink != 0
}

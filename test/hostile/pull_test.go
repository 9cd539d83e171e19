package hostile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// pullCase is a cache that is to take the sample with large.bin, and in which
// something is in the way.
type pullCase struct {
	spoil  func(t *testing.T, s *sandbox, repo string)
	codes  []int
	stderr []string
	// missing are the paths that cannot be there afterwards; nil if all are and
	// the ref is too.
	missing []string
	// noRef says that the ref cannot be written, though all files are there.
	noRef bool
	// odd says that what was in the way is in the snapshot, and no client would
	// have put it there.
	odd bool
}

func pullCases() map[string]pullCase {
	r := testenv.Sample()
	r.Files = append(r.Files, large())
	weights, big := r.Files[2], r.Files[4]
	snapshot := "snapshots/" + r.Commit
	everything := allBut(r)
	link := func(target, path string) func(*testing.T, *sandbox, string) {
		return func(t *testing.T, s *sandbox, repo string) {
			t.Helper()
			testenv.Symlink(t, filepath.Join(s.outside, target), in(repo, path))
		}
	}
	file := func(path string, data []byte) func(*testing.T, *sandbox, string) {
		return func(t *testing.T, _ *sandbox, repo string) {
			t.Helper()
			testenv.WriteFile(t, in(repo, path), data)
		}
	}
	folder := func(path string) func(*testing.T, *sandbox, string) {
		return func(t *testing.T, _ *sandbox, repo string) {
			t.Helper()
			testenv.WriteFile(t, in(repo, path, "inside"), []byte("x"))
		}
	}
	failed := []int{3, 9}
	return map[string]pullCase{
		// Links where folders should be: everything below them would be written
		// outside.
		"repository links outside": {spoil: link("folder", ""), codes: failed, stderr: []string{r.Folder()}, missing: everything},
		"blobs link outside":       {spoil: link("folder", "blobs"), codes: failed, stderr: []string{"blobs"}, missing: everything},
		"snapshots link outside":   {spoil: link("folder", "snapshots"), codes: failed, stderr: []string{"snapshots"}, missing: everything},
		"snapshot links outside":   {spoil: link("folder", snapshot), codes: failed, stderr: []string{r.Commit}, missing: everything},
		"folder links outside":     {spoil: link("folder", snapshot+"/tokenizer"), codes: failed, stderr: []string{"tokenizer"}, missing: []string{"tokenizer/deep/vocab.txt"}},
		"refs link outside":        {spoil: link("folder", "refs"), codes: failed, stderr: []string{"refs"}, noRef: true},
		"trees link outside":       {spoil: link("folder", "trees"), codes: failed, stderr: []string{"trees"}, noRef: true},
		"no_exist links outside": {spoil: func(t *testing.T, s *sandbox, repo string) {
			t.Helper()
			m := r.Manifest()
			hubKey(m)["no_exist"] = []string{"absent.json"}
			testenv.WriteFile(t, in(s.bucket, filepath.FromSlash(r.ManifestKey())), testenv.JSON(t, m))
			testenv.Symlink(t, in(s.outside, "folder"), in(repo, ".no_exist"))
		}, codes: failed, stderr: []string{".no_exist"}, noRef: true},
		"locks link outside": {spoil: func(t *testing.T, s *sandbox, _ string) {
			t.Helper()
			testenv.Symlink(t, in(s.outside, "folder"), in(s.cache, ".locks"))
		}, codes: []int{0}},

		// Files where folders should be.
		"repository is a file": {spoil: file("", nil), codes: failed, stderr: []string{r.Folder()}, missing: everything},
		"blobs is a file":      {spoil: file("blobs", nil), codes: failed, stderr: []string{"blobs"}, missing: everything},
		"snapshots is a file":  {spoil: file("snapshots", nil), codes: failed, stderr: []string{"snapshots"}, missing: everything},
		"snapshot is a file":   {spoil: file(snapshot, nil), codes: failed, stderr: []string{r.Commit}, missing: everything},
		"folder is a file":     {spoil: file(snapshot+"/tokenizer", nil), codes: failed, stderr: []string{"tokenizer"}, missing: []string{"tokenizer/deep/vocab.txt"}, odd: true},
		"refs is a file":       {spoil: file("refs", nil), codes: failed, stderr: []string{"refs"}, noRef: true},
		"trees is a file":      {spoil: file("trees", nil), codes: failed, stderr: []string{"trees"}, noRef: true},

		// Things where files should be.
		"ref is a folder":          {spoil: folder("refs/main"), codes: failed, stderr: []string{"main"}, noRef: true},
		"ref links outside":        {spoil: link("secret", "refs/main"), codes: []int{0}},
		"ref is junk":              {spoil: file("refs/main", []byte("junk")), codes: []int{0}},
		"tree links outside":       {spoil: link("secret", "trees/"+r.Commit+".json"), codes: []int{0}},
		"tree is junk":             {spoil: file("trees/"+r.Commit+".json", []byte("{")), codes: []int{0}},
		"file links outside":       {spoil: link("secret", snapshot+"/config.json"), codes: []int{0}},
		"file links to another":    {spoil: link("../home/hub/"+r.Folder()+"/blobs/"+weights.ID(), snapshot+"/config.json"), codes: []int{0}},
		"file is a folder":         {spoil: folder(snapshot + "/config.json"), codes: failed, stderr: []string{"config.json"}, missing: []string{"config.json"}, odd: true},
		"file of another size":     {spoil: file(snapshot+"/config.json", []byte("mine")), codes: failed, stderr: []string{"config.json"}, missing: []string{"config.json"}, odd: true},
		"blob links outside":       {spoil: link("secret", "blobs/"+weights.ID()), codes: []int{0}},
		"large blob links outside": {spoil: link("secret", "blobs/"+big.ID()), codes: []int{0}},
		"blob links to nothing":    {spoil: link("nothing", "blobs/"+weights.ID()), codes: []int{0}},
		"blob is a folder":         {spoil: folder("blobs/" + weights.ID()), codes: failed, stderr: []string{weights.ID()}, missing: []string{weights.Path}},
		"large blob is a folder":   {spoil: folder("blobs/" + big.ID()), codes: failed, stderr: []string{big.ID()}, missing: []string{big.Path}},
		"blob of another size":     {spoil: file("blobs/"+weights.ID(), []byte("cut")), codes: []int{0}},
		"right blob outside":       {spoil: outsideBlob(weights), codes: []int{0}},
		"right large blob outside": {spoil: outsideBlob(big), codes: []int{0}},

		// Our own temporary files, made by somebody else.
		"staged links outside":  {spoil: link("secret", "blobs/."+big.ID()+".hf-cache-sync"), codes: failed, stderr: []string{big.Path}, missing: []string{big.Path}},
		"journal links outside": {spoil: link("secret", "blobs/."+big.ID()+".hf-cache-sync.parts"), codes: []int{0}},
		"staged is a folder":    {spoil: folder("blobs/." + big.ID() + ".hf-cache-sync"), codes: failed, stderr: []string{big.Path}, missing: []string{big.Path}},
		"staged is the file outside": {spoil: func(t *testing.T, s *sandbox, repo string) {
			t.Helper()
			testenv.Mkdir(t, in(repo, "blobs"))
			if err := os.Link(s.secretOutside(), in(repo, "blobs", "."+big.ID()+".hf-cache-sync")); err != nil {
				t.Fatal(err)
			}
		}, codes: []int{0}},
		"journal lies": {spoil: func(t *testing.T, _ *sandbox, repo string) {
			t.Helper()
			// It says that all parts are there, and they are zeros.
			name := in(repo, "blobs", "."+big.ID()+".hf-cache-sync")
			testenv.WriteFile(t, name, make([]byte, len(big.Data)))
			testenv.WriteFile(t, name+".parts", journal(len(big.Data)))
		}, codes: []int{0}},
		"journal is junk": {spoil: func(t *testing.T, _ *sandbox, repo string) {
			t.Helper()
			name := in(repo, "blobs", "."+big.ID()+".hf-cache-sync")
			testenv.WriteFile(t, name, make([]byte, len(big.Data)))
			testenv.WriteFile(t, name+".parts", []byte("../../x\n-1\n99999999999999999999\n\x00"))
		}, codes: []int{0}},
	}
}

// outsideBlob is a link to a file with the right bytes that is not the
// cache's. What is at the name afterwards must be.
func outsideBlob(f testenv.Content) func(*testing.T, *sandbox, string) {
	return func(t *testing.T, s *sandbox, repo string) {
		t.Helper()
		testenv.WriteFile(t, in(s.outside, "right"), f.Data)
		testenv.Symlink(t, in(s.outside, "right"), in(repo, "blobs", f.ID()))
	}
}

// TestPull checks caches with something in the way of a pull.
func TestPull(t *testing.T) {
	t.Parallel()
	for name, c := range pullCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newSandbox(t), testenv.Sample()
			r.Files = append(r.Files, large())
			r.WriteBucket(t, s.bucket)
			testenv.Mkdir(t, s.cache)
			c.spoil(t, s, filepath.Join(s.cache, r.Folder()))
			got := s.pull(t, "pull", r.Repo)
			if !slices.Contains(c.codes, got.Code) {
				t.Errorf("want exit code %d: %s", c.codes, got)
			} else {
				outcome{got.Code, c.stderr}.check(t, got)
			}
			if got.Code == 0 {
				r.Compare(t, s.cache)
				s.audit.Cache(t, s.cache)
				return
			}
			// The ref promises all of it.
			ref, err := os.ReadFile(in(s.cache, r.Folder(), "refs", "main"))
			if err == nil && string(ref) == r.Commit {
				t.Errorf("there is a ref")
			}
			if len(c.missing) == len(r.Files) {
				return
			}
			for _, f := range r.Files {
				data, err := os.ReadFile(in(s.cache, r.Folder(), "snapshots", r.Commit, f.Path))
				right := err == nil && string(data) == string(f.Data)
				if missing := slices.Contains(c.missing, f.Path); missing == right && (!c.noRef || !right) {
					t.Errorf("%s: right is %v, %v", f.Path, right, err)
				}
			}
			if !c.odd && !c.noRef && len(c.missing) == 0 {
				s.audit.Cache(t, s.cache)
			}
		})
	}
}

// TestPullSharedStore checks that what the shared store of a cache holds is
// never written to, whatever is wrong with it.
func TestPullSharedStore(t *testing.T) {
	t.Parallel()
	store := in("blobs", xetHash()[:2], xetHash())
	for name, size := range map[string]int{"cut": 1000, "longer": 20<<20 + 1, "empty": 0} {
		for _, path := range []string{"model.safetensors", "large.bin"} {
			t.Run(name+"/"+path, func(t *testing.T) {
				t.Parallel()
				s, r := newSandbox(t), testenv.Sample()
				r.Files = append(r.Files, large())
				r.WriteBucket(t, s.bucket)
				f := r.File(t, path)
				payload := testenv.Noise(9, size)
				testenv.WriteFile(t, in(s.cache, "blobs", ".huggingface-shared-blobs"), []byte("1\n"))
				testenv.WriteFile(t, in(s.cache, store), payload)
				testenv.WriteFile(t, in(s.cache, store)+".refs", []byte("models--org--other/blobs/"+f.ID()+"\n"))
				for _, repo := range []string{r.Folder(), "models--org--other"} {
					testenv.Symlink(t, "../../"+filepath.ToSlash(store), in(s.cache, repo, "blobs", f.ID()))
				}
				before := testenv.Tree(t, in(s.cache, "blobs"))
				outcome{code: 0}.check(t, s.pull(t, "pull", r.Repo))
				r.Compare(t, s.cache)
				after := testenv.Tree(t, in(s.cache, "blobs"))
				for path, text := range before {
					if after[path] != text {
						t.Errorf("%s was %s and is %s", path, text, after[path])
					}
				}
				if isLink(t, in(s.cache, r.Folder(), "blobs", f.ID())) {
					t.Error("the blob is still a link")
				}
				if !isLink(t, in(s.cache, "models--org--other", "blobs", f.ID())) {
					t.Error("the blob of another repository was changed")
				}
			})
		}
	}
}

// journal is what stands beside the temporary file of a large blob, saying that
// all parts of size bytes have arrived.
func journal(size int) []byte {
	const part = 8 << 20
	text := fmt.Appendf(nil, "hf-cache-sync parts 1 size=%d part=%d etag=\"\"\n", size, part)
	for i := range (size + part - 1) / part {
		text = fmt.Appendf(text, "%d\n", i)
	}
	return text
}

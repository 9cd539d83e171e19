package manifest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

const (
	commit   = "0123456789abcdef0123456789abcdef01234567"
	gitID    = "ce013625030ba8dba906f756967f9e9ca394464a"
	sha256ID = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
)

var model = hub.Repo{Type: hub.Model, Name: "org/name"}

func sample() *manifest.Manifest {
	return &manifest.Manifest{
		Repo: model, Commit: commit,
		Files: []manifest.File{{Path: "config.json", Blob: gitID, Size: 6}, {Path: "model.bin", Blob: sha256ID, Size: 3}},
		Hub: &manifest.Hub{
			Tree: manifest.Tree{
				"README.md":   {Size: 7, BlobID: strings.Repeat("b", 40)},
				"config.json": {Size: 6, BlobID: gitID},
				"model.bin":   {Size: 3, BlobID: strings.Repeat("c", 40), LFSSHA256: sha256ID, LFSSize: 3, XetHash: strings.Repeat("D", 64)},
			},
			NoExist: []hub.Path{"adapter_config.json"},
		},
	}
}

// golden is the form that docs/format.md specifies.
const golden = `{
  "repo": "org/name",
  "revision": "0123456789abcdef0123456789abcdef01234567",
  "repo_type": "model",
  "files": [
    {
      "path": "config.json",
      "blob": "ce013625030ba8dba906f756967f9e9ca394464a",
      "size": 6
    },
    {
      "path": "model.bin",
      "blob": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
      "size": 3
    }
  ],
  "hub": {
    "complete": false,
    "tree": {
      "README.md": {
        "size": 7,
        "blob_id": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
      },
      "config.json": {
        "size": 6,
        "blob_id": "ce013625030ba8dba906f756967f9e9ca394464a"
      },
      "model.bin": {
        "size": 3,
        "blob_id": "cccccccccccccccccccccccccccccccccccccccc",
        "lfs_sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        "lfs_size": 3,
        "xet_hash": "DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD"
      }
    },
    "no_exist": [
      "adapter_config.json"
    ]
  }
}`

func TestGolden(t *testing.T) {
	data, err := manifest.Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(golden, string(data)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	back, err := manifest.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), back); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
}

// What the Python tool 0.1.0 writes: json.dumps escapes everything beyond ASCII.
func TestDecodeOfThePythonTool(t *testing.T) {
	m, err := manifest.Decode([]byte(`{
  "repo": "org/name",
  "revision": "` + commit + `",
  "repo_type": "dataset",
  "files": [
    {
      "path": "\u00fc \u00f1.txt",
      "blob": "` + gitID + `",
      "size": 6
    }
  ]
}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &manifest.Manifest{
		Repo: hub.Repo{Type: hub.Dataset, Name: "org/name"}, Commit: commit,
		Files: []manifest.File{{Path: "ü ñ.txt", Blob: gitID, Size: 6}},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	if m.Completeness() != manifest.Unknown {
		t.Error("a manifest without a listing counts as more than unknown")
	}
}

func TestDecodeRefuses(t *testing.T) {
	file := func(path, blob, size string) string {
		return `{"path": "` + path + `", "blob": "` + blob + `", "size": ` + size + `}`
	}
	with := func(files ...string) string {
		return `{"repo": "org/name", "revision": "` + commit + `", "files": [` + strings.Join(files, ",") + `]}`
	}
	good := file("a", gitID, "6")
	if _, err := manifest.Decode([]byte(with(good))); err != nil {
		t.Fatalf("the pattern of the cases itself: %v", err)
	}
	for name, text := range map[string]string{
		"nothing":            ``,
		"no object":          `[]`,
		"cut off":            with(good)[:60],
		"rubbish behind":     with(good) + "x",
		"repo":               strings.Replace(with(good), "org/name", "../../etc", 1),
		"no repo":            strings.Replace(with(good), `"repo": "org/name", `, "", 1),
		"type":               strings.Replace(with(good), `"files"`, `"repo_type": "movie", "files"`, 1),
		"revision":           strings.Replace(with(good), commit, "main", 1),
		"parent":             with(file("../a", gitID, "6")),
		"absolute":           with(file("/a", gitID, "6")),
		"backslash":          with(file(`a\\b`, gitID, "6")),
		"drive":              with(file("C:a", gitID, "6")),
		"NUL":                with(file(`a\u0000`, gitID, "6")),
		"half a surrogate":   with(file(`a\ud800`, gitID, "6")),
		"long":               with(file(strings.Repeat("a", 300), gitID, "6")),
		"blob":               with(file("a", "../x", "6")),
		"blob in capitals":   with(file("a", strings.ToUpper(gitID), "6")),
		"negative size":      with(file("a", gitID, "-1")),
		"fraction":           with(file("a", gitID, "6.5")),
		"size of 20 digits":  with(file("a", gitID, "99999999999999999999")),
		"size in words":      with(file("a", gitID, `"6"`)),
		"twice":              with(good, good),
		"file and folder":    with(good, file("a/b", gitID, "6")),
		"far file, folder":   with(good, file("a-", gitID, "6"), file("a/b/c", gitID, "6")),
		"one blob, two size": with(good, file("b", gitID, "7")),
		"tree path":          strings.Replace(golden, `"README.md"`, `"../README.md"`, 1),
		"tree digest":        strings.Replace(golden, `"lfs_sha256": "2c`, `"lfs_sha256": "zz`, 1),
		"no_exist path":      strings.Replace(golden, `"adapter_config.json"`, `"/adapter_config.json"`, 1),
	} {
		if m, err := manifest.Decode([]byte(text)); !errors.Is(err, manifest.ErrInvalid) {
			t.Errorf("%s: %+v, %v; want ErrInvalid", name, m, err)
		}
	}
	if _, err := manifest.Decode([]byte(strings.Replace(golden, `"repo":`, `"from the future": [1], "repo":`, 1))); err != nil {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestMerge(t *testing.T) {
	file := func(path hub.Path, digit string) manifest.File {
		return manifest.File{Path: path, Blob: hub.BlobID(strings.Repeat(digit, 40)), Size: 1}
	}
	of := func(files ...manifest.File) *manifest.Manifest {
		return &manifest.Manifest{Repo: model, Commit: commit, Files: files, Hub: &manifest.Hub{}}
	}
	a, b := of(file("a", "1")), of(file("b", "2"))
	for _, pair := range [][2]*manifest.Manifest{{a, b}, {b, a}} {
		got, err := manifest.Merge(pair[0], pair[1])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(of(file("a", "1"), file("b", "2")), got); diff != "" {
			t.Errorf("merged (-want +got):\n%s", diff)
		}
		if !got.Covers(a) || !got.Covers(b) || a.Covers(got) {
			t.Error("the merged manifest does not cover exactly its parts")
		}
	}
	_, err := manifest.Merge(a, of(file("a", "3")))
	if conflict, ok := errors.AsType[*manifest.ConflictError](err); !ok || conflict.Path != "a" {
		t.Errorf("two contents for one path: %v", err)
	}
	other := of()
	other.Commit = hub.Commit(strings.Repeat("f", 40))
	if _, err := manifest.Merge(a, other); !errors.Is(err, manifest.ErrInvalid) {
		t.Errorf("two commits: %v", err)
	}
}

func TestMergeOfWhatTheHubSaid(t *testing.T) {
	plain := sample()
	entry := plain.Hub.Tree["model.bin"]
	entry.XetHash = ""
	plain.Hub.Tree["model.bin"] = entry
	none := sample()
	none.Hub.Tree = nil
	none.Hub.NoExist = []hub.Path{"README.md", "other.json"}

	got, err := manifest.Merge(sample(), plain)
	if err != nil || got.Hub.Tree["model.bin"].XetHash == "" || !got.Covers(plain) {
		t.Errorf("the xet hash is lost: %+v, %v", got, err)
	}
	got, err = manifest.Merge(none, sample())
	if err != nil || len(got.Hub.Tree) != 3 {
		t.Fatalf("the listing is lost: %+v, %v", got, err)
	}
	if diff := cmp.Diff([]hub.Path{"adapter_config.json", "other.json"}, got.Hub.NoExist); diff != "" {
		t.Errorf("absent files; a listed one cannot be absent (-want +got):\n%s", diff)
	}
	python := sample()
	python.Hub = nil
	if python.Covers(sample()) {
		t.Error("a manifest that proves nothing covers one that does")
	}
}

func TestCompleteness(t *testing.T) {
	m := sample()
	if m.Completeness() != manifest.Partial {
		t.Error("README.md is missing, and the manifest is not partial")
	}
	m.Files = append(m.Files, manifest.File{Path: "README.md", Blob: hub.BlobID(strings.Repeat("b", 40)), Size: 7})
	if err := m.Check(); err != nil || m.Completeness() != manifest.Complete {
		t.Errorf("with all files: %v, %v", m.Completeness(), err)
	}
}

func TestKeys(t *testing.T) {
	for _, test := range []struct {
		repo hub.Repo
		key  string
	}{
		{hub.Repo{Type: hub.Model, Name: "org/name"}, "org__name"},
		{hub.Repo{Type: hub.Model, Name: "gpt2"}, "gpt2"},
		{hub.Repo{Type: hub.Model, Name: "a/b__c"}, "a__b__c"},
		{hub.Repo{Type: hub.Model, Name: "a/_b"}, "a___b"},
		{hub.Repo{Type: hub.Model, Name: "a_/b"}, "models--a_--b"},
		{hub.Repo{Type: hub.Model, Name: "a__b"}, "models--a__b"},
		{hub.Repo{Type: hub.Model, Name: "a__b/c"}, "models--a__b--c"},
		{hub.Repo{Type: hub.Dataset, Name: "org/name"}, "datasets--org--name"},
		{hub.Repo{Type: hub.Space, Name: "name"}, "spaces--name"},
	} {
		if got := manifest.RepoKey(test.repo); got != test.key {
			t.Errorf("%v has the key %q, want %q", test.repo, got, test.key)
		}
		if back, err := manifest.ParseRepoKey(test.key); err != nil || back != test.repo {
			t.Errorf("%q is %v, %v; want %v", test.key, back, err, test.repo)
		}
	}
	key := manifest.ManifestKey("org__name", commit)
	if repoKey, c, err := manifest.ParseManifestKey(key); err != nil || repoKey != "org__name" || c != commit {
		t.Errorf("%q is %q, %q, %v", key, repoKey, c, err)
	}
	key = manifest.RefKey("org__name", "refs/pr/1")
	if repoKey, r, err := manifest.ParseRefKey(key); err != nil || repoKey != "org__name" || r != "refs/pr/1" {
		t.Errorf("%q is %q, %q, %v", key, repoKey, r, err)
	}
	for _, bad := range []string{"", "manifests/", "manifests/x.json", "manifests/@" + commit + ".json", "manifests/a/b@" + commit + ".json", "manifests/a@main.json", "blobs/x"} {
		if _, _, err := manifest.ParseManifestKey(bad); !errors.Is(err, manifest.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "refs/", "refs/a", "refs//main", "refs/a/../x", "refs/a/b:c"} {
		if _, _, err := manifest.ParseRefKey(bad); !errors.Is(err, manifest.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTreeFile(t *testing.T) {
	data, err := manifest.EncodeTreeFile(manifest.Tree{"b": {Size: 1, BlobID: gitID}, "a": {Size: 3, BlobID: gitID, LFSSHA256: sha256ID, LFSSize: 3}})
	if err != nil {
		t.Fatal(err)
	}
	want := "{\n \"format_version\": 1,\n \"files\": {\n  \"a\": {\n   \"size\": 3,\n   \"blob_id\": \"" + gitID + "\",\n   \"lfs_sha256\": \"" + sha256ID +
		"\",\n   \"lfs_size\": 3\n  },\n  \"b\": {\n   \"size\": 1,\n   \"blob_id\": \"" + gitID + "\"\n  }\n }\n}"
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	for name, text := range map[string]string{
		"other version":  strings.Replace(want, `version": 1`, `version": 2`, 1),
		"no files":       `{"format_version": 1}`,
		"null files":     `{"format_version": 1, "files": null}`,
		"a list":         `{"format_version": 1, "files": []}`,
		"no object":      `[1]`,
		"nothing":        ``,
		"cut":            want[:len(want)-1],
		"something more": want + "{}",
		"version a text": `{"format_version": "1", "files": {}}`,
		"no size":        `{"format_version": 1, "files": {"a": {"blob_id": "` + gitID + `"}}}`,
		"no blob_id":     `{"format_version": 1, "files": {"a": {"size": 1}}}`,
		"half of LFS":    `{"format_version": 1, "files": {"a": {"size": 1, "blob_id": "x", "lfs_size": 1}}}`,
		"one bad xet":    `{"format_version": 1, "files": {"a": {"size": 1, "blob_id": "x"}, "b": {"size": 1, "blob_id": "x", "xet_hash": "1"}}}`,
		"not its sha256": `{"format_version": 1, "files": {"a": {"size": 1, "blob_id": "x", "lfs_size": 1, "lfs_sha256": "` + gitID + `"}}}`,
	} {
		if tree, err := manifest.DecodeTreeFile([]byte(text)); !errors.Is(err, manifest.ErrInvalid) {
			t.Errorf("%s: %v, %v; want ErrInvalid", name, tree, err)
		}
	}
}

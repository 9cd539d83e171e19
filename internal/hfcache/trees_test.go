package hfcache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// smallTree has one plain file and one LFS file with the Xet hash.
func smallTree(xet string) manifest.Tree {
	return manifest.Tree{
		"config.json":  {Size: 2, BlobID: strings.Repeat("1", 40)},
		"model/w.safe": {Size: 9, BlobID: strings.Repeat("2", 40), LFSSHA256: sha("weights"), LFSSize: 9, XetHash: xet},
	}
}

func TestWriteTree(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	with := func(p hub.Path, e manifest.TreeEntry) manifest.Tree {
		tree := smallTree(hash)
		tree[p] = e
		return tree
	}
	encode := func(tree manifest.Tree) string {
		data, err := manifest.EncodeTreeFile(tree)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	tests := map[string]struct {
		before   string
		write    manifest.Tree
		want     manifest.Tree
		same     bool // the file is not written again
		conflict bool
	}{
		"new":                {"", smallTree(hash), smallTree(hash), false, false},
		"equal":              {encode(smallTree(hash)), smallTree(hash), smallTree(hash), true, false},
		"fewer facts":        {encode(smallTree(hash)), smallTree(""), smallTree(hash), true, false},
		"more facts":         {encode(smallTree("")), smallTree(hash), smallTree(hash), false, false},
		"empty file":         {" ", smallTree(""), smallTree(""), false, false},
		"cut off":            {encode(smallTree(hash))[:40], smallTree(""), smallTree(""), false, false},
		"invalid hash":       {encode(smallTree("xyz")), smallTree(""), smallTree(""), false, false},
		"another version":    {`{"format_version": 2, "files": {}}`, smallTree(""), smallTree(""), false, false},
		"lists more":         {encode(with("more", manifest.TreeEntry{Size: 1, BlobID: strings.Repeat("3", 40)})), smallTree(hash), nil, true, true},
		"lists less":         {encode(smallTree(hash)), with("more", manifest.TreeEntry{Size: 1, BlobID: strings.Repeat("3", 40)}), nil, true, true},
		"disagrees on sizes": {encode(smallTree(hash)), with("config.json", manifest.TreeEntry{Size: 3, BlobID: strings.Repeat("1", 40)}), nil, true, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := writeRepo(t, writeCache(t), "org/name")
			file := at(d, "trees/"+string(commitA)+".json")
			if test.before != "" {
				put(t, file, test.before)
				if err := os.Chmod(file, 0o600); err != nil { // as Python leaves it
					t.Fatal(err)
				}
			}
			var before os.FileInfo
			if test.before != "" {
				before = lstat(t, file)
			}
			err := d.WriteTree(commitA, test.write)
			if errors.Is(err, ErrTreeConflict) != test.conflict || (err != nil && !test.conflict) {
				t.Fatalf("error %v", err)
			}
			wantListing(t, at(d, "blobs"))
			after := lstat(t, file)
			if before != nil && os.SameFile(before, after) != test.same {
				t.Errorf("written again: %t", test.same)
			}
			if !test.same && after.Mode().Perm() != probedMode(t) {
				t.Errorf("mode %v", after.Mode())
			}
			if test.conflict {
				if got := content(t, file); got != test.before {
					t.Errorf("the file was changed to %s", got)
				}
				return
			}
			got, err := manifest.DecodeTreeFile([]byte(content(t, file)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// probedMode is the mode of new files, found out in another way than the code does.
func probedMode(t *testing.T) os.FileMode {
	t.Helper()
	name := filepath.Join(t.TempDir(), "probe")
	put(t, name, "")
	return lstat(t, name).Mode().Perm()
}

func TestWriteTreeOverLink(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	outside := filepath.Join(t.TempDir(), "outside")
	put(t, outside, "keep me")
	symlink(t, outside, at(d, "trees/"+string(commitA)+".json"))
	if err := d.WriteTree(commitA, smallTree("")); err != nil {
		t.Fatal(err)
	}
	wantListing(t, at(d, "trees"), string(commitA)+".json")
	if got := content(t, outside); got != "keep me" {
		t.Errorf("the link's target holds %q", got)
	}
}

func TestWriteNoExist(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	id := publishAll(t, d, "x")
	if _, err := d.Link(commitA, "sub/here", id, 1); err != nil {
		t.Fatal(err)
	}
	symlink(t, "../../blobs/gone", at(d, "snapshots/"+string(commitA)+"/dangling"))
	put(t, at(d, ".no_exist/"+string(commitA)+"/old"), "")
	paths := []hub.Path{"a", "a/b", "c/d", "c", "dangling", "old", "sub/here", "sub/not"}
	for range 2 {
		if err := d.WriteNoExist(commitA, paths); err != nil {
			t.Fatal(err)
		}
		wantListing(t, at(d, ".no_exist"),
			string(commitA)+"/a", string(commitA)+"/c/d", string(commitA)+"/old", string(commitA)+"/sub/not")
	}
	if size := lstat(t, at(d, ".no_exist/"+string(commitA)+"/a")).Size(); size != 0 {
		t.Errorf("a mark has %d bytes", size)
	}
}

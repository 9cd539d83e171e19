package hfcache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

func TestPublishOver(t *testing.T) {
	const text = "verified"
	tests := map[string]func(d *RepoDir, blob string) (keep string){
		"nothing":     func(*RepoDir, string) string { return "" },
		"wrong size":  func(_ *RepoDir, blob string) string { put(t, blob, "cut"); return "" },
		"wrong bytes": func(_ *RepoDir, blob string) string { put(t, blob, "VERIFIED"); return "" },
		"dangling":    func(_ *RepoDir, blob string) string { symlink(t, "../../blobs/ab/gone", blob); return "" },
		"link outside": func(_ *RepoDir, blob string) string {
			out := filepath.Join(t.TempDir(), "f")
			put(t, out, "keep me")
			symlink(t, out, blob)
			return out
		},
		"shared payload": func(d *RepoDir, blob string) string {
			payload := filepath.Join(d.cache.dir, "blobs", "ab", strings.Repeat("ab", 32))
			put(t, payload, "keep me")
			symlink(t, "../../blobs/ab/"+strings.Repeat("ab", 32), blob)
			return payload
		},
		"absolute link to the payload": func(d *RepoDir, blob string) string {
			payload := filepath.Join(d.cache.dir, "blobs", "ab", strings.Repeat("ab", 32))
			put(t, payload, "keep me")
			symlink(t, payload, blob)
			return payload
		},
	}
	for name, make := range tests {
		for _, resumable := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				d := writeRepo(t, writeCache(t), "org/name")
				blob := at(d, "blobs/"+string(sha(text)))
				keep := make(d, blob)
				var before os.FileInfo
				if keep != "" {
					before = lstat(t, keep)
				}
				s, err := d.Stage(sha(text), int64(len(text)))
				if resumable {
					finish(t, s.Discard())
					s, err = d.StageResumable(sha(text), int64(len(text)), 3, "")
				}
				finish(t, err)
				if _, err := s.WriteAt([]byte(text), 0); err != nil {
					t.Fatal(err)
				}
				finish(t, s.Sync())
				finish(t, s.Publish())
				if info := lstat(t, blob); !info.Mode().IsRegular() || content(t, blob) != text {
					t.Errorf("the blob is %v with %q", info.Mode(), content(t, blob))
				}
				wantListing(t, at(d, "blobs"), string(sha(text)))
				if keep != "" && (!os.SameFile(before, lstat(t, keep)) || content(t, keep) != "keep me") {
					t.Error("what the link led to was changed")
				}
			})
		}
	}
}

func TestPublishOverFolder(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	s := stageAll(t, d, "x")
	put(t, at(d, "blobs/"+string(sha("x"))+"/y"), "")
	wantError(t, s.Publish(), "blobs/"+string(sha("x")))
	wantListing(t, at(d, "blobs"), string(sha("x"))+"/y")

	finish(t, os.RemoveAll(at(d, "blobs/"+string(sha("x")))))
	put(t, at(d, "blobs/"+string(sha(bigText))+"/y"), "")
	s = stageBig(t, d, "")
	writePart(t, s, 0)
	wantError(t, s.Publish(), "blobs/"+string(sha(bigText)))
	finish(t, os.RemoveAll(at(d, "blobs/"+string(sha(bigText)))))
	if s = stageBig(t, d, ""); !s.Done(0) { // what was there stays for the next run
		t.Error("the part is lost")
	}
	finish(t, s.Discard())
}

// A pruner that takes the staged file for stale must not make us publish what another process has begun under the same name since.
func TestPublishOfRemovedFile(t *testing.T) {
	for _, end := range []func(*Staged) error{(*Staged).Publish, (*Staged).Discard} {
		c := writeCache(t)
		d := writeRepo(t, c, "org/name")
		s := stageBig(t, d, "")
		finish(t, os.Remove(at(d, "blobs/"+s.name)))
		other := stageBig(t, writeRepo(t, c, "org/name"), "")
		writePart(t, other, 0)
		_ = end(s) // Publish says so, Discard need not
		if d.HasBlob(sha(bigText), int64(len(bigText))) {
			t.Error("another process's unfinished file was published")
		}
		if _, err := os.Lstat(at(d, "blobs/"+other.name)); err != nil {
			t.Errorf("another process's file is gone: %v", err)
		}
		finish(t, other.Discard())
	}
}

func TestPublishOfWrongSize(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	s, err := d.Stage(sha("abc"), 3)
	finish(t, err)
	_, err = s.WriteAt([]byte("ab"), 0)
	finish(t, err)
	err = s.Publish()
	if _, ok := errors.AsType[*hub.MismatchError](err); !ok {
		t.Errorf("error %v", err)
	}
	wantListing(t, at(d, "blobs"))
}

// A file that an earlier run began gets the mode that this run's umask gives, as the real client's do.
func TestModeOfResumedFile(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	finish(t, stageBig(t, d, "").Close())
	finish(t, os.Chmod(at(d, "blobs/."+string(sha(bigText))+tempSuffix), 0o600))
	finish(t, stageBig(t, d, "").Publish())
	if got, want := lstat(t, at(d, "blobs/"+string(sha(bigText)))).Mode().Perm(), probedMode(t); got != want {
		t.Errorf("mode %v, want %v", got, want)
	}
}

func TestCloneFrom(t *testing.T) {
	const text = "the same bytes"
	refuse := func(d *RepoDir) { d.sys.clone = func(_, _ *os.File) error { return syscall.EOPNOTSUPP } }
	// A reflink, as far as this package sees it: the file has the bytes at once. Few test machines have a file system that can.
	share := func(d *RepoDir) {
		d.sys.clone = func(dst, src *os.File) error {
			data := make([]byte, len(text))
			if _, err := src.ReadAt(data, 0); err != nil {
				return err
			}
			_, err := dst.WriteAt(data, 0)
			return err
		}
	}
	noLinks := func(d *RepoDir) {
		refuse(d)
		d.sys.link = func(*os.Root, string, string) error { return syscall.EPERM }
	}
	blob := "models--org--other/blobs/" + string(sha(text))
	store := "blobs/ab/" + strings.Repeat("ab", 32)
	snapshot := "models--org--other/snapshots/" + string(commitA) + "/x"
	tests := map[string]struct {
		rel   string
		setup func(*RepoDir)
		same  bool // one file with two names
	}{
		"reflink":               {blob, share, false},
		"hard link":             {blob, refuse, true},
		"copy":                  {blob, noLinks, false},
		"reflink of a payload":  {store, share, false},
		"copy of a payload":     {store, refuse, false},
		"copy from a snapshot":  {snapshot, refuse, false},
		"what this machine can": {blob, func(*RepoDir) {}, true},
	}
	for name, test := range tests {
		for _, good := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				c := writeCache(t)
				src := filepath.Join(c.dir, filepath.FromSlash(test.rel))
				have := text
				if !good {
					have = strings.ToUpper(text)
				}
				put(t, src, have)
				d := writeRepo(t, c, "org/name")
				symlink(t, "../../blobs/gone", at(d, "blobs/"+string(sha(text)))) // is replaced
				test.setup(d)
				err := d.CloneFrom(t.Context(), test.rel, sha(text), int64(len(text)), make([]byte, 5))
				if !good {
					if _, ok := errors.AsType[*hub.MismatchError](err); !ok {
						t.Errorf("error %v", err)
					}
					wantListing(t, at(d, "blobs"), string(sha(text))+" -> ../../blobs/gone")
					return
				}
				finish(t, err)
				wantListing(t, at(d, "blobs"), string(sha(text)))
				final := at(d, "blobs/"+string(sha(text)))
				if got := content(t, final); got != text {
					t.Errorf("content %q", got)
				}
				if same := os.SameFile(lstat(t, final), lstat(t, src)); same != test.same && name != "what this machine can" {
					t.Errorf("one file: %t", same)
				}
				// Once more, onto itself.
				finish(t, d.CloneFrom(t.Context(), test.rel, sha(text), int64(len(text)), make([]byte, 5)))
				wantListing(t, at(d, "blobs"), string(sha(text)))
			})
		}
	}
}

func TestCloneFromErrors(t *testing.T) {
	c := writeCache(t)
	d := writeRepo(t, c, "org/name")
	other := writeRepo(t, c, "org/other")
	id := publishAll(t, other, "text")
	rel := other.blobPath(id)
	outside := filepath.Join(t.TempDir(), "outside")
	put(t, outside, "text")
	symlink(t, outside, at(other, "blobs/link"))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := map[string]struct {
		ctx  context.Context //nolint:containedctx // a table
		rel  string
		size int64
		is   error
	}{
		"missing":    {t.Context(), "models--org--other/blobs/none", 4, os.ErrNotExist},
		"other size": {t.Context(), rel, 5, nil},
		"folder":     {t.Context(), "models--org--other/blobs", 4, nil},
		"outside":    {t.Context(), "models--org--other/blobs/link", 4, nil},
		"up":         {t.Context(), "../hub/" + rel, 4, nil},
		"cancelled":  {cancelled, rel, 4, context.Canceled},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := d.CloneFrom(test.ctx, test.rel, id, test.size, make([]byte, 5))
			wantError(t, err, test.rel)
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v", err)
			}
			wantListing(t, at(d, "blobs"))
		})
	}
}

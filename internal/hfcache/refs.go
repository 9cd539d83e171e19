package hfcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// WriteRef makes a ref name a commit: a file of exactly 40 digits and no newline, since Python reads it raw. Its modification time becomes learned, if that is
// not zero. The commit's folder in snapshots/ is made first, because a ref to a commit without one makes a client's scan give up on the repository. What the ref
// leads to is made durable before, so that a power cut does not leave the ref alone.
func (d *RepoDir) WriteRef(r hub.Ref, c hub.Commit, learned time.Time) error {
	if _, err := hub.ParseCommit(string(c)); err != nil {
		return fmt.Errorf("ref %q: %w", r, err)
	}
	if err := d.MakeSnapshot(c); err != nil {
		return err
	}
	rel := refsDir + "/" + string(r)
	if err := d.refConflict(r); err != nil {
		return err
	}
	if old, ok, err := d.Ref(r); err == nil && ok && old.Commit == c && (learned.IsZero() || old.Learned.Equal(learned)) && d.isPlainRef(rel) {
		return nil
	}
	if err := d.settle(); err != nil {
		return err
	}
	return d.writeFile("ref", rel, func(f *os.File) error {
		_, err := f.WriteString(string(c))
		return err
	}, func(temp string) error {
		if learned.IsZero() {
			return nil
		}
		return d.blobs.Chtimes(temp, time.Time{}, learned)
	})
}

// CleanRef writes a ref that holds more than its commit again, with nothing but the commit and the time that it had. Any other ref stays as it is.
func (d *RepoDir) CleanRef(r hub.Ref) error {
	old, ok, err := d.Ref(r)
	if err != nil || !ok || !old.Unclean {
		return err
	}
	return d.WriteRef(r, old.Commit, old.Learned)
}

// isPlainRef says whether the file holds nothing but the digits.
func (d *RepoDir) isPlainRef(rel string) bool {
	info, err := d.root.Lstat(filepath.FromSlash(rel))
	const digits = 40
	return err == nil && info.Mode().IsRegular() && info.Size() == digits
}

// refConflict names the ref that stands in the way: a and a/b cannot both be refs, in a cache as in git.
func (d *RepoDir) refConflict(r hub.Ref) error {
	for parent := path.Dir(string(r)); parent != "."; parent = path.Dir(parent) {
		if info, err := d.root.Lstat(filepath.FromSlash(refsDir + "/" + parent)); err == nil && info.Mode().IsRegular() {
			return d.fail("writing", refsDir+"/"+string(r), fmt.Errorf("there is a ref %q already, and one cannot be a folder of the other", parent))
		}
	}
	if info, err := d.root.Lstat(filepath.FromSlash(refsDir + "/" + string(r))); err == nil && info.IsDir() {
		return d.fail("writing", refsDir+"/"+string(r), fmt.Errorf("there are refs below %q already, and a ref cannot be their folder", strings.TrimSuffix(string(r), "/")+"/"))
	}
	return nil
}

// Ref reads one ref. It says false if there is none. A ref that is being written in place, as older clients do, can be found empty or cut off, which is an
// error that a later try may not give.
func (d *RepoDir) Ref(r hub.Ref) (Ref, bool, error) {
	info, err := d.root.Lstat(filepath.FromSlash(refsDir + "/" + string(r)))
	if errors.Is(err, fs.ErrNotExist) || (err == nil && info.IsDir()) || (err != nil && d.hasFileAbove(refsDir+"/"+string(r))) {
		return Ref{}, false, nil
	}
	if err != nil {
		return Ref{}, false, d.fail("reading", refsDir+"/"+string(r), err)
	}
	ref, err := readRef(d.root, filepath.FromSlash(refsDir+"/"+string(r)), string(r))
	if err != nil {
		return Ref{}, false, d.fail("reading", refsDir+"/"+string(r), err)
	}
	return ref, true, nil
}

// hasFileAbove says whether rel cannot exist because it would lie below a regular file. Systems report that in different ways.
func (d *RepoDir) hasFileAbove(rel string) bool {
	for parent := path.Dir(rel); parent != "."; parent = path.Dir(parent) {
		if info, err := d.root.Lstat(filepath.FromSlash(parent)); err == nil {
			return info.Mode().IsRegular()
		}
	}
	return false
}

package hfcache

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// naming lists the files in refs/ that name the commit and may go. why says that one of them may not.
func (e *eviction) naming() (rels []string, why string, _ error) {
	expected := map[string]bool{}
	for _, ref := range e.refs {
		expected[refsDir+"/"+string(ref)] = true
	}
	found, why, err := e.refsNaming()
	if err != nil || why != "" {
		return nil, why, err
	}
	for _, rel := range found {
		if expected[rel] {
			delete(expected, rel)
			continue
		}
		if !e.isStale(rel) {
			return nil, rel + " names it", nil
		}
	}
	for _, ref := range e.refs { // what is left was expected to name the commit
		if rel := refsDir + "/" + string(ref); expected[rel] {
			if _, err := e.root.Lstat(filepath.FromSlash(rel)); err == nil {
				e.skip(rel, "it names another commit by now")
			}
		}
	}
	return found, "", nil
}

// isStale says whether an interrupted write has left the file. Clients take it for a ref, and a scan of theirs gives up the repository when it names no snapshot, so it
// has to go with the snapshot.
func (e *eviction) isStale(rel string) bool {
	info, err := e.root.Lstat(filepath.FromSlash(rel))
	return err == nil && e.names.refTemp.MatchString(rel) && info.Mode().IsRegular() && !e.young(info.ModTime())
}

// refsNaming lists everything in refs/ that names the commit, temporary files too. why says that it cannot be told.
func (e *eviction) refsNaming() (rels []string, why string, _ error) {
	dir, err := e.folder(refsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if errors.Is(err, ErrInTheWay) {
		return nil, refsDir + " is no folder", nil
	}
	if err != nil {
		return nil, "", e.fail("reading", refsDir, err)
	}
	defer dir.Close() //nolint:errcheck // only read from
	return e.refsBelow(dir, refsDir, 0)
}

func (e *eviction) refsBelow(dir *os.Root, rel string, depth int) (rels []string, why string, _ error) {
	entries, err := readDir(dir)
	if err != nil {
		return nil, "", e.fail("reading", rel, err)
	}
	for _, entry := range entries {
		name := rel + "/" + entry.Name()
		if !entry.IsDir() {
			commit, why := e.namedBy(name)
			if why != "" {
				return nil, why, nil
			}
			if commit == e.commit {
				rels = append(rels, name)
			}
			continue
		}
		sub, err := openFolder(dir, entry.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || depth > maxDepth {
			return nil, name + " cannot be read", nil //nolint:nilerr // it is left alone
		}
		below, why, err := e.refsBelow(sub, name, depth+1)
		_ = sub.Close() // only read from
		if err != nil || why != "" {
			return nil, why, err
		}
		rels = append(rels, below...)
	}
	return rels, "", nil
}

// namedBy reads a file that clients would take for a ref, through links as they do. The commit is empty if it is none.
func (e *eviction) namedBy(rel string) (_ hub.Commit, why string) {
	info, err := e.root.Stat(filepath.FromSlash(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return "", ""
	}
	if err != nil {
		return "", rel + " cannot be read"
	}
	if !info.Mode().IsRegular() || info.Size() > maxRef {
		return "", ""
	}
	text, err := e.root.ReadFile(filepath.FromSlash(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return "", ""
	}
	if err != nil {
		return "", rel + " cannot be read"
	}
	commit, err := hub.ParseCommit(strings.TrimSpace(string(text)))
	if err != nil {
		return "", ""
	}
	return commit, ""
}

// takeRef moves a ref into the trash and looks at what was taken: a client may have replaced it since it was read.
func (e *eviction) takeRef(rel string) error {
	if e.taken == nil {
		e.taken = map[string]string{}
	}
	dir, err := e.folder(path.Dir(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return e.fail("removing", rel, err)
	}
	_ = dir.Close() // only checked
	to := "ref." + strconv.Itoa(len(e.taken))
	if err := e.take(rel, to); err != nil {
		return err
	}
	to = e.trash + "/" + to
	if _, err := e.root.Lstat(filepath.FromSlash(to)); err != nil {
		return nil //nolint:nilerr // it was gone already
	}
	e.taken[to] = rel
	if e.otherCommit(to) {
		e.skip(rel, "it names another commit by now")
		return e.restoreRef(to, rel)
	}
	return nil
}

// otherCommit says whether a file is to be kept as a ref: anything but the commit that goes, also what is half written.
func (e *eviction) otherCommit(rel string) bool {
	commit, why := e.namedBy(rel)
	return commit != e.commit || why != ""
}

// restoreRef puts a ref back, unless a newer one is there.
func (e *eviction) restoreRef(from, rel string) error {
	delete(e.taken, from)
	if err := e.root.MkdirAll(filepath.FromSlash(path.Dir(rel)), 0o777); err != nil {
		return e.fail("putting back", rel, err)
	}
	err := e.root.Link(filepath.FromSlash(from), filepath.FromSlash(rel))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = e.root.Remove(filepath.FromSlash(from))
	} else if _, statErr := e.root.Lstat(filepath.FromSlash(rel)); errors.Is(statErr, fs.ErrNotExist) { // a file system without hard links
		err = e.root.Rename(filepath.FromSlash(from), filepath.FromSlash(rel))
	} else {
		err = nil
	}
	if err != nil {
		return e.fail("putting back", rel, err)
	}
	return nil
}

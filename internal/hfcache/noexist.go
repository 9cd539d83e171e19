package hfcache

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// WriteNoExist marks paths that the commit does not have, which saves clients from asking. A path that the snapshot has is left out: clients look at the mark first, and a
// wrong one would hide the file.
func (d *RepoDir) WriteNoExist(c hub.Commit, paths []hub.Path) error {
	for _, p := range paths {
		if _, err := d.root.Lstat(filepath.FromSlash(snapshotsDir + "/" + string(c) + "/" + string(p))); err == nil {
			continue
		}
		mark := noExistDir + "/" + string(c) + "/" + string(p)
		err := d.inDir(path.Dir(mark), func() error { return d.touch(mark) })
		if errors.Is(err, ErrInTheWay) && d.hasFileAbove(mark) {
			continue // "a" and "a/b" can both be known to be absent, but only one fits in
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// touch makes an empty file, which is whole from the start.
func (d *RepoDir) touch(rel string) error {
	f, err := d.root.OpenFile(filepath.FromSlash(rel), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return d.fail("writing", rel, err)
	}
	return nil
}

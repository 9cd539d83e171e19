package filestore

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// List yields the objects whose keys start with prefix. Files that are not objects (links that lead nowhere or out of the folder, pipes,
// devices) are passed over. A folder that cannot be read ends the listing with an error: an incomplete listing never looks complete.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		dir, _ := path.Split(prefix)
		if !canStartKey(dir) {
			return
		}
		root, err := s.root()
		if err == nil {
			l := lister{ctx: ctx, root: root, prefix: prefix, yield: yield}
			err = errors.Join(l.walk(dir), root.Close())
		}
		if err != nil && !errors.Is(err, errStop) && !errors.Is(err, fs.ErrNotExist) {
			yield(store.Info{}, wrap("list", prefix, err))
		}
	}
}

// errStop says that the caller wants no more.
var errStop = errors.New("stop")

// canStartKey reports whether dir, which is empty or ends with a slash, can be the start of a key.
func canStartKey(dir string) bool {
	if dir == "" {
		return true
	}
	whole := strings.TrimSuffix(dir, "/")
	first, _, _ := strings.Cut(whole, "/")
	return store.CheckKey("list", whole) == nil && !strings.EqualFold(first, privateDir) && nameable(whole)
}

type lister struct {
	ctx    context.Context //nolint:containedctx // Lives for one List.
	root   *os.Root
	prefix string
	yield  func(store.Info, error) bool
}

// name is one entry of a folder. Entries sort as the keys below them do, which for a folder start with its name and a slash.
type name struct {
	text string // ends with a slash for a folder
	link bool
}

// walk lists what is in dir, which is empty or ends with a slash. Its error is errStop when the caller wants no more, and fs.ErrNotExist
// when there is no such folder.
func (l *lister) walk(dir string) (err error) {
	if err = l.ctx.Err(); err != nil {
		return err
	}
	sub, err := l.root.OpenRoot("./" + strings.TrimSuffix(dir, "/"))
	if err != nil {
		if fi, statErr := l.root.Stat(strings.TrimSuffix(dir, "/")); isNotDir(err) || isNotDir(statErr) || (statErr == nil && !fi.IsDir()) {
			return fs.ErrNotExist
		}
		return err
	}
	defer func() { err = errors.Join(err, sub.Close()) }()
	names, err := l.names(sub, dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasSuffix(n.text, "/") {
			if err = l.walk(dir + n.text); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err = l.ctx.Err(); err != nil {
			return err
		}
		info, ok, err := l.describe(sub, dir, n)
		if err != nil {
			return err
		}
		if ok && !l.yield(info, nil) {
			return errStop
		}
	}
	return nil
}

// names reads the entries of a folder that can lead to a wanted key, in the order of the keys.
func (l *lister) names(sub *os.Root, dir string) (_ []name, err error) {
	f, err := sub.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var names []name
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			n := name{text: e.Name(), link: e.Type()&fs.ModeSymlink != 0}
			if e.IsDir() {
				n.text += "/"
			} else if !e.Type().IsRegular() && !n.link {
				continue
			}
			if dir == "" && strings.EqualFold(e.Name(), privateDir) {
				continue
			}
			full := dir + n.text
			below := e.IsDir() && strings.HasPrefix(l.prefix, full)
			if (below || strings.HasPrefix(full, l.prefix)) && store.CheckKey("list", strings.TrimSuffix(full, "/")) == nil {
				names = append(names, n)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(names, func(a, b name) int { return cmp.Compare(a.text, b.text) })
	return names, nil
}

// describe returns the object behind an entry, or false if there is none (any more).
func (l *lister) describe(sub *os.Root, dir string, n name) (store.Info, bool, error) {
	key := dir + n.text
	if n.link {
		info, err := statObject(l.root, key)
		return info, err == nil, nil
	}
	fi, err := sub.Lstat(n.text)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return store.Info{}, false, nil
	case err != nil:
		return store.Info{}, false, err
	}
	return infoOf(key, fi), fi.Mode().IsRegular(), nil
}

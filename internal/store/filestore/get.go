package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Get opens an object. The body keeps the object that was opened even if the key is replaced or deleted meanwhile.
func (s *Store) Get(ctx context.Context, key string, rng store.Range) (io.ReadCloser, store.Info, error) {
	const op = "get"
	if err := s.check(ctx, op, key); err != nil {
		return nil, store.Info{}, err
	}
	root, err := s.root()
	if err != nil {
		return nil, store.Info{}, wrap(op, key, err)
	}
	defer root.Close() //nolint:errcheck // Nothing is written through it.
	f, fi, err := openObject(root, key)
	if err != nil {
		return nil, store.Info{}, wrap(op, key, err)
	}
	info := infoOf(key, fi)
	length, err := clip(rng, info)
	if err == nil {
		info.Metadata, err = readMetadata(root, info)
	}
	if err != nil {
		_ = f.Close() // The error that matters is the first.
		return nil, store.Info{}, wrap(op, key, err)
	}
	return &body{ctx: ctx, key: key, f: f, next: rng.Offset, left: length}, info, nil
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Info, error) {
	const op = "stat"
	if err := s.check(ctx, op, key); err != nil {
		return store.Info{}, err
	}
	root, err := s.root()
	if err != nil {
		return store.Info{}, wrap(op, key, err)
	}
	defer root.Close() //nolint:errcheck // Nothing is written through it.
	info, err := statObject(root, key)
	if err == nil {
		info.Metadata, err = readMetadata(root, info)
	}
	if err != nil {
		return store.Info{}, wrap(op, key, err)
	}
	return info, nil
}

// openObject opens a regular file. A folder, or a file where a folder would have to be, is no object.
func openObject(root *os.Root, key string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(key, openFlags, 0)
	if isNotDir(err) {
		return nil, nil, &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		err = checkRegular(key, fi)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, fi, nil
}

func statObject(root *os.Root, key string) (store.Info, error) {
	fi, err := root.Stat(key)
	if isNotDir(err) {
		err = &fs.PathError{Op: "stat", Path: key, Err: fs.ErrNotExist}
	}
	if err == nil {
		err = checkRegular(key, fi)
	}
	if err != nil {
		return store.Info{}, err
	}
	return infoOf(key, fi), nil
}

func checkRegular(key string, fi fs.FileInfo) error {
	switch {
	case fi.IsDir():
		return &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
	case !fi.Mode().IsRegular():
		return &fs.PathError{Op: "open", Path: key, Err: errNotRegular}
	}
	return nil
}

func infoOf(key string, fi fs.FileInfo) store.Info {
	return store.Info{
		Key:      key,
		Size:     fi.Size(),
		ETag:     fmt.Sprintf("%x-%x-%x", fi.Size(), fi.ModTime().UnixNano(), inode(fi)),
		Modified: fi.ModTime(),
	}
}

// clip returns how many bytes of the object a range asks for.
func clip(rng store.Range, info store.Info) (int64, error) {
	if rng.ETag != "" && rng.ETag != info.ETag {
		return 0, &store.Error{Op: "get", Key: info.Key, Kind: store.ErrExists, Err: errors.New("the object has been replaced")}
	}
	if rng.Offset == 0 && rng.Length == 0 {
		return info.Size, nil
	}
	if rng.Offset < 0 || rng.Length < 0 || rng.Offset >= info.Size {
		return 0, &store.Error{
			Op: "get", Key: info.Key, Kind: store.ErrBadRange,
			Err: fmt.Errorf("%d bytes from %d of an object of %d bytes", rng.Length, rng.Offset, info.Size),
		}
	}
	rest := info.Size - rng.Offset
	if rng.Length == 0 {
		return rest, nil
	}
	return min(rest, rng.Length), nil
}

// body reads a part of a file, and watches the context of the Get that opened it.
type body struct {
	ctx  context.Context //nolint:containedctx // io.Reader has no other way to be cancelled.
	key  string
	f    *os.File
	next int64 // offset in the file
	left int64
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if err := b.ctx.Err(); err != nil {
		return 0, wrap("get", b.key, err)
	}
	n, err := b.f.ReadAt(p[:min(int64(len(p)), b.left)], b.next)
	b.next += int64(n)
	b.left -= int64(n)
	if err == nil || (errors.Is(err, io.EOF) && (n > 0 || len(p) == 0)) {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		// Someone cut the file in place.
		return n, &store.Error{Op: "get", Key: b.key, Kind: store.ErrUnavailable, Err: io.ErrUnexpectedEOF}
	}
	return n, wrap("get", b.key, err)
}

// Close implements [io.Closer].
func (b *body) Close() error { return b.f.Close() }

package filestore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// An unfinished upload is a folder:
//
//	upload.json   whose upload this is
//	layout        the size of part 1, known when its transfer starts
//	data          the object to be, sparse while parts are missing
//	<number>.part the record of a part whose bytes have all been written, and where
//	<number>.data the bytes of a part that came before the layout was known, or that does not fit it
//
// Records are not synced before the data is, so a record that survived a power cut proves nothing. That is why Parts gives the digests of
// the bytes that are really there.
const (
	uploadFile = "upload.json"
	layoutFile = "layout"
	dataFile   = "data"
	recordExt  = ".part"
	strayExt   = ".data"
)

// maxParts is the contract's.
const maxParts = 10_000

type uploadJSON struct {
	Key         string            `json:"key"`
	Initiated   time.Time         `json:"initiated"`
	ContentType string            `json:"content_type,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	IfAbsent    bool              `json:"if_absent,omitempty"`
	IfMatch     string            `json:"if_match,omitempty"`
}

// record says where the bytes of a part are: at an offset in the data file, or in a file of their own.
type record struct {
	Size   int64 `json:"size"`
	Offset int64 `json:"offset"`
	Stray  bool  `json:"stray,omitempty"`
}

// upload is an unfinished upload that was found in its folder.
type upload struct {
	root *os.Root
	dir  string
	uploadJSON
}

func (u *upload) file(name string) string { return path.Join(u.dir, name) }
func (u *upload) record(number int) string {
	return u.file(strconv.Itoa(number) + recordExt)
}

func (u *upload) stray(number int) string {
	return u.file(strconv.Itoa(number) + strayExt)
}

// StartUpload begins an upload. A digest in o is not checked: that would read the object a second time. The conditions in o are checked here,
// to refuse early, and again by Complete.
func (s *Store) StartUpload(ctx context.Context, key string, o store.PutOptions) (store.Upload, error) {
	const op = "start upload"
	if err := s.check(ctx, op, key); err != nil {
		return store.Upload{}, err
	}
	root, err := s.writableRoot()
	if err != nil {
		return store.Upload{}, wrapWrite(op, key, err)
	}
	defer root.Close() //nolint:errcheck // Nothing is written through the folder's own handle.
	if err = checkConditions(root, key, o); err != nil {
		return store.Upload{}, wrapWrite(op, key, err)
	}
	id := rand.Text()
	u := upload{root: root, dir: path.Join(uploadsDir, id), uploadJSON: uploadJSON{
		Key: key, Initiated: s.now().UTC(), ContentType: o.ContentType, Metadata: o.Metadata, IfAbsent: o.IfAbsent, IfMatch: o.IfMatch,
	}}
	err = mkdirAll(root, u.dir)
	if err == nil {
		err = writeJSON(root, u.file(uploadFile), u.uploadJSON)
	}
	if err != nil {
		return store.Upload{}, wrapWrite(op, key, errors.Join(err, root.RemoveAll(u.dir)))
	}
	return store.Upload{Key: key, ID: id, Initiated: u.Initiated}, nil
}

// errNoUpload is what is wrong with an upload that has been completed or aborted, or never was.
var errNoUpload = fmt.Errorf("no such upload: %w", fs.ErrNotExist)

// find opens the bucket's folder and an upload in it. The caller closes the upload's root.
func (s *Store) find(ctx context.Context, op string, su store.Upload) (*upload, error) {
	if err := s.check(ctx, op, su.Key); err != nil {
		return nil, err
	}
	root, err := s.root()
	if err != nil {
		return nil, wrap(op, su.Key, err)
	}
	u := &upload{root: root, dir: path.Join(uploadsDir, su.ID)}
	if !isUploadID(su.ID) {
		err = errNoUpload
	}
	if err == nil {
		err = readJSON(root, u.file(uploadFile), &u.uploadJSON)
	}
	if err == nil && u.Key != su.Key {
		err = errNoUpload
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errNoUpload
	}
	if err != nil {
		_ = root.Close() // The error that matters is the first.
		return nil, wrap(op, su.Key, err)
	}
	return u, nil
}

// isUploadID tells an id that StartUpload gave from text that would be a path.
func isUploadID(id string) bool {
	return id != "" && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

func readJSON(root *os.Root, name string, v any) error {
	data, err := root.ReadFile(name)
	if err != nil {
		return err
	}
	if err = json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// PutPart stores one part. Its ETag says only that the part was stored; Parts gives digests.
func (s *Store) PutPart(ctx context.Context, su store.Upload, number int, body *io.SectionReader) (store.Part, error) {
	const op = "put part"
	if number < 1 || number > maxParts {
		return store.Part{}, &store.Error{Op: op, Key: su.Key, Kind: store.ErrBadConfig, Err: fmt.Errorf("there is no part %d", number)}
	}
	u, err := s.find(ctx, op, su)
	if err != nil {
		return store.Part{}, err
	}
	defer u.root.Close() //nolint:errcheck // Nothing is written through the folder's own handle.
	if err = s.putPart(ctx, u, number, body); err != nil {
		if _, statErr := u.root.Lstat(u.dir); errors.Is(statErr, fs.ErrNotExist) {
			err = errNoUpload // Aborted or completed meanwhile.
		}
		return store.Part{}, wrap(op, su.Key, err)
	}
	return store.Part{Number: number, Size: body.Size(), ETag: fmt.Sprintf("part-%d-%d", number, body.Size())}, nil
}

func (s *Store) putPart(ctx context.Context, u *upload, number int, body *io.SectionReader) error {
	layout, err := u.layout(number, body.Size())
	if err != nil {
		return err
	}
	// While its bytes are being replaced the part does not exist.
	if err = remove(u.root, u.record(number)); err != nil {
		return err
	}
	rec := record{Size: body.Size(), Offset: int64(number-1) * layout}
	name := u.file(dataFile)
	if layout == 0 || body.Size() > layout {
		rec.Stray, rec.Offset = true, 0
		name = u.stray(number)
	}
	f, err := u.root.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return err
	}
	err = s.copyAt(ctx, f, rec.Offset, body, nil)
	if err == nil && rec.Stray {
		err = f.Truncate(body.Size())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return u.writeSmall(u.record(number), rec)
}

// layout returns the size that places parts in the data file, 0 while it is unknown. Part 1 decides it, as soon as it starts: in an upload
// whose parts but the last are of one size its own is that size. Any other part might be the last.
func (u *upload) layout(number int, size int64) (int64, error) {
	var layout int64
	err := readJSON(u.root, u.file(layoutFile), &layout)
	switch {
	case err == nil && layout > 0:
		return layout, nil
	case !errors.Is(err, fs.ErrNotExist) && !isDamaged(err):
		return 0, err
	case number != 1 || size == 0:
		return 0, nil
	}
	return size, u.writeSmall(u.file(layoutFile), size)
}

// isDamaged tells content that makes no sense, as a power cut leaves it in files that were not synced, from a file that cannot be read.
func isDamaged(err error) bool {
	_, system := errors.AsType[*fs.PathError](err)
	return !system
}

// writeSmall writes a file that is whole or absent to every other reader, but not durable.
func (u *upload) writeSmall(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	temp := u.file("new-" + rand.Text())
	if err = u.root.WriteFile(temp, data, fileMode); err == nil {
		err = u.root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, remove(u.root, temp))
	}
	return nil
}

// Abort throws an upload away.
func (s *Store) Abort(ctx context.Context, su store.Upload) error {
	const op = "abort upload"
	if err := s.check(ctx, op, su.Key); err != nil {
		return err
	}
	root, err := s.root()
	if errors.Is(err, fs.ErrNotExist) || !isUploadID(su.ID) {
		return nil
	}
	if err != nil {
		return wrap(op, su.Key, err)
	}
	defer root.Close() //nolint:errcheck // Nothing is written through the folder's own handle.
	u := upload{root: root, dir: path.Join(uploadsDir, su.ID)}
	return wrap(op, su.Key, u.discard())
}

// discard removes what is left of an upload, first of all that it is one.
func (u *upload) discard() error {
	if err := remove(u.root, u.file(uploadFile)); err != nil {
		return err
	}
	return u.root.RemoveAll(u.dir)
}

// Uploads yields the unfinished uploads whose keys start with prefix, in order of their keys.
func (s *Store) Uploads(ctx context.Context, prefix string) iter.Seq2[store.Upload, error] {
	return func(yield func(store.Upload, error) bool) {
		ups, err := s.uploads(ctx, prefix)
		for _, u := range ups {
			if !yield(u, nil) {
				return
			}
		}
		if err != nil {
			yield(store.Upload{}, wrap("list uploads", prefix, err))
		}
	}
}

func (s *Store) uploads(ctx context.Context, prefix string) ([]store.Upload, error) {
	root, err := s.root()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // Nothing is written through it.
	entries, err := fs.ReadDir(root.FS(), uploadsDir)
	if errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ups []store.Upload
	for _, e := range entries {
		if err = ctx.Err(); err != nil {
			return nil, err
		}
		var u uploadJSON
		if !isUploadID(e.Name()) || readJSON(root, path.Join(uploadsDir, e.Name(), uploadFile), &u) != nil {
			continue // Half made or half removed.
		}
		if strings.HasPrefix(u.Key, prefix) {
			ups = append(ups, store.Upload{Key: u.Key, ID: e.Name(), Initiated: u.Initiated})
		}
	}
	slices.SortFunc(ups, func(a, b store.Upload) int {
		if c := strings.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return a.Initiated.Compare(b.Initiated)
	})
	return ups, nil
}

package filestore

import (
	"context"
	"crypto/md5" //nolint:gosec // The digest that S3 names parts by; it guards nothing here.
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Parts lists what an upload has. An ETag is the MD5 of the bytes that the file system gives back now, so it reads all of them: after a power cut
// a part may be recorded whose bytes never reached the disk, and only the caller knows what they should have been.
func (s *Store) Parts(ctx context.Context, su store.Upload) ([]store.Part, error) {
	const op = "list parts"
	u, err := s.find(ctx, op, su)
	if err != nil {
		return nil, err
	}
	defer u.root.Close() //nolint:errcheck // Nothing is written through it.
	recs, err := u.records()
	if err != nil {
		return nil, wrap(op, su.Key, err)
	}
	numbers := slices.Sorted(maps.Keys(recs))
	etags := make([]string, len(numbers))
	const readers = 4
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i, n := range numbers {
		g.Go(func() error {
			etag, hashErr := s.hashPart(gctx, u, n, recs[n])
			etags[i] = etag
			return hashErr
		})
	}
	if err = g.Wait(); err != nil {
		return nil, wrap(op, su.Key, err)
	}
	var parts []store.Part
	for i, n := range numbers {
		if etags[i] != "" {
			parts = append(parts, store.Part{Number: n, Size: recs[n].Size, ETag: etags[i]})
		}
	}
	return parts, nil
}

// records reads what an upload says of its parts. A record that cannot be read is of a part that was not stored.
func (u *upload) records() (map[int]record, error) {
	entries, err := fs.ReadDir(u.root.FS(), u.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoUpload
	}
	if err != nil {
		return nil, err
	}
	recs := make(map[int]record)
	for _, e := range entries {
		text, ok := strings.CutSuffix(e.Name(), recordExt)
		if !ok {
			continue
		}
		number, err := strconv.Atoi(text)
		var rec record
		if err != nil || number < 1 || number > maxParts || readJSON(u.root, u.file(e.Name()), &rec) != nil || rec.Size < 0 || rec.Offset < 0 {
			continue
		}
		recs[number] = rec
	}
	return recs, nil
}

// hashPart returns an empty digest for a part whose bytes are not all there.
func (s *Store) hashPart(ctx context.Context, u *upload, number int, rec record) (_ string, err error) {
	f, err := u.openPart(number, rec)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := md5.New() //nolint:gosec // As above.
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	for done := int64(0); done < rec.Size; {
		if err = ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.ReadAt((*buf)[:min(int64(len(*buf)), rec.Size-done)], rec.Offset+done)
		_, _ = h.Write((*buf)[:n]) // It cannot fail.
		done += int64(n)
		if errors.Is(err, io.EOF) && done < rec.Size {
			return "", nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (u *upload) openPart(number int, rec record) (*os.File, error) {
	if rec.Stray {
		return u.root.Open(u.stray(number))
	}
	return u.root.Open(u.file(dataFile))
}

// Complete makes the object of the parts. Their sizes have to agree with what is stored; their ETags may be those of PutPart or of Parts.
func (s *Store) Complete(ctx context.Context, su store.Upload, parts []store.Part) (store.Info, error) {
	const op = "complete upload"
	u, err := s.find(ctx, op, su)
	if err != nil {
		return store.Info{}, err
	}
	defer u.root.Close() //nolint:errcheck // Nothing is written through the folder's own handle.
	for _, dir := range []string{tmpDir, locksDir} {
		if err = mkdirAll(u.root, dir); err != nil {
			return store.Info{}, wrapWrite(op, su.Key, err)
		}
	}
	if err = s.assemble(ctx, u, parts); err != nil {
		return store.Info{}, wrapWrite(op, su.Key, err)
	}
	failpoint.Hit("upload assembled")
	info, err := s.commit(ctx, u.root, candidate{key: su.Key, temp: u.file(dataFile), opts: store.PutOptions{
		Metadata: u.Metadata, ContentType: u.ContentType, IfAbsent: u.IfAbsent, IfMatch: u.IfMatch,
	}})
	if err != nil {
		return store.Info{}, wrapWrite(op, su.Key, err)
	}
	// The object is there. What cannot be removed now is what a kill here would leave: an upload without data, for Abort.
	_ = u.discard()
	return info, nil
}

// assemble makes the data file the whole and durable object.
func (s *Store) assemble(ctx context.Context, u *upload, parts []store.Part) error {
	recs, err := u.records()
	if err != nil {
		return err
	}
	size, strays, err := u.tile(recs, parts)
	if err != nil {
		return err
	}
	f, err := u.root.OpenFile(u.file(dataFile), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return err
	}
	for number, at := range strays {
		if err = s.bringIn(ctx, u, f, number, recs[number], at); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() < size {
		err = u.badParts("bytes of the parts are missing")
	}
	if err == nil {
		err = f.Truncate(size) // A shorter last part may have replaced a longer one.
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// tile checks that the parts follow one another without gaps. It returns their total size, and where those belong that are not in the data
// file yet.
func (u *upload) tile(recs map[int]record, parts []store.Part) (size int64, strays map[int]int64, err error) {
	if len(parts) == 0 {
		return 0, nil, u.badParts("an upload of no parts")
	}
	strays = make(map[int]int64)
	last := 0
	for _, p := range parts {
		rec, ok := recs[p.Number]
		switch {
		case p.Number <= last:
			return 0, nil, u.badParts("part %d is out of order", p.Number)
		case !ok || (p.Size != 0 && p.Size != rec.Size):
			return 0, nil, u.badParts("part %d has not been stored like this", p.Number)
		case rec.Stray:
			strays[p.Number] = size
		case rec.Size > 0 && rec.Offset != size:
			return 0, nil, u.badParts("the parts before part %d are not all of one size", p.Number)
		}
		size += rec.Size
		last = p.Number
	}
	return size, strays, nil
}

// bringIn copies a part from its own file to its place. That place is no other part's: those that are used lie where they belong.
func (s *Store) bringIn(ctx context.Context, u *upload, f *os.File, number int, rec record, at int64) error {
	stray, err := u.openPart(number, rec)
	if err != nil {
		return err
	}
	err = s.copyAt(ctx, f, at, io.NewSectionReader(stray, 0, rec.Size), nil)
	return errors.Join(err, stray.Close())
}

func (u *upload) badParts(format string, args ...any) error {
	return &store.Error{Op: "complete upload", Key: u.Key, Code: "InvalidPart", Err: fmt.Errorf(format, args...)}
}

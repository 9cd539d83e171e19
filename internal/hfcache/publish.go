package hfcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// errTakenAway says that a staged file lost its name while it was written to.
var errTakenAway = errors.New("somebody has removed it meanwhile")

// Publish gives the blob its final name. The caller has verified all of it and has synced it. What has the name so far is replaced, not written to:
// a dangling link, a file of a wrong size, or a link into the shared store, whose payload stays as it is. Whether it succeeds or not, the
// Staged is at its end; a resumable one that could not be published stays for the next run.
func (s *Staged) Publish() error {
	if s.ended {
		return s.dir.fail("publishing", blobsDir+"/"+string(s.id), fs.ErrClosed)
	}
	if err := s.publish(); err != nil {
		return errors.Join(s.dir.fail("publishing", blobsDir+"/"+string(s.id), err), s.Close())
	}
	failpoint.Hit("blob named")
	var err error
	if s.journal != nil {
		// After the rename: were it the other way round, a kill in between would make the next run download all of it again.
		err = s.dir.removeTemp(s.name + journalSuffix)
	}
	return errors.Join(err, s.end())
}

func (s *Staged) publish() error {
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != s.size {
		return &hub.MismatchError{ID: s.id, WantSize: s.size, GotSize: info.Size()}
	}
	if !s.created {
		if mode, err := s.dir.probeMode(); err == nil && info.Mode().Perm() != mode {
			_ = s.f.Chmod(mode) // the real client, too, lives with the mode where the file system or its owner forbids a change
		}
	}
	if !isAt(s.dir.blobs, s.name, s.f) {
		return errTakenAway
	}
	failpoint.Hit("blob synced")
	return s.dir.blobs.Rename(s.name, string(s.id))
}

// CloneFrom gives this repository a blob that another one of the cache has. rel is a regular file below the cache folder, as in [File.Bytes]. Every
// byte is hashed before the blob gets its name; a wrong one is a *[hub.MismatchError]. The bytes are shared with the source where the file system can do that, else
// the two become one file if the source is a plain blob of a repository, else they are copied. A payload of the shared store never gets a second name: its users
// are counted elsewhere. buf is scratch space.
func (d *RepoDir) CloneFrom(ctx context.Context, rel string, id hub.BlobID, size int64, buf []byte) error {
	src, err := d.cache.OpenBytes(rel)
	if err != nil {
		return fmt.Errorf("reusing %s: %w", rel, bare(err))
	}
	defer src.Close() //nolint:errcheck // only read from
	info, err := src.Stat()
	if err != nil {
		return fmt.Errorf("reusing %s: %w", rel, bare(err))
	}
	if info.Size() != size {
		return fmt.Errorf("reusing %s: %w", rel, &hub.MismatchError{ID: id, WantSize: size, GotSize: info.Size()})
	}
	s, err := d.stageEmpty(id, size, max(size, 1)) // no space is reserved before it is clear that it is needed
	if err != nil {
		return err
	}
	shared, err := s.share(src)
	if err == nil && !shared && isPlainBlob(rel) {
		var done bool
		if done, err = d.hardLink(ctx, rel, src, id, size, buf); done {
			return errors.Join(err, s.Discard())
		}
	}
	if err == nil {
		err = s.fillFrom(ctx, src, shared, buf)
	}
	if err == nil {
		err = s.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("reusing %s: %w", rel, bare(err)), s.Discard())
	}
	return s.Publish()
}

// share makes the staged file a copy of src that takes no space, if the file system can.
func (s *Staged) share(src *os.File) (bool, error) {
	if s.size == 0 || s.dir.sys.clone(s.f, src) != nil {
		return false, nil //nolint:nilerr // there are other ways
	}
	info, err := s.f.Stat()
	if err != nil {
		return false, err
	}
	if info.Size() != s.size {
		return false, &hub.MismatchError{ID: s.id, WantSize: s.size, GotSize: info.Size()}
	}
	return true, nil
}

// fillFrom verifies the staged file, after copying it from src if it does not share its bytes. What is hashed is what is published, whatever happens to src.
func (s *Staged) fillFrom(ctx context.Context, src io.Reader, shared bool, buf []byte) error {
	v := hub.NewVerifier(s.id, s.size)
	var to io.Writer = v
	if shared {
		src = io.NewSectionReader(s.f, 0, s.size)
	} else {
		if err := s.reserve(); err != nil {
			return err
		}
		to = io.MultiWriter(v, io.NewOffsetWriter(s, 0))
	}
	if _, err := io.CopyBuffer(to, contextReader{ctx, src}, buf); err != nil {
		return err
	}
	return v.Verify()
}

// hardLink gives the source file a second name, this repository's. It says false if that cannot be done here, and the bytes have not been read then.
func (d *RepoDir) hardLink(ctx context.Context, rel string, src *os.File, id hub.BlobID, size int64, buf []byte) (done bool, err error) {
	name := tempName(string(id))
	folder := d.id.Folder()
	if d.sys.link(d.cache.root, filepath.FromSlash(rel), filepath.FromSlash(folder+"/"+blobsDir+"/"+name)) != nil {
		return false, nil
	}
	// The name goes in any case: renaming a file over another name of itself does nothing and leaves both.
	defer func() { err = errors.Join(err, d.removeTemp(name)) }()
	if !isAt(d.blobs, name, src) {
		return false, nil
	}
	v := hub.NewVerifier(id, size)
	if _, err := io.CopyBuffer(v, contextReader{ctx, src}, buf); err != nil {
		return true, fmt.Errorf("reusing %s: %w", rel, err)
	}
	if err := v.Verify(); err != nil {
		return true, fmt.Errorf("reusing %s: %w", rel, err)
	}
	if err := syncRead(src); err != nil { // its writer may not have
		return true, fmt.Errorf("reusing %s: %w", rel, bare(err))
	}
	if err := d.blobs.Rename(name, string(id)); err != nil {
		return true, d.fail("publishing", blobsDir+"/"+string(id), err)
	}
	return true, nil
}

// isPlainBlob says whether rel is a file right in a repository's blobs/, and no temporary one.
func isPlainBlob(rel string) bool {
	folder, rest, _ := strings.Cut(rel, "/")
	name, inBlobs := strings.CutPrefix(rest, blobsDir+"/")
	_, err := hub.ParseFolder(folder)
	return err == nil && inBlobs && name != "" && !strings.HasPrefix(name, ".") && !strings.Contains(name, "/")
}

package hfcache

import (
	"context"
	"fmt"
	"io"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Digests reads a file of the inventory and computes both ids that its bytes can have. buf is scratch space. A file that changes its size
// meanwhile is a *[hub.MismatchError].
func (c *Cache) Digests(ctx context.Context, f File, buf []byte) (hub.Digests, error) {
	src, err := c.OpenBytes(f.Bytes)
	if err != nil {
		return hub.Digests{}, err
	}
	defer src.Close() //nolint:errcheck // only read from
	digests, err := hub.DigestReader(contextReader{ctx, src}, f.Size, buf)
	if err != nil {
		return hub.Digests{}, fmt.Errorf("%s: %w", f.Bytes, err)
	}
	return digests, nil
}

// Identify gives every file of the revision an id. A file that neither the commit's listing nor its blob's name identifies is hashed and gets its
// SHA-256, as an LFS file would have it. Files that cannot be read are taken out of the revision and returned as problems.
func (c *Cache) Identify(ctx context.Context, repo *Repo, rev *Revision, buf []byte) ([]Problem, error) {
	var problems []Problem
	kept := rev.Files[:0]
	for _, f := range rev.Files {
		if f.ID == "" {
			digests, err := c.Digests(ctx, f, buf)
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case err != nil:
				problems = append(problems, Problem{
					Repo: repo.ID, Path: repo.ID.Folder() + "/" + snapshotsDir + "/" + string(rev.Commit) + "/" + string(f.Path),
					Why: reason(err), Lost: true,
				})
				continue
			}
			f.ID = digests.SHA256
		}
		kept = append(kept, f)
	}
	rev.Files = kept
	return problems, nil
}

// contextReader makes a long read end with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one call of Digests
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

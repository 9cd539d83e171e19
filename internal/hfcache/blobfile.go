package hfcache

import (
	"fmt"
	"path/filepath"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// BlobFile describes a blob that a repository has, as a scan does. Its Path is empty.
func (c *Cache) BlobFile(id hub.Repo, blob hub.BlobID) (File, error) {
	place := id.Folder() + "/" + blobsDir + "/" + string(blob)
	bytes, info, err := c.resolve(filepath.ToSlash(place))
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", place, bare(err))
	}
	return File{Size: info.Size(), Disk: diskOf(info), Blob: string(blob), Bytes: bytes, ModTime: info.ModTime(), Used: lastUse(info), ID: blob}, nil
}

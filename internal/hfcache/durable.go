package hfcache

import (
	"errors"
	"fmt"
	"os"
)

// SyncAll waits until everything that was written to the cache's file system is on the disk, by whomever. One such call costs far less than a sync for each of many
// small files. The error wraps [errors.ErrUnsupported] where the system has no such call; then each file must be synced.
func (c *Cache) SyncAll() error { return syncAll(c.root, c.dir) }

// SyncAll is [Cache.SyncAll] for the file system of the repository's blobs. It is another one than the cache's where a repository's folder
// is a mount of its own, as containers have it.
func (d *RepoDir) SyncAll() error { return syncAll(d.blobs, d.id.Folder()+"/"+blobsDir) }

// settle waits until the names in the repository's folder are on the disk, before others are changed that would be wrong without them. Where the system has no call for
// that it does nothing: there (APFS, NTFS) changes of folders become durable in the order in which they were made.
func (d *RepoDir) settle() error { return settle(d.blobs, d.id.Folder()+"/"+blobsDir) }

func settle(root *os.Root, name string) error {
	if err := syncAll(root, name); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

func syncAll(root *os.Root, name string) error {
	f, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("syncing %s: %w", name, bare(err))
	}
	err = syncFileSystem(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("syncing %s: %w", name, err)
	}
	return nil
}

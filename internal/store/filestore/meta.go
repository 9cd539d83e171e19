package filestore

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// smallObject is the size up to which an object is read to see whether metadata belongs to it.
const smallObject = 64 << 10

// sidecar is the file that keeps the metadata of one key. While an object is being replaced it has the metadata of both objects, so that a
// kill at any point leaves the one that is there with its own.
type sidecar struct {
	Key      string    `json:"key"`
	Versions []version `json:"versions"`
}

// version is the metadata of one object that a key has had.
type version struct {
	ETag        string            `json:"etag"`
	Size        int64             `json:"size"`
	SHA256      string            `json:"sha256,omitempty"`
	ContentType string            `json:"content_type,omitempty"`
	Metadata    map[string]string `json:"metadata"`
}

func sidecarName(key string) string {
	h := sha256.Sum256([]byte(key))
	return path.Join(metaDir, hex.EncodeToString(h[:])+".json")
}

// readMetadata returns the metadata of an object, nil if it has none.
func readMetadata(root *os.Root, info store.Info) (map[string]string, error) {
	sc, err := readSidecar(root, info.Key)
	if err != nil || sc == nil {
		return nil, err
	}
	v, err := sc.find(root, info)
	if err != nil || v == nil {
		return nil, err
	}
	return v.Metadata, nil
}

// readSidecar returns nil for a key without one, or with one that is not ours: metadata is a convenience, and its loss is survivable.
func readSidecar(root *os.Root, key string) (*sidecar, error) {
	const most = 1 << 20
	f, err := root.OpenFile(sidecarName(key), openFlags, 0)
	if errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
		return nil, nil //nolint:nilnil // None is not an error.
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	var sc sidecar
	if json.Unmarshal(data, &sc) != nil || sc.Key != key {
		return nil, nil //nolint:nilnil,nilerr // As above.
	}
	return &sc, nil
}

// find returns the version that the object is, nil if it is none of them.
func (sc *sidecar) find(root *os.Root, info store.Info) (*version, error) {
	for i := range sc.Versions {
		if sc.Versions[i].ETag == info.ETag {
			return &sc.Versions[i], nil
		}
	}
	if info.Size > smallObject {
		return nil, nil //nolint:nilnil // None is not an error.
	}
	f, fi, err := openObject(root, info.Key)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, err = io.Copy(h, io.LimitReader(f, smallObject))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	digest := hex.EncodeToString(h.Sum(nil))
	for i := range sc.Versions {
		if v := &sc.Versions[i]; v.SHA256 == digest && v.Size == fi.Size() {
			return v, nil
		}
	}
	return nil, nil //nolint:nilnil // As above.
}

// writeMetadata records the metadata of a candidate beside that of the object which is there now.
func writeMetadata(root *os.Root, info store.Info, c candidate) error {
	next := sidecar{Key: c.key}
	if sc, err := readSidecar(root, c.key); err == nil && sc != nil {
		if old, err := statObject(root, c.key); err == nil {
			if v, err := sc.find(root, old); err == nil && v != nil {
				next.Versions = append(next.Versions, *v)
			}
		}
	}
	next.Versions = append(next.Versions, version{
		ETag: info.ETag, Size: info.Size, SHA256: c.sha256, ContentType: c.opts.ContentType, Metadata: c.opts.Metadata,
	})
	// Of two versions with one content the later counts.
	if n := len(next.Versions); n > 1 && c.sha256 != "" && next.Versions[0].SHA256 == c.sha256 {
		next.Versions = next.Versions[n-1:]
	}
	if err := mkdirAll(root, metaDir); err != nil {
		return err
	}
	return writeJSON(root, sidecarName(c.key), next)
}

func removeMetadata(root *os.Root, key string) error { return remove(root, sidecarName(key)) }

// writeJSON replaces a small private file, whole and durably. The temporary one is in the same folder, which the caller sweeps.
func writeJSON(root *os.Root, name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	temp := name + ".new"
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = root.Rename(temp, name); err != nil {
		return err
	}
	return syncDir(root, path.Dir(name))
}

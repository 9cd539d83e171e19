package histories_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// The Python tool 0.1.0, as far as it matters here: test/compat runs the real one. It uploads what has no key yet, replaces every manifest and ref by what it has, and believes every manifest and ref.

func (m *machine) toolPush(ctx context.Context) error {
	snapshots, err := filepath.Glob(m.folder("snapshots", "*"))
	if err != nil {
		return err
	}
	for _, snapshot := range snapshots {
		text := &manifest.Manifest{Repo: repo, Commit: hub.Commit(filepath.Base(snapshot))}
		links, err := os.ReadDir(snapshot)
		if err != nil {
			return err
		}
		for _, link := range links {
			target, err := os.Readlink(filepath.Join(snapshot, link.Name()))
			if err != nil {
				return err
			}
			data, err := os.ReadFile(m.folder("blobs", filepath.Base(target)))
			if err != nil {
				continue
			}
			blob := hub.BlobID(filepath.Base(target))
			if _, err := m.store.Stat(ctx, manifest.BlobKey(blob)); errors.Is(err, store.ErrNotFound) {
				if err := m.put(ctx, manifest.BlobKey(blob), string(data)); err != nil {
					return err
				}
			}
			text.Files = append(text.Files, manifest.File{Path: hub.Path(link.Name()), Blob: blob, Size: int64(len(data))})
		}
		if len(text.Files) == 0 {
			continue
		}
		data, err := manifest.Encode(text)
		if err != nil {
			return err
		}
		if err := m.put(ctx, manifest.ManifestKey(manifest.RepoKey(repo), text.Commit), string(data)); err != nil {
			return err
		}
	}
	refs, err := filepath.Glob(m.folder("refs", "*"))
	for _, ref := range refs {
		text, readErr := os.ReadFile(ref)
		err = errors.Join(err, readErr, m.put(ctx, manifest.RefKey(manifest.RepoKey(repo), hub.Ref(filepath.Base(ref))), string(text)))
	}
	return err
}

func (m *machine) put(ctx context.Context, key, text string) error {
	_, err := m.store.Put(ctx, key, io.NewSectionReader(strings.NewReader(text), 0, int64(len(text))), store.PutOptions{})
	return err
}

func (m *machine) get(ctx context.Context, key string) (string, error) {
	body, _, err := m.store.Get(ctx, key, store.Range{})
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(body)
	return string(data), errors.Join(err, body.Close())
}

// toolPull pulls main.
func (m *machine) toolPull(ctx context.Context) error {
	commit, err := m.get(ctx, manifest.RefKey(manifest.RepoKey(repo), "main"))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	text, err := m.get(ctx, manifest.ManifestKey(manifest.RepoKey(repo), hub.Commit(commit)))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	known, err := manifest.Decode([]byte(text))
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	rev := &revision{commit: hub.Commit(commit), files: map[hub.Path]content{}}
	for _, f := range known.Files {
		data, err := m.get(ctx, manifest.BlobKey(f.Blob))
		if err != nil {
			return nil //nolint:nilerr // its own manifests can name blobs that it never uploaded; then it gives up
		}
		rev.files[f.Path] = content{[]byte(data), len(f.Blob) == 64}
	}
	err = m.download("main", rev, func(hub.Path) bool { return true }, false)
	m.honest["main"] = false // it is the time of the pull
	return err
}

package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// MaxSize is the largest manifest that is read, in bytes: room for a commit of some 300,000 files with its tree.
const MaxSize = 128 << 20

// maxFiles bounds what one manifest may list. The Hub itself advises against more than 100,000 files in a repository.
const maxFiles = 1_000_000

// The wire forms. Field names and order are those of the Python tool; "hub" is ours, and top level because its reader fails on
// unknown keys inside an entry of files.
type (
	wireManifest struct {
		Repo     string     `json:"repo"`
		Revision string     `json:"revision"`
		RepoType string     `json:"repo_type,omitempty"`
		Files    []wireFile `json:"files"`
		Hub      *wireHub   `json:"hub,omitempty"`
	}
	wireFile struct {
		Path string `json:"path"`
		Blob string `json:"blob"`
		Size int64  `json:"size"`
	}
	wireHub struct {
		Complete bool                 `json:"complete"`
		Tree     map[string]wireEntry `json:"tree,omitempty"`
		NoExist  []string             `json:"no_exist,omitempty"`
	}
	wireEntry struct {
		Size      *int64 `json:"size"`
		BlobID    string `json:"blob_id"`
		LFSSHA256 string `json:"lfs_sha256,omitempty"`
		LFSSize   *int64 `json:"lfs_size,omitempty"`
		XetHash   string `json:"xet_hash,omitempty"`
	}
)

// Encode writes the JSON of docs/format.md, indented by two spaces. The same manifest always gives the same bytes.
func Encode(m *Manifest) ([]byte, error) {
	wire := wireManifest{
		Repo: m.Repo.Name, Revision: string(m.Commit), RepoType: m.Repo.Type.String(),
		Files: make([]wireFile, 0, len(m.Files)),
	}
	for _, f := range m.Files {
		wire.Files = append(wire.Files, wireFile{string(f.Path), string(f.Blob), f.Size})
	}
	if m.Hub != nil {
		wire.Hub = &wireHub{Complete: m.Completeness() == Complete, Tree: encodeTree(m.Hub.Tree)}
		for _, p := range m.Hub.NoExist {
			wire.Hub.NoExist = append(wire.Hub.NoExist, string(p))
		}
	}
	return encodeJSON(wire, "  ")
}

// encodeJSON leaves "<", ">" and "&" readable: nothing here ends up in HTML.
func encodeJSON(v any, indent string) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding JSON: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Decode reads a manifest and checks all of it. Errors wrap [ErrInvalid]. Unknown keys are ignored, so that later versions can add some.
// It does not know what was asked for: the caller compares Repo and Commit.
func Decode(data []byte) (*Manifest, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: it is larger than %d bytes", ErrInvalid, MaxSize)
	}
	var wire wireManifest
	if err := json.Unmarshal(data, &wire); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(wire.Files) > maxFiles {
		return nil, fmt.Errorf("%w: it lists more than %d files", ErrInvalid, maxFiles)
	}
	repoType := hub.Model
	if wire.RepoType != "" {
		var err error
		if repoType, err = hub.ParseRepoType(wire.RepoType); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	repo, err := hub.ParseRepo(repoType, wire.Repo)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	commit, err := hub.ParseCommit(wire.Revision)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	m := &Manifest{Repo: repo, Commit: commit, Files: make([]File, 0, len(wire.Files))}
	for _, f := range wire.Files {
		file, err := decodeFile(f)
		if err != nil {
			return nil, err
		}
		m.Files = append(m.Files, file)
	}
	if wire.Hub != nil {
		if m.Hub, err = decodeHub(wire.Hub); err != nil {
			return nil, err
		}
		m.dropImpossible()
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	return m, nil
}

func decodeFile(f wireFile) (File, error) {
	path, err := hub.ParsePath(f.Path)
	if err != nil {
		return File{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	blob, err := hub.ParseBlobID(f.Blob)
	if err != nil {
		return File{}, fmt.Errorf("%w: file %q: %w", ErrInvalid, path, err)
	}
	return File{path, blob, f.Size}, nil
}

func decodeHub(wire *wireHub) (*Hub, error) {
	decoded := &Hub{}
	if wire.Tree != nil {
		tree, err := decodeTree(wire.Tree)
		if err != nil {
			return nil, err
		}
		decoded.Tree = tree
	}
	for _, s := range wire.NoExist {
		path, err := hub.ParsePath(s)
		if err != nil {
			return nil, fmt.Errorf("%w: no_exist: %w", ErrInvalid, err)
		}
		decoded.NoExist = append(decoded.NoExist, path)
	}
	return decoded, nil
}

package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// MaxSize is the largest manifest that is read, in bytes: room for a commit of some 300,000 files with its tree.
const MaxSize = 128 << 20

// maxFiles bounds what one manifest may list. The Hub itself advises against more than 100,000 files in a repository.
const maxFiles = 1_000_000

// maxRefs bounds how many refs one manifest may speak of.
const maxRefs = 10_000

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
		Refs     map[string]string    `json:"refs,omitempty"`
		Forced   map[string]string    `json:"forced,omitempty"`
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
		wire.Hub = &wireHub{
			Complete: m.Completeness() == Complete, Tree: encodeTree(m.Hub.Tree),
			Refs: encodeTimes(m.Hub.Refs), Forced: encodeTimes(m.Hub.Forced),
		}
		for _, p := range m.Hub.NoExist {
			wire.Hub.NoExist = append(wire.Hub.NoExist, string(p))
		}
	}
	return encodeJSON(wire, "  ")
}

func encodeTimes(times map[hub.Ref]time.Time) map[string]string {
	if len(times) == 0 {
		return nil
	}
	texts := make(map[string]string, len(times))
	for name, t := range times {
		texts[string(name)] = t.UTC().Format(time.RFC3339Nano)
	}
	return texts
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

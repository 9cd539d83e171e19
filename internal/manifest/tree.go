package manifest

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// treeFormatVersion is the only version of trees/<commit>.json that clients read (huggingface_hub _tree_cache.py).
const treeFormatVersion = 1

type wireTree struct {
	FormatVersion int                  `json:"format_version"`
	Files         map[string]wireEntry `json:"files"`
}

// DecodeTreeFile reads a cache's trees/<commit>.json. Like the real client it refuses the whole file for one bad entry. Errors wrap [ErrInvalid].
func DecodeTreeFile(data []byte) (Tree, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: the tree is larger than %d bytes", ErrInvalid, MaxSize)
	}
	var wire wireTree
	if err := json.Unmarshal(data, &wire); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if wire.FormatVersion != treeFormatVersion {
		return nil, fmt.Errorf("%w: the tree has format version %d, not %d", ErrInvalid, wire.FormatVersion, treeFormatVersion)
	}
	if wire.Files == nil {
		return nil, fmt.Errorf("%w: the tree has no files", ErrInvalid)
	}
	return decodeTree(wire.Files)
}

// EncodeTreeFile writes a tree as the real client does: sorted keys, indent 1, ASCII only.
func EncodeTreeFile(t Tree) ([]byte, error) {
	files := encodeTree(t)
	if files == nil {
		files = map[string]wireEntry{}
	}
	data, err := encodeJSON(wireTree{treeFormatVersion, files}, " ")
	return ascii(data), err
}

// ascii writes JSON as Python's json module does: what is not ASCII as \u escapes, in pairs where it takes two.
func ascii(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for _, r := range string(data) {
		switch {
		case r < utf8.RuneSelf:
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

func encodeTree(t Tree) map[string]wireEntry {
	if t == nil {
		return nil
	}
	files := make(map[string]wireEntry, len(t))
	for path, e := range t {
		entry := wireEntry{Size: &e.Size, BlobID: e.BlobID, LFSSHA256: string(e.LFSSHA256), XetHash: e.XetHash}
		if e.LFSSHA256 != "" {
			entry.LFSSize = &e.LFSSize
		}
		files[string(path)] = entry
	}
	return files
}

func decodeTree(files map[string]wireEntry) (Tree, error) {
	if len(files) > maxFiles {
		return nil, fmt.Errorf("%w: the tree lists more than %d files", ErrInvalid, maxFiles)
	}
	tree := make(Tree, len(files))
	for name, wire := range files {
		path, err := hub.ParsePath(name)
		if err != nil {
			return nil, fmt.Errorf("%w: tree: %w", ErrInvalid, err)
		}
		entry, err := decodeEntry(wire)
		if err != nil {
			return nil, fmt.Errorf("%w: tree: file %q: %w", ErrInvalid, path, err)
		}
		tree[path] = entry
	}
	return tree, nil
}

func decodeEntry(wire wireEntry) (TreeEntry, error) {
	switch {
	case wire.Size == nil || *wire.Size < 0:
		return TreeEntry{}, fmt.Errorf("its size is missing or negative")
	case wire.BlobID == "":
		return TreeEntry{}, fmt.Errorf("its blob_id is missing")
	case (wire.LFSSHA256 == "") != (wire.LFSSize == nil):
		return TreeEntry{}, fmt.Errorf("it has only one of lfs_sha256 and lfs_size")
	}
	entry := TreeEntry{Size: *wire.Size, BlobID: wire.BlobID, XetHash: wire.XetHash}
	if wire.LFSSHA256 != "" {
		id, err := hub.ParseBlobID(wire.LFSSHA256)
		if err != nil {
			return TreeEntry{}, err
		}
		if id.Algorithm() != hub.SHA256 {
			return TreeEntry{}, fmt.Errorf("its lfs_sha256 has %d digits", len(id))
		}
		entry.LFSSHA256, entry.LFSSize = id, *wire.LFSSize
	}
	if wire.XetHash != "" {
		if _, err := hub.ParseBlobID(strings.ToLower(wire.XetHash)); err != nil || len(wire.XetHash) != 64 {
			return TreeEntry{}, fmt.Errorf("its xet_hash %q is not 64 hex digits", wire.XetHash)
		}
	}
	return entry, nil
}

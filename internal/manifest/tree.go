package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	return ReadTreeFile(bytes.NewReader(data))
}

// ReadTreeFile is [DecodeTreeFile] for a file that is not in memory. It decodes entry by entry: the listing of a large repository, and a map of what is yet to be judged, would be
// a third of the memory that there ever is. The caller sees to it that there are no more than [MaxSize] bytes.
func ReadTreeFile(r io.Reader) (Tree, error) {
	d := newDecoder(r)
	tree, version, err := readTree(d)
	switch {
	case errors.Is(err, ErrInvalid):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	case version != treeFormatVersion:
		return nil, fmt.Errorf("%w: the tree has format version %d, not %d", ErrInvalid, version, treeFormatVersion)
	case tree == nil:
		return nil, fmt.Errorf("%w: the tree has no files", ErrInvalid)
	}
	if _, err = d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the tree", ErrInvalid)
	}
	return tree, nil
}

// readTree reads the file's object.
func readTree(d *json.Decoder) (tree Tree, version int, err error) {
	err = eachKey(d, func(name string) (err error) {
		switch name {
		case "format_version":
			return d.Decode(&version)
		case "files":
			tree, err = decodeTree(d)
			return err
		default:
			return skip(d)
		}
	})
	return tree, version, err
}

// decodeTree reads a listing, entry by entry. null is none, and so is an empty one: no commit of the Hub has no files.
func decodeTree(d *json.Decoder) (Tree, error) {
	if opened, err := opens(d, '{'); err != nil || !opened {
		return nil, err
	}
	tree := Tree{}
	err := restOfObject(d, func(name string) error {
		var wire wireEntry
		if err := d.Decode(&wire); err != nil {
			return err
		}
		if len(tree) >= maxFiles {
			return errTooManyFiles()
		}
		return tree.add(name, wire)
	})
	if len(tree) == 0 {
		return nil, err
	}
	return tree, err
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

// ascii writes JSON as Python's json module does: what is not ASCII, and DEL, as \u escapes, in pairs where it takes two.
func ascii(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for _, r := range string(data) {
		switch {
		case r <= '~':
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

func errTooManyFiles() error {
	return fmt.Errorf("%w: the tree lists more than %d files", ErrInvalid, maxFiles)
}

// add judges one entry and takes it in.
func (t Tree) add(name string, wire wireEntry) error {
	path, err := hub.ParsePath(name)
	if err != nil {
		return fmt.Errorf("%w: tree: %w", ErrInvalid, err)
	}
	entry, err := decodeEntry(wire)
	if err != nil {
		return fmt.Errorf("%w: tree: file %q: %w", ErrInvalid, path, err)
	}
	t[path] = entry
	return nil
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

package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Decode reads a manifest and checks all of it. Errors wrap [ErrInvalid]. Unknown keys are ignored, so that later versions can add some.
// It does not know what was asked for: the caller compares Repo and Commit.
//
// It goes by one entry at a time and gives up at the first that is wrong: three bytes of JSON can be a hundred in memory, so that a manifest of [MaxSize] could take gigabytes
// before anybody had looked at it.
func Decode(data []byte) (*Manifest, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: it is larger than %d bytes", ErrInvalid, MaxSize)
	}
	d := newDecoder(bytes.NewReader(data))
	m, err := decodeManifest(d)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			err = nil
		} else {
			err = fmt.Errorf("%w: something follows it", ErrInvalid)
		}
	}
	if err != nil && !errors.Is(err, ErrInvalid) {
		err = fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err != nil {
		return nil, err
	}
	if m.Hub != nil {
		m.dropImpossible()
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	return m, nil
}

// decodeManifest reads the object. Of a key that is there twice the last counts, as for the Python tool.
func decodeManifest(d *json.Decoder) (*Manifest, error) {
	m := &Manifest{}
	var repo, revision, repoType string
	err := eachKey(d, func(name string) (err error) {
		switch name {
		case "repo":
			return d.Decode(&repo)
		case "revision":
			return d.Decode(&revision)
		case "repo_type":
			return d.Decode(&repoType)
		case "files":
			m.Files, err = decodeFiles(d)
			return err
		case "hub":
			m.Hub, err = decodeHub(d)
			return err
		default:
			return skip(d)
		}
	})
	if err != nil {
		return nil, err
	}
	kind := hub.Model
	if repoType != "" {
		if kind, err = hub.ParseRepoType(repoType); err != nil {
			return nil, err
		}
	}
	if m.Repo, err = hub.ParseRepo(kind, repo); err != nil {
		return nil, err
	}
	m.Commit, err = hub.ParseCommit(revision)
	return m, err
}

func decodeFiles(d *json.Decoder) ([]File, error) {
	files := []File{}
	err := eachElement(d, func() error {
		var wire wireFile
		if err := d.Decode(&wire); err != nil {
			return err
		}
		if len(files) >= maxFiles {
			return fmt.Errorf("%w: it lists more than %d files", ErrInvalid, maxFiles)
		}
		file, err := decodeFile(wire)
		files = append(files, file)
		return err
	})
	return files, err
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

// decodeHub reads what stands under the key "hub": an object, or null for none.
func decodeHub(d *json.Decoder) (*Hub, error) {
	if opened, err := opens(d, '{'); err != nil || !opened {
		return nil, err
	}
	decoded := &Hub{}
	err := restOfObject(d, func(name string) (err error) {
		switch name {
		case "tree":
			decoded.Tree, err = decodeTree(d)
			return err
		case "no_exist":
			decoded.NoExist, err = decodeNoExist(d)
			return err
		case "refs":
			decoded.Refs, err = decodeTimes(d)
			return err
		case "forced":
			decoded.Forced, err = decodeTimes(d)
			return err
		default:
			return skip(d)
		}
	})
	return decoded, err
}

func decodeNoExist(d *json.Decoder) ([]hub.Path, error) {
	var paths []hub.Path
	err := eachElement(d, func() error {
		var text string
		if err := d.Decode(&text); err != nil {
			return err
		}
		path, err := hub.ParsePath(text)
		if err == nil && len(paths) >= maxFiles {
			err = fmt.Errorf("there are more than %d", maxFiles)
		}
		if err != nil {
			return fmt.Errorf("%w: no_exist: %w", ErrInvalid, err)
		}
		paths = append(paths, path)
		return nil
	})
	return paths, err
}

// decodeTimes reads times by ref, in RFC 3339. null is none.
func decodeTimes(d *json.Decoder) (map[hub.Ref]time.Time, error) {
	if opened, err := opens(d, '{'); err != nil || !opened {
		return nil, err
	}
	times := map[hub.Ref]time.Time{}
	return times, restOfObject(d, func(name string) error {
		var text string
		if err := d.Decode(&text); err != nil {
			return err
		}
		ref, err := hub.ParseRef(name)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return fmt.Errorf("%w: the time of ref %q: %w", ErrInvalid, ref, err)
		}
		if times[ref] = t; len(times) > maxRefs {
			return fmt.Errorf("%w: it speaks of more than %d refs", ErrInvalid, maxRefs)
		}
		return nil
	})
}

package hfcache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// Snapshot splits the name. It says false if the snapshot's folder is not named by a commit, as other tools have it.
func (r RemovedName) Snapshot() (SnapshotFile, bool) {
	rest, inSnapshot := strings.CutPrefix(r.File, snapshotsDir+"/")
	name, file, _ := strings.Cut(rest, "/")
	commit, err := hub.ParseCommit(name)
	if err != nil || !inSnapshot {
		return SnapshotFile{}, false
	}
	p, err := hub.ParsePath(file)
	return SnapshotFile{commit, p}, err == nil
}

// SnapshotFile is one file of one commit.
type SnapshotFile struct {
	Commit hub.Commit
	Path   hub.Path
}

// record is the file beside the quarantined bytes. Format 1.
type record struct {
	Format  int           `json:"format"`
	Entry   string        `json:"entry"`
	Size    int64         `json:"size"`
	Want    hub.BlobID    `json:"want,omitempty"`
	Why     string        `json:"why"`
	Time    time.Time     `json:"time"`
	Removed []RemovedName `json:"removed"`
}

const (
	recordFormat = 1
	recordSuffix = ".json"
	maxRecord    = 16 << 20
)

func (m *move) record() error {
	data, err := json.MarshalIndent(record{
		Format: recordFormat, Entry: m.suspect.Entry, Size: m.suspect.Size, Want: m.suspect.Want, Why: m.suspect.Why,
		Time: m.now().UTC().Truncate(time.Second), Removed: append([]RemovedName{}, m.removed...),
	}, "", "  ")
	if err != nil {
		return err
	}
	return m.dir.writeFile("quarantine", m.to+recordSuffix, func(f *os.File) error {
		_, err := f.Write(append(data, '\n'))
		return err
	}, nil)
}

// StillMissing lists the files of snapshots that a quarantine has taken away and that nobody has brought back, sorted. Snapshots that were deleted since do not count.
// A record that cannot be read is passed over: it is for people.
func (c *Cache) StillMissing(id hub.Repo) ([]SnapshotFile, error) {
	folder := id.Folder()
	dir, err := c.root.OpenRoot(filepath.FromSlash(folder + "/" + quarantineDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s/%s: %w", folder, quarantineDir, bare(err))
	}
	defer dir.Close() //nolint:errcheck // only read from
	entries, err := readDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading %s/%s: %w", folder, quarantineDir, bare(err))
	}
	found := map[SnapshotFile]bool{}
	for _, e := range entries {
		for _, f := range c.stillMissing(folder, readRecord(dir, e)) {
			found[f] = true
		}
	}
	files := make([]SnapshotFile, 0, len(found))
	for f := range found {
		files = append(files, f)
	}
	slices.SortFunc(files, CompareSnapshotFiles)
	return files, nil
}

// stillMissing are those of the names that are not back, in snapshots that are there.
func (c *Cache) stillMissing(folder string, removed []RemovedName) (files []SnapshotFile) {
	for _, name := range removed {
		f, ok := name.Snapshot()
		if !ok {
			continue
		}
		snapshot := folder + "/" + snapshotsDir + "/" + string(f.Commit)
		if info, err := c.root.Lstat(filepath.FromSlash(snapshot)); err != nil || !info.IsDir() {
			continue
		}
		if _, err := c.root.Lstat(filepath.FromSlash(snapshot + "/" + string(f.Path))); errors.Is(err, fs.ErrNotExist) {
			files = append(files, f)
		}
	}
	return files
}

// isOpenRecord says whether a file of a quarantine is the record of a file that is still missing.
func (c *Cache) isOpenRecord(folder string, e fs.DirEntry) bool {
	dir, err := c.root.OpenRoot(filepath.FromSlash(folder + "/" + quarantineDir))
	if err != nil {
		return false
	}
	defer dir.Close() //nolint:errcheck // only read from
	return len(c.stillMissing(folder, readRecord(dir, e))) > 0
}

// CompareSnapshotFiles orders by commit, then path.
func CompareSnapshotFiles(a, b SnapshotFile) int {
	if c := strings.Compare(string(a.Commit), string(b.Commit)); c != 0 {
		return c
	}
	return strings.Compare(string(a.Path), string(b.Path))
}

func readRecord(dir *os.Root, e fs.DirEntry) []RemovedName {
	if !strings.HasSuffix(e.Name(), recordSuffix) || !e.Type().IsRegular() {
		return nil
	}
	if info, err := dir.Lstat(e.Name()); err != nil || !info.Mode().IsRegular() || info.Size() > maxRecord {
		return nil
	}
	data, err := dir.ReadFile(e.Name())
	if err != nil {
		return nil
	}
	var r record
	if json.Unmarshal(data, &r) != nil || r.Format != recordFormat {
		return nil
	}
	return r.Removed
}

package remote

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// Cache keeps the bodies of manifests and refs in a folder of this machine, each with the ETag of the object that it was. It spares requests and proves nothing: a body is
// used only if the bucket's own listing names the same ETag, and then it is decoded and checked like one that came from the bucket.
//
// It is a convenience, so nothing about it is ever an error: what cannot be read or is damaged is not there, what cannot be written is not kept. Many processes may use one
// folder, and a Cache may be used by many goroutines. An entry appears by a rename, whole.
type Cache struct {
	dir, space string
	limits     cacheLimits

	open sync.Once
	root *os.Root // nil if there is no folder and none can be made

	mu    sync.Mutex      // guards what follows
	used  map[string]bool // names of entries that were asked for
	wrote bool
}

// cacheLimits bound what is kept. What one run has used is always kept: to throw a part of it away would only mean to fetch it again the next time.
type cacheLimits struct {
	files int
	bytes int64
}

// NewCache keeps entries in dir, which is made when it is first needed. space names the bucket, unlike every other bucket that uses the folder.
func NewCache(dir, space string) *Cache {
	return &Cache{dir: dir, space: space, limits: cacheLimits{files: 10_000, bytes: 1 << 30}, used: map[string]bool{}}
}

// entryHead is the first line of an entry's file. The body follows.
type entryHead struct {
	Space  string `json:"bucket"`
	Key    string `json:"key"`
	ETag   string `json:"etag"`
	SHA256 string `json:"sha256"` // of the body
}

const (
	cacheDirMode, cacheFileMode = 0o700, 0o600 // the names of private repositories are nobody else's business
	maxEntry                    = manifest.MaxSize + 64<<10
	entryTempPrefix             = ".tmp-"
)

// name is the file of a key.
func (c *Cache) name(key string) string {
	sum := sha256.Sum256([]byte(c.space + "\x00" + key))
	return hex.EncodeToString(sum[:])
}

// Close releases the folder. Like all methods it may be called on nil. The cache is of no use afterwards.
func (c *Cache) Close() error {
	if c == nil || c.root == nil {
		return nil
	}
	return c.root.Close()
}

// folder opens the folder once.
func (c *Cache) folder() *os.Root {
	c.open.Do(func() {
		if os.MkdirAll(c.dir, cacheDirMode) != nil {
			return
		}
		if root, err := os.OpenRoot(c.dir); err == nil {
			c.root = root
		}
	})
	return c.root
}

// get returns the body that the object had when its ETag was etag.
func (c *Cache) get(key, etag string) ([]byte, bool) {
	if c == nil || etag == "" || c.folder() == nil {
		return nil, false
	}
	name := c.name(key)
	c.mu.Lock()
	c.used[name] = true
	c.mu.Unlock()
	data, err := c.readEntry(name)
	if err != nil {
		return nil, false
	}
	line, body, ok := bytes.Cut(data, []byte("\n"))
	var head entryHead
	if !ok || json.Unmarshal(line, &head) != nil || head != c.head(key, etag, body) {
		return nil, false
	}
	return body, true
}

func (c *Cache) head(key, etag string, body []byte) entryHead {
	sum := sha256.Sum256(body)
	return entryHead{c.space, key, etag, hex.EncodeToString(sum[:])}
}

func (c *Cache) readEntry(name string) (data []byte, err error) {
	info, err := c.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxEntry {
		return nil, errors.New("not an entry")
	}
	return c.root.ReadFile(name)
}

// put keeps a body.
func (c *Cache) put(key, etag string, body []byte) {
	if c == nil || etag == "" || c.folder() == nil {
		return
	}
	line, err := json.Marshal(c.head(key, etag, body))
	if err != nil {
		return
	}
	temp := entryTempPrefix + rand.Text()
	err = c.write(temp, append(line, '\n'), body)
	if err == nil {
		err = c.root.Rename(temp, c.name(key))
	}
	if err != nil {
		_ = c.root.Remove(temp) // what stays is removed when it is old
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used[c.name(key)], c.wrote = true, true
}

// write does not sync: an entry that a power cut damages does not match its digest.
func (c *Cache) write(name string, parts ...[]byte) error {
	f, err := c.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, cacheFileMode)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if _, err = f.Write(part); err != nil {
			break
		}
	}
	return errors.Join(err, f.Close())
}

// trim removes the entries that were written longest ago, until those that are left are within the limits, and leftovers of processes that were killed.
func (c *Cache) trim() {
	if c == nil || c.root == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wrote {
		return
	}
	dir, err := c.root.Open(".")
	if err != nil {
		return
	}
	defer dir.Close() //nolint:errcheck // only read from
	var files []fs.FileInfo
	var total int64
	for {
		entries, err := dir.ReadDir(1000)
		for _, e := range entries {
			if info, statErr := e.Info(); statErr == nil && info.Mode().IsRegular() {
				files, total = append(files, info), total+info.Size()
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return
		}
	}
	if len(files) == 0 {
		return // another process has emptied the folder
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	newest := files[len(files)-1].ModTime()
	files = slices.DeleteFunc(files, func(f fs.FileInfo) bool {
		leftover := strings.HasPrefix(f.Name(), entryTempPrefix) && f.ModTime().Before(newest.Add(-time.Hour))
		if !leftover || c.root.Remove(f.Name()) != nil {
			return false
		}
		total -= f.Size()
		return true
	})
	count := len(files)
	for _, f := range files {
		if (count > c.limits.files || total > c.limits.bytes) && !c.used[f.Name()] && c.root.Remove(f.Name()) == nil {
			count--
			total -= f.Size()
		}
	}
}

package remote

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTrim(t *testing.T) {
	for name, limits := range map[string]cacheLimits{
		"too many files": {files: 4, bytes: 1 << 30},
		"too many bytes": {files: 1000, bytes: 4 * 400},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			body := []byte(strings.Repeat("x", 200))
			old := NewCache(dir, "bucket")
			for i := range 6 {
				old.put(fmt.Sprint("old", i), "etag", body)
				age := time.Now().Add(time.Duration(i-10) * time.Hour) // the higher, the younger
				if err := os.Chtimes(filepath.Join(dir, old.name(fmt.Sprint("old", i))), age, age); err != nil {
					t.Fatal(err)
				}
			}
			leftover := filepath.Join(dir, entryTempPrefix+"OLD")
			if err := os.WriteFile(leftover, nil, cacheFileMode); err != nil {
				t.Fatal(err)
			}
			age := time.Now().Add(-2 * time.Hour)
			if err := os.Chtimes(leftover, age, age); err != nil {
				t.Fatal(err)
			}
			c := NewCache(dir, "bucket")
			c.limits = limits
			if _, ok := c.get("old0", "etag"); !ok { // the oldest, but in use
				t.Fatal("old0 is not there")
			}
			c.trim()
			if got := len(names(t, dir)); got != 7 {
				t.Errorf("%d files: a run that wrote nothing has trimmed", got)
			}
			c.put("new", "etag", body)
			c.trim()
			want := []string{c.name("old0"), c.name("new"), c.name("old5"), c.name("old4")}
			slices.Sort(want)
			if diff := cmp.Diff(want, names(t, dir)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, closing := range []*Cache{old, c, nil} {
				if err := closing.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if info, err := e.Info(); err != nil || info.Mode().Perm() != cacheFileMode && !strings.HasPrefix(e.Name(), entryTempPrefix) {
			t.Errorf("%s has the mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	return names
}

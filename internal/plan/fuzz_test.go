package plan_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

func FuzzGlob(f *testing.F) {
	f.Add("org/*", "org/name")
	plain := regexp.MustCompile(`^[a-zA-Z0-9/._-]+$`)
	f.Fuzz(func(t *testing.T, pattern, name string) {
		g, err := plan.ParseGlobs([]string{pattern})
		if plain.MatchString(pattern) && (err != nil || !g.Match(pattern) || g.Match(pattern+"x")) {
			t.Errorf("%q does not match exactly itself: %v", pattern, err)
		}
		if err != nil {
			return
		}
		// Where a shell's own rules and these agree, so do the answers: "*" and "?" alone, of a name without slashes.
		if strings.ContainsAny(pattern, `[\/`) || strings.Contains(name, "/") {
			return
		}
		if want, err := filepath.Match(pattern, name); err == nil && want != g.Match(name) {
			t.Errorf("%q matches %q: %v, want %v", pattern, name, !want, want)
		}
	})
}

// FuzzUploadPart cuts files of every size into parts for an upload: they are as many, and as large, as every S3 store takes.
func FuzzUploadPart(f *testing.F) {
	f.Add(int64(40 << 30))
	f.Fuzz(func(t *testing.T, size int64) {
		if size < 0 {
			return
		}
		part := plan.UploadPart(size)
		if part < 5<<20 {
			t.Fatalf("%d bytes in parts of %d", size, part)
		}
		const most = 10_000
		parts := size / part
		if size%part > 0 {
			parts++
		}
		if parts > most {
			t.Errorf("%d bytes in parts of %d are %d parts", size, part, parts)
		}
	})
}

// FuzzCaseCollision holds the search for paths that a file system may take for one against a comparison of each with each.
func FuzzCaseCollision(f *testing.F) {
	f.Add("README.md\nreadme.md")
	f.Add("stra\u017fe\nstrase")
	f.Add("notes\nNotes/a")
	f.Fuzz(func(t *testing.T, list string) {
		var files []manifest.File
		seen := map[string]bool{}
		for name := range strings.SplitSeq(list, "\n") {
			if p, err := hub.ParsePath(name); err == nil && !seen[name] && len(files) < 50 {
				seen[name] = true
				files = append(files, manifest.File{Path: p})
			}
		}
		want := false
		for i, a := range files {
			for _, b := range files[:i] {
				want = want || strings.EqualFold(string(a.Path), string(b.Path)) || isBelow(string(a.Path), string(b.Path)) || isBelow(string(b.Path), string(a.Path))
			}
		}
		a, b, got := plan.CaseCollision(files)
		if want != got {
			t.Errorf("a collision among %q: %t, %q and %q", list, got, a, b)
		}
		if got && a == b {
			t.Errorf("%q collides with itself", a)
		}
	})
}

// isBelow says whether path is in a folder of the given name, whatever their case.
func isBelow(path, folder string) bool {
	for i := range path {
		if path[i] == '/' && strings.EqualFold(path[:i], folder) {
			return true
		}
	}
	return false
}

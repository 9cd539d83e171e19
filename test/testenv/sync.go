package testenv

import (
	"path/filepath"
	"slices"
	"testing"
)

// Remote is a bucket to push to and to pull from.
type Remote struct {
	Name string
	URL  string
	Env  []string // What the binary needs to reach it.
}

// FileRemote is an empty bucket in a folder.
func FileRemote(t *testing.T) Remote {
	t.Helper()
	return Remote{Name: "file", URL: "file://" + filepath.ToSlash(t.TempDir())}
}

// Remote is an empty bucket on the server, with a prefix.
func (s *S3) Remote(t *testing.T) Remote {
	t.Helper()
	return Remote{Name: "s3", URL: "s3://" + s.Bucket(t) + "/team/prefix", Env: s.Env()}
}

// Sync runs hf-cache-sync on the cache below the HF_HOME home, and fails the
// test unless it ends well.
func (r Remote) Sync(t *testing.T, home string, args ...string) Result {
	t.Helper()
	result := r.TrySync(t, home, args...)
	if result.Code != 0 {
		t.Fatalf("hf-cache-sync %q: %s", args, result)
	}
	return result
}

// TrySync is Sync that may end in any way.
func (r Remote) TrySync(t *testing.T, home string, args ...string) Result {
	t.Helper()
	args = append(slices.Clip(args), "--remote", r.URL, "--cache-dir", filepath.Join(home, "hub"))
	p := Binary(t, r.Env...)
	p.Dir = t.TempDir() // Without a config file.
	return p.Run(t, nil, args...)
}

package oracle_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestOracleVerify damages large blobs of a client's cache without changing
// their sizes, as a bad disk does. What verify puts aside must leave a cache
// that no client complains of, and what --repair brings back must be what was
// there.
func TestOracleVerify(t *testing.T) {
	writer := testenv.Python(t, "2.4.0")
	for name, c := range map[string]struct {
		source  func(*testing.T) *source
		readers []testenv.Client
	}{
		"own blobs": {func(t *testing.T) *source {
			t.Helper()
			return fill(t, newWorld(t), "verify", writer)
		}, readers(t)},
		// Older clients complain of the store itself.
		"shared store": {func(t *testing.T) *source {
			t.Helper()
			return shared(t, writer)
		}, []testenv.Client{writer}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, remote := c.source(t), testenv.FileRemote(t)
			remote.Sync(t, s.home, "push", "--yes")
			want := references(t, s)
			if n := damage(t, hubDir(s.home)); n == 0 {
				t.Fatal("the cache has no large blob to damage")
			}
			if result := verify(t, remote, s.home, "--dry-run"); result.Code != 6 {
				t.Fatalf("a dry run: %s", result)
			}
			result := verify(t, remote, s.home)
			if result.Code != 6 || !strings.Contains(result.Stderr, "damaged: ") {
				t.Fatalf("verify: %s", result)
			}
			for _, reader := range c.readers {
				scan := canonical(t, reader.Run(t, s.home, "", testenv.Step{"do": "scan"})[0])
				if !isJS(reader) && !strings.Contains(scan, `"warnings": []`) {
					t.Errorf("%s scans what is left: %s", reader.Name, scan)
				}
			}
			if result := verify(t, remote, s.home, "--repair"); result.Code != 0 {
				t.Fatalf("verify --repair: %s", result)
			}
			for _, reader := range c.readers {
				got := inspect(t, s, s.home, reader)
				if diff := cmp.Diff(want[reader.Name], got); diff != "" {
					t.Errorf("%s sees (-before +repaired):\n%s", reader.Name, diff)
				}
				checkFiles(t, s, reader, got)
			}
			if result := verify(t, remote, s.home); result.Code != 0 {
				t.Errorf("verify once more: %s", result)
			}
		})
	}
}

// verify runs verify with a bucket for repairs.
func verify(t *testing.T, remote testenv.Remote, home string, args ...string) testenv.Result {
	t.Helper()
	p := testenv.Binary(t, remote.Env...).With("HF_CACHE_SYNC_REMOTE="+remote.URL, "HF_CACHE_SYNC_CACHE_DIR="+hubDir(home))
	p.Dir = t.TempDir()
	return p.Run(t, nil, slices.Concat([]string{"verify"}, args)...)
}

// damage changes the last byte of everything in a cache that is stored under
// its SHA-256, wherever the bytes are, and counts it.
func damage(t *testing.T, hub string) (n int) {
	t.Helper()
	blobs, err := filepath.Glob(filepath.Join(hub, "*", "blobs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	done := map[string]bool{}
	for _, blob := range blobs {
		path, err := filepath.EvalSymlinks(blob)
		if len(filepath.Base(blob)) != 64 || err != nil || done[path] {
			continue
		}
		done[path] = true
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) == 0 {
			continue
		}
		data[len(data)-1] ^= 1
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestOracleVerifyThenDownload quarantines damaged blobs and lets the client
// that wrote them download them again. Until then verify says each time that
// they are damaged, and afterwards no longer.
func TestOracleVerifyThenDownload(t *testing.T) {
	t.Parallel()
	writer := testenv.Python(t, "2.4.0")
	s, remote := fill(t, newWorld(t), "verify", writer), testenv.FileRemote(t)
	if n := damage(t, hubDir(s.home)); n == 0 {
		t.Fatal("the cache has no large blob to damage")
	}
	for range 2 {
		if result := verify(t, remote, s.home); result.Code != 6 {
			t.Fatalf("verify: %s", result)
		}
	}
	var steps []testenv.Step
	for _, f := range s.fetches {
		steps = append(steps, f.step("download"))
	}
	for i, o := range writer.Run(t, s.home, newWorld(t).url, steps...) {
		if o.Error != "" {
			t.Fatalf("%v: %s", steps[i], o)
		}
	}
	if result := verify(t, remote, s.home); result.Code != 0 {
		t.Errorf("verify after the download: %s", result)
	}
}

package testenv

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// AuditCache looks at the cache in root without any client, and fails the test
// for what the clients would let pass today: blobs that do not hold what their
// name says, links that go another way than the clients' own, refs that are
// not a bare commit, modes that keep others from reading, and anything left
// over.
func AuditCache(t *testing.T, root string) {
	t.Helper()
	a := auditor{root: root}
	if err := filepath.WalkDir(root, a.visit); err != nil {
		t.Errorf("auditing the cache: %v", err)
	}
	for i, complaint := range a.complaints {
		if i == 10 {
			t.Errorf("... and %d more", len(a.complaints)-i)
			break
		}
		t.Error(complaint)
	}
}

type auditor struct {
	root       string
	complaints []string
}

func (a *auditor) complain(format string, args ...any) {
	a.complaints = append(a.complaints, fmt.Sprintf(format, args...))
}

// visit looks at one entry below the root.
func (a *auditor) visit(path string, d fs.DirEntry, err error) error {
	if err != nil || d.IsDir() {
		return err
	}
	name, err := filepath.Rel(a.root, path)
	if err != nil {
		return fmt.Errorf("naming %s: %w", path, err)
	}
	name = filepath.ToSlash(name)
	if name == "CACHEDIR.TAG" || strings.HasPrefix(name, ".locks/") {
		return nil
	}
	parts := strings.SplitN(name, "/", 3)
	repo := regexp.MustCompile(`^(models|datasets|spaces|kernels)--`)
	if len(parts) < 3 || !repo.MatchString(parts[0]) {
		a.complain("%s does not belong here", name)
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return fmt.Errorf("looking at %s: %w", name, err)
	}
	if parts[1] == "snapshots" {
		return a.visitLink(path, name, strings.Count(parts[2], "/"))
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o600 != 0o600 {
		a.complain("%s has mode %s", name, info.Mode())
		return nil
	}
	return a.visitFile(path, name, parts[1], parts[2], info.Mode())
}

// visitLink looks at an entry of a snapshot, depth folders below snapshots/.
func (a *auditor) visitLink(path, name string, depth int) error {
	target, err := os.Readlink(path)
	want := regexp.MustCompile(fmt.Sprintf(`^(\.\./){%d}blobs/[0-9a-f]{40,64}$`, depth+1))
	if err != nil || !want.MatchString(target) {
		a.complain("%s links to %q, %v", name, target, err)
		return nil
	}
	if _, err = os.Stat(path); err != nil {
		a.complain("%s leads nowhere: %v", name, err)
	}
	return nil
}

// visitFile looks at a file that is called rest in the folder kind of its
// repository.
func (a *auditor) visitFile(path, name, kind, rest string, mode fs.FileMode) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	switch kind {
	case "blobs":
		if mode.Perm()&0o044 != 0o044 {
			a.complain("%s has mode %s", name, mode)
		}
		if got := blobName(data, len(rest)); got != rest {
			a.complain("%s holds %s", name, got)
		}
	case "refs":
		if !regexp.MustCompile(`^[0-9a-f]{40}$`).Match(data) {
			a.complain("%s holds %q", name, data)
		}
	case ".no_exist":
		if len(data) > 0 {
			a.complain("%s is not empty", name)
		}
	case "trees":
		if !regexp.MustCompile(`^[0-9a-f]{40}\.json$`).MatchString(rest) {
			a.complain("%s does not belong here", name)
		}
	default:
		a.complain("%s does not belong here", name)
	}
	return nil
}

// blobName names data as a blob whose name has the given length.
func blobName(data []byte, length int) string {
	var h hash.Hash
	switch length {
	case 2 * sha1.Size:
		h = sha1.New()
		h.Write(fmt.Appendf(nil, "blob %d\x00", len(data)))
	case 2 * sha256.Size:
		h = sha256.New()
	default:
		return "something whose name is no digest"
	}
	_, _ = h.Write(data) // A hash takes everything.
	return hex.EncodeToString(h.Sum(nil))
}

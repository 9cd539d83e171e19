package hub_test

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

func FuzzParsePath(f *testing.F) {
	f.Add("config.json")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := hub.ParsePath(s)
		if _, refErr := hub.ParseRef(s); (refErr == nil) != (err == nil) {
			t.Errorf("%q: %v as a path, %v as a ref", s, err, refErr)
		}
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
			return
		}
		joined := filepath.Join("folder", filepath.FromSlash(string(p)))
		if !filepath.IsLocal(joined) || joined != filepath.FromSlash("folder/"+s) || strings.ContainsAny(s, ":\\\x00\n\x1b") {
			t.Errorf("%q was taken", s)
		}
	})
}

func FuzzParseFolder(f *testing.F) {
	f.Add("models--org--name")
	f.Fuzz(func(t *testing.T, s string) {
		repo, err := hub.ParseFolder(s)
		if err != nil {
			return
		}
		// Two spellings of one folder are refused by whoever reads a cache; what is written has one.
		if again, err := hub.ParseFolder(repo.Folder()); err != nil || again != repo || !filepath.IsLocal(repo.Folder()) || strings.ContainsAny(repo.Folder(), `/\`) {
			t.Errorf("%q is %v, whose folder %q is %v, %v", s, repo, repo.Folder(), again, err)
		}
		if back, err := hub.ParseRepo(repo.Type, repo.Name); err != nil || back != repo {
			t.Errorf("%v: %v, %v", repo, back, err)
		}
	})
}

// FuzzVerifier writes bytes in two pieces under a right name, and then under the same name with one bit flipped or one byte too many.
func FuzzVerifier(f *testing.F) {
	f.Add([]byte("hello"), uint(2), uint(9), false)
	f.Fuzz(func(t *testing.T, data []byte, cut, bit uint, git bool) {
		id := hub.BlobID(fmt.Sprintf("%x", sha256.Sum256(data)))
		if git {
			h := sha1.New()
			_, _ = fmt.Fprintf(h, "blob %d\x00%s", len(data), data) // a hash takes everything
			id = hub.BlobID(hex.EncodeToString(h.Sum(nil)))
		}
		write := func(pieces ...[]byte) error {
			v := hub.NewVerifier(id, int64(len(data)))
			for _, p := range pieces {
				if _, err := v.Write(p); err != nil {
					return err
				}
			}
			return v.Verify()
		}
		at := int(cut % uint(len(data)+1))
		if err := write(data[:at], data[at:]); err != nil {
			t.Errorf("the right bytes: %v", err)
		}
		if write(data, []byte{0}) == nil {
			t.Error("one byte too many")
		}
		if len(data) == 0 {
			return
		}
		if write(data[:len(data)-1]) == nil {
			t.Error("one byte too few")
		}
		flipped := append([]byte(nil), data...)
		flipped[bit/8%uint(len(data))] ^= 1 << (bit % 8)
		if write(flipped[:at], flipped[at:]) == nil {
			t.Errorf("bit %d was flipped", bit)
		}
	})
}

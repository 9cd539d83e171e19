package filestore_test

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

func noise(seed byte, n int) string {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // It cannot fail.
	return string(data)
}

func digest(data string) string {
	h := md5.Sum([]byte(data))
	return hex.EncodeToString(h[:])
}

// upload starts an upload in a folder and stores parts of it.
func upload(t *testing.T, dir string, parts map[int]string) store.Upload {
	t.Helper()
	s := open(t, dir)
	u, err := s.StartUpload(t.Context(), "blobs/k", store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	numbers := []int{1, 2, 3, 4}
	slices.Reverse(numbers)
	for _, n := range append([]int{1}, numbers...) {
		data, ok := parts[n]
		if !ok {
			continue
		}
		if _, err = s.PutPart(t.Context(), u, n, section(data)); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func TestPartsAreWhatTheDiskHas(t *testing.T) {
	const size = 100_000
	one, two, three := noise(1, size), noise(2, size), noise(3, 777)
	data := func(dir string, u store.Upload) string {
		return filepath.Join(dir, ".hf-cache-sync", "uploads", u.ID, "data")
	}
	zeros := string(make([]byte, size))
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, dir string, u store.Upload)
		want   []store.Part
	}{
		{"all", func(*testing.T, string, store.Upload) {}, []store.Part{
			{Number: 1, Size: size, ETag: digest(one)}, {Number: 2, Size: size, ETag: digest(two)}, {Number: 3, Size: 777, ETag: digest(three)},
		}},
		{"a part that never reached the disk", func(t *testing.T, dir string, u store.Upload) {
			t.Helper()
			f, err := os.OpenFile(data(dir, u), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteAt([]byte(zeros), size)
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}, []store.Part{
			{Number: 1, Size: size, ETag: digest(one)}, {Number: 2, Size: size, ETag: digest(zeros)}, {Number: 3, Size: 777, ETag: digest(three)},
		}},
		{"a file that is shorter", func(t *testing.T, dir string, u store.Upload) {
			t.Helper()
			if err := os.Truncate(data(dir, u), size+10); err != nil {
				t.Fatal(err)
			}
		}, []store.Part{{Number: 1, Size: size, ETag: digest(one)}}},
		{"no file", func(t *testing.T, dir string, u store.Upload) {
			t.Helper()
			if err := os.Remove(data(dir, u)); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"records damaged", func(t *testing.T, dir string, u store.Upload) {
			t.Helper()
			folder := filepath.Dir(data(dir, u))
			write(t, filepath.Join(folder, "1.part"), "")
			write(t, filepath.Join(folder, "2.part"), `{"size": -1}`)
			write(t, filepath.Join(folder, "0.part"), `{"size": 1}`)
			write(t, filepath.Join(folder, "x.part"), `{"size": 1}`)
		}, []store.Part{{Number: 3, Size: 777, ETag: digest(three)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			u := upload(t, dir, map[int]string{1: one, 2: two, 3: three})
			tc.damage(t, dir, u)
			got, err := open(t, dir).Parts(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("parts (-want +got):\n%s", diff)
			}
		})
	}
}

// breaking is a file on a disk that breaks halfway.
type breaking struct {
	io.ReaderAt
	after int64
}

func (b breaking) ReadAt(p []byte, off int64) (int, error) {
	if off >= b.after {
		return 0, errors.New("broken")
	}
	return b.ReaderAt.ReadAt(p, off)
}

func TestPartThatIsHalfReplaced(t *testing.T) {
	const size = 1 << 20
	dir := t.TempDir()
	u := upload(t, dir, map[int]string{1: noise(1, size), 2: noise(2, size)})
	s := open(t, dir)
	body := breaking{strings.NewReader(noise(3, size)), size / 2}
	if _, err := s.PutPart(t.Context(), u, 2, io.NewSectionReader(body, 0, size)); err == nil {
		t.Fatal("no error")
	}
	parts, err := s.Parts(t.Context(), u)
	if err != nil || len(parts) != 1 || parts[0].Number != 1 {
		t.Errorf("parts %+v, %v, want the first alone", parts, err)
	}
}

func TestCompleteMovesTheBytes(t *testing.T) {
	const size = 100_000
	all := []string{noise(1, size), noise(2, size), noise(3, 777)}
	dir := t.TempDir()
	u := upload(t, dir, map[int]string{1: all[0], 2: all[1], 3: all[2]})
	before, err := os.Stat(filepath.Join(dir, ".hf-cache-sync", "uploads", u.ID, "data"))
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	parts, err := s.Parts(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.Complete(t.Context(), u, parts); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(filepath.Join(dir, "blobs", "k"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the object is a copy of what was uploaded")
	}
	if got := get(t, s, "blobs/k"); got != all[0]+all[1]+all[2] {
		t.Error("the object is not what was uploaded")
	}
}

func TestCompleteRefuses(t *testing.T) {
	const size = 1000
	for _, tc := range []struct {
		name   string
		stored map[int]string
		parts  []store.Part
	}{
		{"out of order", map[int]string{1: noise(1, size), 2: noise(2, size)}, []store.Part{{Number: 2, Size: size}, {Number: 1, Size: size}}},
		{"twice", map[int]string{1: noise(1, size)}, []store.Part{{Number: 1, Size: size}, {Number: 1, Size: size}}},
		{"another size", map[int]string{1: noise(1, size)}, []store.Part{{Number: 1, Size: size + 1}}},
		{"unequal", map[int]string{1: noise(1, size), 2: noise(2, 10), 3: noise(3, size)}, []store.Part{{Number: 1}, {Number: 2}, {Number: 3}}},
		{"a gap", map[int]string{1: noise(1, size), 3: noise(3, size)}, []store.Part{{Number: 1}, {Number: 3}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			u := upload(t, dir, tc.stored)
			s := open(t, dir)
			_, err := s.Complete(t.Context(), u, tc.parts)
			var se *store.Error
			if !errors.As(err, &se) || se.Code != "InvalidPart" || se.Key != "blobs/k" {
				t.Errorf("complete: %v", err)
			}
			if _, err = s.Stat(t.Context(), "blobs/k"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("stat: %v", err)
			}
			if parts, err := s.Parts(t.Context(), u); err != nil || len(parts) != len(tc.stored) {
				t.Errorf("after the refusal: %+v, %v", parts, err)
			}
		})
	}
}

func TestUploadIDsAreNoPaths(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "blobs/k", "x", store.PutOptions{})
	write(t, filepath.Join(dir, "evil", "upload.json"), `{"key":"blobs/k"}`)
	u := upload(t, dir, nil)
	for _, bad := range []store.Upload{
		{Key: "blobs/k", ID: ""},
		{Key: "blobs/k", ID: "../../evil"},
		{Key: "blobs/k", ID: "../tmp"},
		{Key: "blobs/k", ID: "."},
		{Key: "blobs/other", ID: u.ID},
	} {
		if _, err := s.PutPart(t.Context(), bad, 1, section("x")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("put part of %+v: %v", bad, err)
		}
		if _, err := s.Complete(t.Context(), bad, []store.Part{{Number: 1}}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("complete %+v: %v", bad, err)
		}
	}
	if err := s.Abort(t.Context(), store.Upload{Key: "blobs/k", ID: "../../evil"}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "evil", "upload.json")); err != nil {
		t.Error("an abort reached outside of the uploads")
	}
}

// TestBodiesFromFiles goes the way that lets the kernel copy.
func TestBodiesFromFiles(t *testing.T) {
	data := noise(9, 3<<20)
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, data)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // Only read.
	dir := t.TempDir()
	s := open(t, dir)
	ctx := t.Context()
	put := func(key string, from, n int64) error {
		_, err := s.Put(ctx, key, io.NewSectionReader(f, from, n), store.PutOptions{})
		return err
	}
	for key, span := range map[string][2]int64{"all": {0, 3 << 20}, "middle": {12345, 1 << 20}, "nothing": {5, 0}, "tail": {3<<20 - 7, 7}} {
		if err = put(key, span[0], span[1]); err != nil {
			t.Fatal(err)
		}
		if got := get(t, s, key); got != data[span[0]:span[0]+span[1]] {
			t.Errorf("%s: wrong bytes", key)
		}
	}
	if err = put("beyond", 3<<20-7, 8); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("put of a file that is shorter: %v", err)
	}
	u, err := s.StartUpload(ctx, "parts", store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var parts []store.Part
	for i := range 3 {
		p, err := s.PutPart(ctx, u, i+1, io.NewSectionReader(f, int64(i)<<20, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	if _, err = s.Complete(ctx, u, parts); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "parts"); got != data {
		t.Error("parts: wrong bytes")
	}
	if pos, err := f.Seek(0, io.SeekCurrent); err != nil || pos != 0 {
		t.Errorf("the file's own position has moved to %d, %v", pos, err)
	}
}

// A power cut leaves files that were not synced empty, or full of zeros.
func TestLayoutDamaged(t *testing.T) {
	const size = 1000
	one, two, three := noise(1, size), noise(2, size), noise(3, 77)
	for _, damage := range []string{"", "\x00\x00\x00\x00", "0", "-1", "{}"} {
		for _, again := range [][]int{{1, 2, 3}, {3, 2, 1}, {2, 3}, {3}} {
			dir := t.TempDir()
			parts := map[int]string{1: one, 2: two, 3: three}
			u := upload(t, dir, parts)
			write(t, filepath.Join(dir, ".hf-cache-sync", "uploads", u.ID, "layout"), damage)
			s := open(t, dir)
			for _, n := range again {
				if _, err := s.PutPart(t.Context(), u, n, section(parts[n])); err != nil {
					t.Fatalf("layout %q: part %d: %v", damage, n, err)
				}
			}
			have, err := s.Parts(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = s.Complete(t.Context(), u, have); err != nil {
				t.Fatalf("layout %q, parts %d stored again: %v", damage, again, err)
			}
			if got := get(t, s, "blobs/k"); got != one+two+three {
				t.Errorf("layout %q, parts %d stored again: %d wrong bytes", damage, again, len(got))
			}
		}
	}
}

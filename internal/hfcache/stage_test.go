package hfcache

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// A blob of four parts, the last one short.
const (
	bigText = "aaaabbbbccccdd"
	bigPart = 4
)

func stageBig(t *testing.T, d *RepoDir, etag string) *Staged {
	t.Helper()
	s, err := d.StageResumable(sha(bigText), int64(len(bigText)), bigPart, etag)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func writePart(t *testing.T, s *Staged, i int) {
	t.Helper()
	from := i * bigPart
	if _, err := s.WriteAt([]byte(bigText[from:min(from+bigPart, len(bigText))]), int64(from)); err != nil {
		t.Fatal(err)
	}
	if err := s.MarkDone(i); err != nil {
		t.Fatal(err)
	}
}

func doneParts(s *Staged) []int {
	parts := []int{}
	for i := range s.Parts() {
		if s.Done(i) {
			parts = append(parts, i)
		}
	}
	return parts
}

func finish(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestResume(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	s := stageBig(t, d, "v1")
	if s.Parts() != 4 || s.PartSize() != bigPart || s.Size() != int64(len(bigText)) || s.ID() != sha(bigText) {
		t.Errorf("%d parts of %d, size %d, id %s", s.Parts(), s.PartSize(), s.Size(), s.ID())
	}
	writePart(t, s, 3)
	writePart(t, s, 1)
	finish(t, s.MarkDone(1)) // again
	finish(t, s.Close())
	finish(t, s.Close())
	name := "." + string(sha(bigText)) + tempSuffix
	wantListing(t, at(d, "blobs"), name, name+journalSuffix)

	s = stageBig(t, d, "v1")
	if diff := cmp.Diff([]int{1, 3}, doneParts(s)); diff != "" {
		t.Errorf("parts that are left: %s", diff)
	}
	got := make([]byte, 4)
	if _, err := s.ReadAt(got, bigPart); err != nil || string(got) != "bbbb" {
		t.Errorf("part 1 reads %q, %v", got, err)
	}
	writePart(t, s, 0)
	writePart(t, s, 2)
	finish(t, s.Sync())
	finish(t, s.Publish())
	wantListing(t, at(d, "blobs"), string(sha(bigText)))
	if got := content(t, at(d, "blobs/"+string(sha(bigText)))); got != bigText {
		t.Errorf("content %q", got)
	}
	if got, want := lstat(t, at(d, "blobs/"+string(sha(bigText)))).Mode().Perm(), probedMode(t); got != want {
		t.Errorf("mode %v, want %v", got, want)
	}
	finish(t, s.Close())
	wantError(t, s.Publish(), fs.ErrClosed.Error())
}

// TestLeftovers starts from what a kill, a power cut, another version or a stranger may have left. Whatever is not certain is downloaded again, and nothing is
// written to a file that is not ours alone.
func TestLeftovers(t *testing.T) {
	header := journalHeader(int64(len(bigText)), bigPart, "v1")
	outside := filepath.Join(t.TempDir(), "outside")
	tests := map[string]struct {
		data, journal string // "-" for no such file
		etag          string
		want          []int
		more          func(t *testing.T, data, journal string)
	}{
		"nothing":                {"-", "-", "v1", []int{}, nil},
		"good":                   {bigText, header + "0\n3\n", "v1", []int{0, 3}, nil},
		"no part yet":            {bigText, header, "v1", []int{}, nil},
		"line cut off":           {bigText, header + "0\n3", "v1", []int{0}, nil},
		"header cut off":         {bigText, header[:20], "v1", []int{}, nil},
		"empty journal":          {bigText, "", "v1", []int{}, nil},
		"no journal":             {bigText, "-", "v1", []int{}, nil},
		"journal without data":   {"-", header + "0\n1\n2\n3\n", "v1", []int{}, nil},
		"data of no size":        {"", header + "0\n1\n2\n3\n", "v1", []int{}, nil},
		"data cut off":           {bigText[:9], header + "0\n1\n", "v1", []int{}, nil},
		"data too long":          {bigText + "x", header + "0\n", "v1", []int{}, nil},
		"another etag":           {bigText, header + "0\n", "v2", []int{}, nil},
		"another size":           {bigText, journalHeader(13, bigPart, "v1") + "0\n", "v1", []int{}, nil},
		"another part size":      {bigText, journalHeader(int64(len(bigText)), 5, "v1") + "0\n", "v1", []int{}, nil},
		"part out of range":      {bigText, header + "0\n4\n", "v1", []int{}, nil},
		"negative part":          {bigText, header + "0\n-1\n", "v1", []int{}, nil},
		"part twice":             {bigText, header + "0\n0\n", "v1", []int{}, nil},
		"odd number":             {bigText, header + "00\n", "v1", []int{}, nil},
		"zeros after power cut":  {bigText, header + "0\n\x00\x00\n", "v1", []int{}, nil},
		"endless journal":        {bigText, header + strings.Repeat("1\n", 1<<16), "v1", []int{}, nil},
		"etag with a line break": {bigText, journalHeader(int64(len(bigText)), bigPart, "v\n1") + "2\n", "v\n1", []int{2}, nil},
		"data is a link": {"-", header + "0\n", "v1", nil, func(t *testing.T, data, _ string) {
			t.Helper()
			symlink(t, outside, data)
		}},
		"journal is a link": {bigText, "-", "v1", []int{}, func(t *testing.T, _, journal string) {
			t.Helper()
			symlink(t, outside, journal)
		}},
		"data has a second name": {bigText, header + "0\n", "v1", []int{}, func(t *testing.T, data, _ string) {
			t.Helper()
			finish(t, os.Link(data, filepath.Join(filepath.Dir(data), "backup")))
		}},
		"journal has a second name": {bigText, header + "0\n", "v1", []int{}, func(t *testing.T, _, journal string) {
			t.Helper()
			finish(t, os.Link(journal, filepath.Join(filepath.Dir(journal), "backup")))
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			put(t, outside, header+"0\n")
			d := writeRepo(t, writeCache(t), "org/name")
			data := at(d, "blobs/."+string(sha(bigText))+tempSuffix)
			for file, text := range map[string]string{data: test.data, data + journalSuffix: test.journal} {
				if text != "-" {
					put(t, file, text)
				}
			}
			if test.more != nil {
				test.more(t, data, data+journalSuffix)
			}
			s, err := d.StageResumable(sha(bigText), int64(len(bigText)), bigPart, test.etag)
			if test.want == nil {
				wantError(t, err, errNotRegular.Error())
				return
			}
			finish(t, err)
			if diff := cmp.Diff(test.want, doneParts(s)); diff != "" {
				t.Errorf("parts that are left: %s", diff)
			}
			if size := lstat(t, data).Size(); size != int64(len(bigText)) {
				t.Errorf("the file has %d bytes", size)
			}
			for i := range s.Parts() {
				if !s.Done(i) {
					writePart(t, s, i)
				}
			}
			finish(t, s.Close())
			// What is written behind a cut-off line must count as well.
			s = stageBig(t, d, test.etag)
			if diff := cmp.Diff([]int{0, 1, 2, 3}, doneParts(s)); diff != "" {
				t.Errorf("parts after all were written: %s", diff)
			}
			finish(t, s.Publish())
			if got := content(t, at(d, "blobs/"+string(sha(bigText)))); got != bigText {
				t.Errorf("content %q", got)
			}
			if got := content(t, outside); got != header+"0\n" {
				t.Errorf("the link's target holds %q", got)
			}
			if backup := at(d, "blobs/backup"); test.more != nil && name == "data has a second name" && content(t, backup) != bigText {
				t.Error("the second name's content changed")
			}
		})
	}
}

// When a new file gets its full size, by which a later run takes it for begun, a journal of an older file must be gone already: a kill
// in between would make zeros count as parts.
func TestOldJournalGoesFirst(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	journal := at(d, "blobs/."+string(sha(bigText))+tempSuffix+journalSuffix)
	put(t, journal, journalHeader(int64(len(bigText)), bigPart, "v1")+"0\n")
	calls := 0
	d.sys.reserve = func(f *os.File, size int64) error {
		calls++
		if _, err := os.Lstat(journal); err == nil {
			t.Error("the old journal is still there")
		}
		return preallocate(f, size)
	}
	finish(t, stageBig(t, d, "v1").Discard())
	if calls != 1 {
		t.Errorf("reserved %d times", calls)
	}
}

func TestBusy(t *testing.T) {
	c := writeCache(t)
	one, two := writeRepo(t, c, "org/name"), writeRepo(t, c, "org/name")
	s := stageBig(t, one, "v1")
	writePart(t, s, 0)
	if _, err := two.StageResumable(sha(bigText), int64(len(bigText)), bigPart, "v1"); !errors.Is(err, ErrBusy) {
		t.Fatalf("error %v, want ErrBusy", err)
	}
	if _, err := two.StageResumable(sha(bigText), int64(len(bigText)), bigPart, "v2"); !errors.Is(err, ErrBusy) {
		t.Fatalf("error %v, want ErrBusy", err) // and the first one's parts are not forgotten
	}
	finish(t, s.Close())
	s = stageBig(t, two, "v1")
	if diff := cmp.Diff([]int{0}, doneParts(s)); diff != "" {
		t.Error(diff)
	}
	finish(t, s.Discard())
	wantListing(t, at(two, "blobs"))
	finish(t, s.Discard())
}

// Somebody who opened the file just before it was published holds a lock on the published blob. It must not become his staged file.
func TestLockOnPublishedFile(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	s := stageBig(t, d, "v1")
	for i := range s.Parts() {
		writePart(t, s, i)
	}
	real := d.sys.lock
	calls := 0
	d.sys.lock = func(f *os.File, offset int64) error {
		if calls++; calls == 1 {
			finish(t, s.Publish())
		}
		return real(f, offset)
	}
	late := stageBig(t, d, "v1")
	if calls != 2 || len(doneParts(late)) != 0 {
		t.Errorf("%d tries, parts %v", calls, doneParts(late))
	}
	if _, err := late.WriteAt([]byte("zzzz"), 0); err != nil {
		t.Fatal(err)
	}
	if got := content(t, at(d, "blobs/"+string(sha(bigText)))); got != bigText {
		t.Errorf("the published blob holds %q", got)
	}
	finish(t, late.Discard())
}

func TestStageWithoutLocks(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	d.sys.lock = func(*os.File, int64) error { return syscall.ENOSYS }
	one, two := stageBig(t, d, "v1"), stageBig(t, d, "v1") // as two processes would
	for i := range one.Parts() {
		writePart(t, one, i)
	}
	if len(doneParts(two)) != 0 {
		t.Error("the two share parts")
	}
	finish(t, two.Close())
	finish(t, one.Publish())
	wantListing(t, at(d, "blobs"), string(sha(bigText)))
}

func TestReset(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	s := stageBig(t, d, "v1")
	writePart(t, s, 0)
	writePart(t, s, 2)
	finish(t, s.Reset())
	if len(doneParts(s)) != 0 {
		t.Error("parts are left")
	}
	writePart(t, s, 1)
	finish(t, s.Close())
	s = stageBig(t, d, "v1")
	if diff := cmp.Diff([]int{1}, doneParts(s)); diff != "" {
		t.Error(diff)
	}
	finish(t, s.Discard())
}

func TestWriteBeyondEnd(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	s := stageAll(t, d, "abc")
	for _, off := range []int64{-1, 1, 3, 4, 1<<63 - 1} {
		_, err := s.WriteAt([]byte("xyz"), off)
		if _, ok := errors.AsType[*hub.MismatchError](err); !ok {
			t.Errorf("at %d: error %v", off, err)
		}
	}
	finish(t, s.Publish())
	if got := content(t, at(d, "blobs/"+string(sha("abc")))); got != "abc" {
		t.Errorf("content %q", got)
	}
}

func TestConcurrentParts(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	text := strings.Repeat("0123456789abcdef", 1<<12)
	const part = 1 << 10
	id, size := sha(text), int64(len(text))
	s, err := d.StageResumable(id, size, part, "")
	finish(t, err)
	var all sync.WaitGroup
	for i := range s.Parts() {
		all.Go(func() {
			_, writeErr := s.WriteAt([]byte(text[i*part:(i+1)*part]), int64(i*part))
			if markErr := s.MarkDone(i); writeErr != nil || markErr != nil || !s.Done(i) {
				t.Errorf("part %d: %t, %v, %v", i, s.Done(i), writeErr, markErr)
			}
		})
	}
	all.Wait()
	finish(t, s.Close())
	s, err = d.StageResumable(id, size, part, "")
	finish(t, err)
	if got := len(doneParts(s)); got != s.Parts() {
		t.Errorf("%d of %d parts are left", got, s.Parts())
	}
	got, err := io.ReadAll(io.NewSectionReader(s, 0, size))
	if err != nil || !bytes.Equal(got, []byte(text)) {
		t.Errorf("read back %d bytes, %v", len(got), err)
	}
	finish(t, s.Discard())
}

func TestEmptyBlob(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	publishAll(t, d, "")
	finish(t, os.Remove(at(d, "blobs/"+string(sha("")))))
	s, err := d.StageResumable(sha(""), 0, bigPart, "")
	finish(t, err)
	if s.Parts() != 0 {
		t.Errorf("%d parts", s.Parts())
	}
	finish(t, s.Publish())
	if !d.HasBlob(sha(""), 0) {
		t.Error("it is not there")
	}
}

func TestStageRefusesNonsense(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	for _, test := range []struct{ size, part int64 }{{-1, 4}, {4, 0}, {4, -1}, {1 << 60, 1}} {
		_, err := d.StageResumable(sha("x"), test.size, test.part, "")
		wantError(t, err, string(sha("x")))
	}
	_, err := d.Stage(sha("x"), -1)
	wantError(t, err, string(sha("x")))
	wantListing(t, at(d, "blobs"))
}

// A blob that cannot fit is refused before anything is downloaded, and leaves nothing behind.
func TestDiskFull(t *testing.T) {
	d := writeRepo(t, writeCache(t), "org/name")
	const huge = 1 << 61
	_, err := d.StageResumable(sha("x"), huge, huge>>10, "")
	wantError(t, err, string(sha("x")))
	_, err = d.Stage(sha("x"), huge)
	wantError(t, err, string(sha("x")))
	wantListing(t, at(d, "blobs"))
}

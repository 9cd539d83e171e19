package hfcache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
)

// journalSuffix is appended to a staged file's name to name its journal.
const journalSuffix = ".parts"

// journal remembers, beside a staged file, which of its parts have arrived: a header line that must match what is asked for now, then one part number a line.
// Whoever uses it holds the lock on the staged file.
//
// A line is appended after the part was written, so that after a kill the journal promises no more than is there. After a power cut it may,
// which the digest over the whole file then tells.
type journal struct {
	f    *os.File
	head int64 // length of the header
	end  int64 // where the next line goes; a line that was cut off is written over
}

// journalHeader binds the journal to one download. An other etag, or other bounds of parts, is another download.
func journalHeader(size, partSize int64, etag string) string {
	return fmt.Sprintf("%s parts 1 size=%d part=%d etag=%q\n", tempSuffix[1:], size, partSize, etag)
}

// createJournal starts over, whatever is there.
func createJournal(dir *os.Root, name, header string) (*journal, error) {
	if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := dir.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	j := &journal{f: f}
	if err := j.append(header); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	j.head = j.end
	return j, nil
}

// openJournal goes on with a journal. It returns nil, nil if there is none that fits: then everything starts over.
func openJournal(dir *os.Root, name, header string, done []bool) (*journal, error) {
	f, err := openRegular(dir, name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, errNotRegular) {
		return nil, nil //nolint:nilnil // nothing to go on with is not an error
	}
	if err != nil {
		return nil, err
	}
	limit := int64(len(header)) + int64(len(done))*int64(len("1234567890\n"))
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	whole, ok := parseJournal(data, header, done)
	if !ok || links(info) != 1 { // a second name means that somebody keeps a copy, which is not ours to write to
		clear(done)
		return nil, f.Close()
	}
	return &journal{f: f, head: int64(len(header)), end: whole}, nil
}

// parseJournal marks the parts that the journal names, and returns how much of it is whole lines.
func parseJournal(data []byte, header string, done []bool) (whole int64, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(header))
	if !ok {
		return 0, false
	}
	whole = int64(len(header))
	for len(rest) > 0 {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		if !ended {
			break // the line that a kill cut off
		}
		i, err := strconv.Atoi(string(line))
		if err != nil || i < 0 || i >= len(done) || done[i] || strconv.Itoa(i) != string(line) {
			return 0, false
		}
		done[i] = true
		whole += int64(len(line)) + 1
		rest = after
	}
	return whole, true
}

func (j *journal) append(line string) error {
	if _, err := j.f.WriteAt([]byte(line), j.end); err != nil {
		return err
	}
	j.end += int64(len(line))
	return nil
}

// reset forgets all parts.
func (j *journal) reset() error {
	j.end = j.head
	return j.f.Truncate(j.head)
}

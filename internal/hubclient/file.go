package hubclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// Open streams a file of a commit from offset on: length bytes, or all that is left if length is 0. size is that of all of the file. A stream that breaks is resumed where it
// broke, as long as it gets on. The reader must be closed.
func (c *Client) Open(ctx context.Context, repo hub.Repo, commit hub.Commit, path hub.Path, offset, length int64) (body io.ReadCloser, size int64, err error) {
	key := manifest.Key{Repo: repo, Commit: commit}
	s := &stream{
		ctx: ctx, client: c, at: offset, end: -1,
		request: request{op: string(path) + " of " + key.String(), url: c.resolve(repo, commit, path), link: key.String() + "/" + string(path)},
	}
	if length > 0 {
		s.end = offset + length
	}
	if err := s.open(); err != nil {
		return nil, 0, err
	}
	return s, s.size, nil
}

// resolve is the address of a file.
func (c *Client) resolve(repo hub.Repo, commit hub.Commit, path hub.Path) string {
	prefix := ""
	if repo.Type != hub.Model {
		prefix = repo.Type.Plural() + "/"
	}
	segments := strings.Split(string(path), "/")
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	return c.Endpoint + "/" + prefix + repo.Name + "/resolve/" + string(commit) + "/" + strings.Join(segments, "/")
}

// stream is a file, or a range of it, that is being read.
type stream struct {
	ctx     context.Context //nolint:containedctx // a reader has no other way to know when to stop
	client  *Client
	request request
	at, end int64 // end is exclusive; -1 until the size is known
	size    int64
	body    io.ReadCloser
	stuck   int // times in a row that it broke without getting on
}

// maxStuck is how often a stream is resumed that brings nothing, as the Hub's own client does.
const maxStuck = 5

func (s *stream) open() error {
	r := s.request
	r.part = s.at > 0 || s.end >= 0
	r.from, r.to = s.at, s.end-1
	if s.end < 0 {
		const huge = 1<<62 - 1
		r.to = huge
	}
	resp, err := s.client.get(s.ctx, r)
	if err != nil {
		return err
	}
	size, skip, err := place(resp, s.at)
	if err == nil && s.size > 0 && size != s.size {
		err = fmt.Errorf("it has %d bytes now and had %d before", size, s.size)
	}
	kind := ErrInvalid
	if err == nil && skip > 0 { // a server that knows no ranges
		_, err = io.CopyN(io.Discard, resp.Body, skip)
		kind = ErrUnavailable
	}
	if err != nil {
		_ = resp.Body.Close()
		return &Error{Op: r.op, Status: resp.StatusCode, Kind: kind, Err: plain(err)}
	}
	s.body, s.size = resp.Body, size
	if s.end < 0 || s.end > size {
		s.end = size
	}
	return nil
}

// place finds out how large a file is, and how many bytes of an answer come before the one that was asked for.
func place(resp *http.Response, from int64) (size, skip int64, _ error) {
	if resp.StatusCode == http.StatusOK {
		if resp.ContentLength < 0 {
			return 0, 0, errors.New("its size is not told")
		}
		return resp.ContentLength, min(from, resp.ContentLength), nil
	}
	unit, rest, _ := strings.Cut(resp.Header.Get("Content-Range"), " ")
	span, total, _ := strings.Cut(rest, "/")
	first, last, _ := strings.Cut(span, "-")
	start, err := parseCount(first)
	end, err2 := parseCount(last)
	size, err3 := parseCount(total)
	if err := errors.Join(err, err2, err3); err != nil || unit != "bytes" || start != from || end < start || end >= size {
		return 0, 0, errors.New("it is not the range that was asked for")
	}
	return size, 0, nil
}

// parseCount reads a number without a sign, which a count of bytes has not (RFC 9110, 14.4).
func parseCount(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err
}

// Read reads on, and resumes where that is needed.
func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.at >= s.end {
			return 0, io.EOF
		}
		n, err := s.body.Read(p[:min(int64(len(p)), s.end-s.at)])
		s.at += int64(n)
		if n > 0 {
			s.stuck = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		if s.ctx.Err() != nil {
			return 0, s.ctx.Err()
		}
		if s.stuck++; s.stuck > maxStuck {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, &Error{Op: s.request.op, Kind: ErrUnavailable, Err: plain(err)}
		}
		s.release()
		if err := s.open(); err != nil {
			return 0, err
		}
	}
}

func (s *stream) release() {
	if s.body != nil {
		_ = s.body.Close() // only read from
		s.body = nil
	}
}

// Close ends the stream.
func (s *stream) Close() error {
	s.release()
	return nil
}

package s3store

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
)

// Bounds of what a service may say beside the bytes of objects. The library reads all of it into memory, or reads it to its end to get at the connection again, so that
// a service without a sense of proportion could fill the one and keep the other.
const (
	// maxAnswer is more than any page of a listing has: a thousand keys of 1,024 bytes, of which each may take three in the encoding of URLs, and as much again.
	maxAnswer = 8 << 20
	// maxTags is several times the tags of such a page. Each may cost a hundred times its length in memory.
	maxTags = 100_000
)

var (
	errTooMuch = errors.New("the answer is larger than any that S3 gives")
	errNoEnd   = errors.New("the listing does not end: it leads back to a page that it has had")
)

// isObject says whether an answer's body is the bytes of an object, which are as many as there are and go past memory.
func isObject(req *http.Request, resp *http.Response) bool {
	return req.Method == http.MethodGet && resp.StatusCode < http.StatusMultipleChoices && !isListing(req)
}

// isListing says whether a request is for a page of something.
func isListing(req *http.Request) bool {
	query := "&" + req.URL.RawQuery
	return req.Method == http.MethodGet && (strings.Contains(query, "&list-type=") || strings.Contains(query, "&uploads=") || strings.Contains(query, "&uploadId="))
}

// boundedBody is the body of an answer that is not an object's.
type boundedBody struct {
	io.ReadCloser
	bytes, tags int64
}

// Read implements [io.Reader].
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes += int64(n)
	b.tags += int64(bytes.Count(p[:n], []byte("<")))
	if b.bytes > maxAnswer || b.tags > maxTags {
		return 0, errTooMuch
	}
	return n, err
}

// pages notices a listing that goes round in a circle, however long that is, by remembering one page at a time and twice as long each time (R. P. Brent, An improved Monte Carlo
// factorization algorithm, 1980).
type pages struct {
	kept        string
	count, keep int // pages so far, and the count at which the next one is kept
}

// again says whether the page that is asked for next is the one that was kept.
func (p *pages) again(page string) bool {
	if p.count > 0 && page == p.kept {
		return true
	}
	if p.count++; p.count > p.keep {
		p.kept, p.keep = page, 2*p.count
	}
	return false
}

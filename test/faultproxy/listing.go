package faultproxy

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// listing is an answer to ListObjectsV2 without delimiter.
type listing struct {
	XMLName      xml.Name `xml:"ListBucketResult"`
	Name         string
	Prefix       string
	EncodingType string `xml:",omitempty"`
	KeyCount     int
	MaxKeys      int
	IsTruncated  bool
	Contents     []listed

	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`

	pages [][]listed
}

type listed struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	StorageClass string `xml:",omitempty"`
}

// list asks the server. What is no listing of a single page it passes on, and
// returns nil.
func (x *exchange) list() *listing {
	resp, err := x.forward()
	if err != nil {
		x.reset()
		return nil
	}
	defer resp.Body.Close() //nolint:errcheck // Only read from.
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		x.reset()
		return nil
	}
	l := &listing{}
	if resp.StatusCode == http.StatusOK && xml.Unmarshal(body, l) == nil && !l.IsTruncated {
		return l
	}
	x.head(resp, nil)
	_, _ = io.Copy(x.w, bytes.NewReader(body)) // The client may be gone.
	return nil
}

// answer sends a listing.
func (x *exchange) answer(l *listing) {
	l.KeyCount = len(l.Contents)
	l.XMLName = xml.Name{Space: "http://s3.amazonaws.com/doc/2006-03-01/", Local: "ListBucketResult"}
	x.w.Header().Set("Content-Type", "application/xml")
	_, _ = io.WriteString(x.w, xml.Header) // The client may be gone.
	_ = xml.NewEncoder(x.w).Encode(l)      // Likewise.
}

// Lag has listings lag behind: a key is missing from the first so many that
// should have it.
func Lag(listings int) *Fault {
	seen := map[string]int{}
	return &Fault{Name: "listing without new keys", Fits: func(r *Request) bool { return r.Op == List }, play: func(x *exchange) {
		l := x.list()
		if l == nil {
			return
		}
		x.proxy.mu.Lock()
		all := len(l.Contents)
		l.Contents = slices.DeleteFunc(l.Contents, func(c listed) bool {
			at := l.Name + "/" + c.Key
			seen[at]++
			return seen[at] <= listings
		})
		x.proxy.mu.Unlock()
		if len(l.Contents) < all {
			x.done()
		}
		x.answer(l)
	}}
}

// Disorder is a way for a listing to be wrong about the order of its keys.
type Disorder string

// The disorders. All keys are there, at least once.
const (
	PagesTwice    Disorder = "listing with every page twice"
	PagesOverlap  Disorder = "listing with pages that overlap"
	PagesSwapped  Disorder = "listing with pages in wrong order"
	KeysBackwards Disorder = "listing with keys in reverse"
)

// tokenPrefix begins the continuation tokens that the proxy itself has given.
const tokenPrefix = "faultproxy-"

// Disordered has listings come in small pages that are not in order.
func Disordered(d Disorder, pageSize int) *Fault {
	fits := func(r *Request) bool {
		return r.Op == List && !r.URL.Query().Has("continuation-token")
	}
	return &Fault{Name: string(d), Fits: fits, play: func(x *exchange) {
		l := x.list()
		if l == nil {
			return
		}
		l.pages = d.pages(l.Contents, pageSize)
		if len(l.pages) < 2 {
			x.answer(l)
			return
		}
		x.done()
		x.proxy.mu.Lock()
		id := tokenPrefix + strconv.Itoa(len(x.proxy.lists))
		x.proxy.lists[id] = l
		x.proxy.mu.Unlock()
		x.page(id, l, 0)
	}}
}

func (d Disorder) pages(all []listed, size int) [][]listed {
	all = slices.Clone(all)
	if d == KeysBackwards {
		slices.Reverse(all)
	}
	pages := slices.Collect(slices.Chunk(all, size))
	switch d {
	case PagesTwice:
		var twice [][]listed
		for _, page := range pages {
			twice = append(twice, page, page)
		}
		return twice
	case PagesOverlap:
		for i := 1; i < len(pages); i++ {
			before := pages[i-1]
			pages[i] = append(slices.Clone(before[len(before)-1:]), pages[i]...)
		}
	case PagesSwapped:
		for i := 0; i+1 < len(pages); i += 2 {
			pages[i], pages[i+1] = pages[i+1], pages[i]
		}
	case KeysBackwards:
	}
	return pages
}

// page sends one page of a listing that the proxy keeps.
func (x *exchange) page(id string, l *listing, n int) {
	page := *l
	page.Contents, page.MaxKeys = l.pages[n], len(l.pages[n])
	if n+1 < len(l.pages) {
		page.IsTruncated, page.NextContinuationToken = true, id+"-"+strconv.Itoa(n+1)
	}
	x.answer(&page)
}

// nextPage answers a request for a page of a listing that the proxy keeps, and
// says whether it was one.
func (x *exchange) nextPage() bool {
	token := x.r.URL.Query().Get("continuation-token")
	if x.r.Op != List || !strings.HasPrefix(token, tokenPrefix) {
		return false
	}
	at := strings.LastIndexByte(token, '-')
	n, err := strconv.Atoi(token[at+1:])
	x.proxy.mu.Lock()
	l := x.proxy.lists[token[:at]]
	x.proxy.mu.Unlock()
	if err != nil || l == nil || n >= len(l.pages) {
		x.refuse(http.StatusBadRequest, "InvalidArgument", "The continuation token provided is incorrect")
		return true
	}
	x.page(token[:at], l, n)
	return true
}

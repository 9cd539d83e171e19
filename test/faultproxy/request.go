package faultproxy

import (
	"net/http"
	"strings"
)

// Op is what a request asks of an S3 server, told by its method and its address
// in path style.
type Op string

// The operations.
const (
	Get      Op = "get"
	Head     Op = "head"
	Put      Op = "put"
	Delete   Op = "delete"
	List     Op = "list"
	Start    Op = "start upload"
	Part     Op = "put part"
	Complete Op = "complete upload"
	Abort    Op = "abort upload"
	Parts    Op = "list parts"
	Uploads  Op = "list uploads"
)

// Request is a request on its way.
type Request struct {
	*http.Request
	// Op is what it asks of an S3 server. For other servers it is Get, Head, Put or
	// Delete, or Complete for any POST.
	Op Op
	// N is how many requests like this one came before: same operation, same address
	// but for the name of an upload, same range.
	N int

	proxy *Proxy
}

// Can tells whether a fault can happen to the request.
func (r *Request) Can(f *Fault) bool {
	if f == nil || f.Once && r.proxy.spent(f, r.URL.Path) {
		return false
	}
	return f.Fits == nil || f.Fits(r)
}

// Blob tells a request about an object whose key has the folder blobs/ in it.
func (r *Request) Blob() bool { return strings.Contains(r.URL.Path, "/blobs/") }

// Conditional tells a write that is to happen only under a condition.
func (r *Request) Conditional() bool {
	return r.Op == Put && (r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != "")
}

func opOf(r *http.Request) Op {
	query := r.URL.Query()
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	upload := query.Has("uploadId")
	switch r.Method {
	case http.MethodHead:
		return Head
	case http.MethodDelete:
		if upload {
			return Abort
		}
		return Delete
	case http.MethodPut:
		if upload {
			return Part
		}
		return Put
	case http.MethodPost:
		if query.Has("uploads") {
			return Start
		}
		return Complete
	}
	switch {
	case query.Has("uploads"):
		return Uploads
	case upload:
		return Parts
	case key == "" && query.Has("list-type"):
		return List
	}
	return Get
}

// id is what makes a request the same as another.
func (r *Request) id() string {
	query := r.URL.Query()
	query.Del("uploadId")
	return string(r.Op) + " " + r.URL.Path + "?" + query.Encode() + " " + r.Header.Get("Range")
}

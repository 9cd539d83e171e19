package fakehub

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// apiError is an error as the Hub tells it: clients act on the code header and
// never look at the body.
type apiError struct {
	status  int
	code    string // X-Error-Code; may be empty.
	message string
}

func notFound(message string) *apiError   { return &apiError{http.StatusNotFound, "", message} }
func badRequest(message string) *apiError { return &apiError{http.StatusBadRequest, "", message} }

// ErrorHandler answers with the given status, X-Error-Code (none if empty) and
// message, as the Hub reports errors. It is meant for [Server.Intercept].
func ErrorHandler(status int, code, message string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, &apiError{status, code, message})
	})
}

func writeError(w http.ResponseWriter, e *apiError) {
	if e.code != "" {
		w.Header().Set("X-Error-Code", e.code)
	}
	w.Header().Set("X-Error-Message", e.message)
	writeJSON(w, e.status, map[string]any{"error": e.message})
}

// answer is the server without its record and its hook.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, t target) {
	setCommonHeaders(w.Header())
	switch {
	case r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
	case t.moved != "":
		redirect(w, http.StatusTemporaryRedirect, withQuery(t.moved, r.URL.RawQuery))
	case t.err != nil:
		writeError(w, t.err)
	case r.Method == http.MethodPost != (t.route == RoutePaths):
		writeError(w, &apiError{http.StatusMethodNotAllowed, "", "method not allowed"})
	case t.route == RouteResolve, t.route == RouteRaw:
		s.serveResolve(w, r, t)
	default:
		s.serveAPI(w, r, t)
	}
}

// setCommonHeaders lets browsers read what clients need, as the Hub does.
func setCommonHeaders(h http.Header) {
	h.Set("X-Request-Id", "Root=1-00000000-000000000000000000000000")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,"+
		"X-Total-Count,ETag,Link,Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash")
}

// serveResolve sends a file, or the way to it.
func (s *Server) serveResolve(w http.ResponseWriter, r *http.Request, t target) {
	h := w.Header()
	h.Set("X-Repo-Commit", t.commit.id)
	f, ok := t.commit.files[t.path]
	if !ok {
		writeError(w, &apiError{http.StatusNotFound, "EntryNotFound", "Entry not found"})
		return
	}
	h.Set("Accept-Ranges", "bytes")
	name := t.path[strings.LastIndexByte(t.path, '/')+1:]
	h.Set("Content-Disposition", "inline; filename*=UTF-8''"+url.PathEscape(name))
	if t.route == RouteRaw {
		body := f.Open()
		if f.isLFS() {
			body = io.NewSectionReader(strings.NewReader(f.pointer), 0, int64(len(f.pointer)))
		}
		serveBytes(w, r, f.oid, body)
		return
	}
	if !t.pinned {
		// A branch can move between a client's HEAD and its GET, so both are
		// sent to the commit. The address has no host and no query: clients up
		// to huggingface_hub 1.29 follow only such ones, and drop the query.
		setLinked(h, f)
		redirect(w, http.StatusTemporaryRedirect, fmt.Sprintf("/%s%s/resolve/%s/%s",
			t.repo.key.kind.prefix(), t.repo.key.id, t.commit.id, escapePath(t.path)))
		return
	}
	if s.CDN != "" && f.isLFS() {
		setLinked(h, f)
		redirect(w, http.StatusFound, s.CDN+"/xet-bridge/"+f.sha256+"?Expires=4102444800&Signature=none")
		return
	}
	serveBytes(w, r, f.ETag(), f.Open())
}

// setLinked names the file on an answer that is not the file itself.
func setLinked(h http.Header, f entry) {
	h.Set("X-Linked-Etag", strconv.Quote(f.ETag()))
	h.Set("X-Linked-Size", strconv.FormatInt(f.size, 10))
}

// serveCDN sends the bytes with the given SHA-256 under an ETag that is not
// it: identity comes from the Hub's own answer and never from here.
func (s *Server) serveCDN(w http.ResponseWriter, r *http.Request) {
	setCommonHeaders(w.Header())
	sum := strings.TrimPrefix(r.URL.Path, "/xet-bridge/")
	if f, ok := s.findLFS(sum); ok {
		serveBytes(w, r, XetHash(sum), f.Open())
		return
	}
	http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
}

func (s *Server) findLFS(sum string) (File, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, repo := range s.repos {
		for _, c := range repo.commits {
			for _, f := range c.files {
				if f.isLFS() && f.sha256 == sum {
					return f.File, true
				}
			}
		}
	}
	return File{}, false
}

// serveBytes sends a body with ranges. An empty one is announced as
// "bytes */0" when a range was asked for: clients that probe with bytes=0-0
// read the size from there, and net/http would leave it out.
func serveBytes(w http.ResponseWriter, r *http.Request, etag string, body *io.SectionReader) {
	h := w.Header()
	h.Set("Etag", strconv.Quote(etag))
	h.Set("Content-Type", "application/octet-stream")
	if body.Size() == 0 && r.Header.Get("Range") != "" {
		h.Set("Content-Range", "bytes */0")
	}
	http.ServeContent(w, r, "", time.Time{}, body)
}

func redirect(w http.ResponseWriter, status int, location string) {
	w.Header().Set("Location", location)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}

func withQuery(address, query string) string {
	if query == "" {
		return address
	}
	return address + "?" + query
}

// escapePath escapes each segment of a file path for an address.
func escapePath(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	return strings.Join(segments, "/")
}

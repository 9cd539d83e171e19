// Package fakehub is a Hugging Face Hub in memory, for tests that run real
// clients.
//
// A [Server] holds repositories; a [Repo] holds commits, branches, tags and
// pull requests; a [Commit] holds files. Files are named as on the Hub: small
// ones by their git blob id, large ones by their SHA-256, with the id and the
// size of the LFS pointer computed from its fixed text.
//
// It answers what Python huggingface_hub (0.36 to 2.x), @huggingface/hub, the
// Rust hf-hub and llama.cpp ask when they fill a cache: resolve, raw, repo
// info, tree, paths-info, refs, commits, auth-check and whoami. It speaks no
// Xet: the token route answers 404, and listings name a Xet hash only for
// files made by [File.WithXet]. Answers on a branch or tag are redirected to
// the commit, as the Hub does; with a CDN set, large files are redirected to
// another origin whose ETag is not the SHA-256, as the Hub does too.
//
// Every request is recorded, with the number of body bytes that were sent, so
// that a test can say what was, and what was not, downloaded. A test that
// wants failures sets [Server.Intercept].
package fakehub

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
)

// Server is the Hub; it is an [http.Handler]. The zero value is not usable:
// call [New]. The exported fields are set before the first request.
type Server struct {
	// Intercept is asked before each request is answered; a handler that it
	// returns answers in the server's place. Base lets that handler call on
	// the usual answer. It may run for several requests at once.
	Intercept func(*http.Request) http.Handler
	// PageSize is how many entries a page of a listing holds: 1000 as on the
	// Hub, a few to see whether a client follows the pages.
	PageSize int
	// CDN is the base address of a second origin, served by
	// [Server.CDNHandler], that large files are redirected to. When it is
	// empty the server sends them itself.
	CDN string

	mu      sync.Mutex
	idle    sync.Cond // Signalled when busy falls to zero.
	busy    int
	repos   map[repoKey]*Repo
	aliases map[repoKey]string
	log     []Request
}

// New returns a Hub without repositories.
func New() *Server {
	s := &Server{PageSize: 1000, repos: map[repoKey]*Repo{}, aliases: map[repoKey]string{}}
	s.idle.L = &s.mu
	return s
}

// Repo returns the repository of the given type and id, which it makes, empty,
// if there is none.
func (s *Server) Repo(t Type, id string) *Repo {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := repoKey{t, id}
	r := s.repos[key]
	if r == nil {
		r = &Repo{
			server: s, key: key, refs: map[string]*Commit{}, tags: map[string]bool{},
			commits: map[string]*Commit{},
		}
		s.repos[key] = r
	}
	return r
}

// Alias makes old another id of r, for a repository that was renamed: requests
// for it are redirected to the new address.
func (s *Server) Alias(r *Repo, old string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases[repoKey{r.key.kind, old}] = r.key.id
}

// Request is what the server remembers of one request.
type Request struct {
	Method string
	Host   string
	Path   string // Still escaped, as it came.
	Query  string
	Route  Route
	Repo   string // "models/org/name", when the request is about one that exists.
	Range  string
	// Authorized tells that a token came along. The token itself is not kept.
	Authorized bool
	UserAgent  string
	Status     int
	BodyBytes  int64
}

// String is the request on one line, for messages of tests.
func (r Request) String() string {
	return fmt.Sprintf("%s %s %d (%d bytes)", r.Method, r.Path, r.Status, r.BodyBytes)
}

// IsDownload tells whether the request fetched the bytes of a file, or asked
// to.
func (r Request) IsDownload() bool {
	switch r.Route {
	case RouteResolve, RouteRaw, RouteCDN:
		return r.Method == http.MethodGet
	default:
		return false
	}
}

// Requests waits until no request is being answered, then returns all that
// came since the start or the last [Server.Reset], in the order of arrival.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.busy > 0 {
		s.idle.Wait()
	}
	return slices.Clone(s.log)
}

// Downloads is those of [Server.Requests] that [Request.IsDownload] tells of.
func (s *Server) Downloads() []Request {
	return slices.DeleteFunc(s.Requests(), func(r Request) bool { return !r.IsDownload() })
}

// Reset forgets the requests so far, when no request is being answered.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.busy > 0 {
		s.idle.Wait()
	}
	s.log = nil
}

// ServeHTTP answers one request and records it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := s.parse(r)
	s.record(w, r, t, func(w http.ResponseWriter) {
		if s.Intercept != nil {
			if h := s.Intercept(r); h != nil {
				h.ServeHTTP(w, r)
				return
			}
		}
		s.answer(w, r, t)
	})
}

// Base is the server without Intercept and without the record, for handlers
// that Intercept returns.
func (s *Server) Base() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, s.parse(r)) })
}

// CDNHandler serves the bytes of large files at /xet-bridge/<sha256>, whatever
// repository they are in. It shares the server's record and its Intercept.
func (s *Server) CDNHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.record(w, r, target{route: RouteCDN}, func(w http.ResponseWriter) {
			if s.Intercept != nil {
				if h := s.Intercept(r); h != nil {
					h.ServeHTTP(w, r)
					return
				}
			}
			s.serveCDN(w, r)
		})
	})
}

// CDNBase is the second origin without Intercept and without the record, for
// handlers that Intercept returns.
func (s *Server) CDNBase() http.Handler { return http.HandlerFunc(s.serveCDN) }

// record runs serve and remembers the request. The entry is made first: a
// client may have read the whole body, and its test may be asking for the
// record, before serve returns.
func (s *Server) record(w http.ResponseWriter, r *http.Request, t target, serve func(http.ResponseWriter)) {
	entry := Request{
		Method: r.Method, Host: r.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Route: t.route,
		Range: r.Header.Get("Range"), UserAgent: r.UserAgent(), Authorized: r.Header.Get("Authorization") != "",
	}
	if t.repo != nil {
		entry.Repo = t.repo.key.kind.plural() + "/" + t.repo.key.id
	}
	s.mu.Lock()
	s.busy++
	at := len(s.log)
	s.log = append(s.log, entry)
	s.mu.Unlock()

	counted := &countingWriter{ResponseWriter: w}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.log[at].Status, s.log[at].BodyBytes = counted.status, counted.n
		if s.busy--; s.busy == 0 {
			s.idle.Broadcast()
		}
	}()
	serve(counted)
}

// countingWriter notes the status and counts the body bytes.
type countingWriter struct {
	http.ResponseWriter
	status int
	n      int64
}

// WriteHeader notes the status, the first of them.
func (w *countingWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write counts what the client's side took.
func (w *countingWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err //nolint:wrapcheck // A writer passes the error on as it is.
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

package fakehub

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Route says what a request is about.
type Route string

// The routes that are told apart in the record.
const (
	RouteOther    Route = "other"
	RouteResolve  Route = "resolve"
	RouteRaw      Route = "raw"
	RouteCDN      Route = "cdn"
	RouteInfo     Route = "info"
	RouteRevision Route = "revision"
	RouteTree     Route = "tree"
	RoutePaths    Route = "paths-info"
	RouteRefs     Route = "refs"
	RouteCommits  Route = "commits"
	RouteAuth     Route = "auth-check"
	RouteXetToken Route = "xet-read-token"
	RouteWhoAmI   Route = "whoami-v2"
)

// target is what a request asks for, as far as it could be understood.
type target struct {
	route  Route
	repo   *Repo
	commit *Commit // Nil if the route has none, or it does not exist.
	pinned bool    // The revision was given as a full commit id.
	path   string  // File or directory, unescaped; "" is the root.
	moved  string  // Where a renamed repository is now; nothing else is set then.
	err    *apiError
}

// parse finds out what r asks for. It works on the escaped path: a revision
// such as refs%2Fpr%2F1 is one segment there, and a path that [http.ServeMux]
// would clean up stays as it came.
func (s *Server) parse(r *http.Request) target {
	s.mu.Lock()
	defer s.mu.Unlock()
	segments := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	if segments[0] == "api" {
		return s.parseAPI(segments[1:])
	}
	kind := Model
	for _, t := range []Type{Dataset, Space, Kernel} {
		if segments[0] == t.plural() {
			kind, segments = t, segments[1:]
			break
		}
	}
	return s.parseRepo(kind, segments, []Route{RouteResolve, RouteRaw}, "/"+kind.prefix())
}

func (s *Server) parseAPI(segments []string) target {
	if len(segments) == 1 && segments[0] == string(RouteWhoAmI) {
		return target{route: RouteWhoAmI}
	}
	for _, t := range []Type{Model, Dataset, Space, Kernel} {
		if len(segments) > 1 && segments[0] == t.plural() {
			return s.parseRepo(t, segments[1:], []Route{
				RouteRevision, RouteTree, RoutePaths, RouteRefs, RouteCommits, RouteAuth, RouteXetToken,
			}, "/api/"+t.plural()+"/")
		}
	}
	return target{route: RouteOther, err: notFound("no such page")}
}

// parseRepo reads an id of one or two segments, one of the routes, and what
// follows it. Which of the two an id is, only the set of repositories tells:
// "a/tree/main" is a file listing of "a" or a repository "a/tree".
func (s *Server) parseRepo(kind Type, segments []string, routes []Route, prefix string) target {
	known := target{route: RouteOther, err: notFound("no such page")}
	for n := min(2, len(segments)); n > 0; n-- {
		id, err := url.PathUnescape(strings.Join(segments[:n], "/"))
		if err != nil {
			return target{route: RouteOther, err: badRequest("bad escape in the path")}
		}
		route, rest := RouteInfo, segments[n:]
		if len(rest) > 0 {
			route, rest = Route(rest[0]), rest[1:]
			if !slices.Contains(routes, route) {
				continue
			}
		} else if slices.Contains(routes, RouteResolve) {
			continue // The repository's page for people.
		}
		if now, ok := s.aliases[repoKey{kind, id}]; ok {
			return target{route: route, moved: prefix + strings.Join(append([]string{now}, segments[n:]...), "/")}
		}
		if repo := s.repos[repoKey{kind, id}]; repo != nil {
			return parseRevision(target{route: route, repo: repo}, rest)
		}
		known = target{route: route, err: &apiError{http.StatusNotFound, "RepoNotFound", "Repository not found"}}
	}
	return known
}

// parseRevision reads the revision and the path that follow the route. A raw
// revision may take several segments, so the shortest one that exists is
// taken; git forbids branches "a" and "a/b" side by side.
func parseRevision(t target, rest []string) target {
	if len(rest) == 0 {
		switch t.route {
		case RouteInfo:
			t.commit, _ = t.repo.revision("main")
		case RouteRefs, RouteAuth:
		default:
			t.err = notFound("no revision given")
		}
		return t
	}
	for n := 1; n <= len(rest); n++ {
		rev, err := url.PathUnescape(strings.Join(rest[:n], "/"))
		if err != nil {
			break
		}
		c, pinned := t.repo.revision(rev)
		if c == nil {
			continue
		}
		t.commit, t.pinned = c, pinned
		if t.path, err = url.PathUnescape(strings.Join(rest[n:], "/")); err != nil {
			t.err = badRequest("bad escape in the path")
		}
		return t
	}
	t.err = &apiError{http.StatusNotFound, "RevisionNotFound", "Invalid rev id: " + strings.Join(rest, "/")}
	return t
}

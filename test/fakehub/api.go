package fakehub

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// expandedPageSize is the Hub's page size for listings with last commits.
const expandedPageSize = 50

// dateFormat is how the Hub writes times; clients refuse any other zone.
const dateFormat = "2006-01-02T15:04:05.000Z"

// serveAPI answers the JSON routes.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, t target) {
	switch t.route {
	case RouteInfo, RouteRevision:
		serveInfo(w, r, t)
	case RouteTree:
		s.serveTree(w, r, t)
	case RoutePaths:
		servePathsInfo(w, r, t)
	case RouteRefs:
		serveRefs(w, r, s.snapshotRefs(t.repo))
	case RouteCommits:
		s.serveCommits(w, r, t)
	case RouteAuth:
		w.WriteHeader(http.StatusOK)
	case RouteWhoAmI:
		serveWhoAmI(w, r)
	default:
		writeError(w, notFound("not available on this server"))
	}
}

// serveInfo describes a repository. Clients without a listing of the tree
// trust siblings, so it is always whole.
func serveInfo(w http.ResponseWriter, r *http.Request, t target) {
	id := t.repo.key.id
	digest := sha1.Sum([]byte(id))
	info := map[string]any{
		"_id": hex.EncodeToString(digest[:12]), "id": id, "private": false, "gated": false, "disabled": false,
		"tags": []string{}, "downloads": 0, "likes": 0, "createdAt": formatDate(time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC)),
	}
	if t.repo.key.kind == Model {
		info["modelId"] = id
	}
	if org, _, ok := strings.Cut(id, "/"); ok {
		info["author"] = org
	}
	if t.commit != nil {
		siblings := []map[string]any{}
		for _, f := range t.commit.Files() {
			siblings = append(siblings, sibling(f, isTrue(r.URL.Query().Get("blobs"))))
		}
		info["sha"], info["siblings"] = t.commit.id, siblings
		info["lastModified"] = formatDate(t.commit.date)
	}
	writeJSON(w, http.StatusOK, info)
}

// sibling is a file of the repo info, where the digest's key is "sha256" and
// not "oid" as in listings.
func sibling(f File, blobs bool) map[string]any {
	out := map[string]any{"rfilename": f.path}
	if blobs {
		out["size"], out["blobId"] = f.size, f.oid
		if f.isLFS() {
			out["lfs"] = map[string]any{"sha256": f.sha256, "size": f.size, "pointerSize": len(f.pointer)}
		}
	}
	return out
}

// serveTree lists a directory, or with recursive all below it, page by page.
func (s *Server) serveTree(w http.ResponseWriter, r *http.Request, t target) {
	query := r.URL.Query()
	expand := isTrue(query.Get("expand"))
	all := listTree(t.commit, t.path, isTrue(query.Get("recursive")), expand)
	if len(all) == 0 && t.path != "" {
		w.Header().Set("X-Repo-Commit", t.commit.id)
		writeError(w, &apiError{http.StatusNotFound, "EntryNotFound", t.path + " does not exist on this revision"})
		return
	}
	size := s.PageSize
	if expand {
		size = min(size, expandedPageSize)
	}
	w.Header().Set("X-Repo-Commit", t.commit.id)
	writePage(w, r, all, size)
}

// listTree is the entries below dir, sorted by path: files, and the
// directories that they make.
func listTree(c *Commit, dir string, recursive, expand bool) []map[string]any {
	if dir != "" {
		dir += "/"
	}
	listed := map[string]map[string]any{}
	for path, f := range c.files {
		below, ok := strings.CutPrefix(path, dir)
		if !ok {
			continue
		}
		for i := range len(below) {
			if below[i] == '/' {
				sub := dir + below[:i]
				listed[sub] = directoryEntry(c, sub, expand)
				if !recursive {
					break
				}
			}
		}
		if recursive || !strings.Contains(below, "/") {
			listed[path] = fileEntry(f, expand)
		}
	}
	entries := make([]map[string]any, 0, len(listed))
	for _, path := range slices.Sorted(maps.Keys(listed)) {
		entries = append(entries, listed[path])
	}
	return entries
}

func fileEntry(f entry, expand bool) map[string]any {
	out := map[string]any{"type": "file", "oid": f.oid, "size": f.size, "path": f.path}
	if f.isLFS() {
		out["lfs"] = map[string]any{"oid": f.sha256, "size": f.size, "pointerSize": len(f.pointer)}
	}
	if f.xet != "" {
		out["xetHash"] = f.xet
	}
	if expand {
		out["lastCommit"] = lastCommit(f.last)
		out["securityFileStatus"] = map[string]any{"status": "safe", "avScan": nil, "pickleImportScan": nil}
	}
	return out
}

func directoryEntry(c *Commit, path string, expand bool) map[string]any {
	oid := sha1.Sum([]byte(c.id + "/" + path))
	out := map[string]any{"type": "directory", "oid": hex.EncodeToString(oid[:]), "size": 0, "path": path}
	if expand {
		out["lastCommit"] = lastCommit(c)
	}
	return out
}

func lastCommit(c *Commit) map[string]any {
	return map[string]any{"id": c.id, "title": c.title, "date": formatDate(c.date)}
}

// servePathsInfo describes the paths asked for, leaving out the unknown ones.
// Python sends a form, JavaScript and Rust send JSON.
func servePathsInfo(w http.ResponseWriter, r *http.Request, t target) {
	var ask struct {
		Paths  []string `json:"paths"`
		Expand bool     `json:"expand"`
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil && media == "application/json" {
		err = json.NewDecoder(r.Body).Decode(&ask)
	} else if err == nil {
		err = r.ParseForm()
		ask.Paths, ask.Expand = r.PostForm["paths"], isTrue(r.PostForm.Get("expand"))
	}
	if err != nil {
		writeError(w, badRequest("the body is neither a form nor JSON"))
		return
	}
	found := []map[string]any{}
	for _, path := range ask.Paths {
		if f, ok := t.commit.files[path]; ok {
			found = append(found, fileEntry(f, ask.Expand))
		} else if len(listTree(t.commit, path, false, false)) > 0 {
			found = append(found, directoryEntry(t.commit, path, ask.Expand))
		}
	}
	writeJSON(w, http.StatusOK, found)
}

// refList is what a repository's refs name at one moment.
type refList struct {
	commits map[string]*Commit
	tags    map[string]bool
}

func (s *Server) snapshotRefs(repo *Repo) refList {
	s.mu.Lock()
	defer s.mu.Unlock()
	return refList{maps.Clone(repo.refs), maps.Clone(repo.tags)}
}

// serveRefs lists the refs; clients index all of the arrays, so none may be
// missing.
func serveRefs(w http.ResponseWriter, r *http.Request, refs refList) {
	branches, tags, converts, prs := []map[string]any{}, []map[string]any{}, []map[string]any{}, []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(refs.commits)) {
		ref := map[string]any{"targetCommit": refs.commits[name].id}
		if pr, ok := strings.CutPrefix(name, "refs/pr/"); ok {
			ref["name"], ref["ref"] = pr, name
			prs = append(prs, ref)
		} else if convert, ok := strings.CutPrefix(name, "refs/convert/"); ok {
			ref["name"], ref["ref"] = convert, name
			converts = append(converts, ref)
		} else if refs.tags[name] {
			ref["name"], ref["ref"] = name, "refs/tags/"+name
			tags = append(tags, ref)
		} else {
			ref["name"], ref["ref"] = name, "refs/heads/"+name
			branches = append(branches, ref)
		}
	}
	out := map[string]any{"branches": branches, "tags": tags, "converts": converts}
	if isTrue(r.URL.Query().Get("include_prs")) {
		out["pullRequests"] = prs
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) serveCommits(w http.ResponseWriter, r *http.Request, t target) {
	all := []map[string]any{}
	for c := t.commit; c != nil; c = c.parent {
		all = append(all, map[string]any{
			"id": c.id, "title": c.title, "message": "", "date": formatDate(c.date),
			"authors": []map[string]any{{"user": "someone"}},
		})
	}
	w.Header().Set("X-Total-Count", strconv.Itoa(len(all)))
	writePage(w, r, all, s.PageSize)
}

func serveWhoAmI(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "" {
		writeError(w, &apiError{http.StatusUnauthorized, "", "Invalid username or password."})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"type": "user", "name": "someone", "fullname": "Someone", "orgs": []any{},
		"auth": map[string]any{"type": "access_token", "accessToken": map[string]any{"role": "read"}},
	})
}

// writePage sends the page that the request's cursor names, at most size or
// the request's own limit long. The address of the next one is absolute, since
// clients take it as it is.
func writePage(w http.ResponseWriter, r *http.Request, all []map[string]any, size int) {
	query := r.URL.Query()
	if limit, err := strconv.Atoi(query.Get("limit")); err == nil && limit > 0 {
		size = min(size, limit)
	}
	from, err := readCursor(query.Get("cursor"), len(all))
	if err != nil {
		writeError(w, badRequest("Invalid cursor"))
		return
	}
	end := min(from+size, len(all))
	if end < len(all) {
		query.Set("cursor", base64.URLEncoding.EncodeToString([]byte(strconv.Itoa(end))))
		next := url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: query.Encode()}
		if r.TLS != nil {
			next.Scheme = "https"
		}
		w.Header().Set("Link", fmt.Sprintf("<%s>; rel=\"next\"", &next))
	}
	writeJSON(w, http.StatusOK, all[from:end])
}

func readCursor(cursor string, size int) (int, error) {
	if cursor == "" {
		return 0, nil
	}
	text, err := base64.URLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, fmt.Errorf("cursor %q: %w", cursor, err)
	}
	from, err := strconv.Atoi(string(text))
	if err != nil || from < 0 || from > size {
		return 0, fmt.Errorf("cursor %q names no entry", cursor)
	}
	return from, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	// An error here means that the client is gone, which is its own affair.
	_, _ = w.Write(body)
}

// isTrue reads a flag of a query: clients write true, True or 1.
func isTrue(text string) bool {
	return text == "1" || strings.EqualFold(text, "true")
}

func formatDate(t time.Time) string { return t.UTC().Format(dateFormat) }

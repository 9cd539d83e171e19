package hubclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// Bounds of what is read.
const (
	maxBody    = 64 << 20
	maxPages   = 20_000
	maxFiles   = 1_000_000
	maxAddress = 4 << 10 // of a page
)

// Info is what the Hub says of a repository at a revision.
type Info struct {
	ID     string // as the Hub spells it; other spellings are redirected
	Commit hub.Commit
	Gated  bool
}

// Info asks for the commit that a revision means: a branch, a tag, "refs/pr/1" or a commit. An empty one is the main branch.
func (c *Client) Info(ctx context.Context, repo hub.Repo, revision string) (Info, error) {
	if revision == "" {
		revision = string(hub.Main)
	}
	op := repo.String() + " at " + revision
	var wire struct {
		ID    string `json:"id"`
		SHA   string `json:"sha"`
		Gated any    `json:"gated"` // false, "auto" or "manual"
	}
	if _, err := c.json(ctx, op, c.api(repo)+"/revision/"+url.PathEscape(revision), &wire); err != nil {
		return Info{}, err
	}
	commit, err := hub.ParseCommit(wire.SHA)
	if err != nil {
		return Info{}, &Error{Op: op, Kind: ErrInvalid, Err: err}
	}
	gated, isBool := wire.Gated.(bool)
	return Info{ID: clip(wire.ID), Commit: commit, Gated: wire.Gated != nil && (!isBool || gated)}, nil
}

// api is the address of a repository in the Hub's API.
func (c *Client) api(repo hub.Repo) string {
	return c.Endpoint + "/api/" + repo.Type.Plural() + "/" + repo.Name
}

// json gets a body and decodes it. A body that breaks off is asked for again. next is the address of the next page, if there is one.
func (c *Client) json(ctx context.Context, op, address string, v any) (next string, _ error) {
	data, err := retry(ctx, c, func() ([]byte, error) {
		resp, err := c.walk(ctx, request{op: op, url: address})
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close() //nolint:errcheck // only read from
		next = nextPage(resp)
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, &Error{Op: op, Kind: ErrUnavailable, Err: plain(err)}
		case len(data) > maxBody:
			return nil, &Error{Op: op, Kind: ErrInvalid, Err: fmt.Errorf("it has more than %d bytes", maxBody)}
		}
		return data, nil
	})
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return "", &Error{Op: op, Kind: ErrInvalid, Err: err}
	}
	return next, nil
}

// nextPage is the target of a Link header with rel="next" (RFC 8288), resolved against the address of the answer: mirrors send relative ones.
func nextPage(resp *http.Response) string {
	for _, header := range resp.Header.Values("Link") {
		for link := range strings.SplitSeq(header, ",") {
			target, params, found := strings.Cut(strings.TrimSpace(link), ">")
			target, open := strings.CutPrefix(target, "<")
			if !found || !open || !strings.Contains(strings.ReplaceAll(params, " ", ""), `rel="next"`) {
				continue
			}
			if at, err := resp.Request.URL.Parse(target); err == nil {
				return at.String()
			}
		}
	}
	return ""
}

// wireEntry is one entry of a listing (huggingface_hub hf_api.py, RepoFile).
type wireEntry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	OID  string `json:"oid"`
	Size int64  `json:"size"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
	XetHash string `json:"xetHash"`
}

// Tree lists all files of a commit.
func (c *Client) Tree(ctx context.Context, repo hub.Repo, commit hub.Commit) (manifest.Tree, error) {
	op := "the listing of " + manifest.Key{Repo: repo, Commit: commit}.String()
	tree := manifest.Tree{}
	var pages pages
	for address := c.api(repo) + "/tree/" + string(commit) + "?recursive=true&expand=false"; address != ""; {
		if err := pages.turn(address); err != nil {
			return nil, &Error{Op: op, Kind: ErrInvalid, Err: err}
		}
		next, err := c.json(ctx, op, address, &page{tree})
		if err != nil {
			return nil, err
		}
		address = next
	}
	return tree, nil
}

// pages notices a listing without an end. It keeps one address at a time, and twice as long each time (R. P. Brent, An improved Monte Carlo factorization algorithm, 1980):
// all of them could be as many gigabytes as somebody likes.
type pages struct {
	kept        string
	count, keep int // pages so far, and the count at which the next one is kept
}

func (p *pages) turn(address string) error {
	switch {
	case len(address) > maxAddress:
		return fmt.Errorf("its next page has an address of %d bytes", len(address))
	case address == p.kept || p.count == maxPages:
		return errors.New("its pages do not end")
	}
	if p.count++; p.count > p.keep {
		p.kept, p.keep = address, 2*p.count
	}
	return nil
}

// page is a part of a listing, whose files go into the tree one by one: of a page of nothing but brackets, a list would take a hundred times as much in memory.
type page struct{ tree manifest.Tree }

// UnmarshalJSON implements [json.Unmarshaler]. One file that makes no sense spoils all, as it does for the Hub's own client.
func (p *page) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if open, err := d.Token(); err != nil || open != json.Delim('[') {
		return errors.Join(err, errors.New("it is no list"))
	}
	for d.More() {
		var e wireEntry
		if err := d.Decode(&e); err != nil {
			return err
		}
		if e.Type != "file" {
			continue
		}
		if err := p.add(e); err != nil {
			return err
		}
	}
	return nil
}

func (p *page) add(e wireEntry) error {
	path, err := hub.ParsePath(e.Path)
	if err != nil {
		return err
	}
	entry, err := e.entry()
	if err != nil {
		return fmt.Errorf("file %q: %w", path, err)
	}
	if _, twice := p.tree[path]; twice {
		return fmt.Errorf("file %q is listed twice", path)
	}
	if len(p.tree) == maxFiles {
		return fmt.Errorf("it has more than %d files", maxFiles)
	}
	p.tree[path] = entry
	return nil
}

func (e wireEntry) entry() (manifest.TreeEntry, error) {
	oid, err := hub.ParseBlobID(e.OID)
	if err != nil {
		return manifest.TreeEntry{}, err
	}
	if oid.Algorithm() != hub.GitSHA1 || e.Size < 0 {
		return manifest.TreeEntry{}, fmt.Errorf("its oid %q or its size %d cannot be", oid, e.Size)
	}
	entry := manifest.TreeEntry{Size: e.Size, BlobID: string(oid)}
	if e.LFS != nil {
		sha, err := hub.ParseBlobID(e.LFS.OID)
		if err != nil {
			return manifest.TreeEntry{}, err
		}
		if sha.Algorithm() != hub.SHA256 || e.LFS.Size != e.Size {
			return manifest.TreeEntry{}, fmt.Errorf("its LFS oid %q or size %d cannot be", sha, e.LFS.Size)
		}
		entry.LFSSHA256, entry.LFSSize = sha, e.LFS.Size
	}
	const digits = 64
	if len(e.XetHash) == digits && strings.Trim(e.XetHash, "0123456789abcdefABCDEF") == "" {
		entry.XetHash = e.XetHash
	}
	return entry, nil
}

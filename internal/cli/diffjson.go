package cli

import (
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

// diffObject is the object of diff --json.
type diffObject struct {
	Differs   bool           `json:"differs"`
	Revisions []diffRevision `json:"revisions"`
	Refs      []diffRef      `json:"refs"`
	Counts    diffCounts     `json:"counts"`
}

// diffCounts are numbers of revisions, and of refs that differ.
type diffCounts struct {
	InSync     int `json:"in_sync"`
	LocalOnly  int `json:"local_only"`
	RemoteOnly int `json:"remote_only"`
	Partial    int `json:"partial"`
	Conflict   int `json:"conflict"`
	Refs       int `json:"refs"`
}

type diffRevision struct {
	Repo           string         `json:"repo"`
	RepoType       string         `json:"repo_type"`
	Commit         string         `json:"commit"`
	State          string         `json:"state"`
	LocalRefs      []string       `json:"local_refs"`
	RemoteRefs     []string       `json:"remote_refs"`
	Files          int            `json:"files"`
	Size           int64          `json:"size"`
	LocalLacks     diffLack       `json:"local_lacks"`
	RemoteLacks    diffLack       `json:"remote_lacks"`
	Conflicts      []diffConflict `json:"conflicts"`
	ComparedBySize []string       `json:"compared_by_size"`
	Unproven       bool           `json:"unproven"`
}

type diffLack struct {
	Files []string `json:"files"`
	Size  int64    `json:"size"`
}

type diffConflict struct {
	Path       string `json:"path"`
	LocalBlob  string `json:"local_blob"` // empty if unknown
	LocalSize  int64  `json:"local_size"`
	RemoteBlob string `json:"remote_blob"`
	RemoteSize int64  `json:"remote_size"`
}

type diffRef struct {
	Repo     string `json:"repo"`
	RepoType string `json:"repo_type"`
	Ref      string `json:"ref"`
	Local    string `json:"local"` // the commit; empty if that side does not have the ref
	Remote   string `json:"remote"`
}

func countsJSON(d *plan.Diff) diffCounts {
	c := d.Counts()
	return diffCounts{c[plan.InSync], c[plan.LocalOnly], c[plan.RemoteOnly], c[plan.Partial], c[plan.Conflict], len(d.Refs)}
}

func diffJSON(d *plan.Diff) diffObject {
	object := diffObject{Differs: !d.Empty(), Revisions: []diffRevision{}, Refs: []diffRef{}, Counts: countsJSON(d)}
	for _, r := range d.Revisions {
		row := diffRevision{
			Repo: r.Key.Repo.Name, RepoType: r.Key.Repo.Type.String(), Commit: string(r.Key.Commit), State: r.State.String(),
			LocalRefs: refNames(r.LocalRefs), RemoteRefs: refNames(r.RemoteRefs), Files: r.Files, Size: r.Bytes,
			LocalLacks: lackJSON(r.LocalLacks), RemoteLacks: lackJSON(r.RemoteLacks),
			Conflicts: []diffConflict{}, ComparedBySize: pathNames(r.BySize), Unproven: r.Unproven,
		}
		for _, c := range r.Conflicts {
			row.Conflicts = append(row.Conflicts, diffConflict{string(c.Path), string(c.Local.Blob), c.Local.Size, string(c.Remote.Blob), c.Remote.Size})
		}
		object.Revisions = append(object.Revisions, row)
	}
	for _, r := range d.Refs {
		object.Refs = append(object.Refs, diffRef{r.Key.Repo.Name, r.Key.Repo.Type.String(), string(r.Key.Name), string(r.Local), string(r.Remote)})
	}
	return object
}

func lackJSON(l plan.Lack) diffLack { return diffLack{pathNames(l.Files), l.Bytes} }

func pathNames(paths []hub.Path) []string {
	names := []string{}
	for _, p := range paths {
		names = append(names, string(p))
	}
	return names
}

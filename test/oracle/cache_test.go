package oracle_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/fakehub"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// source is a cache that a real client has filled, and how it came about.
type source struct {
	name   string
	writer testenv.Client
	// home is the HF_HOME whose cache is pushed.
	home string
	// plain is the HF_HOME with what the same downloads leave behind where
	// nothing is special: what a pulled cache has to look like.
	plain   string
	fetches []fetch // Whole ones.
	partial fetch
	// noExist tells that the writer keeps what is known to be missing.
	noExist bool
}

func isJS(c testenv.Client) bool { return c.Name == "js" }

// hasTrees tells whether c writes and reads the listing of whole commits.
func hasTrees(c testenv.Client) bool { return !isJS(c) && c.Name != "hub-0.36.2" }

// fill lets writer download everything there is in w to a new HF_HOME.
func fill(t *testing.T, w *world, name string, writer testenv.Client) *source {
	t.Helper()
	home := t.TempDir()
	s := &source{name: name, writer: writer, home: home, plain: home, fetches: w.whole, partial: w.partial}
	var steps []testenv.Step
	if isJS(writer) {
		// It downloads single files of a commit, but no part of a branch.
		s.partial.revision = s.partial.commit.ID()
		for _, path := range []string{"config.json", "sub/tokenizer.json"} {
			step := s.partial.step("file")
			step["path"] = path
			steps = append(steps, step)
		}
	} else {
		s.noExist = true
		s.fetches = slices.Concat(w.whole, w.odd)
		steps = append(steps, s.partial.step("download"))
	}
	for _, f := range s.fetches {
		steps = append(steps, f.step("download"))
	}
	for i, o := range writer.Run(t, home, w.url, steps...) {
		if o.Error != "" {
			t.Fatalf("%s: %v: %s", writer.Name, steps[i], o)
		}
	}
	if s.noExist {
		step := w.missing.step("file")
		step["path"] = missingFile
		if o := writer.Run(t, home, w.url, step)[0]; !strings.HasSuffix(o.Error, "EntryNotFoundError") {
			t.Fatalf("%s: a missing file: %s", writer.Name, o)
		}
	}
	return s
}

// report is what a client says about a cache, by question.
type report map[string]string

// inspect asks reader, without a network, for all that can be read from the
// cache below home, if it was made as s was.
func inspect(t *testing.T, s *source, home string, reader testenv.Client) report {
	t.Helper()
	var labels []string
	var steps []testenv.Step
	ask := func(label string, step testenv.Step) {
		labels, steps = append(labels, label), append(steps, step)
	}
	ask("scan", testenv.Step{"do": "scan"})
	if !isJS(reader) {
		for _, f := range append(slices.Clone(s.fetches), s.partial) {
			pinned := f
			pinned.revision = f.commit.ID()
			for _, f := range []fetch{f, pinned} {
				for _, flag := range []bool{true, false} {
					by := map[bool]string{true: "local_files_only", false: "HF_HUB_OFFLINE"}[flag]
					step := f.step("offline")
					step["flag"] = flag
					ask(f.name()+" by "+by, step)
					if f.allow != nil {
						step = f.step("offline")
						step["flag"] = flag
						delete(step, "allow")
						ask(f.name()+", all of it, by "+by, step)
					}
				}
			}
		}
		for _, path := range []string{missingFile, "config.json", "never-asked-for"} {
			step := s.fetches[0].step("lookup")
			step["path"] = path
			ask("lookup of "+path, step)
		}
		if hasTrees(reader) {
			ask("cached tree", s.fetches[0].step("tree"))
			ask("cached tree of a part", testenv.Step{"do": "tree", "repo": s.partial.repo, "revision": s.partial.commit.ID()})
		}
	}
	out := report{}
	for i, o := range reader.Run(t, home, "", steps...) {
		out[labels[i]] = canonical(t, o)
	}
	return out
}

// canonical writes an outcome so that equal ones are equal text. A file that
// only 0.36.2 complains of, of every writer since, is not mentioned.
func canonical(t *testing.T, o testenv.Outcome) string {
	t.Helper()
	if o.Error != "" {
		return o.String()
	}
	var v any
	o.Decode(t, &v)
	if m, ok := v.(map[string]any); ok {
		if warnings, ok := m["warnings"].([]any); ok {
			m["warnings"] = slices.DeleteFunc(warnings, func(w any) bool {
				return strings.HasSuffix(w.(string), "CACHEDIR.TAG")
			})
		}
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", " ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// checkFiles fails the test unless the snapshots in r have the very bytes of
// the Hub, and Python clients have nothing to complain of.
func checkFiles(t *testing.T, s *source, reader testenv.Client, r report) {
	t.Helper()
	if isJS(reader) {
		return
	}
	var scan struct {
		Warnings []string `json:"warnings"`
	}
	if err := json.Unmarshal([]byte(r["scan"]), &scan); err != nil || len(scan.Warnings) > 0 {
		t.Errorf("%s scans: %v %v", reader.Name, scan.Warnings, err)
	}
	for _, f := range s.fetches {
		label := f.name() + " by local_files_only"
		var got struct {
			Commit string            `json:"commit"`
			Files  map[string]string `json:"files"`
		}
		if err := json.Unmarshal([]byte(r[label]), &got); err != nil {
			t.Errorf("%s: %s: %s", reader.Name, label, r[label])
			continue
		}
		if got.Commit != f.commit.ID() {
			t.Errorf("%s: %s is commit %s, want %s", reader.Name, label, got.Commit, f.commit.ID())
		}
		if diff := cmp.Diff(f.commit.Digests(), got.Files); diff != "" {
			t.Errorf("%s: %s: files (-hub +cache):\n%s", reader.Name, label, diff)
		}
	}
	want := "no-exist"
	if !s.noExist {
		want = "unknown"
	}
	if got := strings.Trim(r["lookup of "+missingFile], "\"\n"); got != want {
		t.Errorf("%s: a file that does not exist is %s, want %s", reader.Name, got, want)
	}
	// Half a model, with the listing that tells: a reader that knows of
	// listings refuses it, an old one takes it for the whole.
	label := s.partial.name() + ", all of it, by local_files_only"
	refused := strings.HasPrefix(r[label], "IncompleteSnapshotError: ")
	if want := hasTrees(s.writer) && hasTrees(reader); refused != want {
		t.Errorf("%s: %s: refused %t, want %t: %s", reader.Name, label, refused, want, r[label])
	}
}

// checkOnline lets reader download everything once more into the cache below
// home, with a Hub at hand, and fails the test if any file's bytes were asked
// for.
func checkOnline(t *testing.T, s *source, home string, reader testenv.Client) {
	t.Helper()
	w := newWorld(t)
	var steps []testenv.Step
	for _, f := range s.fetches {
		if isJS(reader) && f.repo == w.odd[0].repo {
			continue // It does not escape addresses.
		}
		pinned := f
		pinned.revision = f.commit.ID()
		steps = append(steps, f.step("download"), pinned.step("download"))
		if !isJS(reader) {
			step := f.step("file")
			step["path"] = f.commit.Files()[0].Path()
			steps = append(steps, step)
		}
		if hasTrees(reader) {
			steps = append(steps, f.step("verify"))
		}
	}
	part := s.partial.step("download")
	if isJS(reader) {
		part = testenv.Step{"do": "file", "repo": s.partial.repo, "revision": s.partial.commit.ID(), "path": "config.json"}
	}
	steps = append(steps, part)
	for i, o := range reader.Run(t, home, w.url, steps...) {
		if o.Error != "" {
			t.Errorf("%s online: %v: %s", reader.Name, steps[i], o)
		} else if steps[i]["do"] == "verify" && !strings.Contains(string(o.OK), `"mismatches": [], "missing": [], "extra": []`) {
			t.Errorf("%s verifies %v: %s", reader.Name, steps[i], o)
		}
	}
	for _, r := range w.hub.Downloads() {
		t.Errorf("%s downloaded again: %s", reader.Name, r)
	}
	for _, r := range w.hub.Requests() {
		if r.Route == fakehub.RouteXetToken {
			t.Errorf("%s asked for a Xet token: %s", reader.Name, r)
		}
	}
}

// hubDir is the cache below an HF_HOME.
func hubDir(home string) string { return filepath.Join(home, "hub") }

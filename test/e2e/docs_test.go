package e2e_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestExitCodeTable compares the codes that docs/exit-codes.md promises with
// those of the source, and with those that some script shows.
func TestExitCodeTable(t *testing.T) {
	t.Parallel()
	codes := func(path, pattern string) []string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, match := range regexp.MustCompile(pattern).FindAllSubmatch(data, -1) {
			found[string(match[1])] = true
		}
		return slices.Sorted(maps.Keys(found))
	}
	documented := codes("../../docs/exit-codes.md", `(?m)^\| ([0-9]+) \| \S`)
	used := codes("../../internal/cli/exit.go", `(?m)^\texit[A-Z]\w* += ([0-9]+)\b`)
	if diff := cmp.Diff(documented, used); diff != "" {
		t.Errorf("the documented codes and those of the source (-docs +source):\n%s", diff)
	}
	scripted := map[string]bool{}
	scripts, err := os.ReadDir("testdata/script")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range scripts {
		for _, code := range codes("testdata/script/"+script.Name(), `(?m)^exits ([0-9]+) `) {
			scripted[code] = true
		}
	}
	// 1 is a bug or a doctor's finding, 8 is reserved, and signals are sent by tests in Go.
	for _, code := range []string{"1", "8", "130", "143"} {
		scripted[code] = true
	}
	if diff := cmp.Diff(documented, slices.Sorted(maps.Keys(scripted))); diff != "" {
		t.Errorf("the documented codes and those that a script shows (-docs +scripts):\n%s", diff)
	}
}

// TestJSONIsDocumented looks for every key of a --json object in docs/json.md.
func TestJSONIsDocumented(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	for _, word := range regexp.MustCompile(`[a-z_]+`).FindAllString(string(docs), -1) {
		words[word] = true
	}
	sources, err := filepath.Glob("../../internal/*/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	keys := 0
	for _, source := range sources {
		if dir := filepath.Base(filepath.Dir(source)); dir != "cli" && dir != "ui" {
			continue
		}
		code, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile("json:\"([a-z_]+)").FindAllSubmatch(code, -1) {
			keys++
			if !words[string(match[1])] {
				t.Errorf("%s: docs/json.md does not say what %q holds", source, match[1])
			}
		}
	}
	if keys < 50 {
		t.Errorf("only %d keys were found", keys)
	}
}

// TestLinks follows the links between the documents.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatalf("pages: %q, %v", pages, err)
	}
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), string(match[1]))); err != nil {
				t.Errorf("%s: a link leads nowhere: %v", page, err)
			}
		}
	}
}

package e2e_test

import (
	"maps"
	"os"
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
	// 1 is a bug, 8 is reserved, and signals are sent by test/crash.
	for _, code := range []string{"1", "8", "130", "143"} {
		scripted[code] = true
	}
	if diff := cmp.Diff(documented, slices.Sorted(maps.Keys(scripted))); diff != "" {
		t.Errorf("the documented codes and those that a script shows (-docs +scripts):\n%s", diff)
	}
}

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const page = "../../../docs/reliability.md"

// events are of a run with a row, a row of a test that fails, and a fuzz target
// whose lines come in pieces.
const events = `not an event
{"Action":"run","Package":"github.com/hf-cache-sync/hf-cache-sync/test/crash","Test":"TestKill"}
{"Action":"attr","Package":"github.com/hf-cache-sync/hf-cache-sync/test/crash","Test":"TestKill","Key":"proof","Value":"{\"class\":\"Crashes and power loss\",\"tried\":\"a | b\",\"times\":20,\"lost\":0,\"figures\":\"1 MiB\"}"}
{"Action":"pass","Package":"github.com/hf-cache-sync/hf-cache-sync/test/crash","Test":"TestKill"}
{"Action":"attr","Package":"github.com/hf-cache-sync/hf-cache-sync/test/races","Test":"TestPush","Key":"proof","Value":"{\"class\":\"Several at once\",\"tried\":\"c\",\"times\":7,\"lost\":2}"}
{"Action":"fail","Package":"github.com/hf-cache-sync/hf-cache-sync/test/races","Test":"TestPush"}
{"Action":"output","Package":"github.com/hf-cache-sync/hf-cache-sync/internal/hub","Test":"FuzzRef","Output":"fuzz: elapsed: 3s, execs: 12 (4/sec)\n"}
{"Action":"output","Package":"github.com/hf-cache-sync/hf-cache-sync/internal/hub","Test":"FuzzRef","Output":"fuzz: elapsed: 6s, "}
{"Action":"output","Package":"github.com/hf-cache-sync/hf-cache-sync/internal/hub","Test":"FuzzRef","Output":"execs: 34 (4/sec)\n"}
{"Action":"pass","Package":"github.com/hf-cache-sync/hf-cache-sync/internal/hub","Test":"FuzzRef"}
{"Action":"pass","Package":"github.com/hf-cache-sync/hf-cache-sync/internal/hub"}
`

func TestTables(t *testing.T) {
	dir := t.TempDir()
	events, out := write(t, dir, "events.json", events), write(t, dir, "page.md", "# Title\n"+marker+"old\n")
	err := run(out, []string{events})
	if err == nil || err.Error() != "failed: test/races TestPush" {
		t.Errorf("error %v", err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	want := "# Title\n" + marker + `
In this run 2 tests passed and 1 failed. 3 rows, 61 tries, 2 losses.

## Crashes and power loss

| tried | times | lost | figures | test |
|---|---:|---:|---|---|
| a \| b | 20 | 0 | 1 MiB | ` + "`test/crash TestKill`" + ` |

## Several at once

| tried | times | lost | figures | test |
|---|---:|---:|---|---|
| c | 7 | 2 (failed) |  | ` + "`test/races TestPush`" + ` |

## Fuzzing

| tried | times | lost | figures | test |
|---|---:|---:|---|---|
| inputs made from the corpus of FuzzRef | 34 | 0 |  | ` + "`internal/hub FuzzRef`" + ` |
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
}

func TestNoMarker(t *testing.T) {
	dir := t.TempDir()
	err := run(write(t, dir, "page.md", "# Title\n"), []string{write(t, dir, "events.json", "")})
	if err == nil || !strings.Contains(err.Error(), "has no line") {
		t.Errorf("error %v", err)
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPage finds each test that docs/reliability.md names: a page that outlives
// its tests proves nothing. It finds no row that lost something, either.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, below, ok := strings.Cut(string(text), marker)
	if !ok {
		t.Fatalf("no line %q", marker)
	}
	rows := regexp.MustCompile("(?m)^\\|.*\\| (\\d+) \\| (.*) \\| .*\\| `(\\S+) (\\w+)[^`]*` \\|$").FindAllStringSubmatch(below, -1)
	if len(rows) == 0 {
		t.Error("no rows")
	}
	for _, row := range rows {
		if row[2] != "0" {
			t.Errorf("%s %s lost %s", row[3], row[4], row[2])
		}
		if !defined(t, filepath.Join("../../..", filepath.FromSlash(row[3])), row[4]) {
			t.Errorf("there is no %s in %s", row[4], row[3])
		}
	}
}

// defined says whether the tests in dir have the function name.
func defined(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

package oracle_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// TestOracleBrokenRefs spoils the refs of a repository in each way that a
// client cannot follow, shows that it cannot, and does what verify says about
// them: then every client loads everything again, and has nothing to complain
// of.
func TestOracleBrokenRefs(t *testing.T) {
	writer := testenv.Python(t, "2.4.0")
	const nowhere = "0123456789012345678901234567890123456789"
	for name, test := range map[string]struct {
		ref    string
		spoil  func(commit string) string
		fault  string
		repair []string
	}{
		"newline":         {"main", func(c string) string { return c + "\n" }, "holds more than the commit", []string{"pull", modelID}},
		"white space":     {"main", func(c string) string { return " " + c + "\r\n" }, "holds more than the commit", []string{"pull", modelID}},
		"newline, a tag":  {"v1.0", func(c string) string { return c + "\n" }, "holds more than the commit", []string{"pull", modelID, "-r", "v1.0"}},
		"newline, verify": {"refs/pr/1", func(c string) string { return c + "\n" }, "holds more than the commit", []string{"verify", "--repair"}},
		"empty":           {"main", func(string) string { return "" }, "not a commit", []string{"pull", modelID}},
		"no commit":       {"feat/x", func(string) string { return "main" }, "not a commit", []string{"pull", modelID, "-r", "feat/x"}},
		"nowhere":         {"main", func(string) string { return nowhere }, "of which nothing is here", []string{"pull", modelID}},
		"leftover":        {"main.01234567.tmp", func(string) string { return "" }, "a client was stopped", []string{"prune", "--max-gb", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, remote := fill(t, newWorld(t), "refs", writer), testenv.FileRemote(t)
			remote.Sync(t, s.home, "push", "--yes")
			want := references(t, s)
			file := filepath.Join(hubDir(s.home), "models--acme--tiny-model", "refs", filepath.FromSlash(test.ref))
			commit, err := os.ReadFile(file)
			if err != nil && test.ref != "main.01234567.tmp" {
				t.Fatal(err)
			}
			old := time.Now().Add(-48 * time.Hour)
			if err := os.WriteFile(file, []byte(test.spoil(string(commit))), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, old, old); err != nil {
				t.Fatal(err)
			}
			scan := canonical(t, writer.Run(t, s.home, "", testenv.Step{"do": "scan"})[0])
			if strings.Contains(scan, `"warnings": []`) {
				t.Errorf("the client has nothing to complain of: %s", scan)
			}
			before := verify(t, remote, s.home)
			hint := "hf-cache-sync " + strings.Join(test.repair, " ")
			if test.repair[0] != "verify" {
				hint = strings.TrimSuffix(hint, " --max-gb 1")
				if !strings.Contains(before.Stderr, hint+" ") {
					t.Errorf("verify does not say %q: %s", hint, before)
				}
			}
			if code := map[bool]int{true: 0, false: 3}[name == "leftover"]; before.Code != code || !strings.Contains(before.Stderr, test.fault) {
				t.Errorf("verify: %s, want exit code %d and %q", before, code, test.fault)
			}
			if test.repair[0] != "verify" {
				remote.Sync(t, s.home, test.repair...)
			} else if result := verify(t, remote, s.home, test.repair[1:]...); result.Code != 0 { // its --remote is another
				t.Fatalf("%q: %s", test.repair, result)
			}
			if after := verify(t, remote, s.home); after.Code != 0 || after.Stderr != "" {
				t.Errorf("verify once more: %s", after)
			}
			for _, reader := range readers(t) {
				got := inspect(t, s, s.home, reader)
				if diff := cmp.Diff(want[reader.Name], got); diff != "" {
					t.Errorf("%s sees (-before +repaired):\n%s", reader.Name, diff)
				}
				checkFiles(t, s, reader, got)
			}
		})
	}
}

package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityIsTested looks for the tests that SECURITY.md names, and for lines
// of it that name none.
func TestSecurityIsTested(t *testing.T) {
	t.Parallel()
	const root = "../.."
	data, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	test := regexp.MustCompile("`((?:internal|test)/[a-z0-9/]+) (Test[A-Za-z0-9]+)`")
	script := regexp.MustCompile("`([a-z0-9-]+\\.txtar)`")
	lines := 0
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| | test") {
			continue
		}
		lines++
		tests, scripts := test.FindAllStringSubmatch(line, -1), script.FindAllStringSubmatch(line, -1)
		if len(tests)+len(scripts) == 0 {
			t.Errorf("a line without a test: %s", line)
		}
		for _, m := range tests {
			if !hasTest(t, filepath.Join(root, filepath.FromSlash(m[1])), m[2]) {
				t.Errorf("there is no %s in %s", m[2], m[1])
			}
		}
		for _, m := range scripts {
			if _, err = os.Stat(filepath.Join("testdata", "script", m[1])); err != nil {
				t.Errorf("a script that is named: %v", err)
			}
		}
	}
	if lines == 0 {
		t.Error("SECURITY.md has no lines that name tests")
	}
}

// hasTest says whether one of the files in dir has the test.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}

package archtest_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const (
	module   = "github.com/hf-cache-sync/hf-cache-sync"
	internal = module + "/internal"
	minio    = "github.com/minio/minio-go"
)

// allowed says, for each package below internal, which other packages of ours its
// code may import. Test files may import any: a package is tested beside the
// parts it meets in the product. What no other package lists (store/storetest,
// store/faultstore) is for tests alone.
var allowed = map[string][]string{
	"hub":       {},
	"event":     {},
	"store":     {},
	"suggest":   {},
	"gated":     {},
	"daemon":    {},
	"watch":     {},
	"archtest":  {},
	"failpoint": {},

	"config":    {"suggest"},
	"query":     {"suggest"},
	"manifest":  {"hub"},
	"hfcache":   {"hub", "manifest", "failpoint"},
	"remote":    {"hub", "manifest", "store", "failpoint"},
	"doctor":    {"hub", "config", "store", "hfcache", "remote"},
	"plan":      {"hub", "manifest", "hfcache", "remote"},
	"engine":    {"hub", "manifest", "store", "hfcache", "remote", "plan", "event", "failpoint"},
	"hubclient": {"hub", "manifest"},
	"hubserver": {"hub", "manifest", "store", "hfcache", "remote", "hubclient"},
	"ui":        {"hub", "event", "plan", "engine", "doctor"},

	"store/s3store":    {"store"},
	"store/filestore":  {"store", "failpoint"},
	"store/retrystore": {"store"},
	"store/limitstore": {"store"},
	"store/countstore": {"store"},
	"store/faultstore": {"store"},
	"store/storetest":  {"store"},

	"cli": {
		"hub", "event", "store", "config", "daemon", "gated", "query", "suggest", "watch", "doctor", "manifest", "hfcache", "remote",
		"plan", "engine", "hubclient", "hubserver", "ui",
		"store/s3store", "store/filestore", "store/retrystore", "store/limitstore", "store/countstore",
	},
}

// edge lists what only cmd and internal/cli may call. All else takes its
// environment and its output as parameters, and returns its errors.
var edge = map[string][]string{
	"os":  {"Exit", "Getenv", "LookupEnv", "Environ"},
	"fmt": {"Print", "Printf", "Println"},
}

func TestTree(t *testing.T) {
	found, err := check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// TestCheck shows each rule a tree that breaks it: a check that finds nothing
// proves nothing before it was seen to find something.
func TestCheck(t *testing.T) {
	tests := []struct {
		name, file, src string
		want            []string
	}{
		{
			name: "allowed import", file: "internal/manifest/a.go",
			src: `package manifest; import _ "` + internal + `/hub"`,
		},
		{
			name: "forbidden import", file: "internal/hub/a.go",
			src:  `package hub; import _ "` + internal + `/manifest"`,
			want: []string{"internal/hub/a.go:1:21: internal/hub may not import internal/manifest"},
		},
		{
			name: "on another system only", file: "internal/hub/a_windows.go",
			src:  `package hub; import _ "` + internal + `/manifest"`,
			want: []string{"internal/hub/a_windows.go:1:21: internal/hub may not import internal/manifest"},
		},
		{
			name: "in a test", file: "internal/hub/a_test.go",
			src: `package hub; import _ "` + internal + `/manifest"`,
		},
		{
			name: "test package in the product", file: "internal/cli/a.go",
			src:  `package cli; import _ "` + internal + `/store/storetest"`,
			want: []string{"internal/cli/a.go:1:21: internal/cli may not import internal/store/storetest"},
		},
		{
			name: "command past the cli", file: "cmd/x/main.go",
			src:  `package main; import _ "` + internal + `/hub"`,
			want: []string{"cmd/x/main.go:1:22: cmd/x may not import internal/hub"},
		},
		{
			name: "package not in the table", file: "internal/util/a.go", src: `package util`,
			want: []string{"internal/util is not in the table of allowed imports"},
		},
		{
			name: "S3 outside s3store", file: "internal/engine/a_test.go",
			src:  `package engine; import _ "` + minio + `/v7/pkg/credentials"`,
			want: []string{"internal/engine/a_test.go:1:24: only internal/store/s3store imports " + minio},
		},
		{
			name: "S3 in s3store", file: "internal/store/s3store/a.go",
			src: `package s3store; import _ "` + minio + `/v7"`,
		},
		{
			name: "environment and output", file: "internal/hub/a.go",
			src: `package hub; import ("fmt"; sys "os"); func f() { fmt.Println(sys.Getenv("X")); g(sys.Exit) }`,
			want: []string{
				"internal/hub/a.go:1:51: fmt.Println is only for cmd and internal/cli",
				"internal/hub/a.go:1:63: os.Getenv is only for cmd and internal/cli",
				"internal/hub/a.go:1:83: os.Exit is only for cmd and internal/cli",
			},
		},
		{
			name: "dot import", file: "internal/hub/a.go", src: `package hub; import . "os"; var _ = Getenv`,
			want: []string{"internal/hub/a.go:1:21: os is imported under ., which hides what is called"},
		},
		{
			name: "at the edge", file: "cmd/x/main.go",
			src: `package main; import "os"; func main() { os.Exit(0) }`,
		},
		{
			name: "another thing of the same name", file: "internal/hub/a.go",
			src: `package hub; func f(os interface{ Exit(int) }) { os.Exit(0) }`,
		},
		{
			name: "testdata", file: "internal/hub/testdata/a.go", src: `not Go at all`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree := fstest.MapFS{
				"cmd/x/doc.go":  {Data: []byte("package main")},
				"internal/.dir": {},
				tt.file:         {Data: []byte(tt.src)},
			}
			got, err := check(tree)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("check (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLintConfigAgrees compares the table with the depguard rules. Left out is
// cli, which may import all that is not for tests alone.
func TestLintConfigAgrees(t *testing.T) {
	data, err := os.ReadFile("../../.golangci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]struct {
						Files []string
						Allow []string
						Deny  []struct{ Pkg string }
					}
				}
			}
		}
	}
	if err := yaml.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}

	got := map[string][]string{}
	for name, rule := range config.Linters.Settings.Depguard.Rules {
		if len(rule.Deny) != 1 || rule.Deny[0].Pkg != internal {
			continue
		}
		list := []string{}
		for _, a := range rule.Allow {
			// Without the $ it would let pass every package whose name begins so.
			pkg, exact := strings.CutSuffix(strings.TrimPrefix(a, internal+"/"), "$")
			if !exact {
				t.Errorf("rule %s: allow %s does not end with $", name, a)
			}
			list = append(list, pkg)
		}
		for _, glob := range rule.Files {
			if pkg, ok := strings.CutPrefix(glob, "**/internal/"); ok {
				got[strings.TrimSuffix(pkg, "/*.go")] = sorted(list)
			}
		}
	}

	want := map[string][]string{}
	for pkg, list := range allowed {
		if pkg != "cli" {
			want[pkg] = sorted(list)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("allowed imports (-table +.golangci.yml):\n%s", diff)
	}
}

// check reads every Go file below cmd and internal and returns what breaks a
// rule, in the order of the walk.
func check(tree fs.FS) ([]string, error) {
	var found []string
	unknown := map[string]bool{}
	walk := func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "testdata":
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		dir := path.Dir(name)
		if pkg, ok := strings.CutPrefix(dir, "internal/"); ok && allowed[pkg] == nil {
			if !unknown[pkg] {
				found = append(found, dir+" is not in the table of allowed imports")
			}
			unknown[pkg] = true
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, src, 0)
		if err != nil {
			return fmt.Errorf("parse: %w", err)
		}
		report := func(pos token.Pos, format string, args ...any) {
			found = append(found, fmt.Sprintf("%s: ", fset.Position(pos))+fmt.Sprintf(format, args...))
		}
		test := strings.HasSuffix(name, "_test.go")
		checkImports(file, dir, test, report)
		// What failpoint does with the environment, it does only in binaries for tests.
		if !test && dir != "internal/cli" && dir != "internal/failpoint" && !strings.HasPrefix(dir, "cmd/") {
			checkEdge(file, report)
		}
		return nil
	}
	for _, root := range []string{"cmd", "internal"} {
		if err := fs.WalkDir(tree, root, walk); err != nil {
			return nil, err
		}
	}
	return found, nil
}

type reporter func(pos token.Pos, format string, args ...any)

// checkImports holds one file of the package in dir to the table.
func checkImports(file *ast.File, dir string, test bool, report reporter) {
	list := []string{"cli"} // What cmd may import.
	if pkg, ok := strings.CutPrefix(dir, "internal/"); ok {
		list = allowed[pkg]
	}
	for _, spec := range file.Imports {
		imported := importPath(spec)
		if strings.HasPrefix(imported, minio) && dir != "internal/store/s3store" {
			report(spec.Pos(), "only internal/store/s3store imports %s", minio)
		}
		if pkg, ok := strings.CutPrefix(imported, internal+"/"); ok && !test && !slices.Contains(list, pkg) {
			report(spec.Pos(), "%s may not import internal/%s", dir, pkg)
		}
	}
}

// checkEdge reports every mention in one file of what edge lists.
func checkEdge(file *ast.File, report reporter) {
	names := map[string]string{} // As the file calls it: import path.
	for _, spec := range file.Imports {
		imported := importPath(spec)
		switch {
		case edge[imported] == nil:
		case spec.Name == nil:
			names[imported] = imported
		case spec.Name.Name == ".":
			report(spec.Pos(), "%s is imported under ., which hides what is called", imported)
		default:
			names[spec.Name.Name] = imported
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		// A local variable of the same name has an object, an import has none.
		x, ok := sel.X.(*ast.Ident)
		if !ok || x.Obj != nil {
			return true
		}
		if imported := names[x.Name]; slices.Contains(edge[imported], sel.Sel.Name) {
			report(sel.Pos(), "%s.%s is only for cmd and internal/cli", imported, sel.Sel.Name)
		}
		return true
	})
}

func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil { // The parser lets no such file through.
		panic(err)
	}
	return p
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

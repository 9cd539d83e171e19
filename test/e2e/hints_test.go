package e2e_test

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Every hint of the program is run by a script: it makes the situation, checks
// with the command hint that the program says what helps, does that, and checks
// with the command gone that the situation is over. What no test can do, such as
// waiting for a rate limit to end, has the command untried with the reason
// instead. TestEveryHintIsRun finds hints in the source that no script has.

// state is a file in which a script remembers its last command, or its last hint.
func state(ts *testscript.TestScript, what string) string {
	return filepath.Join(ts.Getenv("WORK"), ".last-"+what)
}

// hint checks that the last command has given a hint with the text.
func hint(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "hint TEXT")
	for line := range strings.SplitSeq(ts.ReadFile("stdout")+"\n"+ts.ReadFile("stderr")+"\n"+ts.ReadFile("ttyout"), "\n") {
		if _, said, ok := strings.Cut(line, "hint"); ok && strings.Contains(said, args[0]) {
			remember(ts, "hint", args[0])
			command, err := os.ReadFile(state(ts, "command"))
			if !errors.Is(err, fs.ErrNotExist) { // it may have been asked at a terminal, which exits is not
				ts.Check(err)
			}
			remember(ts, "hinted", string(command))
			ts.Check(os.RemoveAll(state(ts, "over")))
			return
		}
	}
	ts.Fatalf("there is no hint %q", args[0])
}

// remember adds to the hints that are open, or begins anew if what they say was
// done.
func remember(ts *testscript.TestScript, what, text string) {
	before := ""
	if _, err := os.Stat(state(ts, "over")); err != nil {
		before = recall(ts, what)
	}
	ts.Check(os.WriteFile(state(ts, what), []byte(before+text+"\n"), 0o600))
}

func recall(ts *testscript.TestScript, what string) string {
	text, err := os.ReadFile(state(ts, what))
	if !errors.Is(err, fs.ErrNotExist) {
		ts.Check(err)
	}
	return string(text)
}

// gone runs the commands that gave the open hints again. They must end with the
// code, 0 if there is none, and not give these hints.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) <= 1, "gone [CODE]")
	for command := range strings.Lines(recall(ts, "hinted")) {
		exits(ts, false, append([]string{cmp.Or(strings.Join(args, ""), "0")}, strings.Split(strings.TrimSuffix(command, "\n"), "\x00")...))
		helped(ts, false, nil)
	}
}

// helped checks that the last command, another one than those which gave the open
// hints, gives none of them.
func helped(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "helped")
	for text := range strings.Lines(recall(ts, "hint")) {
		text = strings.TrimSuffix(text, "\n")
		for line := range strings.SplitSeq(ts.ReadFile("stdout")+"\n"+ts.ReadFile("stderr"), "\n") {
			if strings.Contains(line, "hint") && strings.Contains(line, text) {
				ts.Fatalf("the hint is given still: %s", line)
			}
		}
	}
	ts.Check(os.WriteFile(state(ts, "over"), nil, 0o600))
}

// untried says why a script does not do what the hint says.
func untried(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "untried REASON")
	ts.Check(os.WriteFile(state(ts, "over"), nil, 0o600))
}

// elsewhere says why no script can make the situation of a hint, and which test
// looks at its text.
func elsewhere() map[string]string {
	return map[string]string{
		"snapshots will hold hard links or copies, and programs that download at once do not keep out of each other's way: a local disk does better": "no file system here lacks both; internal/doctor TestCache",
		"snapshots will hold hard links or copies, which may need more space; on Windows the developer mode allows symbolic links":                   "no file system here lacks them; internal/doctor TestCache",
		"programs that download at once do not keep out of each other's way and may do work twice; a local disk does better":                         "no file system here lacks them; internal/doctor TestCache",
		"sudo sysctl fs.inotify.max_user_watches=1048576":                       "the limit is that of the machine; internal/watch TestLimit",
		"sudo sysctl fs.inotify.max_user_instances=1024, or a larger ulimit -n": "the limit is that of the machine; internal/watch TestLimit",
	}
}

// TestEveryHintIsRun compares the hints of the source with those of the scripts.
func TestEveryHintIsRun(t *testing.T) {
	said, excused := scriptHints(t), elsewhere()
	for _, h := range sourceHints(t) {
		if _, ok := excused[h.text]; ok {
			delete(excused, h.text)
			continue
		}
		if !slices.ContainsFunc(said, h.regexp().MatchString) {
			t.Errorf("%s: no script runs the hint %q", h.place, h.text)
		}
	}
	for text := range excused {
		t.Errorf("the program has no hint %q", text)
	}
}

// scriptHints reads the commands of all scripts.
func scriptHints(t *testing.T) (said []string) {
	t.Helper()
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range scripts {
		data, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		open := ""
		for i, line := range strings.Split(string(data), "\n") {
			if _, rest, ok := strings.Cut(line, "] "); ok && line[0] == '[' {
				line = rest // it is for some systems
			}
			command, rest, _ := strings.Cut(line, " ")
			if strings.HasPrefix(line, "-- ") { // the files
				break
			}
			switch command {
			case "hint":
				open = fmt.Sprintf("line %d, %s", i+1, line)
				said = append(said, strings.ReplaceAll(strings.Trim(rest, "'"), "''", "'"))
			case "gone", "helped", "untried":
				open = ""
			}
		}
		if open != "" {
			t.Errorf("%s: nothing follows %s", script, open)
		}
	}
	return said
}

// sourceHint is a text of the source that is a hint or a part of one.
type sourceHint struct{ text, place string }

// regexp matches a hint that has this text, whatever is put into it.
func (h sourceHint) regexp() *regexp.Regexp {
	text := regexp.QuoteMeta(strings.TrimSpace(h.text))
	return regexp.MustCompile(regexp.MustCompile(`%[sdqv]`).ReplaceAllString(text, ".*"))
}

// sourceHints finds the hints in the packages that give any.
func sourceHints(t *testing.T) []sourceHint {
	t.Helper()
	c := &hintCollector{fset: token.NewFileSet(), found: map[string]string{}, named: map[string]bool{}}
	for _, dir := range []string{"cli", "doctor", "watch"} {
		files, err := filepath.Glob(filepath.Join("../../internal", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(c.fset, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			c.files = append(c.files, f)
			ast.Inspect(f, c.node)
		}
	}
	var hints []sourceHint
	c.follow()
	for text, place := range c.found {
		hints = append(hints, sourceHint{text, place})
	}
	slices.SortFunc(hints, func(a, b sourceHint) int { return strings.Compare(a.place, b.place) })
	const few = 80 // or it no longer finds them
	if len(hints) < few {
		t.Errorf("only %d hints were found in the source", len(hints))
	}
	return hints
}

type hintCollector struct {
	fset  *token.FileSet
	files []*ast.File
	found map[string]string // places by text
	named map[string]bool   // constants and functions that hints are made with
}

// follow collects what constants and functions bring to hints.
func (c *hintCollector) follow() {
	const deep = 2 // functions that call others
	for range deep {
		for _, f := range c.files {
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					if n.Body == nil || n.Recv != nil || !c.named[n.Name.Name] || !isText(n.Type.Results) {
						return true
					}
					ast.Inspect(n.Body, func(n ast.Node) bool {
						if r, ok := n.(*ast.ReturnStmt); ok {
							c.collect(r)
						}
						return true
					})
				case *ast.GenDecl:
					for _, spec := range n.Specs {
						if v, ok := spec.(*ast.ValueSpec); ok && n.Tok == token.CONST && len(v.Names) == 1 && v.Names[0].Name != "name" && c.named[v.Names[0].Name] {
							c.collect(v)
						}
					}
				}
				return true
			})
		}
	}
}

// hintName matches the names of variables, fields, constants and functions that hold or make hints.
var hintName = regexp.MustCompile(`(?i)^hint|hint$|advice|remedy`)

// hintFields says which field of a struct is a hint.
var hintFields = map[string]int{"someFailedError": 2, "usageError": 1, "verdict": 2, "explanation": 2, "Row": 3}

func (c *hintCollector) node(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		if n.Body != nil && hintName.MatchString(n.Name.Name) {
			c.collect(n.Body)
		}
		c.results(n)
	case *ast.AssignStmt:
		for i, left := range n.Lhs {
			if len(n.Rhs) == len(n.Lhs) && hintName.MatchString(lastName(left)) {
				c.collect(n.Rhs[i])
			}
		}
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if i < len(n.Values) && hintName.MatchString(name.Name) {
				c.collect(n.Values[i])
			}
		}
	case *ast.CompositeLit:
		c.composite(n)
	case *ast.CallExpr: // of a logger, or of a note
		for i, arg := range n.Args {
			switch text := literal(arg); {
			case text == "hint" && i+1 < len(n.Args):
				c.collect(n.Args[i+1])
			case strings.HasPrefix(text, "hint: "):
				c.add(arg, strings.TrimPrefix(text, "hint: "))
			}
		}
	}
	return true
}

// results collects what a function returns as a result that is named a hint.
func (c *hintCollector) results(f *ast.FuncDecl) {
	if f.Type.Results == nil || f.Body == nil {
		return
	}
	at, n := -1, 0
	for _, field := range f.Type.Results.List {
		for _, name := range field.Names {
			if hintName.MatchString(name.Name) {
				at = n
			}
			n++
		}
	}
	ast.Inspect(f.Body, func(node ast.Node) bool {
		if r, ok := node.(*ast.ReturnStmt); ok && at >= 0 && at < len(r.Results) {
			c.collect(r.Results[at])
		}
		return true
	})
}

// composite collects the hint of a struct, or of each struct in a table.
func (c *hintCollector) composite(lit *ast.CompositeLit) {
	if array, ok := lit.Type.(*ast.ArrayType); ok {
		if at := hintField(array.Elt); at >= 0 {
			for _, row := range lit.Elts {
				if inner, ok := row.(*ast.CompositeLit); ok && inner.Type == nil {
					c.fields(inner, at)
				}
			}
		}
		return
	}
	c.fields(lit, hintField(lit.Type))
}

func (c *hintCollector) fields(lit *ast.CompositeLit, at int) {
	for i, value := range lit.Elts {
		pair, isPair := value.(*ast.KeyValueExpr)
		switch {
		case isPair && hintName.MatchString(lastName(pair.Key)):
			c.collect(pair.Value)
		case !isPair && i == at:
			c.collect(value)
		}
	}
}

// hintField is the index of the field of a type that is a hint, or -1.
func hintField(t ast.Expr) int {
	switch t := t.(type) {
	case *ast.Ident:
		if at, ok := hintFields[t.Name]; ok {
			return at
		}
	case *ast.StructType:
		at := 0
		for _, field := range t.Fields.List {
			for _, name := range field.Names {
				if hintName.MatchString(name.Name) {
					return at
				}
				at++
			}
		}
	}
	return -1
}

// collect takes the texts of an expression.
func (c *hintCollector) collect(n ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			c.add(n, literal(n))
		case *ast.SelectorExpr: // of another package, or a method
			return false
		case *ast.Ident:
			c.named[n.Name] = true
		}
		return true
	})
}

// isText tells the results of a function that returns a string and nothing else.
func isText(results *ast.FieldList) bool {
	if results == nil || len(results.List) != 1 || len(results.List[0].Names) > 1 {
		return false
	}
	t, ok := results.List[0].Type.(*ast.Ident)
	return ok && t.Name == "string"
}

func (c *hintCollector) add(at ast.Node, text string) {
	const words = 3 // fewer join two parts of a hint
	if len(strings.Fields(text)) >= words {
		c.found[text] = c.fset.Position(at.Pos()).String()
	}
}

func literal(n ast.Expr) string {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return text
}

func lastName(n ast.Expr) string {
	switch n := n.(type) {
	case *ast.Ident:
		return n.Name
	case *ast.SelectorExpr:
		return n.Sel.Name
	}
	return ""
}

// Command table writes the tables of docs/reliability.md from the events of a
// test run:
//
//	go run ./proof/table -page ../docs/reliability.md events.json...
//
// What stands above the page's marker stays, everything below it is made anew. It
// ends with 1 if a test failed, after writing the page.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
)

// marker ends the part of the page that people write.
const marker = "<!-- Below: written by `make proof`. -->\n"

func main() {
	page := flag.String("page", "", "the page to write")
	flag.Parse()
	if err := run(*page, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(page string, events []string) error {
	var c collector
	for _, name := range events {
		if err := c.readFile(name); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	above, _, ok := strings.Cut(string(text), marker)
	if !ok {
		return fmt.Errorf("%s has no line %q", page, strings.TrimSpace(marker))
	}
	if err = os.WriteFile(page, []byte(above+marker+c.tables()), 0o644); err != nil {
		return err
	}
	if len(c.failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(c.failed, ", "))
	}
	return nil
}

// event is what this command needs of a line of `go test -json`.
type event struct {
	Action, Package, Test, Key, Value, Output string
}

// line is a row and the test that it came from.
type line struct {
	proof.Row
	test string
}

type collector struct {
	lines  []line
	failed []string
	execs  map[string]int // Of each fuzz target, by the last figure it printed.
	parts  map[string]string
	tests  int
}

func (c *collector) readFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // Only read.
	if err = c.read(f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// module is what all packages' names begin with.
const module = "github.com/hf-cache-sync/hf-cache-sync/"

func (c *collector) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		text, err := lines.ReadString('\n')
		if strings.HasPrefix(text, "{") {
			var e event
			if jsonErr := json.Unmarshal([]byte(text), &e); jsonErr != nil {
				return jsonErr
			}
			if addErr := c.add(e); addErr != nil {
				return addErr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *collector) add(e event) error {
	test := strings.TrimPrefix(e.Package, module) + " " + e.Test
	switch {
	case e.Test == "":
	case e.Action == "fail":
		c.failed = append(c.failed, test)
	case e.Action == "pass":
		c.tests++
	case e.Action == "attr" && e.Key == proof.Key:
		var row proof.Row
		if err := json.Unmarshal([]byte(e.Value), &row); err != nil {
			return fmt.Errorf("the row of %s: %w", test, err)
		}
		c.lines = append(c.lines, line{row, test})
	case e.Action == "output" && strings.HasPrefix(e.Test, "Fuzz"):
		c.fuzzed(test, e.Output)
	}
	return nil
}

// fuzzed notes the figure of a line such as
//
//	fuzz: elapsed: 3s, execs: 102 (34/sec), new interesting: 12 (total: 13)
//
// of which the events may hold a part each.
func (c *collector) fuzzed(test, output string) {
	if c.execs == nil {
		c.execs, c.parts = make(map[string]int), make(map[string]string)
	}
	text := c.parts[test] + output
	c.parts[test] = text
	if !strings.HasSuffix(text, "\n") {
		return
	}
	c.parts[test] = ""
	found := regexp.MustCompile(`execs: (\d+)`).FindStringSubmatch(text)
	if found == nil {
		return
	}
	if n, err := strconv.Atoi(found[1]); err == nil {
		c.execs[test] = n
	}
}

// tables is all that stands below the marker.
func (c *collector) tables() string {
	for test, n := range c.execs {
		lost := 0
		if slices.Contains(c.failed, test) {
			lost = 1
		}
		_, target, _ := strings.Cut(test, " ")
		c.lines = append(c.lines, line{proof.Row{Class: proof.Fuzz, Tried: "inputs made from the corpus of " + target, Times: n, Lost: lost}, test})
	}
	c.lines = merged(c.lines)
	var b strings.Builder
	var times, lost int
	for _, l := range c.lines {
		times += l.Times
		lost += l.Lost
	}
	fmt.Fprintf(&b, "\nIn this run %d tests passed and %d failed. %d rows, %d tries, %d losses.\n", c.tests, len(c.failed), len(c.lines), times, lost)
	for _, class := range []string{proof.Faults, proof.Crashes, proof.Hostile, proof.Races, proof.Scale, proof.Stores, proof.Clients, proof.Fuzz} {
		c.table(&b, class)
	}
	return b.String()
}

// merged adds up rows of one test that say the same, as a table of cases has one for
// each case. Those with figures of their own stay.
func merged(lines []line) []line {
	var all []line
	at := map[string]int{}
	for _, l := range lines {
		if l.Figures != "" {
			all = append(all, l)
			continue
		}
		test := l.test
		if i := strings.Index(l.test, " Test"); i >= 0 {
			name, _, _ := strings.Cut(l.test[i+1:], "/")
			test = l.test[:i+1] + name
		}
		key := l.Class + "\n" + l.Tried + "\n" + test
		if i, ok := at[key]; ok {
			all[i].Times += l.Times
			all[i].Lost += l.Lost
			all[i].test = test
			continue
		}
		at[key] = len(all)
		all = append(all, l)
	}
	return all
}

func (c *collector) table(b *strings.Builder, class string) {
	lines := slices.DeleteFunc(slices.Clone(c.lines), func(l line) bool { return l.Class != class })
	if len(lines) == 0 {
		return
	}
	slices.SortStableFunc(lines, func(x, y line) int { return strings.Compare(x.test+x.Tried, y.test+y.Tried) })
	fmt.Fprintf(b, "\n## %s\n\n| tried | times | lost | figures | test |\n|---|---:|---:|---|---|\n", class)
	for _, l := range lines {
		lost := strconv.Itoa(l.Lost)
		if slices.ContainsFunc(c.failed, func(test string) bool { return test == l.test || strings.HasPrefix(test, l.test+"/") }) {
			lost += " (failed)"
		}
		fmt.Fprintf(b, "| %s | %d | %s | %s | `%s` |\n", cell(l.Tried), l.Times, lost, cell(l.Figures), l.test)
	}
}

// cell is text that ends no cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}

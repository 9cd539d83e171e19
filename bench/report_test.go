package main

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// took is a result whose rounds took these times; CPU half of each.
func took(tool string, walls ...float64) *ToolResult {
	t := &ToolResult{Tool: tool, Command: tool + " go"}
	for _, w := range walls {
		t.Rounds = append(t.Rounds, Usage{Wall: w, CPU: w / 2, RSS: 50e6})
	}
	return t
}

func TestMedian(t *testing.T) {
	tests := map[string]struct {
		result *ToolResult
		want   float64
		ok     bool
	}{
		"none":    {nil, 0, false},
		"empty":   {took("a"), 0, false},
		"one":     {took("a", 3), 3, true},
		"odd":     {took("a", 9, 1, 2), 2, true},
		"even":    {took("a", 9, 1, 2, 4), 3, true},
		"failure": {&ToolResult{Rounds: []Usage{{Wall: 1}}, Error: "no"}, 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got, ok := test.result.median(wall); got != test.want || ok != test.ok {
				t.Errorf("median is %v, %v; want %v, %v", got, ok, test.want, test.ok)
			}
		})
	}
	if got, _ := took("a", 2, 8, 4).worst(wall); got != 8 {
		t.Errorf("worst is %v", got)
	}
	if got := took("a", 2, 8, 4).spread(); got != 4 {
		t.Errorf("spread is %v", got)
	}
}

func TestJudge(t *testing.T) {
	r := &Results{Cases: []*CaseResult{{Name: "x", Tools: []*ToolResult{took(ours, 2), took(s5cmd, 3), took(python, 6), took(rawPut, 1.5)}}}}
	tests := map[string]struct {
		target Target
		want   Verdict
	}{
		"faster, at the limit": {
			Target{Case: "x", Against: python, Faster: 3},
			Verdict{Target: "wall: 3x faster than Python 0.1.0", Measured: "3x faster", Ratio: 1.0 / 3, Limit: 1.0 / 3, State: met},
		},
		"not so much faster": {
			Target{Case: "x", Against: s5cmd, Faster: 1.6},
			Verdict{Target: "wall: 1.6x faster than s5cmd", Measured: "1.5x faster", Ratio: 2.0 / 3, Limit: 1 / 1.6, State: missed},
		},
		"within": {
			Target{Case: "x", Against: rawPut, Within: 1.34},
			Verdict{Target: "wall: at most 1.34x of raw PUT", Measured: "1.33x", Ratio: 2 / 1.5, Limit: 1.34, State: met},
		},
		"not within": {
			Target{Case: "x", Against: rawPut, Within: 1.15},
			Verdict{Target: "wall: at most 1.15x of raw PUT", Measured: "1.33x", Ratio: 2 / 1.5, Limit: 1.15, State: missed},
		},
		"no more CPU": {
			Target{Case: "x", Against: s5cmd, What: "CPU", Within: 1},
			Verdict{Target: "CPU: no more than s5cmd", Measured: "0.67x", Ratio: 2.0 / 3, Limit: 1, State: met},
		},
		"another tool": {
			Target{Case: "x", Tool: s5cmd, Against: rclone, Within: 1},
			Verdict{Target: "s5cmd, wall: no more than rclone", Limit: 1, State: notMeasured},
		},
		"no such case": {
			Target{Case: "y", Against: s5cmd, Within: 1},
			Verdict{Target: "wall: no more than s5cmd", Limit: 1, State: notMeasured},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.want.Case = test.target.Case
			if diff := cmp.Diff(test.want, test.target.judge(r)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestJudgeOthers covers the targets that are no comparison with a tool.
func TestJudgeOthers(t *testing.T) {
	few, many := took(ours, 0.02), took(ours, 0.02)
	few.Counted, many.Counted = 2, 2
	r := &Results{Cases: []*CaseResult{
		{Name: caseNoop1k, Tools: []*ToolResult{few}},
		{Name: caseNoop, Tools: []*ToolResult{many}},
		{Name: caseStart, Tools: []*ToolResult{took(ours+" version", 0.009), took(ours+" --help", 0.011)}},
	}}
	want := map[string]State{"requests": met, "hf-cache-sync version": met, "hf-cache-sync --help": missed, "peak memory": met}
	check := func() {
		t.Helper()
		got := map[string]State{}
		for _, v := range Judge(r) {
			if name, _, _ := strings.Cut(v.Target, ":"); v.State != notMeasured {
				got[name] = v.State
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	check()
	many.Counted = 3
	many.Rounds = append(many.Rounds, Usage{Wall: 1, RSS: 101e6}) // One round is too many.
	want["requests"], want["peak memory"] = missed, missed
	check()
}

// TestTargetsAreMeasured: every target speaks of a case and of tools that a whole run has.
func TestTargetsAreMeasured(t *testing.T) {
	var p Programs
	b := &Bench{Tools: regexp.MustCompile("")}
	measured := map[string]bool{}
	for _, c := range Cases(false) {
		switch c.Kind {
		case transfer:
			for _, tool := range b.wanted(&c, func(t *Tool) func(*Job) Command { return t.Up }) {
				measured[c.Name+"-up "+tool.Name] = true
			}
			for _, tool := range b.wanted(&c, func(t *Tool) func(*Job) Command { return t.Down }) {
				measured[c.Name+"-down "+tool.Name] = true
			}
		case nothing:
			measured[c.Name+" "+ours], measured[c.Name+" "+python] = true, true
		case scan:
			for _, look := range p.Looks(&Job{}, "") {
				measured[c.Name+" "+look.Name] = true
			}
		case start:
		}
	}
	for _, target := range Targets() {
		tool := target.Tool
		if tool == "" {
			tool = ours
		}
		for _, name := range []string{tool, target.Against} {
			if !measured[target.Case+" "+name] {
				t.Errorf("%s: nothing measures %s", target.Case, name)
			}
		}
	}
}

func TestText(t *testing.T) {
	for ratio, want := range map[float64]string{1: "1x", 1.15: "1.15x", 2.5: "2.5x", 10: "10x", 19.996: "20x", 153.2: "153x", 0.1: "0.1x"} {
		if got := times(ratio); got != want {
			t.Errorf("times(%v) is %s, want %s", ratio, got, want)
		}
	}
	for s, want := range map[float64]string{0.0084: "8.4 ms", 0.5: "0.50 s", 12.34: "12.3 s"} {
		if got := seconds(s); got != want {
			t.Errorf("seconds(%v) is %s, want %s", s, got, want)
		}
	}
	for printed, want := range map[string]string{
		"✓ hf version\n  version: 2.4.0\n": "version: 2.4.0", "hf-cache-sync devel\n": "hf-cache-sync devel", "rclone v1.75.2\n- os: 12\n": "rclone v1.75.2",
	} {
		if got := versionIn(printed); got != want {
			t.Errorf("versionIn(%q) is %q, want %q", printed, got, want)
		}
	}
	want := "| a | b |\n|---|--:|\n| 1 | 2 |"
	if diff := cmp.Diff(want, markdown([][]string{{"a", "b"}, {"1", "2"}}, "lr")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTable(t *testing.T) {
	mine, failed := took(ours, 0.5, 1, 2), &ToolResult{Tool: "aws-cli", Error: "no"}
	mine.Requests = 12
	c := &CaseResult{Name: "x-up", Bytes: 1e9, Tools: []*ToolResult{mine, took(s5cmd, 2), failed}}
	want := `|  | wall | times ours | CPU | peak memory | MB/s | requests | rounds | slowest by fastest |
|---|--:|--:|--:|--:|--:|--:|--:|--:|
| **hf-cache-sync** | 1.00 s | 1x | 0.50 s | 50 MB | 1000 | 12 | 3 | 4.00 |
| s5cmd | 2.00 s | 2x | 1.00 s | 50 MB | 500 |  | 1 | 1.00 |
| aws-cli | failed |  |  |  |  |  |  |  |`
	if diff := cmp.Diff(want, c.table()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestWrite writes everything of a made-up run.
func TestWrite(t *testing.T) {
	r := &Results{Cases: []*CaseResult{
		{Name: caseLarge + "-up", Title: "One file", Bytes: 2 * gib, Tools: []*ToolResult{took(ours, 1), took(s5cmd, 2), took(rawPut, 0.9)}},
		{Name: "alone", Title: "Nobody else", Tools: []*ToolResult{took(ours, 1)}},
	}}
	r.Targets = Judge(r)
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "img"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "img", "old.svg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(r, dir); err != nil {
		t.Fatal(err)
	}
	pictures, err := filepath.Glob(filepath.Join(dir, "img", "*"))
	if err != nil || len(pictures) != 1 {
		t.Errorf("pictures are %v, %v", pictures, err)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "img", "2gib-up.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if err = xml.Unmarshal(svg, new(struct{})); err != nil {
		t.Error(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"4 of 22 targets met, 18 not measured", "| 2gib-up | wall: 1.25x faster than s5cmd | 2x faster | met |", "![One file](img/2gib-up.svg)", "hf-cache-sync go\n",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("README.md lacks %q", want)
		}
	}
	if strings.Contains(string(page), "alone.svg") {
		t.Error("README.md shows a picture of one bar")
	}
}

func TestAddPutsCasesInTheirPlace(t *testing.T) {
	order := []Case{{Name: "first"}, {Name: "second"}, {Name: "third"}}
	r := &Results{}
	r.Add(order, &CaseResult{Name: "third", Elapsed: 1}, &CaseResult{Name: "first-up", Elapsed: 2}, &CaseResult{Name: "first-down", Elapsed: 3})
	r.Add(order, &CaseResult{Name: "second", Elapsed: 4}, &CaseResult{Name: "first-up", Elapsed: 5})
	var names []string
	for _, c := range r.Cases {
		names = append(names, c.Name)
	}
	if diff := cmp.Diff([]string{"first-up", "first-down", "second", "third"}, names); diff != "" {
		t.Errorf("cases (-want +got):\n%s", diff)
	}
	if r.Elapsed != 13 || len(r.Targets) == 0 {
		t.Errorf("%v s, %d targets", r.Elapsed, len(r.Targets))
	}
}

func TestPartsGoTogether(t *testing.T) {
	dir := t.TempDir()
	of := func(version string) *Results {
		return &Results{Machine: Machine{Cores: 2}, Versions: []Version{{ours, version}}, Started: "then"}
	}
	if got, err := beside(of("1"), dir); err != nil || len(got.Cases) != 0 {
		t.Errorf("in an empty folder: %+v, %v", got, err)
	}
	first := of("1")
	first.Add(Cases(false), &CaseResult{Name: caseScan})
	if err := Write(first, dir); err != nil {
		t.Fatal(err)
	}
	if got, err := beside(of("1"), dir); err != nil || got.Case(caseScan) == nil {
		t.Errorf("beside results of the same build: %+v, %v", got, err)
	}
	if _, err := beside(of("2"), dir); err == nil {
		t.Error("results of two builds were put together")
	}
	render := func(dir string) int { return run([]string{"-render", "-out", dir}, io.Discard) }
	if err := os.Remove(filepath.Join(dir, "README.md")); err != nil {
		t.Fatal(err)
	}
	if code := render(dir); code != 0 {
		t.Errorf("-render: exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, "README.md")); err != nil {
		t.Error(err)
	}
	if code := render(t.TempDir()); code != 1 {
		t.Errorf("-render of nothing: exit code %d", code)
	}
}

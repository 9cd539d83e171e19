package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Rounds go by turns, a slow tool stops early, and one that fails costs the others
// nothing.
func TestRoundsByTurns(t *testing.T) {
	b := &Bench{Work: t.TempDir(), Log: io.Discard}
	var turns []string
	contend := func(name, program string, rounds int) *contender {
		return &contender{
			result: &ToolResult{Tool: name}, rounds: rounds,
			prepare: func(scratch string) (Command, error) {
				turns = append(turns, name)
				return Command{Args: []string{program}, Dir: scratch}, nil
			},
		}
	}
	all := []*contender{contend("fast", "/bin/true", 3), contend("slow", "/bin/true", atMost(3, 2)), contend("bad", "/bin/false", 3)}
	result, err := b.rounds(t.Context(), &CaseResult{Name: "case"}, 3, all)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"fast", "slow", "bad", "fast", "slow", "fast"}; !slices.Equal(turns, want) {
		t.Errorf("turns %q, want %q", turns, want)
	}
	if n := len(result.Tool("slow").Rounds); n != 2 {
		t.Errorf("%d rounds of the slow one", n)
	}
	if result.Tool("bad").Error == "" || result.Tool("fast").Error != "" {
		t.Errorf("errors: %q, %q", result.Tool("bad").Error, result.Tool("fast").Error)
	}
	if left, err := os.ReadDir(b.Work); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAtMost(t *testing.T) {
	for _, test := range [][3]int{{5, 0, 5}, {5, 3, 3}, {1, 3, 1}} {
		if got := atMost(test[0], test[1]); got != test[2] {
			t.Errorf("atMost(%d, %d) = %d", test[0], test[1], got)
		}
	}
}

// Who is slow is told by the field itself: what targets compare closely is not.
func TestSlowTools(t *testing.T) {
	for _, tool := range (&Programs{}).Transfers() {
		slow := slices.Contains([]string{python, rclone, awscli}, tool.Name)
		if slow != (tool.Rounds > 0) {
			t.Errorf("%s: at most %d rounds", tool.Name, tool.Rounds)
		}
	}
}

func TestSpace(t *testing.T) {
	dir := t.TempDir()
	if err := checkSpace(dir, 1); err != nil {
		t.Error(err)
	}
	if err := checkSpace(dir, 1<<60); err == nil || !strings.Contains(err.Error(), "are needed") {
		t.Errorf("space for an exbibyte: %v", err)
	}
	if err := checkSpace(filepath.Join(dir, "nothing"), 1); err == nil {
		t.Error("a folder that is not there has space")
	}
	for _, c := range Cases(false) {
		if c.Name == caseHuge && c.space() != 13*gib {
			t.Errorf("%s takes %d", c.Name, c.space())
		}
	}
}

func TestChosen(t *testing.T) {
	o := &options{cases: regexp.MustCompile("^2gib$")}
	if cases, err := o.chosen(); err != nil || len(cases) != 1 || cases[0].Name != caseLarge {
		t.Errorf("%v, %v", cases, err)
	}
	o.cases = regexp.MustCompile("^no such")
	if cases, err := o.chosen(); err == nil {
		t.Errorf("%v", cases)
	}
}

// The launcher's own memory is in every figure, as the page says, and has to stay
// far below what is measured.
func TestLeastMemory(t *testing.T) {
	usage, err := (&Command{Args: []string{"/bin/true"}, Dir: t.TempDir()}).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if usage.RSS > 20e6 {
		t.Errorf("true took %d bytes", usage.RSS)
	}
}

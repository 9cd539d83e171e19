package ui_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

func TestFitTable(t *testing.T) {
	header := []string{"id", "size", "refs"}
	rows := [][]string{
		{"organisation/a-very-long-name", "123456789012345678.0G", "main refs/pr/1 refs/pr/2"},
		{"a/b", "1", "main"},
	}
	for width, want := range map[int]string{
		0: `
ID                                             SIZE REFS
----------------------------- --------------------- ------------------------
organisation/a-very-long-name 123456789012345678.0G main refs/pr/1 refs/pr/2
a/b                                               1 main
`,
		76: `
ID                                             SIZE REFS
----------------------------- --------------------- ------------------------
organisation/a-very-long-name 123456789012345678.0G main refs/pr/1 refs/pr/2
a/b                                               1 main
`,
		70: `
ID                                             SIZE REFS
----------------------------- --------------------- ------------------
organisation/a-very-long-name 123456789012345678.0G main refs/pr/1 re…
a/b                                               1 main
`,
		60: `
ID                                         SIZE REFS
------------------------- --------------------- ------------
organisation/a-very-long… 123456789012345678.0G main refs/p…
a/b                                           1 main
`,
		10: `
ID                            SIZE REFS
------------ --------------------- ------------
organisatio… 123456789012345678.0G main refs/p…
a/b                              1 main
`,
	} {
		var out bytes.Buffer
		if err := ui.FitTable(&out, width, header, rows, map[int]bool{1: true}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), out.String()); diff != "" {
			t.Errorf("width %d (-want +got):\n%s", width, diff)
		}
	}
}

func TestTableOfWideCharacters(t *testing.T) {
	for width, want := range map[int]string{
		0: `
ID              REFS
--------------- ----
組織/模型の名前 v
a/b             main
`[1:],
		17: `
ID           REFS
------------ ----
組織/模型の… v
a/b          main
`[1:],
	} {
		var out bytes.Buffer
		if err := ui.FitTable(&out, width, []string{"id", "refs"}, [][]string{{"組織/模型の名前", "v"}, {"a/b", "main"}}, nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("width %d (-want +got):\n%s", width, diff)
		}
	}
}

func TestGauge(t *testing.T) {
	for _, c := range []struct {
		used, budget int64
		want         string
	}{
		{0, 50e9, "[>                   ] 0 of 50.0G"},
		{12.5e9, 50e9, "[=====>              ] 12.5G of 50.0G"},
		{50e9, 50e9, "[====================] 50.0G of 50.0G"},
		{60e9, 50e9, "[====================] 60.0G of 50.0G, 10.0G over"},
		{1, 0, "[====================] 1 of 0, 1 over"},
		{0, 0, "[====================] 0 of 0"},
	} {
		if got := ui.Gauge(c.used, c.budget); got != c.want {
			t.Errorf("Gauge(%d, %d) = %q, want %q", c.used, c.budget, got, c.want)
		}
	}
}

func TestWidthOfNoTerminal(t *testing.T) {
	if got := ui.Width(new(bytes.Buffer)); got != 0 {
		t.Errorf("a buffer is %d characters wide", got)
	}
}

package ui

import (
	"io"
	"strings"

	"golang.org/x/term"
)

// Table writes rows below a header in capitals and a rule of dashes, in columns parted by one space. The columns that rightAlign names by their index are aligned at
// their right end. A row may be shorter than the header. All text is passed through [Clean].
func Table(w io.Writer, header []string, rows [][]string, rightAlign map[int]bool) error {
	return FitTable(w, 0, header, rows, rightAlign)
}

// FitTable is [Table] for an output that is so many columns wide, 0 meaning that it has no end. What is too wide loses text at the end of its columns, marked by an
// ellipsis, the last column first; numbers, which are the columns of rightAlign, are never cut. A column keeps at least its header and a few characters, so that in a very
// narrow window lines wrap after all.
func FitTable(w io.Writer, width int, header []string, rows [][]string, rightAlign map[int]bool) error {
	lines := make([][]string, 0, len(rows)+2)
	lines = append(lines, make([]string, len(header)), nil) // the rule is known when the widths are
	for i, h := range header {
		lines[0][i] = strings.ToUpper(Clean(h))
	}
	for _, row := range rows {
		clean := make([]string, len(row))
		for i, cell := range row {
			clean[i] = Clean(cell)
		}
		lines = append(lines, clean)
	}
	var widths []int
	for _, line := range lines {
		for i, cell := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columns(cell))
		}
	}
	shrink(widths, width, lines[0], rightAlign)
	for _, width := range widths {
		lines[1] = append(lines[1], strings.Repeat("-", width))
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(tableLine(line, widths, rightAlign))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shrink makes columns of text narrower, from the last to the first, until all of them fit into total.
func shrink(widths []int, total int, header []string, rightAlign map[int]bool) {
	const least = 12 // what is left of a column: so many digits tell a commit from others
	if total <= 0 {
		return
	}
	over := len(widths) - 1 - total
	for _, width := range widths {
		over += width
	}
	for i := len(widths) - 1; i >= 0 && over > 0; i-- {
		if rightAlign[i] {
			continue
		}
		floor := least
		if i < len(header) {
			floor = max(floor, columns(header[i]))
		}
		if cut := min(over, widths[i]-floor); cut > 0 {
			widths[i] -= cut
			over -= cut
		}
	}
}

func tableLine(line []string, widths []int, rightAlign map[int]bool) string {
	var b strings.Builder
	for i, cell := range line {
		if i > 0 {
			b.WriteByte(' ')
		}
		cell = clip(cell, widths[i])
		pad := strings.Repeat(" ", widths[i]-columns(cell))
		if rightAlign[i] {
			b.WriteString(pad + cell)
		} else {
			b.WriteString(cell + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// Width is how many columns fit into a line of w, or 0 if w is no terminal.
func Width(w io.Writer) int {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// Gauge draws how much of a budget is used: "[=====>    ] 12.3G of 50.0G". What is beyond it is said behind: "[==========] 60.0G of 50.0G, 10.0G over".
func Gauge(used, budget int64) string {
	const width = 22
	used, budget = max(used, 0), max(budget, 0)
	share := 1.0
	if budget > 0 {
		share = min(1, float64(used)/float64(budget))
	}
	text := bar(share, width) + " " + Size(used) + " of " + Size(budget)
	if used > budget {
		text += ", " + Size(used-budget) + " over"
	}
	return text
}

package ui

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Table writes rows below a header in capitals and a rule of dashes, in columns parted by one space. The columns that rightAlign names by their index are aligned at
// their right end. A row may be shorter than the header. All text is passed through [Clean].
//
// A character counts as one column wide, which is not true of East Asian ones: tables with them are readable but not even.
func Table(w io.Writer, header []string, rows [][]string, rightAlign map[int]bool) error {
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
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
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

func tableLine(line []string, widths []int, rightAlign map[int]bool) string {
	var b strings.Builder
	for i, cell := range line {
		if i > 0 {
			b.WriteByte(' ')
		}
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if rightAlign[i] {
			b.WriteString(pad + cell)
		} else {
			b.WriteString(cell + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

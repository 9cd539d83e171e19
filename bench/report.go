package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed readme.tmpl
var readme string

// Write writes results.json, README.md and img into dir, which may not be there yet.
func Write(r *Results, dir string) error {
	img := filepath.Join(dir, "img")
	if err := os.MkdirAll(img, 0o755); err != nil {
		return err //nolint:wrapcheck // It names the folder.
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", resultsFile, err)
	}
	// At one stroke: whoever kills the harness here loses no earlier case.
	path := filepath.Join(dir, resultsFile)
	if err = os.WriteFile(path+".new", append(data, '\n'), 0o644); err != nil {
		return err //nolint:wrapcheck // It names the file.
	}
	if err = os.Rename(path+".new", path); err != nil {
		return err //nolint:wrapcheck // It names the file.
	}
	old, err := filepath.Glob(filepath.Join(img, "*.svg"))
	if err != nil {
		return fmt.Errorf("looking for old pictures: %w", err)
	}
	for _, picture := range old {
		if err = os.Remove(picture); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err //nolint:wrapcheck // It names the file.
		}
	}
	for _, c := range r.Cases {
		picture, drawErr := Draw(c)
		if drawErr != nil {
			return fmt.Errorf("a picture of %s: %w", c.Name, drawErr)
		}
		if picture == nil {
			continue
		}
		if err = os.WriteFile(filepath.Join(img, c.Name+".svg"), picture, 0o644); err != nil {
			return err //nolint:wrapcheck // It names the file.
		}
	}
	page, err := Page(r)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "README.md"), page, 0o644) //nolint:wrapcheck // It names the file.
}

// Page is README.md.
func Page(r *Results) ([]byte, error) {
	t, err := template.New("README.md").Funcs(template.FuncMap{
		"table": (*CaseResult).table, "commands": (*CaseResult).commands, "pictured": (*CaseResult).pictured,
		"gib":     func(n int64) string { return fmt.Sprintf("%.0f GiB", float64(n)/(1<<30)) },
		"minutes": func(s float64) string { return fmt.Sprintf("%.0f minutes", math.Ceil(s/60)) },
		"targets": targetTable, "summary": summary,
	}).Parse(readme)
	if err != nil {
		return nil, fmt.Errorf("README.md: %w", err)
	}
	var page bytes.Buffer
	if err = t.Execute(&page, r); err != nil {
		return nil, fmt.Errorf("README.md: %w", err)
	}
	return page.Bytes(), nil
}

// summary counts the verdicts.
func summary(verdicts []Verdict) string {
	count := map[State]int{}
	for _, v := range verdicts {
		count[v.State]++
	}
	text := fmt.Sprintf("%d of %d targets met", count[met], len(verdicts))
	if count[missed] > 0 {
		text += fmt.Sprintf(", %d missed", count[missed])
	}
	if count[notMeasured] > 0 {
		text += fmt.Sprintf(", %d not measured", count[notMeasured])
	}
	return text
}

func targetTable(verdicts []Verdict) string {
	rows := [][]string{{"case", "target", "measured", ""}}
	for _, v := range verdicts {
		mark := "**" + string(v.State) + "**"
		if v.State == met {
			mark = string(met)
		}
		rows = append(rows, []string{v.Case, v.Target, v.Measured, mark})
	}
	return markdown(rows, "llll")
}

// subject is the result of ours that others are compared with.
func (c *CaseResult) subject() *ToolResult {
	for _, t := range c.Tools {
		if strings.HasPrefix(t.Tool, ours) {
			return t
		}
	}
	return nil
}

// table is what the tools took: medians, and the most memory.
func (c *CaseResult) table() string {
	head, align := []string{"", "wall", "times ours", "CPU", "peak memory"}, "lrrrr"
	counted := false
	for _, t := range c.Tools {
		counted = counted || t.Requests > 0 || t.Counted > 0
	}
	if c.Bytes >= 64*mib {
		head, align = append(head, "MB/s"), align+"r"
	}
	if counted {
		head, align = append(head, "requests"), align+"r"
	}
	head, align = append(head, "rounds", "slowest by fastest"), align+"rr"
	rows := [][]string{head}
	base, _ := c.subject().median(wall)
	for _, t := range c.Tools {
		name := t.Tool
		if t == c.subject() {
			name = "**" + name + "**"
		}
		if t.Error != "" {
			row := make([]string, len(head))
			row[0], row[1] = name, "failed"
			rows = append(rows, row)
			continue
		}
		took, _ := t.median(wall)
		busy, _ := t.median(cpu)
		memory, _ := t.worst(rss)
		row := []string{name, seconds(took), "", seconds(busy), fmt.Sprintf("%.0f MB", memory/1e6)}
		if base > 0 {
			row[2] = times(took / base)
		}
		if c.Bytes >= 64*mib {
			row = append(row, fmt.Sprintf("%.0f", float64(c.Bytes)/1e6/took))
		}
		if counted {
			row = append(row, requestText(t))
		}
		rows = append(rows, append(row, fmt.Sprint(len(t.Rounds)), fmt.Sprintf("%.2f", t.spread())))
	}
	return markdown(rows, align)
}

func requestText(t *ToolResult) string {
	switch n := max(t.Counted, t.Requests); n {
	case 0:
		return ""
	default:
		return fmt.Sprint(n)
	}
}

// seconds is a time in few digits.
func seconds(s float64) string {
	switch {
	case s < 0.1:
		return fmt.Sprintf("%.1f ms", s*1e3)
	case s < 10:
		return fmt.Sprintf("%.2f s", s)
	default:
		return fmt.Sprintf("%.1f s", s)
	}
}

// commands is what was typed, one a line.
func (c *CaseResult) commands() string {
	var lines []string
	for _, t := range c.Tools {
		if t.Command != "" {
			lines = append(lines, t.Command)
		}
	}
	return strings.Join(lines, "\n")
}

// markdown is a table; align has l or r for each column.
func markdown(rows [][]string, align string) string {
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			for _, side := range align {
				b.WriteString(map[rune]string{'l': "|---", 'r': "|--:"}[side])
			}
			b.WriteString("|\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-analyze/charts"
)

// pictured tells whether a picture says more than the table.
func (c *CaseResult) pictured() bool {
	measured := 0
	for _, t := range c.Tools {
		if _, ok := t.median(wall); ok {
			measured++
		}
	}
	return measured > 1
}

// Draw is an SVG of the wall times of a case, or nil if there is nothing to compare.
func Draw(c *CaseResult) ([]byte, error) {
	if !c.pictured() {
		return nil, nil
	}
	var names []string
	// A series for each colour; each bar is in one of them.
	values := make([][]float64, 3)
	for _, t := range slices.Backward(c.Tools) { // The first is at the top.
		took, ok := t.median(wall)
		if !ok {
			continue
		}
		names = append(names, t.Tool)
		colour := shade(t.Tool)
		for i := range values {
			values[i] = append(values[i], 0)
		}
		values[colour][len(names)-1] = took
	}
	series := charts.NewSeriesListBar(values)
	for i := range series {
		series[i].Label.Show = new(true)
		series[i].Label.ValueFormatter = func(s float64) string {
			if s == 0 {
				return ""
			}
			return seconds(s)
		}
	}
	height := 90 + 34*len(names)
	painter := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: 720, Height: height})
	err := painter.BarChart(charts.BarChartOption{
		Theme: charts.GetTheme(charts.ThemeLight).WithSeriesColors([]charts.Color{
			charts.ColorFromHex("#d9480f"), charts.ColorFromHex("#868e96"), charts.ColorFromHex("#ced4da"),
		}),
		Padding:      charts.NewBox(16, 16, 70, 16),
		Horizontal:   true,
		SeriesList:   series,
		StackSeries:  new(true),
		Title:        charts.TitleOption{Text: c.Title + " (wall time, shorter is better)", FontStyle: charts.FontStyle{FontSize: 12}},
		Legend:       charts.LegendOption{Show: new(false)},
		CategoryAxis: charts.CategoryAxisOption{Labels: names},
		ValueAxis:    []charts.ValueAxisOption{{Show: new(false)}},
	})
	if err != nil {
		return nil, fmt.Errorf("drawing: %w", err)
	}
	picture, err := painter.Bytes()
	if err != nil {
		return nil, fmt.Errorf("drawing: %w", err)
	}
	return append(picture, '\n'), nil
}

// shade is the number of a bar's colour: ours, others, and limits.
func shade(tool string) int {
	switch {
	case strings.HasPrefix(tool, ours):
		return 0
	case slices.Contains([]string{copyR, rawPut, rawGet, sha, "find -ls", "du"}, tool):
		return 2
	default:
		return 1
	}
}

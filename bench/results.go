package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Results is all that was measured; results.json holds it.
type Results struct {
	Quick    bool          `json:"quick"`           // Tiny sizes: the figures say nothing.
	Started  string        `json:"started"`         // The first case, RFC 3339, UTC.
	Elapsed  float64       `json:"elapsed_seconds"` // Of all cases.
	Machine  Machine       `json:"machine"`
	Versions []Version     `json:"versions"`
	Cases    []*CaseResult `json:"cases"`
	Targets  []Verdict     `json:"targets"`
}

// Machine is where it ran.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory_bytes"`
	Kernel string `json:"kernel"`
}

// Version is a program's answer to that question.
type Version struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// CaseResult is what was measured in one case and direction.
type CaseResult struct {
	Name    string        `json:"name"`
	Title   string        `json:"title"`
	Note    string        `json:"note,omitempty"`
	Bytes   int64         `json:"bytes,omitempty"` // Moved.
	Files   int           `json:"files,omitempty"`
	Elapsed float64       `json:"elapsed_seconds"` // Of the case, all rounds.
	Tools   []*ToolResult `json:"tools"`
}

// ToolResult is all rounds of one tool.
type ToolResult struct {
	Tool     string  `json:"tool"`
	Command  string  `json:"command"`
	Rounds   []Usage `json:"rounds"`
	Requests int     `json:"requests,omitempty"`      // Of one run; 0 if not counted.
	Counted  int     `json:"requests_seen,omitempty"` // The same by a proxy that counts.
	Error    string  `json:"error,omitempty"`
}

// Tool finds a tool's result, or nil.
func (c *CaseResult) Tool(name string) *ToolResult {
	if c == nil {
		return nil
	}
	for _, t := range c.Tools {
		if t.Tool == name {
			return t
		}
	}
	return nil
}

// Case finds a case's result, or nil.
func (r *Results) Case(name string) *CaseResult {
	for _, c := range r.Cases {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// resultsFile is the name of the file.
const resultsFile = "results.json"

// Load reads the results in a folder; nil if it has none.
func Load(dir string) (*Results, error) {
	path := filepath.Join(dir, resultsFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // None is no error.
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // It names the file.
	}
	r := &Results{}
	if err = json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Goes says whether figures of both may stand on one page: they are of the same
// programs on the same machine.
func (r *Results) Goes(with *Results) bool {
	return r.Quick == with.Quick && r.Machine == with.Machine && slices.Equal(r.Versions, with.Versions)
}

// Add takes in cases, in the place of those with the same names, puts all into the
// order given, and judges anew.
func (r *Results) Add(order []Case, cases ...*CaseResult) {
	for _, c := range cases {
		r.Cases = slices.DeleteFunc(r.Cases, func(old *CaseResult) bool { return old.Name == c.Name })
		r.Cases = append(r.Cases, c)
	}
	var names []string
	for _, o := range order {
		names = append(names, o.Name, o.Name+"-up", o.Name+"-down")
	}
	place := func(c *CaseResult) int { return slices.Index(names, c.Name) }
	slices.SortStableFunc(r.Cases, func(a, b *CaseResult) int { return cmp.Compare(place(a), place(b)) })
	r.Elapsed = 0
	for _, c := range r.Cases {
		r.Elapsed += c.Elapsed
	}
	r.Targets = Judge(r)
}

// measure is one of the figures of a run.
type measure func(Usage) float64

func wall(u Usage) float64 { return u.Wall }
func cpu(u Usage) float64  { return u.CPU }
func rss(u Usage) float64  { return float64(u.RSS) }

// median of the rounds; ok is false if there is none.
func (t *ToolResult) median(of measure) (value float64, ok bool) {
	if t == nil || t.Error != "" || len(t.Rounds) == 0 {
		return 0, false
	}
	values := make([]float64, len(t.Rounds))
	for i, u := range t.Rounds {
		values[i] = of(u)
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle], true
	}
	return (values[middle-1] + values[middle]) / 2, true
}

// worst of the rounds.
func (t *ToolResult) worst(of measure) (value float64, ok bool) {
	if t == nil || t.Error != "" || len(t.Rounds) == 0 {
		return 0, false
	}
	for _, u := range t.Rounds {
		value = max(value, of(u))
	}
	return value, true
}

// spread is how far the rounds are apart: the slowest by the fastest.
func (t *ToolResult) spread() float64 {
	least, most := 0.0, 0.0
	for i, u := range t.Rounds {
		if i == 0 || u.Wall < least {
			least = u.Wall
		}
		most = max(most, u.Wall)
	}
	if least == 0 {
		return 1
	}
	return most / least
}

package main

import (
	"fmt"
	"strings"
)

// State says whether a target was met.
type State string

const (
	met         State = "met"
	missed      State = "missed"
	notMeasured State = "not measured"
)

// Verdict is a target and what became of it.
type Verdict struct {
	Case     string  `json:"case"`
	Target   string  `json:"target"`
	Measured string  `json:"measured"`
	Ratio    float64 `json:"ratio,omitempty"` // Ours by the other's, or by the limit.
	Limit    float64 `json:"limit,omitempty"` // What the ratio may be at most.
	State    State   `json:"state"`
}

// Target is what ours has to reach beside another tool in the same case.
type Target struct {
	Case    string
	Tool    string // Ours, unless there are several.
	Against string
	What    string // "wall" or "CPU"
	// One of these. Faster: the other takes at least so many times as long. Within:
	// ours takes at most so many times as long.
	Faster, Within float64
}

// Targets is what the project promises of its speed.
func Targets() []Target {
	up, down := "-up", "-down"
	return []Target{
		{Case: caseLarge + down, Against: s5cmd, Within: 1},
		{Case: caseLarge + down, Against: python, Faster: 3},
		{Case: caseLarge + down, Against: s5cmd, What: "CPU", Within: 1},
		{Case: caseLarge + up, Against: rawPut, Within: 1.15},
		{Case: caseLarge + up, Against: s5cmd, Faster: 1.25},
		{Case: caseLarge + up, Against: python, Faster: 1.15},
		{Case: caseLarge + up, Against: s5cmd, What: "CPU", Within: 0.5},
		{Case: caseSmall + up, Against: s5cmd, Faster: 1.6},
		{Case: caseSmall + up, Against: python, Faster: 15},
		{Case: caseSmall + down, Against: s5cmd, Faster: 1.5},
		{Case: caseSmall + down, Against: python, Faster: 12},
		{Case: caseFarMany + up, Against: s5cmd, Within: 1},
		{Case: caseFarMany + down, Against: s5cmd, Within: 1},
		{Case: caseFarOne + up, Against: s5cmd, Within: 1},
		{Case: caseFarOne + down, Against: s5cmd, Within: 1},
		{Case: caseNoop, Against: python, Faster: 100},
		{Case: caseScan, Tool: ours + " list", Against: "find -ls", Within: 1.5},
		{Case: caseScan, Tool: ours + " status", Against: "find -ls", Within: 1.5},
	}
}

// Judge compares r with all targets.
func Judge(r *Results) []Verdict {
	var verdicts []Verdict
	for _, t := range Targets() {
		verdicts = append(verdicts, t.judge(r))
	}
	return append(verdicts, judgeRequests(r), judgeStart(r, " version"), judgeStart(r, " --help"), judgeMemory(r))
}

func (t Target) judge(r *Results) Verdict {
	tool, what, of := t.Tool, "wall", measure(wall)
	if tool == "" {
		tool = ours
	}
	if t.What == "CPU" {
		what, of = "CPU", cpu
	}
	v := Verdict{Case: t.Case, State: notMeasured, Limit: t.Within}
	subject := ""
	if t.Tool != "" {
		subject = t.Tool + ", "
	}
	switch {
	case t.Faster > 0:
		v.Target = fmt.Sprintf("%s%s: %s faster than %s", subject, what, times(t.Faster), t.Against)
		v.Limit = 1 / t.Faster
	case t.Within == 1:
		v.Target = fmt.Sprintf("%s%s: no more than %s", subject, what, t.Against)
	default:
		v.Target = fmt.Sprintf("%s%s: at most %s of %s", subject, what, times(t.Within), t.Against)
	}
	mine, ok := r.Case(t.Case).Tool(tool).median(of)
	theirs, also := r.Case(t.Case).Tool(t.Against).median(of)
	if !ok || !also || mine == 0 || theirs == 0 {
		return v
	}
	v.Ratio = mine / theirs
	v.Measured = times(v.Ratio)
	if t.Faster > 0 {
		v.Measured = times(1/v.Ratio) + " faster"
	}
	v.State = state(v.Ratio <= v.Limit)
	return v
}

func state(reached bool) State {
	if reached {
		return met
	}
	return missed
}

// judgeRequests: what a push with nothing new asks does not grow with the bucket.
func judgeRequests(r *Results) Verdict {
	v := Verdict{Case: caseNoop, Target: "requests: as many as beside 1,000 blobs", State: notMeasured, Limit: 1}
	few, many := r.Case(caseNoop1k).Tool(ours), r.Case(caseNoop).Tool(ours)
	if few == nil || many == nil || few.Counted == 0 || many.Counted == 0 {
		return v
	}
	v.Ratio = float64(many.Counted) / float64(few.Counted)
	v.Measured = fmt.Sprintf("%d beside 1,000 blobs, %d beside 100,000", few.Counted, many.Counted)
	v.State = state(v.Ratio <= v.Limit)
	return v
}

const (
	startLimit  = 0.010 // Seconds.
	memoryLimit = 100e6 // Bytes.
)

func judgeStart(r *Results, command string) Verdict {
	v := Verdict{Case: caseStart, Target: ours + command + ": within 10 ms", State: notMeasured, Limit: 1}
	if took, ok := r.Case(caseStart).Tool(ours + command).median(wall); ok {
		v.Ratio = took / startLimit
		v.Measured = fmt.Sprintf("%.1f ms", took*1e3)
		v.State = state(v.Ratio <= v.Limit)
	}
	return v
}

// judgeMemory: no run of ours, in no case, takes more.
func judgeMemory(r *Results) Verdict {
	v := Verdict{Case: "all", Target: "peak memory: at most 100 MB in every case", State: notMeasured, Limit: 1}
	most, where := 0.0, ""
	for _, c := range r.Cases {
		for _, t := range c.Tools {
			if !strings.HasPrefix(t.Tool, ours) {
				continue
			}
			if took, ok := t.worst(rss); ok && took > most {
				most, where = took, c.Name
			}
		}
	}
	if where == "" {
		return v
	}
	v.Ratio = most / memoryLimit
	v.Measured = fmt.Sprintf("%.0f MB at most, in %s", most/1e6, where)
	v.State = state(v.Ratio <= v.Limit)
	return v
}

// times is a ratio as text: "1.15x", "26x".
func times(ratio float64) string {
	if ratio >= 20 {
		return fmt.Sprintf("%.0fx", ratio)
	}
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", ratio), "0"), ".") + "x"
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Bench runs cases on one server, below one folder.
type Bench struct {
	Programs Programs
	Server   *Server
	Work     string
	Rounds   int
	Tools    *regexp.Regexp // Which tools to measure.
	Keep     bool           // The fixtures and buckets.
	Log      io.Writer
}

// contender is a command with a fresh folder for each of its rounds.
type contender struct {
	result *ToolResult
	rounds int
	// prepare readies a round in scratch, an empty folder; after looks at what the
	// first left behind; clean removes what is not in scratch.
	prepare      func(scratch string) (Command, error)
	after, clean func(scratch string) error
}

func (b *Bench) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(b.Log, format+"\n", args...) // A log that cannot be written is no reason to stop.
}

// Run measures one case.
func (b *Bench) Run(ctx context.Context, c *Case) (results []*CaseResult, err error) {
	dir := filepath.Join(b.Work, c.Name)
	defer func() {
		if !b.Keep {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return nil, err //nolint:wrapcheck // It names the folder.
	}
	switch c.Kind {
	case nothing:
		return b.nothingNew(ctx, c, dir)
	case scan:
		return b.scan(ctx, c, dir)
	case start:
		job := &Job{Scratch: dir}
		return b.commands(ctx, c, b.Programs.Starts(job, c.Runs), c.Runs)
	default:
		return b.transfer(ctx, c, dir)
	}
}

// atMost is rounds, or most if that is fewer and not 0.
func atMost(rounds, most int) int {
	if most > 0 {
		return min(rounds, most)
	}
	return rounds
}

// rounds runs the contenders by turns.
func (b *Bench) rounds(ctx context.Context, result *CaseResult, rounds int, all []*contender) (*CaseResult, error) {
	began := time.Now()
	for round := range rounds {
		for _, c := range all {
			if round >= c.rounds || c.result.Error != "" {
				continue
			}
			if err := b.round(ctx, round, c); err != nil {
				if ctx.Err() != nil {
					return nil, err
				}
				// One tool that fails is no reason to lose the others' figures.
				c.result.Error = err.Error()
				b.logf("%-32s %-22s failed: %v", result.Name, c.result.Tool, err)
				continue
			}
			if rounds <= 10 {
				u := c.result.Rounds[round]
				b.logf("%-32s %-22s %8.3f s  %8.3f CPU-s  %6.1f MB", result.Name, c.result.Tool, u.Wall, u.CPU, float64(u.RSS)/1e6)
			}
		}
	}
	result.Elapsed = time.Since(began).Seconds()
	for _, c := range all {
		result.Tools = append(result.Tools, c.result)
	}
	return result, nil
}

// round runs c once.
func (b *Bench) round(ctx context.Context, round int, c *contender) (err error) {
	scratch := filepath.Join(b.Work, "scratch")
	if err = os.Mkdir(scratch, 0o755); err != nil {
		return err //nolint:wrapcheck // It names the folder.
	}
	defer func() {
		if c.clean != nil {
			err = errors.Join(err, c.clean(scratch))
		}
		err = errors.Join(err, os.RemoveAll(scratch))
	}()
	command, err := c.prepare(scratch)
	if err != nil {
		return err
	}
	usage, err := command.Run(ctx)
	if err != nil {
		return err
	}
	c.result.Command = b.redact(command.String())
	c.result.Rounds = append(c.result.Rounds, usage)
	if round == 0 && c.after != nil {
		if err = c.after(scratch); err != nil {
			return fmt.Errorf("after the run: %w", err)
		}
	}
	if count, ok := requests(command.Stdout); ok {
		c.result.Requests = count
	}
	return nil
}

// redact names what differs from run to run by what it stands for.
func (b *Bench) redact(command string) string {
	command = strings.ReplaceAll(command, b.Work, "$WORK")
	command = regexp.MustCompile(`bench-\d{4}`).ReplaceAllString(command, "$$BUCKET")
	return regexp.MustCompile(`http://127\.0\.0\.1:\d+`).ReplaceAllString(command, "$$ENDPOINT")
}

// requests is what a program of ours says in its JSON about its requests.
func requests(stdout string) (count int, ok bool) {
	data, err := os.ReadFile(stdout)
	if err != nil {
		return 0, false
	}
	var said struct {
		Requests struct {
			Total *int `json:"total"`
		} `json:"requests"`
	}
	if json.Unmarshal(data, &said) != nil || said.Requests.Total == nil {
		return 0, false
	}
	return *said.Requests.Total, true
}

// transfer measures uploads to fresh buckets, then downloads from one into fresh
// folders.
func (b *Bench) transfer(ctx context.Context, c *Case, dir string) (results []*CaseResult, err error) {
	cache, err := MakeCache(ctx, filepath.Join(dir, "source", "hub"), "bench/"+c.Name, c.Sizes, c.Sparse)
	if err != nil {
		return nil, err
	}
	endpoint := "http://" + b.Server.Addr
	if c.Delay > 0 {
		link, linkErr := StartLink(ctx, b.Server.Addr, c.Delay, c.Rate)
		if linkErr != nil {
			return nil, linkErr
		}
		defer func() { err = errors.Join(err, link.Close()) }()
		endpoint = "http://" + link.Addr()
	}
	rounds := b.Rounds
	if c.Once {
		rounds = 1
	}
	up, err := b.rounds(ctx, c.result("-up", ", up", cache), rounds, b.uploads(c, cache, endpoint))
	if err != nil {
		return nil, err
	}
	seed, err := b.Server.MakeBucket()
	if err != nil {
		return nil, err
	}
	defer func() {
		if !b.Keep {
			err = errors.Join(err, b.Server.RemoveBucket(seed))
		}
	}()
	if err = b.push(ctx, &Job{Cache: cache, Endpoint: "http://" + b.Server.Addr, Bucket: seed}, b.Programs.oursUp); err != nil {
		return nil, err
	}
	down, err := b.rounds(ctx, c.result("-down", ", down", cache), rounds, b.downloads(c, cache, endpoint, seed))
	if err != nil {
		return nil, err
	}
	return []*CaseResult{up, down}, nil
}

func (c *Case) result(suffix, direction string, cache *Cache) *CaseResult {
	return &CaseResult{Name: c.Name + suffix, Title: c.Title + direction, Note: c.Note, Bytes: cache.Bytes, Files: len(cache.Blobs)}
}

// push runs an upload that is not measured, with a home of its own.
func (b *Bench) push(ctx context.Context, job *Job, with func(*Job) Command) error {
	scratch, err := os.MkdirTemp(b.Work, "push-")
	if err != nil {
		return err //nolint:wrapcheck // It names the folder.
	}
	job.Scratch = scratch
	command := with(job)
	_, err = command.Run(ctx)
	return errors.Join(err, os.RemoveAll(scratch))
}

// wanted are the tools to measure in a case.
func (b *Bench) wanted(c *Case, of func(*Tool) func(*Job) Command) []Tool {
	var tools []Tool
	for _, tool := range b.Programs.Transfers() {
		small := c.Sizes[0] <= 32*mib
		if of(&tool) != nil && b.Tools.MatchString(tool.Name) && !c.Skip[tool.Name] && (!tool.LargeOnly || !small) {
			tools = append(tools, tool)
		}
	}
	return tools
}

func (b *Bench) uploads(c *Case, cache *Cache, endpoint string) []*contender {
	var all []*contender
	for _, tool := range b.wanted(c, func(t *Tool) func(*Job) Command { return t.Up }) {
		var bucket string
		one := &contender{result: &ToolResult{Tool: tool.Name}, rounds: atMost(b.Rounds, tool.Rounds)}
		one.prepare = func(scratch string) (command Command, err error) {
			if bucket, err = b.Server.MakeBucket(); err != nil {
				return Command{}, err
			}
			return tool.Up(&Job{Cache: cache, Endpoint: endpoint, Bucket: bucket, Scratch: scratch}), nil
		}
		if tool.Name != copyR && tool.Name != sha {
			one.after = func(string) error { return b.Server.Holds(bucket, cache.Blobs) }
		}
		one.clean = func(string) error { return b.Server.RemoveBucket(bucket) }
		all = append(all, one)
	}
	return all
}

func (b *Bench) downloads(c *Case, cache *Cache, endpoint, seed string) []*contender {
	var all []*contender
	for _, tool := range b.wanted(c, func(t *Tool) func(*Job) Command { return t.Down }) {
		one := &contender{result: &ToolResult{Tool: tool.Name}, rounds: atMost(b.Rounds, tool.Rounds)}
		one.prepare = func(scratch string) (Command, error) {
			return tool.Down(&Job{Cache: cache, Endpoint: endpoint, Bucket: seed, Scratch: scratch}), nil
		}
		if tool.Name != rawGet && tool.Name != sha {
			one.after = func(scratch string) error { return VerifyTree(filepath.Join(scratch, "dest"), cache.Blobs) }
		}
		all = append(all, one)
	}
	return all
}

// nothingNew measures a push of what the bucket holds already, and counts its
// requests in a run of its own.
func (b *Bench) nothingNew(ctx context.Context, c *Case, dir string) (results []*CaseResult, err error) {
	cache, err := MakeCache(ctx, filepath.Join(dir, "source", "hub"), "bench/"+c.Name, c.Sizes, false)
	if err != nil {
		return nil, err
	}
	pushes := []struct {
		name   string
		with   func(*Job) Command
		rounds int
	}{{ours, b.Programs.oursUp, 0}, {python, b.Programs.pythonUp, slowRounds}}
	var all []*contender
	var counts []func() error
	for _, p := range pushes {
		if !b.Tools.MatchString(p.name) {
			continue
		}
		bucket, makeErr := b.Server.MakeBucket()
		if makeErr != nil {
			return nil, makeErr
		}
		defer func() {
			if !b.Keep {
				err = errors.Join(err, b.Server.RemoveBucket(bucket))
			}
		}()
		job := Job{Cache: cache, Endpoint: "http://" + b.Server.Addr, Bucket: bucket}
		if err = b.push(ctx, &job, p.with); err != nil {
			return nil, err
		}
		if err = b.Server.FillBucket(bucket, c.Fill); err != nil {
			return nil, err
		}
		one := &contender{result: &ToolResult{Tool: p.name}, rounds: atMost(b.Rounds, p.rounds)}
		one.prepare = func(scratch string) (Command, error) {
			round := job
			round.Scratch = scratch
			return p.with(&round), nil
		}
		all = append(all, one)
		counts = append(counts, func() (countErr error) {
			one.result.Counted, countErr = b.count(ctx, job, p.with)
			return countErr
		})
	}
	result := c.result("", "", cache)
	result.Bytes = 0 // None is moved.
	result, err = b.rounds(ctx, result, b.Rounds, all)
	for _, count := range counts {
		if err == nil {
			err = count()
		}
	}
	return []*CaseResult{result}, err
}

// count runs a push once more, through a proxy, and returns the number of its
// requests.
func (b *Bench) count(ctx context.Context, job Job, with func(*Job) Command) (int, error) {
	counter, err := StartCounter(ctx, b.Server.Addr)
	if err != nil {
		return 0, err
	}
	job.Endpoint = "http://" + counter.Addr()
	err = b.push(ctx, &job, with)
	return counter.Count(), errors.Join(err, counter.Close())
}

func (b *Bench) scan(ctx context.Context, c *Case, dir string) ([]*CaseResult, error) {
	hub := filepath.Join(dir, "hub")
	if err := MakeWideCache(hub, c.Repos, c.Files); err != nil {
		return nil, err
	}
	scratch := filepath.Join(dir, "home")
	if err := os.Mkdir(scratch, 0o755); err != nil {
		return nil, err //nolint:wrapcheck // It names the folder.
	}
	return b.commands(ctx, c, b.Programs.Looks(&Job{Scratch: scratch, Endpoint: "http://" + b.Server.Addr}, hub), b.Rounds)
}

// commands measures commands that leave nothing behind.
func (b *Bench) commands(ctx context.Context, c *Case, commands []NamedCommand, rounds int) ([]*CaseResult, error) {
	var all []*contender
	for _, n := range commands {
		if !b.Tools.MatchString(n.Name) {
			continue
		}
		one := &contender{result: &ToolResult{Tool: n.Name}, rounds: atMost(rounds, n.Rounds)}
		one.prepare = func(string) (Command, error) { return n.Command, nil }
		all = append(all, one)
	}
	result, err := b.rounds(ctx, &CaseResult{Name: c.Name, Title: c.Title, Note: c.Note, Files: c.Repos * c.Files}, rounds, all)
	return []*CaseResult{result}, err
}

package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Names of the tools, as they stand in results and targets.
const (
	ours   = "hf-cache-sync"
	python = "Python 0.1.0"
	s5cmd  = "s5cmd"
	rclone = "rclone"
	awscli = "aws-cli"
	copyR  = "cp -r"
	rawPut = "raw PUT"
	rawGet = "raw GET"
	sha    = "SHA-256 alone"
)

// Programs is where the programs are.
type Programs struct {
	Ours, Python, S5cmd, Rclone, AWS, HF, Gateway, Self string
}

// FindPrograms looks for all programs below top, the repository.
func FindPrograms(top string) (p Programs, err error) {
	if p.Self, err = os.Executable(); err != nil {
		return p, fmt.Errorf("looking for the harness itself: %w", err)
	}
	p.Ours = filepath.Join(top, "bin/hf-cache-sync")
	p.Python = filepath.Join(top, ".cache/venv/py-hf-cache-sync/bin/hf-cache-sync")
	p.HF = filepath.Join(top, ".cache/venv/hub-2.4.0/bin/hf")
	p.Gateway = filepath.Join(top, ".cache/bin/versitygw")
	p.S5cmd = filepath.Join(top, ".cache/bench/bin/s5cmd")
	p.Rclone = filepath.Join(top, ".cache/bench/bin/rclone")
	p.AWS = filepath.Join(top, ".cache/bench/bin/aws")
	for _, path := range []string{p.Ours, p.Python, p.HF, p.Gateway, p.S5cmd, p.Rclone, p.AWS} {
		if _, err = os.Stat(path); err != nil {
			return p, fmt.Errorf("%w; make bench installs it", err)
		}
	}
	return p, nil
}

// Versions asks each program for its version.
func (p *Programs) Versions(ctx context.Context) ([]Version, error) {
	ask := []struct {
		name string
		args []string
	}{
		{ours, []string{p.Ours, "--version"}},
		{python, []string{p.Python, "--version"}},
		{s5cmd, []string{p.S5cmd, "version"}},
		{rclone, []string{p.Rclone, "version"}},
		{awscli, []string{p.AWS, "--version"}},
		{"hf", []string{p.HF, "version"}},
	}
	// The gateway, built as a tool, does not know its version by itself.
	gateway, err := buildinfo.ReadFile(p.Gateway)
	if err != nil {
		return nil, fmt.Errorf("the version of versitygw: %w", err)
	}
	found := []Version{{"versitygw", gateway.Main.Version}}
	for _, a := range ask {
		cmd := exec.CommandContext(ctx, a.args[0], a.args[1:]...)
		cmd.Env = []string{"HOME=" + os.TempDir(), "NO_COLOR=1"}
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("the version of %s: %w", a.name, err)
		}
		found = append(found, Version{a.name, versionIn(string(out))})
	}
	return found, nil
}

// versionIn is what says the version in what a program printed: the first line
// with a number, without the words that say no more, or else the first.
func versionIn(printed string) string {
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	line := lines[0]
	if i := slices.IndexFunc(lines, func(l string) bool { return strings.ContainsAny(l, "0123456789") }); i >= 0 {
		line = lines[i]
	}
	return strings.TrimSpace(line)
}

// Job is one transfer to be done by any tool.
type Job struct {
	Cache    *Cache
	Endpoint string // http://host:port
	Bucket   string
	Scratch  string // An empty folder, removed after the run: home of the tool and, in dest, what it downloads.
}

func (j *Job) dest() string { return filepath.Join(j.Scratch, "dest") }

// Tool is a program of the field. Up and Down are nil where it has nothing to do.
type Tool struct {
	Name      string
	Up, Down  func(j *Job) Command
	LargeOnly bool // Says nothing of small files.
	Rounds    int  // At most so many; 0 for no such limit.
}

// slowRounds is how many rounds the slow programs get at most: no target is close to
// them, and they would take most of the time.
const slowRounds = 3

// Transfers is the field.
func (p *Programs) Transfers() []Tool {
	return []Tool{
		{Name: ours, Up: p.oursUp, Down: p.oursDown},
		{Name: python, Up: p.pythonUp, Down: p.pythonDown, Rounds: slowRounds},
		{
			Name: s5cmd, Up: func(j *Job) Command { return p.s5cmd(j, j.Cache.BlobDir()+"/", "s3://"+j.Bucket+"/blobs/") },
			Down: func(j *Job) Command { return p.s5cmd(j, "s3://"+j.Bucket+"/blobs/*", j.dest()+"/") },
		},
		{
			Name: rclone, Up: func(j *Job) Command { return p.rclone(j, j.Cache.BlobDir(), "bench:"+j.Bucket+"/blobs") },
			Down:   func(j *Job) Command { return p.rclone(j, "bench:"+j.Bucket+"/blobs", j.dest()) },
			Rounds: slowRounds,
		},
		{
			Name: awscli, Up: func(j *Job) Command { return p.aws(j, j.Cache.BlobDir(), "s3://"+j.Bucket+"/blobs/") },
			Down:   func(j *Job) Command { return p.aws(j, "s3://"+j.Bucket+"/blobs/", j.dest()) },
			Rounds: slowRounds,
		},
		{Name: copyR, Up: p.copy, Down: p.copy},
		{Name: rawPut, Up: func(j *Job) Command { return p.raw(j, "put") }},
		{Name: rawGet, Down: func(j *Job) Command { return p.raw(j, "get") }},
		{Name: sha, Up: func(j *Job) Command { return p.raw(j, "sha256") }, Down: func(j *Job) Command { return p.raw(j, "sha256") }, LargeOnly: true},
	}
}

func (p *Programs) env(j *Job, more ...string) []string {
	return append([]string{
		"HOME=" + j.Scratch, "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TMPDIR=" + j.Scratch,
		"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey, "AWS_REGION=" + region,
		"AWS_DEFAULT_REGION=" + region, "AWS_EC2_METADATA_DISABLED=true",
	}, more...)
}

// oursEnv is the variables of both programs called hf-cache-sync.
func (p *Programs) oursEnv(j *Job, hub string) []string {
	return p.env(j, "B2_ENDPOINT="+j.Endpoint, "B2_REGION="+region, "HF_HUB_CACHE="+hub, "HF_HOME="+filepath.Dir(hub), "HF_HUB_OFFLINE=1")
}

func (p *Programs) oursUp(j *Job) Command {
	return Command{
		Args: []string{p.Ours, "push", "--yes", "--json", "--remote", "s3://" + j.Bucket},
		Env:  p.oursEnv(j, j.Cache.Hub), Dir: j.Scratch, Stdout: filepath.Join(j.Scratch, "stdout"),
	}
}

func (p *Programs) oursDown(j *Job) Command {
	return Command{
		Args: []string{p.Ours, "pull", j.Cache.Repo, "--json", "--remote", "s3://" + j.Bucket},
		Env:  p.oursEnv(j, filepath.Join(j.dest(), "hub")), Dir: j.Scratch, Stdout: filepath.Join(j.Scratch, "stdout"),
	}
}

func (p *Programs) pythonUp(j *Job) Command {
	return Command{Args: []string{p.Python, "push"}, Env: append(p.oursEnv(j, j.Cache.Hub), "B2_BUCKET="+j.Bucket), Dir: j.Scratch}
}

func (p *Programs) pythonDown(j *Job) Command {
	env := append(p.oursEnv(j, filepath.Join(j.dest(), "hub")), "B2_BUCKET="+j.Bucket)
	return Command{Args: []string{p.Python, "pull", j.Cache.Repo}, Env: env, Dir: j.Scratch}
}

// s5cmd uses its 256 workers. Of its parts and their number it does best here
// with parts like ours.
func (p *Programs) s5cmd(j *Job, from, to string) Command {
	return Command{
		Args: []string{p.S5cmd, "--endpoint-url", j.Endpoint, "--log", "error", "--numworkers", "256", "cp", "--concurrency", "8", "--part-size", "32", from, to},
		Env:  p.env(j), Dir: j.Scratch,
	}
}

func (p *Programs) rclone(j *Job, from, to string) Command {
	return Command{
		Args: []string{
			p.Rclone, "copy", "--config", "", "--transfers", "32", "--checkers", "32", "--multi-thread-streams", "8",
			"--multi-thread-cutoff", "64M", "--multi-thread-chunk-size", "32M", "--s3-upload-concurrency", "8", "--s3-chunk-size", "32M",
			"--s3-upload-cutoff", "64M", "--s3-no-check-bucket", "--s3-no-head", "--s3-disable-checksum", "--s3-use-unsigned-payload", "true",
			"--ignore-checksum", "--no-traverse", from, to,
		},
		Env: p.env(j, "RCLONE_CONFIG_BENCH_TYPE=s3", "RCLONE_CONFIG_BENCH_PROVIDER=Other", "RCLONE_CONFIG_BENCH_ENDPOINT="+j.Endpoint,
			"RCLONE_CONFIG_BENCH_ENV_AUTH=true", "RCLONE_CONFIG_BENCH_REGION="+region, "RCLONE_CONFIG_BENCH_FORCE_PATH_STYLE=true"),
		Dir: j.Scratch,
	}
}

// awsConfig is the aws-cli's settings for many files and for large ones.
const awsConfig = `[default]
s3 =
  max_concurrent_requests = 32
  max_queue_size = 10000
  multipart_threshold = 64MB
  multipart_chunksize = 32MB
`

func (p *Programs) aws(j *Job, from, to string) Command {
	return Command{
		Args: []string{p.AWS, "--endpoint-url", j.Endpoint, "s3", "cp", "--recursive", "--only-show-errors", from, to},
		Env: p.env(j, "AWS_CONFIG_FILE="+filepath.Join(filepath.Dir(j.Scratch), "aws-config"),
			"AWS_REQUEST_CHECKSUM_CALCULATION=when_required", "AWS_RESPONSE_CHECKSUM_VALIDATION=when_required"),
		Dir: j.Scratch,
	}
}

func (p *Programs) copy(j *Job) Command {
	return Command{Args: []string{"/bin/cp", "-r", j.Cache.Hub, j.dest()}, Env: p.env(j), Dir: j.Scratch}
}

func (p *Programs) raw(j *Job, what string) Command {
	conns := 64
	for _, size := range j.Cache.Blobs {
		if size > 32<<20 {
			conns = 8
		}
	}
	if what == "sha256" {
		conns = 1
	}
	return Command{
		Args: []string{p.Self, "raw", what, "-endpoint", j.Endpoint, "-bucket", j.Bucket, "-conns", fmt.Sprint(conns), j.Cache.BlobDir()},
		Env:  p.env(j), Dir: j.Scratch,
	}
}

// Looks is what may look at a cache of many files, at hub.
func (p *Programs) Looks(j *Job, hub string) []NamedCommand {
	env, look := p.oursEnv(j, hub), filepath.Join(j.Scratch, "stdout")
	run := func(name string, args ...string) NamedCommand {
		return NamedCommand{Name: name, Command: Command{Args: args, Env: env, Dir: j.Scratch, Stdout: look}}
	}
	slow := func(n NamedCommand) NamedCommand {
		n.Rounds = slowRounds
		return n
	}
	return []NamedCommand{
		run(ours+" list", p.Ours, "list"),
		run(ours+" status", p.Ours, "status", "--local"),
		run("find -ls", "/usr/bin/find", hub, "-ls"),
		run("du", "/usr/bin/du", "-s", hub),
		slow(run("hf cache ls", p.HF, "cache", "ls")),
		slow(run(python+" list", p.Python, "list")),
		slow(run(python+" status", p.Python, "status")),
	}
}

// Starts is what takes no longer than a program's start. Those in Python run less often.
func (p *Programs) Starts(j *Job, runs int) []NamedCommand {
	run := func(name string, most int, args ...string) NamedCommand {
		return NamedCommand{
			Name: name, Rounds: most,
			Command: Command{Args: args, Env: p.env(j), Dir: j.Scratch, Stdout: filepath.Join(j.Scratch, "stdout")},
		}
	}
	few := max(1, runs/4)
	return []NamedCommand{
		run(ours+" version", runs, p.Ours, "version"),
		run(ours+" --help", runs, p.Ours, "--help"),
		run(s5cmd+" version", runs, p.S5cmd, "version"),
		run(rclone+" version", runs, p.Rclone, "version"),
		run(python+" --version", few, p.Python, "--version"),
		run(awscli+" --version", few, p.AWS, "--version"),
	}
}

// NamedCommand is a command that stands in tables under its name.
type NamedCommand struct {
	Name    string
	Command Command
	Rounds  int // At most so many; 0 for no such limit.
}

// Delays of the cases that play a long line.
const (
	longDelay = 20 * time.Millisecond // One way.
	gigabit   = 1e9 / 8               // Bytes a second.
)

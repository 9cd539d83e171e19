// Command bench measures hf-cache-sync beside the field: the same files, on one
// S3 server, in memory, in one run. It writes results.json, README.md and the
// pictures in img, after each case. `make bench` runs it.
//
// Figures are only ever compared with others of the same run. Rounds go by turns,
// so that whatever slows the machine down for a while slows all of them; medians
// are told. Each round has fresh folders, and the first of each download is
// compared with the digests of what was uploaded. It runs on Linux.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/bench/raw"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run is main with its exit code.
func run(args []string, log io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case len(args) > 1 && args[0] == "launch":
		err = launch(args[1:])
	case len(args) > 1 && args[0] == "raw":
		err = raw.Run(ctx, raw.Signer{AccessKey: accessKey, SecretKey: secretKey, Region: region}, args[1:])
	default:
		var o *options
		if o, err = parse(args, log); errors.Is(err, flag.ErrHelp) {
			return 0
		} else if err != nil {
			return 2 // The flag package has said why.
		}
		err = o.run(ctx, log)
	}
	if err != nil {
		_, _ = fmt.Fprintln(log, "bench:", err) // Nowhere else to say it.
		return 1
	}
	return 0
}

type options struct {
	cases, tools *regexp.Regexp
	partial      bool // Cases or tools were named.
	rounds       int
	keep, quick  bool
	render       bool
	dir, out     string
	top          string
}

func parse(args []string, log io.Writer) (*options, error) {
	o := &options{}
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(log)
	cases := set.String("cases", "", "only cases that match this `regexp`")
	tools := set.String("tools", "", "only tools that match this `regexp`")
	set.IntVar(&o.rounds, "rounds", 3, "rounds of each tool; medians are told. The slow ones get 3 at most")
	set.BoolVar(&o.keep, "keep", false, "leave fixtures and buckets where they are")
	set.BoolVar(&o.quick, "quick", false, "tiny sizes, to try the harness itself")
	set.BoolVar(&o.render, "render", false, "measure nothing: write the page and the pictures of the results that are there")
	set.StringVar(&o.dir, "dir", "/dev/shm", "where to work: a memory-backed `folder` with 14 GiB free")
	set.StringVar(&o.out, "out", "", "the `folder` for results (default: bench; a temporary one for a run of some cases or tools, or a quick one). Some cases alone are put beside what it has")
	set.StringVar(&o.top, "top", "..", "the repository, with what make bench builds and installs")
	if err := set.Parse(args); err != nil {
		return nil, err //nolint:wrapcheck // It names the flag.
	}
	complain := func(format string, a ...any) error {
		err := fmt.Errorf(format, a...)
		_, _ = fmt.Fprintln(log, "bench:", err) // Nowhere else to say it.
		return err
	}
	var err error
	if o.cases, err = regexp.Compile(*cases); err != nil {
		return nil, complain("-cases: %w", err)
	}
	if o.tools, err = regexp.Compile(*tools); err != nil {
		return nil, complain("-tools: %w", err)
	}
	if set.NArg() > 0 {
		return nil, complain("no arguments are taken, only flags: %q", set.Args())
	}
	if o.rounds < 1 {
		return nil, complain("-rounds is %d; it must be 1 or more", o.rounds)
	}
	o.partial = *cases != "" || *tools != ""
	return o, nil
}

func (o *options) run(ctx context.Context, log io.Writer) (err error) {
	top, err := filepath.Abs(o.top)
	if err != nil {
		return fmt.Errorf("-top: %w", err)
	}
	if o.render {
		return render(cmp.Or(o.out, filepath.Join(top, "bench")))
	}
	programs, err := FindPrograms(top)
	if err != nil {
		return err
	}
	results := &Results{Quick: o.quick, Started: time.Now().UTC().Format(time.RFC3339), Machine: thisMachine()}
	if results.Versions, err = programs.Versions(ctx); err != nil {
		return err
	}
	out, err := o.folder(top)
	if err != nil {
		return err
	}
	if o.partial {
		if results, err = beside(results, out); err != nil {
			return err
		}
	}
	cases, err := o.chosen()
	if err != nil {
		return err
	}
	for _, c := range cases { // Before the first of them: a run takes long.
		if err = checkSpace(o.dir, c.space()); err != nil {
			return fmt.Errorf("case %s: %w", c.Name, err)
		}
	}
	work, err := os.MkdirTemp(o.dir, "hf-cache-sync-bench-")
	if err != nil {
		return fmt.Errorf("-dir: %w", err)
	}
	if o.keep {
		_, _ = fmt.Fprintln(log, "working in", work)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	}
	if err = os.WriteFile(filepath.Join(work, "aws-config"), []byte(awsConfig), 0o600); err != nil {
		return err //nolint:wrapcheck // It names the file.
	}
	server, err := StartServer(ctx, programs.Gateway, filepath.Join(work, "gateway"))
	if err != nil {
		return err
	}
	defer server.Stop()
	b := &Bench{Programs: programs, Server: server, Work: work, Rounds: o.rounds, Tools: o.tools, Keep: o.keep, Log: log}
	if err = o.measure(ctx, b, cases, results, out); err != nil {
		return err
	}
	for _, v := range results.Targets {
		if v.State != notMeasured {
			b.logf("%-12s %-20s %s: %s", v.State, v.Case, v.Target, v.Measured)
		}
	}
	b.logf("%.0f s; wrote %s", results.Elapsed, out)
	return failures(results)
}

// folder is where the results go.
func (o *options) folder(top string) (string, error) {
	switch {
	case o.out != "":
		return o.out, nil
	case !o.quick && !o.partial:
		return filepath.Join(top, "bench"), nil
	}
	dir, err := os.MkdirTemp("", "hf-cache-sync-bench-")
	if err != nil {
		return "", fmt.Errorf("a folder for the results: %w", err)
	}
	return dir, nil
}

// beside returns the results that out has for new ones to be put beside, or the
// new ones if it has none.
func beside(results *Results, out string) (*Results, error) {
	old, err := Load(out)
	switch {
	case err != nil:
		return nil, err
	case old == nil:
		return results, nil
	case !old.Goes(results):
		return nil, fmt.Errorf("%s has results of another build or machine: remove them, or name another folder with -out", out)
	}
	return old, nil
}

// chosen is the cases to run.
func (o *options) chosen() ([]Case, error) {
	cases := slices.DeleteFunc(Cases(o.quick), func(c Case) bool { return !o.cases.MatchString(c.Name) })
	if len(cases) == 0 {
		return nil, errors.New("no case has such a name")
	}
	return cases, nil
}

// measure runs the cases, and writes after each.
func (o *options) measure(ctx context.Context, b *Bench, cases []Case, results *Results, out string) error {
	for _, c := range cases {
		// Somebody else may have taken the space meanwhile.
		if err := checkSpace(o.dir, c.space()); err != nil {
			return fmt.Errorf("case %s: %w", c.Name, err)
		}
		found, err := b.Run(ctx, &c)
		if err != nil {
			return fmt.Errorf("case %s: %w", c.Name, err)
		}
		results.Add(Cases(o.quick), found...)
		if err = Write(results, out); err != nil {
			return err
		}
	}
	return nil
}

// render writes what is made of the results in a folder.
func render(dir string) error {
	results, err := Load(dir)
	if err != nil {
		return err
	}
	if results == nil {
		return fmt.Errorf("%s has no %s", dir, resultsFile)
	}
	results.Add(Cases(results.Quick))
	return Write(results, dir)
}

// failures names the tools that failed somewhere.
func failures(r *Results) error {
	var failed []error
	for _, c := range r.Cases {
		for _, t := range c.Tools {
			if t.Error != "" {
				failed = append(failed, fmt.Errorf("%s: %s: %s", c.Name, t.Tool, t.Error))
			}
		}
	}
	return errors.Join(failed...)
}

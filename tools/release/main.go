// Command release makes what a release has beside the binaries that goreleaser
// builds. .goreleaser.yaml, scripts/release.sh and the Makefile call it:
//
//	release share -program FILE -units DIR -out DIR
//	release sbom -dependencies FILE -out FILE BINARY
//	release wheels -dist DIR -root DIR -out DIR
//
// The same input gives the same bytes: times come from the commit, never from the
// clock.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("say share, sbom or wheels")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	text := func(name, usage string) *string { return flags.String(name, "", usage) }
	var work func() error
	operands := 0
	switch args[0] {
	case "share":
		program, units, dir := text("program", "hf-cache-sync itself"), text("units", "units of systemd"), text("out", "folder to fill")
		work = func() error { return share(*program, *units, *dir) }
	case "sbom":
		table, file := text("dependencies", "table of licences"), text("out", "file to write")
		operands = 1
		work = func() error { return sbom(flags.Arg(0), *table, *file) }
	case "wheels":
		dist, root, dir := text("dist", "archives and checksums.txt"), text("root", "the repository"), text("out", "folder to fill")
		work = func() error { return wheels(*dist, *root, *dir, out) }
	default:
		return fmt.Errorf("there is no %q: say share, sbom or wheels", args[0])
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	var missing []string
	flags.VisitAll(func(f *flag.Flag) {
		if f.Value.String() == "" {
			missing = append(missing, "-"+f.Name)
		}
	})
	if len(missing) > 0 || flags.NArg() != operands {
		return fmt.Errorf("%s: missing flags %q, %d operands of %d", args[0], slices.Clip(missing), flags.NArg(), operands)
	}
	if err := work(); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return nil
}

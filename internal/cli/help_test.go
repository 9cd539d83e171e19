package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestHelp holds every command to what its help has to say.
func TestHelp(t *testing.T) {
	a := &app{Process: Process{Env: func(string) (string, bool) { return "", false }}}
	root := a.root()
	if n := len(root.Commands()); n < 10 {
		t.Fatalf("there are only %d commands", n)
	}
	for _, cmd := range root.Commands() {
		t.Run(cmd.Name(), func(t *testing.T) {
			if !strings.Contains(cmd.Long, "\nEXIT STATUS\n") {
				t.Error("it does not say what its exit codes mean")
			}
			for line := range strings.Lines(cmd.Example) {
				if !strings.HasPrefix(line, "  hf-cache-sync ") {
					t.Errorf("the example %q is not a command to type", line)
				}
			}
			if cmd.Example == "" {
				t.Error("it has no example")
			}
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
				t.Errorf("the summary is %q", cmd.Short)
			}
			for line := range strings.Lines(cmd.Long) {
				if len(line) > 121 {
					t.Errorf("a line of %d characters: %q", len(line), line)
				}
			}
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
					t.Errorf("--%s says %q", f.Name, f.Usage)
				}
			})
			checkArgs(t, cmd)
		})
	}
}

// checkArgs makes sure that a command which takes no argument says so, rather than to ignore one.
func checkArgs(t *testing.T, cmd *cobra.Command) {
	t.Helper()
	if strings.ContainsAny(cmd.Use, "[<") {
		return
	}
	if cmd.Args == nil || cmd.Args(cmd, []string{"too", "many"}) == nil {
		t.Error("it ignores arguments")
	}
}

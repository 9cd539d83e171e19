package cli

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store/retrystore"
)

func TestNetworkPatience(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args  []string
		want  retrystore.Options
		stall time.Duration
		wrong string // Named by the error.
	}{
		"nothing given":    {nil, retrystore.Options{MaxTries: maxTries}, 0, ""},
		"all given":        {[]string{"--tries=3", "--retry-wait=2ms", "--stall-time=1m"}, retrystore.Options{MaxTries: 3, First: 2 * time.Millisecond}, time.Minute, ""},
		"the least":        {[]string{"--tries=1", "--retry-wait=1ms", "--stall-time=1ms"}, retrystore.Options{MaxTries: 1, First: time.Millisecond}, time.Millisecond, ""},
		"the most":         {[]string{"--tries=1000", "--retry-wait=1h", "--stall-time=1h"}, retrystore.Options{MaxTries: 1000, First: time.Hour}, time.Hour, ""},
		"tries below 0":    {[]string{"--tries=-1"}, retrystore.Options{}, 0, "--tries is -1"},
		"too many tries":   {[]string{"--tries=1001"}, retrystore.Options{}, 0, "--tries is 1001"},
		"a wait below 0":   {[]string{"--retry-wait=-1s"}, retrystore.Options{}, 0, "--retry-wait is -1s"},
		"too short a wait": {[]string{"--retry-wait=1us"}, retrystore.Options{}, 0, "--retry-wait is 1µs"},
		"too long a wait":  {[]string{"--retry-wait=61m"}, retrystore.Options{}, 0, "--retry-wait is 1h1m0s"},
		"stall below 0":    {[]string{"--stall-time=-1s"}, retrystore.Options{}, 0, "--stall-time is -1s"},
		"too short stall":  {[]string{"--stall-time=1us"}, retrystore.Options{}, 0, "--stall-time is 1µs"},
		"too long stall":   {[]string{"--stall-time=61m"}, retrystore.Options{}, 0, "--stall-time is 1h1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n networkPatience
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			n.flags(flags)
			if err := flags.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			err := n.check()
			if c.wrong != "" {
				usage, ok := errors.AsType[*usageError](err)
				if !ok || !strings.Contains(usage.Error(), c.wrong) || explain(err).code != exitUsage {
					t.Errorf("%q: %v, want a usage error with %q", c.args, err, c.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, n.retries(), cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "OnRetry" }, cmp.Ignore())); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if n.stallTime != c.stall {
				t.Errorf("stall time %s, want %s", n.stallTime, c.stall)
			}
			flags.VisitAll(func(f *pflag.Flag) {
				if !f.Hidden {
					t.Errorf("--%s is shown", f.Name)
				}
			})
		})
	}
}

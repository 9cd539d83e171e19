package cli

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store/retrystore"
)

// maxTries is how often a request is made that gets nowhere: some fifteen seconds of waiting, after which a person wants to be told. Everything can be resumed.
const maxTries = 6

// networkPatience is how much a run puts up with from the network. Its flags are for tests and for networks that are like nobody else's: they are hidden. What is 0 is as the
// packages that need it have it.
type networkPatience struct {
	tries     int
	retryWait time.Duration
	stallTime time.Duration
}

func (n *networkPatience) flags(flags *pflag.FlagSet) {
	flags.IntVar(&n.tries, "tries", 0, "how often a request is made that gets nowhere (default: 6)")
	flags.DurationVar(&n.retryWait, "retry-wait", 0, "how long to wait before the second time; each later wait is about twice as long (default: 500ms)")
	flags.DurationVar(&n.stallTime, "stall-time", 0, "how long a connection may move no byte; an answer gets at least twice that (default: 30s)")
	for _, name := range []string{"tries", "retry-wait", "stall-time"} {
		_ = flags.MarkHidden(name) // it exists
	}
}

func (n *networkPatience) check() error {
	const (
		mostTries = 1000
		leastTime = time.Millisecond
		mostTime  = time.Hour
	)
	switch {
	case n.tries < 0 || n.tries > mostTries:
		return usagef("--tries is %d; it must be between 1 and %d", n.tries, mostTries)
	case n.retryWait != 0 && (n.retryWait < leastTime || n.retryWait > mostTime):
		return usagef("--retry-wait is %s; it must be between a millisecond and an hour", n.retryWait)
	case n.stallTime != 0 && (n.stallTime < leastTime || n.stallTime > mostTime):
		return usagef("--stall-time is %s; it must be between a millisecond and an hour", n.stallTime)
	}
	return nil
}

// retries are the options of a store that tries again.
func (n *networkPatience) retries() retrystore.Options {
	o := retrystore.Options{MaxTries: maxTries, First: n.retryWait}
	if n.tries > 0 {
		o.MaxTries = n.tries
	}
	return o
}

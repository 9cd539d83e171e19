package cli

import (
	"io"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestSecondSignal delivers two signals at once to a command that cannot end, because nobody reads what it writes. Neither is lost.
func TestSecondSignal(t *testing.T) {
	for _, test := range []struct {
		signal os.Signal
		want   int
	}{
		{os.Interrupt, exitInterrupt},
		{syscall.SIGTERM, exitTerminate},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			signals := make(chan os.Signal, 2)
			signals <- os.Interrupt
			signals <- test.signal
			got := -1
			Main(Process{
				Args: []string{"version"}, Env: func(string) (string, bool) { return "", false }, Home: t.TempDir(),
				Stdout: w, Stderr: w, Now: time.Now, Signals: signals,
				Exit: func(code int) {
					got = code
					_ = r.Close() // It ends the command, as it would end the process.
				},
			})
			if got != test.want {
				t.Errorf("it ended with %d, want %d", got, test.want)
			}
		})
	}
}

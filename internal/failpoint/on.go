//go:build failpoint

package failpoint

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// The process has one environment and can die once; so this is the one package
// with state of its own, and only in binaries for tests.
var (
	mu   sync.Mutex
	seen = map[string]int{}
)

// Hit says that the process has come to the place with this name, and kills it
// if that is what it is there for. Safe for concurrent use.
func Hit(name string) {
	mu.Lock()
	defer mu.Unlock()
	seen[name]++
	here := fmt.Sprintf("%s#%d", name, seen[name])
	if path := os.Getenv("HFCS_FAILPOINT_LOG"); path != "" {
		note(path, here)
	}
	if os.Getenv("HFCS_FAILPOINT") != here {
		return
	}
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill() // With the lock held: nobody gets past another place meanwhile.
	}
	select {}
}

func note(path, line string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, line)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		panic(err) // A test that cannot see what it does proves nothing.
	}
}

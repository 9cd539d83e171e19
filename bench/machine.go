package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// spaceNeeded is what the largest case takes: source, bucket, and either the parts
// of an upload or a download.
const spaceNeeded = 14 << 30

// checkSpace makes sure that no case fails half way.
func checkSpace(dir string, quick bool) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("-dir %s: %w", dir, err)
	}
	need := uint64(spaceNeeded)
	if quick {
		need >>= 5
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < need {
		return fmt.Errorf("-dir %s has %d MiB free; %d are needed", dir, free>>20, need>>20)
	}
	return nil
}

func thisMachine() Machine {
	m := Machine{CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU()}
	kib, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	if n, err := strconv.ParseInt(kib, 10, 64); err == nil {
		m.Memory = n << 10
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	return m
}

// field is the value of the first line "key: value" of a file below /proc.
func field(path, key string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

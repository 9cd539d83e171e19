package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// checkSpace makes sure that dir can take so many bytes, so that no case fails half
// way. A file system in memory has no more than the machine has left, whatever its
// size.
func checkSpace(dir string, need int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("-dir %s: %w", dir, err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	if memory := kibibytes("MemAvailable"); fs.Type == unix.TMPFS_MAGIC && memory > 0 {
		free = min(free, memory)
	}
	if free < need {
		return fmt.Errorf("-dir %s has %d MiB free; %d are needed", dir, free>>20, need>>20)
	}
	return nil
}

// kibibytes is a field of /proc/meminfo in bytes, 0 if it is not there.
func kibibytes(key string) int64 {
	text, _, _ := strings.Cut(field("/proc/meminfo", key), " ")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

func thisMachine() Machine {
	m := Machine{CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: kibibytes("MemTotal")}
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

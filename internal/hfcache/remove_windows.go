package hfcache

import "os"

// removeDir removes an empty folder.
func removeDir(parent *os.Root, name string) error { return parent.Remove(name) }

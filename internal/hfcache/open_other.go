//go:build !linux

package hfcache

import "os"

func openNoAtime(root *os.Root, name string) (*os.File, error) { return root.Open(name) }

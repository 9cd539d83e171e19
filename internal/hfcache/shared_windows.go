package hfcache

import "io/fs"

// isShared cannot be told from the mode here; caches lie in the user's own folder.
func isShared(fs.FileInfo) bool { return false }

// Package store is the contract between hf-cache-sync and whatever holds a bucket's objects: an S3-compatible service or a folder.
//
// Keys are relative to the bucket's prefix, slash-separated, never empty, never starting or ending with a slash and without "." or ".." elements.
// An object appears whole or not at all: a Put that fails, is cancelled or is killed leaves the previous object, or none.
// Every method may be called by many goroutines at once. Every method returns promptly after its context is done, with an error that wraps
// the context's. Calling a method again after an error is always allowed: Get, Stat and List change nothing, a second Put of the same bytes
// and a second Delete of the same key end in the same state as one.
//
// Errors are [*Error] values. Their Kind is what callers decide by: [ErrNotFound], [ErrExists], [ErrDenied], [ErrBadConfig], [ErrUnavailable],
// [ErrUnsupported], [ErrNoSpace], [ErrBadRange], [ErrNotObject], [ErrBadDigest]; a nil Kind means none of these. Some stores give a kind
// that says more and wraps one of them, such as [ErrNoBucket], so compare with errors.Is.
// Only ErrUnavailable is worth a retry. What a wrapper adds (retries, faults, a rate limit) it adds to this contract and never to another.
package store

// Package manifest is the bucket's wire format: what a manifest says, how it is written as JSON, and which object keys stand for which names.
// docs/format.md is the specification of both.
//
// A [Manifest] lists the files of one commit that some machine has pushed. Decoding validates everything, so a Manifest in hand is consistent:
// its paths are safe, no path is both a file and a folder, each blob has one size. The package does no I/O.
package manifest

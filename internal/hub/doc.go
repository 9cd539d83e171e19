// Package hub holds the vocabulary of the Hugging Face Hub as plain values: repositories, commits, refs, file paths, blob ids and the digests
// that prove a blob's bytes.
//
// Every value comes out of a Parse function, which is the only place where foreign text (a folder name, an object key, a line of JSON) is judged.
// What came out of Parse can be used in a path or a key without further checks: it is relative, has no "." or ".." element, no backslash, colon
// or control character, and no element that a file system would refuse for its length.
//
// The package does no I/O and its values are safe to share between goroutines, [Verifier] excepted.
package hub

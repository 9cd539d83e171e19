// Package remote is the bucket as a catalogue: which revisions it holds, what their manifests say, which commit each ref names, and which blobs are
// there. It reads and writes manifests and refs; moving blobs is the engine's work.
//
// Nothing that comes out of a bucket is believed by its key alone. A manifest is returned only if its body names the repository, type and commit that
// were asked for, because the Python tool 0.1.0 stores different repositories under one key.
//
// Writing keeps two promises whoever else writes at the same time: manifests of one commit merge, so that a machine that holds less never takes
// away what the bucket knows; refs move only forward in the time at which machines learned of them. Both use conditional writes where the
// store has them; elsewhere a write is read back and repeated if somebody came between.
package remote

// Package engine carries plans out: it moves blobs between the cache and the bucket and publishes what depends on them, in the order that keeps every
// reader safe. Blobs come before what names them: in the bucket blobs, then the manifest, then refs; in the cache blobs, then links, the listing, the
// marks, then refs.
//
// Every byte is hashed as it passes. Memory does not depend on the sizes of files: transfers stream through buffers of one pool, and the number of
// requests under way is bounded and follows what the store can take. Whatever is interrupted, by a signal, an error or a kill, can be run again and
// carries on from the parts that were finished.
//
// A failure of one blob does not stop the others; it is listed in the [Result], and nothing that needs the blob is published. A failure that would hit every blob
// (wrong credentials, an unreachable store, a full disk, cancellation) ends the operation with an error.
package engine

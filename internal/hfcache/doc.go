// Package hfcache is the local side: a Hugging Face Hub cache folder, as every client of the last years writes it.
//
// A repository's folder holds blobs/ (content, named by the Hub's etag), snapshots/<commit>/<path> (links to blobs), refs/ (names of
// commits), .no_exist/ (paths known to be absent) and trees/ (full listings). Since huggingface_hub 1.32 a blob can itself be a link into a store that all
// repositories share, <hub>/blobs/<pp>/<xet hash>. Hence the rule that this package is built on: to learn what a snapshot's file is, follow exactly one
// hop, to the name in blobs/; to read its bytes, follow all hops.
//
// [Cache.Scan] reads a whole cache into an [Inventory] without hashing. What it does not understand becomes a [Problem] there: nothing is left out
// silently. The writing side publishes blobs, links, trees, marks and refs in the order in which clients rely on them, each by a rename, so that a reader or
// a crash at any instant meets only whole files. Nothing is ever written through a link: every path is opened below the cache's own
// [os.Root], and temporary files have names of our own in blobs/, the one place in which no client of any version is bothered by them.
//
// A [Cache] may be used by many goroutines, and by other processes beside it. Other clients' locks are taken where they help, and never relied on.
package hfcache

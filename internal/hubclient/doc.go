// Package hubclient reads repositories of the Hugging Face Hub, or of a mirror that speaks like it, over HTTP: the commit that a revision means, the listing of a
// commit, and files by commit and path, in ranges.
//
// The token goes to the endpoint and nowhere else: redirects are followed by hand, and another origin (scheme, host or port) gets no Authorization header. Links to a
// content network are used for as long as they work and then asked for again. What fails for a moment is tried again, in this layer alone, and rate limits are
// waited for. A broken stream is resumed where it broke.
//
// Nothing that the Hub says is trusted: bodies are bounded, and names, sizes and digests become values of package hub or are refused. The bytes of files are not verified
// here; whoever takes them knows their digest from the listing.
package hubclient

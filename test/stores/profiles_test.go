package stores

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store/storetest"
)

// service is a profile and how it is tested.
type service struct {
	profile func(t *testing.T, q *quirks) profile
	differs storetest.Options // Besides what the server behind the proxy does.
	busy    bool              // Refuses writes for a moment, so that only a store that retries passes.
	slow    bool              // Makes clients wait for seconds.
	// offences are requests that the service must refuse: without them, a client
	// that never makes them would pass before a proxy that does nothing.
	offences []offence
}

// offence is a request and the code that it is refused with.
type offence struct {
	name   string
	method string
	query  string
	header map[string]string
	code   string
}

// chunks is a request as AWS's own libraries make it by default.
func chunks(code string) offence {
	return offence{"a body with a trailer", http.MethodPut, "", map[string]string{
		"X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Trailer": "x-amz-checksum-crc32", "Content-Encoding": "aws-chunked",
	}, code}
}

func checksum(code string) offence {
	return offence{"a checksum in a header", http.MethodPut, "", map[string]string{"X-Amz-Checksum-Sha256": "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="}, code}
}

// services are those whose differences from S3 are known. What each does is from
// its own documentation of the S3 API and from what its users met.
func services() map[string]service {
	return map[string]service{
		"Backblaze B2": {
			profile: func(*testing.T, *quirks) profile { return profile{refuse: refuseB2} },
			differs: storetest.Options{NoConditions: true},
			offences: []offence{
				checksum("InvalidArgument"), chunks("InvalidArgument"),
				{"put if absent", http.MethodPut, "", map[string]string{"If-None-Match": "*"}, "NotImplemented"},
			},
		},
		"Backblaze B2, busy": {
			profile: func(*testing.T, *quirks) profile { return profile{refuse: refuseBusyB2} },
			differs: storetest.Options{NoConditions: true}, busy: true, slow: true,
		},
		"Cloudflare R2": {
			profile: func(*testing.T, *quirks) profile { return profile{refuse: refuseR2} },
			busy:    true,
			offences: []offence{
				chunks("NotImplemented"),
				{"a body in signed chunks", http.MethodPut, "", map[string]string{"X-Amz-Content-Sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "NotImplemented"},
			},
		},
		"Google Cloud Storage": {
			profile: func(*testing.T, *quirks) profile { return profile{refuse: refuseGoogle} },
			offences: []offence{
				chunks("InvalidArgument"),
				{"signed Accept-Encoding", http.MethodGet, "", map[string]string{
					"Authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, SignedHeaders=accept-encoding;host;x-amz-date, Signature=0",
				}, "SignatureDoesNotMatch"},
			},
		},
		"Ceph": {
			profile:  func(*testing.T, *quirks) profile { return profile{refuse: refuseCeph, rewrite: rewriteCeph} },
			offences: []offence{chunks("XAmzContentSHA256Mismatch")},
		},
		"Hugging Face Storage Buckets": {
			profile: huggingFace,
			differs: storetest.Options{NoMetadata: true},
			offences: []offence{
				checksum("InvalidArgument"), chunks("InvalidArgument"),
				{"a copy", http.MethodPut, "partNumber=1&uploadId=x", map[string]string{"X-Amz-Copy-Source": "/b/k"}, "NotImplemented"},
			},
		},
	}
}

// refuseB2: conditional writes are not implemented, checksum headers are not
// supported (S3-compatible API, "Unsupported Features").
func refuseB2(_ *quirks, r *http.Request) *refusal {
	name := checksummed(r)
	switch {
	case conditional(r):
		return &refusal{"501 to a conditional write", http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented", 0}
	case streamed(r):
		name = "x-amz-trailer"
	case name == "":
		return nil
	}
	return &refusal{"400 to a checksum", http.StatusBadRequest, "InvalidArgument", "Unsupported header '" + name + "' received for this API call.", 0}
}

// refuseBusyB2: a store that has no room for an upload says 503 and when to try again.
func refuseBusyB2(q *quirks, r *http.Request) *refusal {
	const every = 5
	if f := refuseB2(q, r); f != nil || !q.everyPut(r, every) {
		return f
	}
	return &refusal{"503 and Retry-After", http.StatusServiceUnavailable, "ServiceUnavailable", "no tomes available", 1}
}

// refuseR2: all parts but the last are of one size, no signed chunks, and one
// write a second of one key.
func refuseR2(q *quirks, r *http.Request) *refusal {
	switch {
	case streamed(r):
		return &refusal{"501 to a body in chunks", http.StatusNotImplemented, "NotImplemented", r.Header.Get("X-Amz-Content-Sha256") + " not implemented", 0}
	case q.unequal(r):
		return &refusal{"400 to unequal parts", http.StatusBadRequest, "InvalidPart", "All non-trailing parts must have the same length.", 0}
	case q.tooSoon(r):
		return &refusal{"429 to a second write of a key", http.StatusTooManyRequests, "TooManyRequests", "Reduce your concurrent request rate for the same object.", 0}
	}
	return nil
}

// refuseGoogle: no chunks, and Accept-Encoding changes on its way, so that who
// signs it is refused.
func refuseGoogle(_ *quirks, r *http.Request) *refusal {
	if streamed(r) {
		return &refusal{"400 to a body in chunks", http.StatusBadRequest, "InvalidArgument", "Invalid argument.", 0}
	}
	if signed, _, _ := strings.Cut(r.Header.Get("Authorization"), "Signature="); strings.Contains(signed, "accept-encoding") {
		return &refusal{"403 to a signed Accept-Encoding", http.StatusForbidden, "SignatureDoesNotMatch", "Access denied.", 0}
	}
	return nil
}

// refuseCeph: its gateway takes a trailer's marker for a digest that is wrong.
func refuseCeph(_ *quirks, r *http.Request) *refusal {
	if streamed(r) {
		return &refusal{"400 to a body in chunks", http.StatusBadRequest, "XAmzContentSHA256Mismatch", "", 0}
	}
	return nil
}

// rewriteCeph: errors have no message, and ETags in XML no quotes.
func rewriteCeph(q *quirks, resp *http.Response) error {
	if resp.StatusCode >= http.StatusBadRequest {
		return q.edit(resp, "error without a message", func(body []byte) []byte {
			return regexp.MustCompile(`<Message>[^<]*</Message>`).ReplaceAll(body, nil)
		})
	}
	return q.edit(resp, "ETag without quotes", func(body []byte) []byte {
		return regexp.MustCompile(`<ETag>(?:"|&#34;|&quot;)([^<"&]*)(?:"|&#34;|&quot;)</ETag>`).ReplaceAll(body, []byte("<ETag>$1</ETag>"))
	})
}

// huggingFace: a GET of an object leads to a CDN, which knows neither metadata nor
// the service's ETags and must see no credentials; no checksums, no copies of
// parts, only the second kind of listing.
func huggingFace(t *testing.T, q *quirks) profile {
	t.Helper()
	const signature = "X-Amz-Signature=of-the-service"
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if low := strings.ToLower(name); low == "authorization" || low == "cookie" || strings.HasPrefix(low, "x-amz-") {
				q.complain("the CDN is sent %s", name)
			}
		}
		if r.URL.RawQuery != signature {
			http.Error(w, "no signature", http.StatusForbidden)
			return
		}
		bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		f, err := os.Open(filepath.Join(server.Path(bucket), filepath.FromSlash(key)))
		if err != nil {
			http.Error(w, "gone", http.StatusNotFound)
			return
		}
		defer f.Close() //nolint:errcheck // Only read.
		info, err := f.Stat()
		if err != nil {
			http.Error(w, "gone", http.StatusNotFound)
			return
		}
		w.Header().Set("ETag", `"of-the-cdn"`)
		http.ServeContent(w, r, "", info.ModTime(), f)
	}))
	t.Cleanup(cdn.Close)
	return profile{
		refuse: func(_ *quirks, r *http.Request) *refusal {
			query := r.URL.Query()
			switch {
			case r.Header.Get("X-Amz-Copy-Source") != "":
				return &refusal{"501 to a copy", http.StatusNotImplemented, "NotImplemented", "UploadPartCopy is not supported", 0}
			case checksummed(r) != "" || streamed(r):
				return &refusal{"400 to a checksum", http.StatusBadRequest, "InvalidArgument", "checksums are not supported", 0}
			case r.Method == http.MethodGet && !isObject(r) && len(query) > 0 && query.Get("list-type") != "2" && !query.Has("uploads") && !query.Has("location"):
				return &refusal{"501 to the old listing", http.StatusNotImplemented, "NotImplemented", "ListObjects is not supported, use ListObjectsV2", 0}
			}
			return nil
		},
		rewrite: func(_ *quirks, resp *http.Response) error {
			for name := range maps.Clone(resp.Header) {
				if strings.HasPrefix(strings.ToLower(name), "x-amz-meta-") {
					resp.Header.Del(name)
					q.count("metadata dropped")
				}
			}
			r := resp.Request
			if r.Method != http.MethodGet || !isObject(r) || r.URL.RawQuery != "" || resp.StatusCode >= http.StatusMultipleChoices {
				return nil
			}
			q.count("GET redirected")
			_ = resp.Body.Close() // Its bytes come from elsewhere.
			// Another host by name, as clients take another port for the same one.
			location := strings.Replace(cdn.URL, "127.0.0.1", "localhost", 1) + r.URL.EscapedPath() + "?" + signature
			resp.StatusCode, resp.Status = http.StatusFound, "302 Found"
			resp.Header = http.Header{"Location": {location}, "Date": resp.Header.Values("Date"), "Content-Length": {"0"}}
			resp.Body, resp.ContentLength = http.NoBody, 0
			return nil
		},
	}
}

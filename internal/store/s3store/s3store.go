// Package s3store is a bucket of an S3-compatible service. It is the only package that speaks S3.
//
// # What is promised
//
// One call is one request, except where S3 has no request for it: listings are paged, and a HEAD whose refusal says nothing (it has no
// body) is followed by a GET that says why. Nothing is retried here: that is the business of package retrystore alone.
//
// A connection that stops moving bytes is cut and becomes [store.ErrUnavailable], in both directions; so does a body that ends early.
// A slow consumer is not a stall: the clock runs only while the network is waited for.
//
// The digest of an object that is put whole travels as the signed payload hash, so that the service refuses other bytes. Parts are read once,
// hashed nowhere and unsigned: the caller holds the digest of the whole. No checksum headers or trailers are sent, since several services
// refuse them. After a call returns, its body is not read any more.
//
// Through a proxy of [Options] the Range of a GET is sent without being covered by the signature, which S3 allows: a proxy that keeps objects for
// others (Dragonfly's dfdaemon) fetches other ranges than it was asked for, in our name.
//
// Errors name the key, never the query of a request, a signature or a credential.
//
// # Services that differ
//
// A GET may be answered by a redirect to a CDN (Hugging Face Storage Buckets): it is followed without the credentials. The ETag of such an
// answer may be the CDN's, which no condition can be built on: the service itself is then asked by a HEAD, which is a second request. Endpoints may have a path (https://s3.hf.co/namespace).
// Conditional writes are sent where a caller asks for them; a 501 (Backblaze B2) is [store.ErrUnsupported], and remembered, so that
// later ones fail without moving their bodies. Multipart uploads take no conditions: services check them at different moments, or never.
package s3store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	minio "github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Credentials say who asks. The zero value is nobody: requests are not signed, which is enough for a public bucket.
type Credentials struct {
	AccessKey    string
	SecretKey    string
	SessionToken string // may be empty

	// Chain asks, when the keys above are empty, the places that AWS tools look in: the environment, ~/.aws/credentials, web identity,
	// the container and the instance. Finding none is ErrDenied.
	Chain bool
}

// String says who without saying the secret.
func (c Credentials) String() string {
	switch {
	case c.AccessKey != "":
		return "key " + c.AccessKey
	case c.Chain:
		return "chain"
	}
	return "nobody"
}

// GoString is String, for %#v.
func (c Credentials) GoString() string { return c.String() }

// Addressing is where a bucket's name stands in a URL.
type Addressing int

// Styles of addressing.
const (
	AddressAuto    Addressing = iota // as the virtual host on AWS, Google, Aliyun and Backblaze B2, else in the path
	AddressPath                      // https://endpoint/bucket/key
	AddressVirtual                   // https://bucket.endpoint/key
)

// Options say which bucket, and how to reach it.
type Options struct {
	Endpoint    string // URL with scheme http or https; empty for AWS in Region
	Region      string // empty: what the endpoint implies, else us-east-1
	Bucket      string
	Prefix      string // keys are below it; slashes around it do not matter
	Credentials Credentials
	Addressing  Addressing
	Proxy       *url.URL // that all requests for the bucket go through, with scheme http, https or socks5; nil for what HTTPS_PROXY, HTTP_PROXY and NO_PROXY say
	Agent       string   // name/version, the start of the User-Agent header

	MaxConns      int           // connections to the endpoint; 0 means 128
	StallTimeout  time.Duration // how long a connection may move no byte; 0 means 30 s
	AnswerTimeout time.Duration // how long an answer may take once it is asked for; 0 means 1 min. Uploads get twice, completing one ten times that.

	NoConditions   bool // the service is known to ignore or to refuse conditional writes: they are ErrUnsupported without being sent
	MustConditions bool // the service is meant to have conditional writes: refusing one is ErrSetting
	KeepChecksum   bool // objects that are put whole carry their SHA-256 in a header, so that the service keeps and checks it; some refuse the header

	Transport http.RoundTripper // replaces the connection pool, for tests; nil for a real one
}

// Store is a bucket. It implements [store.Store] and [store.Multipart].
type Store struct {
	core         minio.Core
	bucket       string
	prefix       string // empty, or ends with a slash
	secrets      *strings.Replacer
	answer       time.Duration
	noConditions atomic.Bool
	evasive      atomic.Bool // redirects a GET without saying which object it leads to
	mustCond     bool
	checksum     bool
	clock        *clock
	wholeKeys    *atomic.Bool // unfinished uploads are found by their whole key alone
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Multipart = (*Store)(nil)
	_ store.Clocked   = (*Store)(nil)
	_ store.WholeKeys = (*Store)(nil)
)

func badConfig(format string, args ...any) error {
	return &store.Error{Op: "open", Kind: store.ErrBadConfig, Err: fmt.Errorf(format, args...)}
}

// Open checks the options. It sends nothing.
func Open(o Options) (*Store, error) {
	endpoint, err := parseEndpoint(o)
	if err != nil {
		return nil, err
	}
	if o.Bucket == "" {
		return nil, badConfig("no bucket is given")
	}
	if err = s3utils.CheckValidBucketName(o.Bucket); err != nil {
		return nil, badConfig("bucket %q: %w", o.Bucket, err)
	}
	prefix := strings.Trim(o.Prefix, "/")
	if prefix != "" {
		if err = store.CheckKey("open", prefix); err != nil {
			return nil, badConfig("prefix %q: %w", o.Prefix, err)
		}
		prefix += "/"
	}
	if (o.Credentials.AccessKey == "") != (o.Credentials.SecretKey == "") {
		return nil, badConfig("an access key and a secret key go together, and one of them is missing")
	}
	defaults(&o, endpoint)
	creds := newCredentials(o.Credentials)
	base := strings.TrimSuffix(endpoint.Path, "/")
	var (
		theirs    clock
		wholeKeys atomic.Bool
	)
	core, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds:        creds,
		Secure:       endpoint.Scheme == "https",
		Region:       o.Region,
		BucketLookup: lookup(o, endpoint),
		MaxRetries:   1,
		Transport: &transport{
			base: o.Transport, agent: o.Agent, path: base, looseRange: o.Proxy != nil, region: o.Region, creds: creds, stall: o.StallTimeout, clock: &theirs, wholeKeys: &wholeKeys,
		},
	})
	if err != nil {
		return nil, badConfig("endpoint %s: %w", endpoint.Redacted(), err)
	}
	s := &Store{core: *core, bucket: o.Bucket, prefix: prefix, secrets: newRedactor(o.Credentials), answer: o.AnswerTimeout, clock: &theirs}
	s.mustCond, s.checksum, s.wholeKeys = o.MustConditions, o.KeepChecksum, &wholeKeys
	s.noConditions.Store(o.NoConditions)
	return s, nil
}

// parseEndpoint returns the URL that requests go to, without a trailing slash.
func parseEndpoint(o Options) (*url.URL, error) {
	if o.Endpoint == "" {
		if o.Region == "" {
			return nil, badConfig("neither an endpoint nor a region is given")
		}
		return &url.URL{Scheme: "https", Host: "s3." + o.Region + ".amazonaws.com"}, nil
	}
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil:
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // The URL may hold a password.
		}
		return nil, badConfig("the endpoint is no URL: %w", err)
	case u.User != nil:
		return nil, badConfig("the endpoint has a user or password in it")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, badConfig("the endpoint %s has to start with https:// or http://", u.Redacted())
	case u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return nil, badConfig("the endpoint %s has to be a scheme, a host and perhaps a path", u.Redacted())
	}
	return u, nil
}

func defaults(o *Options, endpoint *url.URL) {
	if o.Region == "" {
		o.Region = regionOf(endpoint)
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 128
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = 30 * time.Second
	}
	if o.AnswerTimeout <= 0 {
		o.AnswerTimeout = time.Minute
	}
	if o.Agent == "" {
		o.Agent = "hf-cache-sync"
	}
	if o.Transport == nil {
		o.Transport = newPool(o.MaxConns, o.Proxy)
	}
}

// newPool returns a connection pool. HTTP/1.1 alone, because one connection a request moves more bytes than streams that share one; no
// compression, because the bytes are what is hashed. A peer that is silent is the business of the watch on each request.
func newPool(conns int, through *url.URL) *http.Transport {
	proxy := http.ProxyFromEnvironment
	if through != nil {
		proxy = http.ProxyURL(through)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:               proxy,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: conns,
		MaxConnsPerHost:     conns,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
		Protocols:           protocols,
	}
}

func isB2(endpoint *url.URL) bool {
	host := endpoint.Hostname()
	return strings.HasSuffix(host, ".backblazeb2.com") && strings.HasPrefix(host, "s3.")
}

// regionOf tells a region from the endpoint's name, where it has one.
func regionOf(endpoint *url.URL) string {
	if isB2(endpoint) {
		return strings.TrimSuffix(strings.TrimPrefix(endpoint.Hostname(), "s3."), ".backblazeb2.com")
	}
	if strings.HasSuffix(endpoint.Hostname(), ".r2.cloudflarestorage.com") {
		return "auto"
	}
	if region := s3utils.GetRegionFromURL(*endpoint); region != "" {
		return region
	}
	return "us-east-1"
}

func lookup(o Options, endpoint *url.URL) minio.BucketLookupType {
	switch {
	case o.Addressing == AddressPath, strings.Trim(endpoint.Path, "/") != "":
		return minio.BucketLookupPath
	case o.Addressing == AddressVirtual:
		return minio.BucketLookupDNS
	case isB2(endpoint) && !strings.Contains(o.Bucket, "."):
		return minio.BucketLookupDNS
	}
	return minio.BucketLookupAuto
}

// errNoCredentials says that the chain was asked for in vain.
var errNoCredentials = errors.New("no credentials in the environment, in ~/.aws/credentials or from the machine")

func newCredentials(c Credentials) *credentials.Credentials {
	switch {
	case c.AccessKey != "":
		return credentials.NewStaticV4(c.AccessKey, c.SecretKey, c.SessionToken)
	case c.Chain:
		// Off the cloud, the address of the instance's service answers nobody, slowly.
		quick := &http.Client{
			Timeout:   5 * time.Second,
			Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: time.Second}).DialContext, DisableKeepAlives: true},
		}
		return credentials.New(&chain{credentials.Chain{Providers: []credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: quick},
		}}})
	}
	return credentials.NewStatic("", "", "", credentials.SignatureAnonymous)
}

// chain is a chain that has to have credentials at its end.
type chain struct{ credentials.Chain }

// RetrieveWithCredContext implements [credentials.Provider].
func (c *chain) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	v, err := c.Chain.RetrieveWithCredContext(cc)
	if err == nil && v.AccessKeyID == "" {
		err = errNoCredentials
	}
	return v, err
}

// Retrieve implements [credentials.Provider].
func (c *chain) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

// newRedactor returns what takes credentials out of a service's messages.
func newRedactor(c Credentials) *strings.Replacer {
	var pairs []string
	for _, secret := range []string{c.SecretKey, c.SessionToken, c.AccessKey} {
		if secret != "" {
			pairs = append(pairs, secret, "(redacted)")
		}
	}
	return strings.NewReplacer(pairs...)
}

// String returns the bucket as an s3: URL.
func (s *Store) String() string {
	return (&url.URL{Scheme: "s3", Host: s.bucket, Path: strings.TrimSuffix(s.prefix, "/")}).String()
}

// begin checks what every operation on a key checks, and prepares the context of its requests.
func (s *Store) begin(ctx context.Context, op, key string) (context.Context, *call, error) {
	if err := store.CheckKey(op, key); err != nil {
		return ctx, nil, err
	}
	const longest = 1024 // In S3, with the prefix.
	if len(s.prefix)+len(key) > longest {
		return ctx, nil, &store.Error{Op: op, Key: key, Kind: store.ErrUnsupported, Err: fmt.Errorf("the key is longer than %d bytes", longest)}
	}
	return s.beginAny(ctx, op, key)
}

// beginAny is begin for what need not be a key.
func (s *Store) beginAny(ctx context.Context, op, key string) (context.Context, *call, error) {
	if err := ctx.Err(); err != nil {
		return ctx, nil, &store.Error{Op: op, Key: key, Err: err}
	}
	c := &call{op: op, key: key, answer: s.answer}
	return context.WithValue(ctx, callKey{}, c), c, nil
}

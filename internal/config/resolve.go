package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// ResolveRemote returns where the bucket is. flag is the value of --remote, or empty if it was not given; file may be nil.
//
// The bucket is named by the flag, by HF_CACHE_SYNC_REMOTE, by B2_BUCKET, or by the file's storage.url or storage.bucket. It lies on the endpoint that B2_ENDPOINT, the
// file's storage.endpoint, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL names. The region is that of B2_REGION, else what an endpoint from the environment tells, else the
// file's storage.region, else what the file's endpoint tells, else AWS_REGION or AWS_DEFAULT_REGION; a region in the form of Backblaze B2 in turn tells an endpoint.
// The AWS variables come last because they are set for other work, whereas the file is about this bucket.
// HF_CACHE_SYNC_PREFIX, else the file's team.prefix, applies where the URL has no prefix of its own; below a folder it is a folder.
//
// It fails with [ErrNoRemote] if nothing names a bucket.
func ResolveRemote(flag string, env Lookup, file *File) (Remote, error) {
	prefix, _ := first(fromEnv(env, "HF_CACHE_SYNC_PREFIX"), file.get("team.prefix"))
	clean, err := cleanPrefix(prefix.value)
	if err != nil {
		return Remote{}, fmt.Errorf("%s: %w", prefix.origin, err)
	}
	remote, err := named(flag, env, file)
	if err != nil {
		return Remote{}, err
	}
	if remote.Kind == Folder {
		if clean != "" {
			remote.Path = filepath.Join(remote.Path, filepath.FromSlash(clean))
		}
		return remote, nil
	}
	if remote.Prefix == "" {
		remote.Prefix = clean
	}
	if err = remote.locate(env, file); err != nil {
		return Remote{}, err
	}
	if remote.Origin == "B2_BUCKET" && remote.Endpoint == "" && remote.Region == "" {
		// To go on would be to show the keys of one service to another.
		return Remote{}, errors.New("B2_BUCKET is set, but nothing says where the bucket is: set B2_ENDPOINT, as in https://s3.us-west-004.backblazeb2.com, or B2_REGION")
	}
	return remote, nil
}

// named returns the remote as far as that which names the bucket says it.
func named(flag string, env Lookup, file *File) (Remote, error) {
	folder, bucket := file.get("storage.url"), file.get("storage.bucket")
	if s, ok := first(setting{strings.TrimSpace(flag), "--remote"}, fromEnv(env, "HF_CACHE_SYNC_REMOTE")); ok {
		return parsed(s)
	}
	if s := fromEnv(env, "B2_BUCKET"); s.value != "" {
		return bucketOnly(s)
	}
	switch {
	case folder.value != "" && bucket.value != "":
		return Remote{}, fmt.Errorf("%s: storage.bucket names a bucket as well: keep one of the two", folder.origin)
	case folder.value != "":
		return parsed(folder)
	case bucket.value != "":
		return bucketOnly(bucket)
	}
	return Remote{}, ErrNoRemote
}

func parsed(s setting) (Remote, error) {
	remote, err := ParseRemote(s.value)
	if err != nil {
		return Remote{}, fmt.Errorf("%s: %w", s.origin, err)
	}
	remote.Origin = s.origin
	return remote, nil
}

func bucketOnly(s setting) (Remote, error) {
	if err := checkBucket(s.value); err != nil {
		return Remote{}, fmt.Errorf("%s: %w", s.origin, err)
	}
	return Remote{Kind: S3, Bucket: s.value, Origin: s.origin}, nil
}

// locate finds the server and the region of an S3 bucket.
func (r *Remote) locate(env Lookup, file *File) error {
	s, ok := first(fromEnv(env, "B2_ENDPOINT"), file.get("storage.endpoint"), fromEnv(env, "AWS_ENDPOINT_URL_S3"), fromEnv(env, "AWS_ENDPOINT_URL"))
	if ok {
		endpoint, err := parseEndpoint(s.value)
		if err != nil {
			return fmt.Errorf("%s: %w", s.origin, err)
		}
		r.Endpoint, r.EndpointOrigin = endpoint, s.origin
	}
	implied := setting{impliedRegion(r.Endpoint), "endpoint"}
	region := []setting{fromEnv(env, "B2_REGION"), implied, file.get("storage.region")}
	if r.EndpointOrigin == file.get("storage.endpoint").origin { // what the file says belongs together
		region[1], region[2] = region[2], region[1]
	}
	// What the endpoint says comes before the AWS variables: a developer who has AWS_REGION set for other work signs for the bucket's region all the same.
	s, _ = first(append(region, fromEnv(env, "AWS_REGION"), fromEnv(env, "AWS_DEFAULT_REGION"))...)
	if s.value != "" && !regexp.MustCompile(`^[A-Za-z0-9-]+$`).MatchString(s.value) {
		return fmt.Errorf("%s: %q is not the name of a region", s.origin, s.value)
	}
	r.Region, r.RegionOrigin = s.value, s.origin
	if r.Endpoint == "" {
		if r.Endpoint = impliedEndpoint(s.value); r.Endpoint != "" {
			r.EndpointOrigin = "region"
		}
	}
	return nil
}

// parseEndpoint completes and checks the URL of a server. A path is allowed: that of a Hugging Face Storage Bucket is the namespace.
func parseEndpoint(endpoint string) (string, error) {
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	switch {
	case strings.Contains(endpoint, "@"):
		return "", errSecretInURL
	case err != nil: // it quotes the URL, which may hold anything
		return "", errors.New("the endpoint is not a URL: write it as in https://s3.us-west-004.backblazeb2.com")
	case u.Scheme != "https" && u.Scheme != "http":
		return "", fmt.Errorf("the endpoint must begin with https:// or http://, not %s://", u.Scheme)
	case u.Hostname() == "":
		return "", errors.New("the endpoint names no host: write it as in https://s3.us-west-004.backblazeb2.com")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("the endpoint must not contain ? or #")
	}
	u.Host = strings.ToLower(u.Host)
	return strings.TrimRight(u.String(), "/"), nil
}

// impliedRegion returns the region that the name of a server tells, or the empty string.
func impliedRegion(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	host := u.Hostname()
	if m := regexp.MustCompile(`(?:^|\.)s3\.([a-z0-9-]+)\.backblazeb2\.com$`).FindStringSubmatch(host); m != nil {
		return m[1]
	}
	// Virtual-hosted, dual-stack, FIPS and VPC names all have the region after the label that begins with "s3"; the oldest name has none.
	if m := regexp.MustCompile(`(?:^|\.)s3(?:-fips)?(?:\.dualstack)?(?:\.([a-z0-9-]+))?(?:\.vpce)?\.amazonaws\.com(?:\.cn)?$`).FindStringSubmatch(host); m != nil {
		if m[1] == "" {
			return "us-east-1"
		}
		return m[1]
	}
	switch {
	case strings.HasSuffix(host, ".r2.cloudflarestorage.com"):
		return "auto"
	case host == "s3.hf.co":
		return "us-east-1"
	}
	return ""
}

// impliedEndpoint returns the server that a region tells. Only Backblaze's regions end in three digits. For those of AWS there is nothing to return:
// no endpoint means AWS.
func impliedEndpoint(region string) string {
	if regexp.MustCompile(`^[a-z]+-[a-z]+-\d{3}$`).MatchString(region) {
		return "https://s3." + region + ".backblazeb2.com"
	}
	return ""
}

package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// ResolveRemote returns where the bucket is. flag is the value of --remote, or empty if it was not given.
//
// The bucket is named by the flag, by HF_CACHE_SYNC_REMOTE, or by B2_BUCKET, and lies on the endpoint that B2_ENDPOINT, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL
// names. The region is that of B2_REGION, AWS_REGION or AWS_DEFAULT_REGION, else that which the endpoint tells; a region in the form of Backblaze B2 in turn
// tells an endpoint. HF_CACHE_SYNC_PREFIX applies where the URL has no prefix of its own; below a folder it is a folder.
//
// It fails with [ErrNoRemote] if nothing names a bucket.
func ResolveRemote(flag string, env Lookup) (Remote, error) {
	prefix := fromEnv(env, "HF_CACHE_SYNC_PREFIX")
	clean, err := cleanPrefix(prefix.value)
	if err != nil {
		return Remote{}, fmt.Errorf("%s: %w", prefix.origin, err)
	}
	remote, err := named(flag, env)
	if err != nil {
		return Remote{}, err
	}
	if remote.Kind == File {
		if clean != "" {
			remote.Path = filepath.Join(remote.Path, filepath.FromSlash(clean))
		}
		return remote, nil
	}
	if remote.Prefix == "" {
		remote.Prefix = clean
	}
	remote.Endpoint, remote.Region, err = location(env)
	if err != nil {
		return Remote{}, err
	}
	if remote.Origin == "B2_BUCKET" && remote.Endpoint == "" && remote.Region == "" {
		// To go on would be to show the keys of one service to another.
		return Remote{}, errors.New("B2_BUCKET is set, but nothing says where the bucket is: set B2_ENDPOINT, as in https://s3.us-west-004.backblazeb2.com, or B2_REGION")
	}
	return remote, nil
}

// named returns the remote as far as that which names the bucket says it.
func named(flag string, env Lookup) (Remote, error) {
	if s, ok := first(setting{strings.TrimSpace(flag), "--remote"}, fromEnv(env, "HF_CACHE_SYNC_REMOTE")); ok {
		remote, err := ParseRemote(s.value)
		if err != nil {
			return Remote{}, fmt.Errorf("%s: %w", s.origin, err)
		}
		remote.Origin = s.origin
		return remote, nil
	}
	if s, ok := first(fromEnv(env, "B2_BUCKET")); ok {
		if err := checkBucket(s.value); err != nil {
			return Remote{}, fmt.Errorf("%s: %w", s.origin, err)
		}
		return Remote{Kind: S3, Bucket: s.value, Origin: s.origin}, nil
	}
	return Remote{}, ErrNoRemote
}

// location returns the server and the region of an S3 bucket.
func location(env Lookup) (endpoint, region string, err error) {
	if s, ok := first(fromEnv(env, "B2_ENDPOINT"), fromEnv(env, "AWS_ENDPOINT_URL_S3"), fromEnv(env, "AWS_ENDPOINT_URL")); ok {
		if endpoint, err = parseEndpoint(s.value); err != nil {
			return "", "", fmt.Errorf("%s: %w", s.origin, err)
		}
	}
	s, _ := first(
		// What the endpoint says comes before the AWS variables: a developer who has AWS_REGION set for other work signs for the bucket's region all the same.
		fromEnv(env, "B2_REGION"), setting{impliedRegion(endpoint), "endpoint"},
		fromEnv(env, "AWS_REGION"), fromEnv(env, "AWS_DEFAULT_REGION"),
	)
	if s.value != "" && !regexp.MustCompile(`^[A-Za-z0-9-]+$`).MatchString(s.value) {
		return "", "", fmt.Errorf("%s: %q is not the name of a region", s.origin, s.value)
	}
	if endpoint == "" {
		endpoint = impliedEndpoint(s.value)
	}
	return endpoint, s.value, nil
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

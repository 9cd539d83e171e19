package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// ErrNoRemote means that nothing says where the bucket is.
var ErrNoRemote = errors.New("no bucket is configured: give --remote s3://bucket[/prefix] or --remote file:///path, set HF_CACHE_SYNC_REMOTE or B2_BUCKET, or write a configuration file with hf-cache-sync init")

// errSecretInURL does not say in which URL: it would have to be printed.
var errSecretInURL = errors.New("a user name or password in the URL is not accepted, because URLs end up in logs: " +
	"set B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")

const remoteForms = "s3://bucket[/prefix] or file:///path"

// RemoteKind says what a bucket is made of.
type RemoteKind uint8

// The kinds of remote.
const (
	// Folder is a plain folder, written file:///path.
	Folder RemoteKind = iota + 1
	// S3 is a bucket of an S3-compatible store.
	S3
)

// String returns the URL scheme of the kind.
func (k RemoteKind) String() string {
	switch k {
	case Folder:
		return "file"
	case S3:
		return "s3"
	}
	return "unknown"
}

// Remote says where the bucket is. It holds no credentials.
type Remote struct {
	Kind RemoteKind
	// Path is that of a Folder, in the form of the operating system.
	Path string
	// Endpoint of an S3 is a URL with a scheme and without a slash at its end. Empty means AWS, in Region.
	Endpoint string
	Bucket   string
	// Prefix is what all keys begin with, without slashes at its ends; empty means none.
	Prefix string
	// Region may be empty if nothing says it.
	Region string
	// Origin is what named the bucket or the folder. The other origins are empty where nothing gave a value.
	Origin, EndpointOrigin, RegionOrigin Origin
}

// String returns the remote as a URL that [ParseRemote] reads. The endpoint and the region are not in it.
func (r Remote) String() string {
	switch r.Kind {
	case Folder:
		path := filepath.ToSlash(r.Path)
		if !strings.HasPrefix(path, "/") {
			path = "/" + path // C:/x
		}
		return (&url.URL{Scheme: "file", Path: path}).String()
	case S3:
		if r.Prefix == "" {
			return "s3://" + r.Bucket
		}
		return "s3://" + r.Bucket + "/" + r.Prefix
	}
	return "(no remote)"
}

// ParseRemote reads s3://bucket[/prefix] or file:///path. Of the result only Kind and what the URL holds are set.
//
// The path of a file URL may be percent-encoded. The prefix is taken literally, as the tools for S3 do. An error never holds a password that somebody wrote into
// the URL.
func ParseRemote(remote string) (Remote, error) {
	return parseRemote(remote, runtime.GOOS == "windows")
}

func parseRemote(remote string, windows bool) (Remote, error) {
	scheme, rest, ok := strings.Cut(remote, ":")
	if !ok || !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+$`).MatchString(scheme) || !strings.HasPrefix(rest, "/") {
		return Remote{}, barePath(remote, windows)
	}
	switch strings.ToLower(scheme) {
	case "s3":
		return parseS3(rest)
	case "file":
		return parseFile(rest, windows)
	}
	return Remote{}, fmt.Errorf("a remote cannot be of the kind %q: write %s", scheme+":", remoteForms)
}

// barePath is the error for what has no scheme.
func barePath(remote string, windows bool) error {
	drive := hasDrive(remote)
	path := remote
	if drive || windows {
		path = strings.ReplaceAll(path, `\`, "/")
	}
	switch {
	case remote == "":
		return errors.New("the remote is empty: write " + remoteForms)
	case drive:
		return fmt.Errorf("the remote %q is not a URL: write file:///%s for the folder", remote, path)
	case strings.HasPrefix(path, "/"):
		return fmt.Errorf("the remote %q is not a URL: write file://%s for the folder", remote, path)
	case strings.ContainsAny(remote, "@:"): // it may be key:secret@bucket
		return errors.New("the remote is not a URL: write " + remoteForms)
	}
	return fmt.Errorf("the remote %q is not a URL: write s3://%s for a bucket, or file:// and the absolute path for a folder", remote, strings.TrimLeft(path, "./"))
}

// hasDrive says whether a path begins like C:\x or C:/x.
func hasDrive(path string) bool { return regexp.MustCompile(`^[A-Za-z]:([/\\]|$)`).MatchString(path) }

// parseS3 reads what follows "s3:".
func parseS3(rest string) (Remote, error) {
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return Remote{}, errors.New("an S3 remote is written s3://bucket[/prefix], with two slashes")
	}
	// The @ is searched in all of it: secret keys contain slashes.
	if user, _, found := strings.Cut(rest, "@"); found && (strings.Contains(user, ":") || !strings.Contains(user, "/")) {
		return Remote{}, errSecretInURL
	}
	bucket, prefix, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(rest, "?#") {
		return Remote{}, errors.New("an S3 remote is written s3://bucket[/prefix], without ? or #: set the endpoint and the region in the environment")
	}
	if err := checkBucket(bucket); err != nil {
		return Remote{}, err
	}
	prefix, err := cleanPrefix(prefix)
	return Remote{Kind: S3, Bucket: bucket, Prefix: prefix}, err
}

// checkBucket accepts what any store accepts: some allow capitals and underscores.
func checkBucket(name string) error {
	switch {
	case name == "":
		return errors.New("the S3 remote names no bucket: write s3://bucket[/prefix]")
	case strings.ContainsAny(name, ":@"): // host:port, or a piece of key:secret
		return errors.New("the name of the bucket is not valid: write s3://bucket[/prefix], and name the server in B2_ENDPOINT or AWS_ENDPOINT_URL_S3")
	case !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`).MatchString(name):
		return fmt.Errorf("the name of the bucket, %q, is not valid: 3 to 63 letters, digits, dots, hyphens and underscores, with a letter or digit at each end", name)
	}
	return nil
}

// cleanPrefix takes the slashes from the ends of a prefix and refuses what a folder or some stores would resolve or refuse.
func cleanPrefix(prefix string) (string, error) {
	prefix = strings.Trim(prefix, "/")
	if prefix == "" {
		return "", nil
	}
	for part := range strings.SplitSeq(prefix, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\\\x00\r\n") {
			return "", fmt.Errorf("the prefix %q is not valid: it must not contain an empty part, a . or .. part, or a backslash", prefix)
		}
	}
	return prefix, nil
}

// parseFile reads what follows "file:". RFC 8089 allows one slash or three, or "localhost" as the host.
func parseFile(rest string, windows bool) (Remote, error) {
	path := rest
	if authority, ok := strings.CutPrefix(rest, "//"); ok {
		host, tail, _ := strings.Cut(authority, "/")
		switch {
		case strings.Contains(host, "@"):
			return Remote{}, errSecretInURL
		case hasDrive(host):
			return Remote{}, fmt.Errorf("a folder on a drive is written with three slashes: file:///%s", authority)
		case strings.Contains(host, ":"): // perhaps the beginning of user:password
			return Remote{}, errors.New("a file remote names no host: write file:///path")
		case host != "" && !strings.EqualFold(host, "localhost"):
			return Remote{}, fmt.Errorf("the folder of a file remote must be absolute, as in file:///path: %q stands where a host would", host)
		}
		path = "/" + tail
	}
	if strings.ContainsAny(path, "?#") {
		return Remote{}, errors.New("a file remote is written file:///path: a ? or # in the path is written %3F or %23")
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return Remote{}, errors.New("a file remote is written file:///path: a % in the path is written %25")
	}
	if strings.ContainsRune(path, 0) {
		return Remote{}, errors.New("the path of the file remote contains a zero byte")
	}
	if drive := strings.TrimLeft(path, "/"); hasDrive(drive) {
		if !windows {
			return Remote{}, fmt.Errorf("the file remote %q is on a drive of Windows, and this is another system", drive)
		}
		if len(drive) <= len("C:/") {
			return Remote{}, errors.New("the file remote is a whole drive: name a folder")
		}
		return Remote{Kind: Folder, Path: strings.ReplaceAll(strings.TrimRight(drive, "/"), "/", `\`)}, nil
	}
	path = strings.TrimRight(path, "/")
	switch {
	case path == "": // more likely a variable that was not set than a wish
		return Remote{}, errors.New("the file remote names no folder: write file:///path")
	case windows:
		return Remote{}, errors.New("the file remote names no drive: write file:///C:/path")
	}
	return Remote{Kind: Folder, Path: path}, nil
}

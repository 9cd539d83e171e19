package doctor

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Settings is what the configuration comes to.
type Settings struct {
	File        string // the path of the configuration file; empty if there is none
	FileErr     error  // why it cannot be read or used
	FileWarning string // that others can read the secret in it

	Remote    config.Remote
	RemoteErr error // why there is none

	Overlap error // that the bucket's folder and the cache's are not apart

	Proxy    config.Proxy // that the bucket is reached through
	ProxyErr error        // why what is given is none

	Credentials config.Origin // of the pair that is used, or of the order to look for one; never the pair itself
	HalfPairs   []string      // the warnings of config.ResolveCredentials
}

func (s *Settings) rows(bucket *Bucket) Report {
	report := Report{s.fileRow()}
	switch {
	case s.RemoteErr != nil:
		detail, hint := s.RemoteErr.Error(), "hf-cache-sync help says what a remote looks like"
		if errors.Is(s.RemoteErr, config.ErrNoRemote) {
			detail = "nothing says which"
			hint = "hf-cache-sync init writes a configuration file; or give --remote s3://bucket[/prefix] or --remote file:///path, or set HF_CACHE_SYNC_REMOTE or B2_BUCKET"
		}
		return append(report,
			Row{"bucket", Fail, detail, hint}, skipped("endpoint"), skipped("region"), skipped("prefix"), s.credentialsRow(bucket))
	case s.Overlap != nil:
		return append(report, Row{"bucket", Fail, s.Overlap.Error(), "keep the two apart: name another folder with --remote file:///… or --cache-dir"})
	case s.Remote.Kind == config.Folder: // the rest is about services
		return append(report, Row{Name: "bucket", Detail: s.Remote.String() + from(s.Remote.Origin)})
	}
	report = append(report,
		Row{Name: "bucket", Detail: s.Remote.Bucket + from(s.Remote.Origin)},
		s.endpointRow(), s.regionRow(),
		Row{Name: "prefix", Detail: cmp.Or(s.Remote.Prefix, "none")})
	if s.ProxyErr != nil || s.Proxy.URL != nil {
		report = append(report, s.proxyRow())
	}
	return append(report, s.credentialsRow(bucket))
}

// from says where a value comes from.
func from(origin config.Origin) string {
	if origin == "" {
		origin = config.Default
	}
	return " (from " + string(origin) + ")"
}

func (s *Settings) fileRow() Row {
	const name = "config file"
	switch {
	case s.FileErr != nil:
		return Row{name, Fail, s.FileErr.Error(), "correct the file; until then only doctor runs, and it goes on here as if there were none"}
	case s.FileWarning != "":
		return Row{Name: name, Status: Warn, Detail: s.FileWarning}
	case s.File == "":
		return Row{Name: name, Detail: "none; hf-cache-sync init writes one"}
	}
	return Row{Name: name, Detail: s.File}
}

func (s *Settings) endpointRow() Row {
	const name = "endpoint"
	r := s.Remote
	if r.Endpoint == "" {
		return Row{Name: name, Detail: "that of AWS"}
	}
	row := Row{Name: name, Detail: r.Endpoint + from(r.EndpointOrigin)}
	if u, err := url.Parse(r.Endpoint); err == nil && u.Scheme == "http" && !local(u.Hostname()) {
		row.Status = Warn
		row.Detail += ", which is not encrypted"
		row.Hint = "use https:// if the service has it: everybody on the way can read what is sent"
	}
	return row
}

// local says whether a host is in this machine or in this house.
func local(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
	}
	return host == "localhost" || !strings.Contains(host, ".") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal")
}

func (s *Settings) regionRow() Row {
	r := s.Remote
	switch {
	case r.Region != "":
		return Row{Name: "region", Detail: r.Region + from(r.RegionOrigin)}
	case r.Endpoint == "":
		return Row{"region", Fail, "not given, and without an endpoint it says which service is meant", "set B2_REGION and B2_ENDPOINT, or AWS_REGION"}
	}
	return Row{Name: "region", Detail: "not given: us-east-1, as most services have it"}
}

func (s *Settings) proxyRow() Row {
	const name = "proxy"
	if s.ProxyErr != nil {
		return Row{name, Fail, s.ProxyErr.Error(), "correct it, or leave it out: HTTPS_PROXY, HTTP_PROXY and NO_PROXY then apply"}
	}
	return Row{Name: name, Detail: s.Proxy.String() + from(s.Proxy.Origin) + "; HTTPS_PROXY and NO_PROXY do not apply"}
}

func (s *Settings) credentialsRow(bucket *Bucket) Row {
	row := Row{Name: "credentials", Detail: "source=" + string(s.Credentials)}
	const give = "set B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	if s.Credentials == "aws_chain" {
		row.Detail += ", the places that AWS tools look in"
	}
	if len(s.HalfPairs) > 0 {
		row.Status, row.Hint = Warn, "set both halves of a pair, or neither"
	}
	if bucket != nil && errors.Is(bucket.ListErr, store.ErrNoCredentials) {
		row.Status, row.Detail, row.Hint = Fail, "source=none", give
	}
	if len(s.HalfPairs) > 0 {
		row.Detail += "; " + strings.Join(s.HalfPairs, "; ")
	}
	return row
}

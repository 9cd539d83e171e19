package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

func TestResolveRemote(t *testing.T) {
	const b2 = "https://s3.us-west-004.backblazeb2.com"
	for _, c := range []struct {
		name, flag string
		env        vars
		want       config.Remote
	}{
		{
			"flag wins", "s3://flag/p",
			vars{"HF_CACHE_SYNC_REMOTE": "s3://own", "B2_BUCKET": "b2b", "AWS_REGION": "eu-west-1"},
			config.Remote{Kind: config.S3, Bucket: "flag", Prefix: "p", Region: "eu-west-1", Origin: "--remote"},
		},
		{
			"own variable", "",
			vars{"HF_CACHE_SYNC_REMOTE": " s3://own ", "B2_BUCKET": "b2b"},
			config.Remote{Kind: config.S3, Bucket: "own", Origin: "HF_CACHE_SYNC_REMOTE"},
		},
		{
			"a folder takes nothing from S3", "",
			vars{"HF_CACHE_SYNC_REMOTE": "file:///mnt/hf", "B2_BUCKET": "b2b", "B2_ENDPOINT": "a bad one", "AWS_REGION": "eu-west-1"},
			config.Remote{Kind: config.Folder, Path: "/mnt/hf", Origin: "HF_CACHE_SYNC_REMOTE"},
		},
		{
			"B2 in three variables", "",
			vars{"HF_CACHE_SYNC_REMOTE": "", "B2_BUCKET": "b2b", "B2_ENDPOINT": b2 + "/", "B2_REGION": "us-west-004"},
			config.Remote{Kind: config.S3, Bucket: "b2b", Endpoint: b2, Region: "us-west-004", Origin: "B2_BUCKET"},
		},
		{
			"region from the endpoint", "",
			vars{"B2_BUCKET": "b2b", "B2_ENDPOINT": "S3.us-west-004.backblazeb2.com"},
			config.Remote{Kind: config.S3, Bucket: "b2b", Endpoint: b2, Region: "us-west-004", Origin: "B2_BUCKET"},
		},
		{
			"endpoint from the region", "",
			vars{"B2_BUCKET": "b2b", "B2_REGION": "us-west-004"},
			config.Remote{Kind: config.S3, Bucket: "b2b", Endpoint: b2, Region: "us-west-004", Origin: "B2_BUCKET"},
		},
		{
			"a region of AWS leaves the endpoint empty", "",
			vars{"B2_BUCKET": "b2b", "AWS_DEFAULT_REGION": "eu-west-1"},
			config.Remote{Kind: config.S3, Bucket: "b2b", Region: "eu-west-1", Origin: "B2_BUCKET"},
		},
		{
			"order of the endpoints", "s3://bucket",
			vars{"AWS_ENDPOINT_URL": "http://localhost:1", "AWS_ENDPOINT_URL_S3": "http://localhost:2", "B2_ENDPOINT": "http://localhost:3"},
			config.Remote{Kind: config.S3, Bucket: "bucket", Endpoint: "http://localhost:3", Origin: "--remote"},
		},
		{
			"the endpoint for S3 before that for all", "s3://bucket",
			vars{"AWS_ENDPOINT_URL": "http://localhost:1", "AWS_ENDPOINT_URL_S3": "http://localhost:2", "B2_ENDPOINT": ""},
			config.Remote{Kind: config.S3, Bucket: "bucket", Endpoint: "http://localhost:2", Origin: "--remote"},
		},
		{
			"the endpoint for all", "s3://bucket",
			vars{"AWS_ENDPOINT_URL": "localhost:9000"},
			config.Remote{Kind: config.S3, Bucket: "bucket", Endpoint: "https://localhost:9000", Origin: "--remote"},
		},
		{
			"order of the regions", "s3://bucket",
			vars{"B2_REGION": "one", "AWS_REGION": "two", "AWS_DEFAULT_REGION": "three", "B2_ENDPOINT": b2},
			config.Remote{Kind: config.S3, Bucket: "bucket", Endpoint: b2, Region: "one", Origin: "--remote"},
		},
		{
			"the endpoint's region before that of AWS", "s3://bucket",
			vars{"AWS_REGION": "two", "B2_ENDPOINT": "https://s3.us-west-004.backblazeb2.com"},
			config.Remote{
				Kind: config.S3, Bucket: "bucket", Endpoint: "https://s3.us-west-004.backblazeb2.com", Region: "us-west-004", Origin: "--remote",
			},
		},
		{
			"the region of AWS before its default", "s3://bucket",
			vars{"AWS_REGION": "two", "AWS_DEFAULT_REGION": "three"},
			config.Remote{Kind: config.S3, Bucket: "bucket", Region: "two", Origin: "--remote"},
		},
		{
			"a namespace in the endpoint", "s3://bucket",
			vars{"AWS_ENDPOINT_URL_S3": "https://s3.hf.co/my-org/"},
			config.Remote{Kind: config.S3, Bucket: "bucket", Endpoint: "https://s3.hf.co/my-org", Region: "us-east-1", Origin: "--remote"},
		},
		{
			"prefix", "s3://bucket/",
			vars{"HF_CACHE_SYNC_PREFIX": "/team/a/"},
			config.Remote{Kind: config.S3, Bucket: "bucket", Prefix: "team/a", Origin: "--remote"},
		},
		{
			"the prefix of the URL wins", "s3://bucket/mine",
			vars{"HF_CACHE_SYNC_PREFIX": "team"},
			config.Remote{Kind: config.S3, Bucket: "bucket", Prefix: "mine", Origin: "--remote"},
		},
		{
			"prefix below a folder", "file:///mnt/hf",
			vars{"HF_CACHE_SYNC_PREFIX": "team"},
			config.Remote{Kind: config.Folder, Path: "/mnt/hf/team", Origin: "--remote"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := config.ResolveRemote(c.flag, c.env.lookup, nil)
			if err != nil {
				t.Fatal(err)
			}
			got.EndpointOrigin, got.RegionOrigin = "", "" // a test of their own has them
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEndpointsThatTellARegion(t *testing.T) {
	got := map[string]string{}
	want := map[string]string{
		"s3.us-west-004.backblazeb2.com":                      "us-west-004",
		"bucket.s3.eu-central-003.backblazeb2.com":            "eu-central-003",
		"s3.eu-west-1.amazonaws.com":                          "eu-west-1",
		"http://s3.dualstack.eu-west-1.amazonaws.com:80":      "eu-west-1",
		"s3-fips.us-gov-west-1.amazonaws.com":                 "us-gov-west-1",
		"s3.cn-north-1.amazonaws.com.cn":                      "cn-north-1",
		"bucket.vpce-1a2b-x.s3.us-east-2.vpce.amazonaws.com":  "us-east-2",
		"s3.amazonaws.com":                                    "us-east-1",
		"0123abcd.r2.cloudflarestorage.com":                   "auto",
		"0123abcd.eu.r2.cloudflarestorage.com":                "auto",
		"s3.hf.co/org":                                        "us-east-1",
		"s3.us-west-004.backblazeb2.com.example":              "",
		"nots3.eu-west-1.amazonaws.com":                       "",
		"minio.example:9000":                                  "",
		"https://example.com/s3.eu-west-1.amazonaws.com":      "",
		"https://r2.cloudflarestorage.com.example/a.s3.hf.co": "",
	}
	for endpoint := range want {
		r, err := config.ResolveRemote("s3://bucket", vars{"B2_ENDPOINT": endpoint}.lookup, nil)
		if err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
		got[endpoint] = r.Region
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestResolveRemoteErrors(t *testing.T) {
	for _, c := range []struct {
		name, flag string
		env        vars
		want       string
	}{
		{"bad flag", "/mnt", nil, "--remote: "},
		{"bad variable", "", vars{"HF_CACHE_SYNC_REMOTE": "/mnt"}, "HF_CACHE_SYNC_REMOTE: "},
		{"bad bucket", "", vars{"B2_BUCKET": "s3://x"}, "B2_BUCKET: "},
		{"bad prefix", "s3://bucket", vars{"HF_CACHE_SYNC_PREFIX": "a/../b"}, "HF_CACHE_SYNC_PREFIX: "},
		{"bad region", "s3://bucket", vars{"AWS_REGION": "a b"}, `AWS_REGION: "a b" is not the name of a region`},
		{"endpoint scheme", "s3://bucket", vars{"B2_ENDPOINT": "ftp://x"}, "B2_ENDPOINT: the endpoint must begin with https:// or http://, not ftp://"},
		{"endpoint without host", "s3://bucket", vars{"AWS_ENDPOINT_URL": "https://:9000"}, "AWS_ENDPOINT_URL: the endpoint names no host"},
		{"bucket of B2 without a place", "", vars{"B2_BUCKET": "b2b"}, "set B2_ENDPOINT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := config.ResolveRemote(c.flag, c.env.lookup, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, config.ErrNoRemote) {
				t.Errorf("got %+v, %v; want an error with %q", got, err, c.want)
			}
		})
	}
	_, err := config.ResolveRemote("", vars{"B2_BUCKET": "", "HF_CACHE_SYNC_REMOTE": " ", "B2_ENDPOINT": "https://x"}.lookup, nil)
	if !errors.Is(err, config.ErrNoRemote) {
		t.Errorf("got %v, want ErrNoRemote", err)
	}
}

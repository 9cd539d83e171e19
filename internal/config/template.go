package config

import (
	"fmt"
	"strings"
	"text/template"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Provider is a kind of store that a configuration can be written for.
type Provider struct {
	Name  string // what --provider says
	Title string // what people call it
	// Endpoint is the pattern of its URL, with REGION, ACCOUNT or NAMESPACE where something has to be filled in.
	Endpoint string
	Region   string // the usual one, or the only one
	Keys     string // what its two keys are called there
}

// Providers returns all of them; the first is the default.
func Providers() []Provider {
	return []Provider{
		{"b2", "Backblaze B2", "https://s3.REGION.backblazeb2.com", "us-west-004", "application key ID and application key"},
		{"aws", "AWS S3", "https://s3.REGION.amazonaws.com", "us-east-1", "access key ID and secret access key"},
		{"r2", "Cloudflare R2", "https://ACCOUNT.r2.cloudflarestorage.com", "auto", "access key ID and secret access key of an R2 API token"},
		{"minio", "MinIO or another S3-compatible server", "http://localhost:9000", "us-east-1", "access key and secret key"},
		{"hf", "a Hugging Face Storage Bucket", "https://s3.hf.co/NAMESPACE", "us-east-1", "access key ID and secret access key"},
		{"file", "a folder", "", "", ""},
	}
}

// Blank is what is to be filled into the endpoint's pattern besides the region: "ACCOUNT", "NAMESPACE" or nothing.
func (p Provider) Blank() string {
	for _, blank := range []string{"ACCOUNT", "NAMESPACE"} {
		if strings.Contains(p.Endpoint, blank) {
			return blank
		}
	}
	return ""
}

// Fill is the endpoint with its blanks filled in. Empty values leave the blank standing, for the user to see.
func (p Provider) Fill(region, blank string) string {
	endpoint := p.Endpoint
	if region != "" {
		endpoint = strings.Replace(endpoint, "REGION", region, 1)
	}
	if blank != "" && p.Blank() != "" {
		endpoint = strings.Replace(endpoint, p.Blank(), blank, 1)
	}
	return endpoint
}

// RegionOf is the region that an endpoint tells, else the provider's usual one. Two regions in one file would be one too many.
func (p Provider) RegionOf(endpoint string) string {
	if full, err := parseEndpoint(endpoint); err == nil {
		if region := impliedRegion(full); region != "" {
			return region
		}
	}
	return p.Region
}

// Values are what a new configuration file says. Empty ones are left for the user to fill in.
type Values struct {
	Provider                     Provider
	URL                          string // of a folder; then the rest of storage is left out
	Endpoint, Bucket, Region     string
	AccessKey, SecretKey, Prefix string
}

// fileTemplate is the file that init writes. The Python tool 0.1.0 reads it as well, but for storage.url.
const fileTemplate = `# hf-cache-sync: where the team's bucket is, and what this machine does with it.
# Every value can also come from a flag or a variable; "hf-cache-sync doctor" shows which one counts.
{{if .URL}}
storage:
  # A folder that all machines see, or a disk to carry: file:///path
  url: {{.URL | yaml}}
{{else}}
storage:
  # {{.Provider.Title}}
  endpoint: {{.Endpoint | yaml}}
  bucket: {{.Bucket | yaml}}
  region: {{.Region | yaml}}
  # The {{.Provider.Keys}}. They are better kept out of files:
  # B2_APPLICATION_KEY_ID with B2_APPLICATION_KEY, or AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, come before what stands here.
  access_key: {{.AccessKey | yaml}}
  secret_key: {{.SecretKey | yaml}}
  # Keep a checksum of small objects in the store: off, or sha256 where the store takes it.
  # checksum: off
  # All requests to the bucket go through this proxy: http://, https:// or socks5://host:port.
  # proxy: http://127.0.0.1:4001
  # Conditional writes for manifests and refs: auto, on or off.
  # conditional_writes: auto
{{end}}
cache:
  # What prune brings the cache down to, in gigabytes (1 GB = 1,000,000,000 bytes).
  max_local_gb: 50
  # Repositories whose revisions prune does not evict.
  # keep: ["my-org/*"]
  # Where a pull takes what the bucket lacks: none, or hf-hub; and whether the bucket gets it then.
  # fallback: hf-hub
  # backfill: true
  # Accepted for the Python tool's sake; files that came over Xet are always synced.
  sync_xet: false
  # The Hub cache, if it is not where HF_HUB_CACHE or HF_HOME say.
  # hf_cache_dir: ~/.cache/huggingface/hub

team:
  # All keys in the bucket begin with this, so that several teams can share one.
  prefix: {{.Prefix | yaml}}
  # Push repositories that look gated. Do so only if everybody who can read the bucket has accepted their terms.
  allow_gated: false

# What a push without arguments takes.
# push:
#   include: ["my-org/*"]
#   exclude: ["my-org/private-*"]
`

// Template is a commented configuration file with the values. It fails on a value that is not UTF-8, which YAML could hold only as binary; the error does not show it.
func Template(v Values) ([]byte, error) {
	for _, value := range []struct{ name, text string }{
		{"storage.url", v.URL},
		{"storage.endpoint", v.Endpoint},
		{"storage.bucket", v.Bucket},
		{"storage.region", v.Region},
		{"storage.access_key", v.AccessKey},
		{"storage.secret_key", v.SecretKey},
		{"team.prefix", v.Prefix},
	} {
		if !utf8.ValidString(value.text) {
			return nil, fmt.Errorf("%s is not UTF-8", value.name)
		}
	}
	quote := func(s string) (string, error) {
		text, err := yaml.Marshal(&yaml.Node{Kind: yaml.ScalarNode, Style: yaml.DoubleQuotedStyle, Value: s})
		return strings.TrimSuffix(string(text), "\n"), err
	}
	t, err := template.New(FileName).Funcs(template.FuncMap{"yaml": quote}).Parse(fileTemplate)
	if err != nil {
		return nil, fmt.Errorf("the template of the configuration: %w", err)
	}
	var text strings.Builder
	if err := t.Execute(&text, v); err != nil {
		return nil, fmt.Errorf("the configuration: %w", err)
	}
	return []byte(text.String()), nil
}

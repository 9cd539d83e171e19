package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

func TestTemplateReadsBack(t *testing.T) {
	for _, p := range config.Providers() {
		v := config.Values{
			Provider: p, Endpoint: p.Fill("eu-west-1", "abc"), Bucket: "team-hf-cache", Region: "eu-west-1",
			AccessKey: "0041", SecretKey: "K004 # \"x\": {", Prefix: "a/b c",
		}
		if p.Name == "file" {
			v = config.Values{Provider: p, URL: "file:///mnt/na%20s", Prefix: "a/b c"}
		}
		text, err := config.Template(v)
		if err != nil {
			t.Fatal(err)
		}
		f := parse(t, string(text))
		where, err := config.ResolveRemote("", vars{}.lookup, f)
		if err != nil {
			t.Fatalf("%s: %v\n%s", p.Name, err, text)
		}
		if p.Name == "file" {
			if want := "/mnt/na s/a/b c"; where.Path != want {
				t.Errorf("the folder is %q, want %q", where.Path, want)
			}
			continue
		}
		got := []string{where.Endpoint, where.Bucket, where.Region, where.Prefix}
		if diff := cmp.Diff([]string{v.Endpoint, "team-hf-cache", "eu-west-1", "a/b c"}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p.Name, diff)
		}
		keys, warnings := config.ResolveCredentials(vars{}.lookup, f)
		if keys.AccessKey != v.AccessKey || keys.SecretKey != v.SecretKey || warnings != nil {
			t.Errorf("%s: the keys are %q and %q, %v", p.Name, keys.AccessKey, keys.SecretKey, warnings)
		}
	}
}

// The comments name settings: each of them must be one, so that taking the # away works.
func TestTemplateOffersWhatThereIs(t *testing.T) {
	text, err := config.Template(config.Values{Provider: config.Providers()[0]})
	if err != nil {
		t.Fatal(err)
	}
	all := string(text)
	for _, line := range []string{"checksum: off", "conditional_writes: auto", "hf_cache_dir: ~/.cache/huggingface/hub"} {
		if !strings.Contains(all, "  # "+line+"\n") {
			t.Errorf("%q is not offered", line)
		}
		all = strings.Replace(all, "  # "+line, "  "+line, 1)
	}
	all = strings.NewReplacer("# push:", "push:", "#   include", "  include", "#   exclude", "  exclude").Replace(all)
	if f := parse(t, all); len(f.PushInclude()) != 1 || len(f.PushExclude()) != 1 {
		t.Errorf("push is %v without %v", f.PushInclude(), f.PushExclude())
	}
}

func TestFill(t *testing.T) {
	for _, p := range config.Providers() {
		want := map[string]string{
			"b2": "https://s3.r.backblazeb2.com", "aws": "https://s3.r.amazonaws.com", "r2": "https://x.r2.cloudflarestorage.com",
			"minio": "http://localhost:9000", "hf": "https://s3.hf.co/x", "file": "",
		}[p.Name]
		if got := p.Fill("r", "x"); got != want {
			t.Errorf("%s: %q, want %q", p.Name, got, want)
		}
		if got := p.Fill("", ""); got != p.Endpoint {
			t.Errorf("%s: %q, want the pattern", p.Name, got)
		}
	}
}

func TestRegionOf(t *testing.T) {
	for endpoint, want := range map[string]string{
		"https://s3.eu-central-003.backblazeb2.com": "eu-central-003", "s3.eu-central-003.backblazeb2.com": "eu-central-003",
		"https://s3.eu-west-1.amazonaws.com": "eu-west-1", "http://localhost:9000": "usual", "": "usual", "::": "usual",
	} {
		if got := (config.Provider{Region: "usual"}).RegionOf(endpoint); got != want {
			t.Errorf("RegionOf(%q) = %q, want %q", endpoint, got, want)
		}
	}
}

// What is not UTF-8 is refused, and a secret is not shown for it.
func TestTemplateRefusesBytes(t *testing.T) {
	const bytes = "K004\xff"
	for name, v := range map[string]config.Values{
		"storage.url": {URL: bytes}, "storage.endpoint": {Endpoint: bytes}, "storage.bucket": {Bucket: bytes}, "storage.region": {Region: bytes},
		"storage.access_key": {AccessKey: bytes}, "storage.secret_key": {SecretKey: bytes}, "team.prefix": {Prefix: bytes},
	} {
		text, err := config.Template(v)
		if err == nil || err.Error() != name+" is not UTF-8" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

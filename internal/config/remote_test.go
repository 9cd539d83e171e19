package config

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRemote(t *testing.T) {
	for _, c := range []struct {
		in      string
		windows bool
		want    Remote
	}{
		{"s3://team-hf-cache", false, Remote{Kind: S3, Bucket: "team-hf-cache"}},
		{"s3://team-hf-cache/", false, Remote{Kind: S3, Bucket: "team-hf-cache"}},
		{"S3://Team_Hf.cache//a/b c%20/", false, Remote{Kind: S3, Bucket: "Team_Hf.cache", Prefix: "a/b c%20"}},
		{"s3://bucket/team@work", false, Remote{Kind: S3, Bucket: "bucket", Prefix: "team@work"}},
		{"file:///mnt/nas/hf", false, Remote{Kind: Folder, Path: "/mnt/nas/hf"}},
		{"file:///mnt/nas/hf//", false, Remote{Kind: Folder, Path: "/mnt/nas/hf"}},
		{"FILE://localhost/mnt", false, Remote{Kind: Folder, Path: "/mnt"}},
		{"file:/mnt", false, Remote{Kind: Folder, Path: "/mnt"}},
		{"file:///mnt/a%20b c%25%3f", false, Remote{Kind: Folder, Path: "/mnt/a b c%?"}},
		{"file:///mnt/a:b@c", false, Remote{Kind: Folder, Path: "/mnt/a:b@c"}},
		{"file:///C:/hf/cache/", true, Remote{Kind: Folder, Path: `C:\hf\cache`}},
		{"file:/C:/hf", true, Remote{Kind: Folder, Path: `C:\hf`}},
	} {
		t.Run(c.in, func(t *testing.T) {
			got, err := parseRemote(c.in, c.windows)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if filepath.Separator == '\\' != c.windows {
				return
			}
			again, err := parseRemote(got.String(), c.windows)
			if err != nil || again != got {
				t.Errorf("%q reads back as %+v, %v", got.String(), again, err)
			}
		})
	}
}

func TestParseRemoteErrors(t *testing.T) {
	for _, c := range []struct {
		in      string
		windows bool
		want    string
	}{
		{"", false, "write s3://bucket[/prefix] or file:///path"},
		{"/mnt/nas", false, "write file:///mnt/nas"},
		{`C:\hf\x`, true, "write file:///C:/hf/x"},
		{"C:/hf", false, "write file:///C:/hf"},
		{"./x", false, "file:// and the absolute path"},
		{"my-bucket", false, "write s3://my-bucket"},
		{"https://my-bucket.example", false, `kind "https:": write s3://bucket[/prefix] or file:///path`},
		{"gs://my-bucket", false, `kind "gs:": write s3://`},
		{"s3:my-bucket", false, "not a URL"},
		{"s3:/my-bucket", false, "with two slashes"},
		{"s3://", false, "names no bucket"},
		{"s3:///prefix", false, "names no bucket"},
		{"s3://a", false, `"a", is not valid`},
		{"s3://-abc", false, `"-abc", is not valid`},
		{"s3://localhost:9000/bucket", false, "name the server in"},
		{"s3://bucket?region=x", false, "without ? or #"},
		{"s3://bucket/a//b", false, "empty part"},
		{"s3://bucket/../b", false, ".. part"},
		{`s3://bucket/a\b`, false, "backslash"},
		{"file://relative/path", false, `"relative" stands where a host would`},
		{"file://./path", false, "must be absolute"},
		{"file://C:/hf", true, "three slashes: file:///C:/hf"},
		{"file:///C:/hf", false, "drive of Windows"},
		{"file:///C:/", true, "whole drive"},
		{"file:///hf", true, "names no drive"},
		{"file:///", false, "names no folder"},
		{"file://", false, "names no folder"},
		{"file:///a?b", false, "%3F"},
		{"file:///50%", false, "%25"},
		{"file:///a%00b", false, "zero byte"},
	} {
		t.Run(c.in, func(t *testing.T) {
			got, err := parseRemote(c.in, c.windows)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %+v, %v; want an error with %q", got, err, c.want)
			}
		})
	}
}

func TestSecretsInURLsAreNotEchoed(t *testing.T) {
	const secret = "hunter2"
	for _, remote := range []string{
		"s3://user:hunter2@bucket/prefix", "s3://hunter2@bucket", "s3://AKIA:ab/hunter2@bucket", "s3://AKIA:hunter2", "s3://AKIA:hunter2/x",
		"https://user:hunter2@host/bucket", "https://host/?secret=hunter2", "user:hunter2@bucket", "hunter2@bucket", "AKIA:hunter2",
		"file://user:hunter2@host/path", "file://user:hunter2/path", "s3://user:hunter2%zz@bucket",
	} {
		got, err := ParseRemote(remote)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %+v, %v", remote, got, err)
		}
	}
	for _, endpoint := range []string{"https://user:hunter2@host", "user:hunter2@host", "https://host/?k=hunter2", "https://host:hunter2", "https://ho st/hunter2"} {
		env := map[string]string{"B2_ENDPOINT": endpoint}
		got, err := ResolveRemote("s3://bucket", func(name string) (string, bool) { v, ok := env[name]; return v, ok }, nil)
		if err == nil || strings.Contains(err.Error(), secret) || !strings.HasPrefix(err.Error(), "B2_ENDPOINT: ") {
			t.Errorf("%s: got %+v, %v", endpoint, got, err)
		}
	}
}

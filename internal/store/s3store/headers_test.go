package s3store_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
)

func digest(data string) string {
	h := sha256.Sum256([]byte(data))
	return hex.EncodeToString(h[:])
}

// accept answers writes as S3 does.
func accept(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
	switch {
	case r.Method == http.MethodPost && r.URL.Query().Has("uploads"):
		_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>k</Key><UploadId>id</UploadId></InitiateMultipartUploadResult>`)
	case r.Method == http.MethodPost:
		_, _ = io.WriteString(w, `<CompleteMultipartUploadResult><Bucket>bucket</Bucket><Key>k</Key><ETag>"e-1"</ETag></CompleteMultipartUploadResult>`)
	}
}

func TestSignedHeaders(t *testing.T) {
	const unsigned = "UNSIGNED-PAYLOAD"
	body := strings.Repeat("body", 1000)
	upload := store.Upload{Key: "k", ID: "id"}
	for _, secure := range []bool{false, true} {
		for _, tc := range []struct {
			name    string
			run     func(t *testing.T, s *s3store.Store) error
			payload string
			want    map[string]string // header: value
		}{
			{"put with a digest", func(t *testing.T, s *s3store.Store) error {
				t.Helper()
				_, err := s.Put(t.Context(), "k", section(body), store.PutOptions{SHA256: digest(body), ContentType: "text/x"})
				return err
			}, digest(body), map[string]string{"Content-Type": "text/x", "If-Match": "", "If-None-Match": ""}},
			{"put without", func(t *testing.T, s *s3store.Store) error {
				t.Helper()
				_, err := s.Put(t.Context(), "k", section(body), store.PutOptions{Metadata: map[string]string{"resolved-at": "now", "content-type": "x"}})
				return err
			}, digest(body), map[string]string{"X-Amz-Meta-Resolved-At": "now", "X-Amz-Meta-Content-Type": "x", "Content-Type": "application/octet-stream"}},
			{"put if absent", func(t *testing.T, s *s3store.Store) error {
				t.Helper()
				_, err := s.Put(t.Context(), "k", section(body), store.PutOptions{IfAbsent: true})
				return err
			}, digest(body), map[string]string{"If-None-Match": "*", "If-Match": ""}},
			{"put if unchanged", func(t *testing.T, s *s3store.Store) error {
				t.Helper()
				_, err := s.Put(t.Context(), "k", section(body), store.PutOptions{IfMatch: "e1"})
				return err
			}, digest(body), map[string]string{"If-Match": `"e1"`, "If-None-Match": ""}},
			{"put of nothing", func(t *testing.T, s *s3store.Store) error {
				t.Helper()
				_, err := s.Put(t.Context(), "k", section(""), store.PutOptions{})
				return err
			}, digest(""), map[string]string{"Content-Length": "0"}},
			{"put part", func(t *testing.T, s *s3store.Store) error {
				t.Helper()
				_, err := s.PutPart(t.Context(), upload, 1, section(body))
				return err
			}, unsigned, nil},
			{"start upload", func(t *testing.T, s *s3store.Store) error {
				t.Helper()
				_, err := s.StartUpload(t.Context(), "k", store.PutOptions{Metadata: map[string]string{"a": "b"}})
				return err
			}, unsigned, map[string]string{"X-Amz-Meta-A": "b"}},
		} {
			t.Run(fmt.Sprintf("%s, secure=%v", tc.name, secure), func(t *testing.T) {
				srv := newService(t, secure, accept)
				if err := tc.run(t, open(t, srv.options())); err != nil {
					t.Fatal(err)
				}
				if n := len(srv.asked()); n != 1 {
					t.Fatalf("%d requests, want 1", n)
				}
				r := srv.asked()[0]
				if got := r.Header.Get("X-Amz-Content-Sha256"); got != tc.payload {
					t.Errorf("payload hash %q, want %q", got, tc.payload)
				}
				auth := r.Header.Get("Authorization")
				if !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential="+accessKey+"/") || !strings.Contains(auth, "/eu-north-1/s3/aws4_request") ||
					!strings.Contains(auth, "x-amz-content-sha256") {
					t.Errorf("authorization %q", auth)
				}
				if agent := r.Header.Get("User-Agent"); !strings.HasPrefix(agent, "name/1.2 ") {
					t.Errorf("user agent %q", agent)
				}
				for name, want := range tc.want {
					got := r.Header.Get(name)
					if name == "Content-Length" {
						got = fmt.Sprint(r.ContentLength)
					}
					if got != want {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
				refused(t, r)
			})
		}
	}
}

// refused checks that a request has nothing that some service refuses.
func refused(t *testing.T, r *http.Request) {
	t.Helper()
	for name := range r.Header {
		low := strings.ToLower(name)
		if strings.Contains(low, "checksum") || strings.Contains(low, "trailer") || low == "expect" || low == "content-encoding" ||
			low == "content-md5" || low == "x-amz-decoded-content-length" {
			t.Errorf("header %s: %s", name, r.Header.Get(name))
		}
	}
	if len(r.Trailer) > 0 || len(r.TransferEncoding) > 0 || r.ContentLength < 0 || r.ProtoMajor != 1 {
		t.Errorf("trailer %v, encoding %v, length %d, %s", r.Trailer, r.TransferEncoding, r.ContentLength, r.Proto)
	}
}

func TestKeptChecksum(t *testing.T) {
	srv := newService(t, false, accept)
	o := srv.options()
	o.KeepChecksum = true
	for _, put := range []store.PutOptions{{}, {SHA256: digest("hello"), Metadata: map[string]string{"a": "b"}}} {
		if _, err := open(t, o).Put(t.Context(), "k", section("hello"), put); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range srv.asked() {
		// printf hello | openssl dgst -sha256 -binary | base64
		if got := r.Header.Get("X-Amz-Checksum-Sha256"); got != "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=" {
			t.Errorf("the checksum is %q", got)
		}
	}
	if n := len(srv.asked()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestAnonymous(t *testing.T) {
	srv := newService(t, false, accept)
	o := srv.options()
	o.Credentials = s3store.Credentials{}
	if _, err := open(t, o).Put(t.Context(), "k", section("x"), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if auth := srv.asked()[0].Header.Get("Authorization"); auth != "" {
		t.Errorf("authorization %q", auth)
	}
}

func TestChainFindsEnvironment(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "FROMENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_SESSION_TOKEN", "token")
	srv := newService(t, false, accept)
	o := srv.options()
	o.Credentials = s3store.Credentials{Chain: true}
	if _, err := open(t, o).Put(t.Context(), "k", section("x"), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	h := srv.asked()[0].Header
	if !strings.Contains(h.Get("Authorization"), "Credential=FROMENV/") || h.Get("X-Amz-Security-Token") != "token" {
		t.Errorf("authorization %q, token %q", h.Get("Authorization"), h.Get("X-Amz-Security-Token"))
	}
}

func TestChainFindsNothing(t *testing.T) {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_PROFILE",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/") // else the instance would be asked
	srv := newService(t, false, accept)
	o := srv.options()
	o.Credentials = s3store.Credentials{Chain: true}
	if _, err := open(t, o).Stat(t.Context(), "k"); !errors.Is(err, store.ErrNoCredentials) || !errors.Is(err, store.ErrDenied) {
		t.Errorf("stat: %v", err)
	}
	if n := len(srv.asked()); n > 0 {
		t.Errorf("%d requests by nobody", n)
	}
}

func TestURLs(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    s3store.Options
		want string // host and path of the object "a b/k@1"
	}{
		{"aws", s3store.Options{Region: "eu-north-1"}, "https://bucket.s3.dualstack.eu-north-1.amazonaws.com/a%20b/k%401"},
		{"b2", s3store.Options{Endpoint: "https://s3.us-west-004.backblazeb2.com"}, "https://bucket.s3.us-west-004.backblazeb2.com/a%20b/k%401"},
		{
			"b2 by path",
			s3store.Options{Endpoint: "https://s3.us-west-004.backblazeb2.com/", Addressing: s3store.AddressPath},
			"https://s3.us-west-004.backblazeb2.com/bucket/a%20b/k%401",
		},
		{"r2", s3store.Options{Endpoint: "https://account.r2.cloudflarestorage.com"}, "https://account.r2.cloudflarestorage.com/bucket/a%20b/k%401"},
		{"address", s3store.Options{Endpoint: "http://127.0.0.1:9000"}, "http://127.0.0.1:9000/bucket/a%20b/k%401"},
		{"own", s3store.Options{Endpoint: "https://minio.example.com", Prefix: "/team x/"}, "https://minio.example.com/bucket/team%20x/a%20b/k%401"},
		{
			"own by host",
			s3store.Options{Endpoint: "https://minio.example.com", Addressing: s3store.AddressVirtual},
			"https://bucket.minio.example.com/a%20b/k%401",
		},
		{"path in the endpoint", s3store.Options{Endpoint: "https://s3.hf.co/name%20space/"}, "https://s3.hf.co/name%20space/bucket/a%20b/k%401"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got *http.Request
			tc.o.Bucket = "bucket"
			tc.o.Credentials = s3store.Credentials{AccessKey: accessKey, SecretKey: secretKey}
			tc.o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
				got = r
				return nil, errors.New("not sent")
			})
			s := open(t, tc.o)
			if err := s.Delete(t.Context(), "a b/k@1"); err == nil {
				t.Error("no error")
			}
			if got == nil {
				t.Fatal("no request")
			}
			if got.URL.String() != tc.want {
				t.Errorf("%s, want %s", got.URL, tc.want)
			}
			region := map[string]string{"aws": "eu-north-1", "b2": "us-west-004", "b2 by path": "us-west-004", "r2": "auto"}[tc.name]
			if region == "" {
				region = "us-east-1"
			}
			if auth := got.Header.Get("Authorization"); !strings.Contains(auth, "/"+region+"/s3/") {
				t.Errorf("signed for %s, want region %s", auth, region)
			}
		})
	}
}

type roundTripper func(r *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestOpenRefuses(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"no endpoint", "neither an endpoint nor a region"},
		{"no scheme", "has to start with https://"},
		{"other scheme", "has to start with https://"},
		{"no host", "has to be a scheme, a host"},
		{"query", "has to be a scheme, a host"},
		{"password", "user or password"},
		{"no URL", "no URL"},
		{"no bucket", "no bucket"},
		{"bad bucket", "bucket \"a/b\""},
		{"bad prefix", "prefix \"a//b\""},
		{"half a pair", "go together"},
	} {
		o := s3store.Options{Endpoint: "https://host", Bucket: "bucket"}
		switch tc.name {
		case "no endpoint":
			o.Endpoint = ""
		case "no scheme":
			o.Endpoint = "host.example.com"
		case "other scheme":
			o.Endpoint = "ftp://host"
		case "no host":
			o.Endpoint = "https:///x"
		case "query":
			o.Endpoint = "https://host/?a=b"
		case "password":
			o.Endpoint = "https://user:hunter2@host"
		case "no URL":
			o.Endpoint = "https://user:hunter2@host:x y"
		case "no bucket":
			o.Bucket = ""
		case "bad bucket":
			o.Bucket = "a/b"
		case "bad prefix":
			o.Prefix = "a//b"
		case "half a pair":
			o.Credentials.SecretKey = secretKey
		}
		_, err := s3store.Open(o)
		if !errors.Is(err, store.ErrBadConfig) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), secretKey)) {
			t.Errorf("%s: %v has a secret in it", tc.name, err)
		}
	}
}

func TestString(t *testing.T) {
	for prefix, want := range map[string]string{"": "s3://bucket", "/team/": "s3://bucket/team", "a b/c": "s3://bucket/a%20b/c"} {
		s := open(t, s3store.Options{
			Endpoint: "https://host", Bucket: "bucket", Prefix: prefix,
			Credentials: s3store.Credentials{AccessKey: accessKey, SecretKey: secretKey, SessionToken: "token"},
		})
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	c := s3store.Credentials{AccessKey: accessKey, SecretKey: secretKey, SessionToken: "token"}
	if text := fmt.Sprintf("%v %+v %#v %s", c, s3store.Options{Credentials: c}, s3store.Options{Credentials: c}, c); strings.Contains(text, secretKey) ||
		strings.Contains(text, "token") {
		t.Errorf("%s has a secret in it", text)
	}
}

func TestInfoOfWrites(t *testing.T) {
	date := time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)
	srv := newService(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", date.Format(http.TimeFormat))
		accept(w, r)
	})
	s := open(t, srv.options())
	got, err := s.Put(t.Context(), "k", section("body"), store.PutOptions{Metadata: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	want := store.Info{
		Key: "k", Size: 4, ETag: "0123456789abcdef0123456789abcdef", Modified: date, Metadata: map[string]string{"a": "b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("put (-want +got):\n%s", diff)
	}
	u, err := s.StartUpload(t.Context(), "k", store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(store.Upload{Key: "k", ID: "id", Initiated: date}, u); diff != "" {
		t.Errorf("start (-want +got):\n%s", diff)
	}
	got, err = s.Complete(t.Context(), u, []store.Part{{Number: 1, Size: 5, ETag: "a"}, {Number: 2, Size: 6, ETag: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(store.Info{Key: "k", Size: 11, ETag: "e-1", Modified: date}, got); diff != "" {
		t.Errorf("complete (-want +got):\n%s", diff)
	}
}

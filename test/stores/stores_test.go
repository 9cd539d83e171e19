// Package stores runs the contract of the stores, and the program itself, on S3
// servers: one in this process, real ones, and services that are not quite S3,
// which are played by a proxy. With HFCS_REAL_REMOTE, a URL as --remote takes it,
// and credentials in the variables that the program reads, also on a real
// service, below a prefix of its own that is removed afterwards.
package stores

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/faultstore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/retrystore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

var server *testenv.S3

func TestMain(m *testing.M) {
	os.Exit(testenv.MainWithS3(m, func(s *testenv.S3) { server = s }))
}

const (
	fakeAccessKey = "access"
	fakeSecretKey = "secret"
)

// fakeBuckets starts an S3 server in this process, which checks signatures, and returns what gives a fresh bucket in it.
func fakeBuckets(t *testing.T) func(t *testing.T) s3store.Options {
	t.Helper()
	backend := s3mem.New()
	fake := gofakes3.New(undelimited{backend}, gofakes3.WithV4Auth(map[string]string{fakeAccessKey: fakeSecretKey}))
	http := httptest.NewServer(fake.Server())
	t.Cleanup(http.Close)
	var count atomic.Int64
	return func(t *testing.T) s3store.Options {
		t.Helper()
		name := fmt.Sprintf("bucket-%03d", count.Add(1))
		if err := backend.CreateBucket(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		return s3store.Options{
			Endpoint: http.URL, Bucket: name,
			Credentials: s3store.Credentials{AccessKey: fakeAccessKey, SecretKey: fakeSecretKey},
		}
	}
}

// undelimited lists as S3 does when a delimiter is given that is empty: as if there were none.
type undelimited struct{ *s3mem.Backend }

func (u undelimited) ListBucket(ctx context.Context, name string, p *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	if p != nil && p.Delimiter == "" {
		p = &gofakes3.Prefix{HasPrefix: p.HasPrefix, Prefix: p.Prefix}
	}
	return u.Backend.ListBucket(ctx, name, p, page)
}

func realBucket(t *testing.T) s3store.Options {
	t.Helper()
	access, secret := "test", "testsecret"
	return s3store.Options{
		Endpoint: server.Endpoint, Bucket: server.Bucket(t),
		Credentials: s3store.Credentials{AccessKey: access, SecretKey: secret},
	}
}

func open(t *testing.T, o s3store.Options) store.Store {
	t.Helper()
	s, err := s3store.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPathInTheEndpoint goes through a fake that checks signatures, which cover the path.
func TestPathInTheEndpoint(t *testing.T) {
	o := fakeBuckets(t)(t)
	namespace := o.Bucket
	plain := open(t, o)
	o.Endpoint += "/" + namespace
	o.Bucket = "inner"
	s := open(t, o)
	ctx := t.Context()
	if _, err := s.Put(ctx, "a b/k", section("body"), store.PutOptions{Metadata: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	info, err := plain.Stat(ctx, "inner/a b/k")
	if err != nil || info.Size != 4 || info.Metadata["a"] != "b" {
		t.Errorf("the object below: %+v, %v", info, err)
	}
	u, err := s.(store.Multipart).StartUpload(ctx, "parts", store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.(store.Multipart).PutPart(ctx, u, 1, section("part"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.(store.Multipart).Complete(ctx, u, []store.Part{p}); err != nil {
		t.Fatal(err)
	}
	if err = s.Delete(ctx, "a b/k"); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Stat(ctx, "a b/k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("stat: %v", err)
	}
}

// TestLostAnswers has a real server carry writes out whose answers do not arrive.
func TestLostAnswers(t *testing.T) {
	script := new(faultstore.Script)
	script.Add(
		faultstore.Fault{Op: "put", Done: true, Err: store.ErrUnavailable},
		faultstore.Fault{Op: "complete upload", Done: true, Err: store.ErrUnavailable},
	)
	s := retrystore.New(faultstore.New(open(t, realBucket(t)), script), retrystore.Options{First: 1})
	m := s.(store.Multipart)
	ctx := t.Context()
	if _, err := s.Put(ctx, "refs/main", section("mine"), store.PutOptions{IfAbsent: true, Metadata: map[string]string{"by": "me"}}); err != nil {
		t.Errorf("put: %v", err)
	}
	u, err := m.StartUpload(ctx, "blobs/k", store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.PutPart(ctx, u, 1, section("part"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := m.Complete(ctx, u, []store.Part{p})
	if err != nil || info.Size != 4 {
		t.Errorf("complete: %+v, %v", info, err)
	}
	if left := script.Left(); left != nil {
		t.Errorf("faults that did not happen: %+v", left)
	}
}

// TestRefusals has a real server say what is wrong with a configuration.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(o *s3store.Options)
		kind   error
	}{
		{"wrong key", func(o *s3store.Options) { o.Credentials.AccessKey = "wrong" }, store.ErrDenied},
		{"wrong secret", func(o *s3store.Options) { o.Credentials.SecretKey = "wrong" }, store.ErrDenied},
		{"nobody", func(o *s3store.Options) { o.Credentials = s3store.Credentials{} }, store.ErrDenied},
		{"no such bucket", func(o *s3store.Options) { o.Bucket = "no-such-bucket" }, store.ErrBadConfig},
		{"wrong region", func(o *s3store.Options) { o.Region = "eu-north-1" }, store.ErrBadConfig},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := realBucket(t)
			tc.change(&o)
			s := open(t, o)
			_, err := s.Put(t.Context(), "k", section("x"), store.PutOptions{})
			if !errors.Is(err, tc.kind) {
				t.Errorf("put: %v, want %v", err, tc.kind)
			}
			for _, err := range s.List(t.Context(), "") {
				if !errors.Is(err, tc.kind) {
					t.Errorf("list: %v, want %v", err, tc.kind)
				}
			}
			// By HEAD the server says of these two that the object does not exist.
			_, err = s.Stat(t.Context(), "k")
			if !errors.Is(err, tc.kind) && tc.name != "no such bucket" && tc.name != "wrong key" {
				t.Errorf("stat: %v, want %v", err, tc.kind)
			}
		})
	}
}

func section(data string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(data), 0, int64(len(data)))
}

// Package stores runs the contract of the stores on S3 servers: one in this process, and a real one.
package stores

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/storetest"
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

func TestContract(t *testing.T) {
	fakeBucket := fakeBuckets(t)
	fakeDiffers := storetest.Options{AnyDigest: true, RacyMatch: true, EmptyUploads: true, WholeKeysOnly: true}
	realDiffers := storetest.Options{FlatFolders: true, RacyFolders: true, CutParts: true}
	for _, tc := range []struct {
		name    string
		differs storetest.Options
		bucket  func(t *testing.T) s3store.Options
	}{
		{"gofakes3", fakeDiffers, fakeBucket},
		{"versitygw", realDiffers, realBucket},
	} {
		t.Run(tc.name, func(t *testing.T) {
			storetest.Run(t, tc.differs, func(t *testing.T) store.Store {
				t.Helper()
				return open(t, tc.bucket(t))
			})
		})
		t.Run(tc.name+" below a prefix", func(t *testing.T) {
			storetest.Run(t, tc.differs, func(t *testing.T) store.Store {
				t.Helper()
				o := tc.bucket(t)
				o.Prefix = "/team a/+b%/"
				return open(t, o)
			})
		})
	}
}
